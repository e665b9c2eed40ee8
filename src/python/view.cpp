#include "view.hpp"

#include <cstring>
#include <mutex>

#include "errors.hpp"

namespace memchannel {

namespace {

// ---- the exporter

struct Exporter {
    PyObject_VAR_HEAD Lease* lease;  // one count
    void* data;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int ndim;
    bool writable;
    // shape, strides and format follow in the same allocation
    Py_ssize_t* shape() noexcept { return reinterpret_cast<Py_ssize_t*>(this + 1); }
    Py_ssize_t* strides() noexcept { return shape() + ndim; }
    char* format() noexcept { return reinterpret_cast<char*>(strides() + ndim); }
};

void exporter_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    Lease* const lease = reinterpret_cast<Exporter*>(self)->lease;
    type->tp_free(self);
    Py_DECREF(type);
    // Last, with the object wholly gone: this may switch to the owner, and at exit never come back.
    if (lease) lease->drop();
}

int exporter_getbuffer(PyObject* self, Py_buffer* view, int flags) {
    auto* exporter = reinterpret_cast<Exporter*>(self);
    view->obj = nullptr;
    if ((flags & PyBUF_WRITABLE) == PyBUF_WRITABLE && !exporter->writable) {
        PyErr_SetString(PyExc_BufferError,
                        "memory received from another interpreter is read-only: copy it to change it");
        return -1;
    }
    view->buf = exporter->data;
    view->len = exporter->len;
    view->itemsize = exporter->itemsize;
    view->readonly = !exporter->writable;
    view->ndim = exporter->ndim;
    view->format = flags & PyBUF_FORMAT ? exporter->format() : nullptr;
    view->shape = exporter->shape();
    view->strides = exporter->strides();
    view->suboffsets = nullptr;
    view->internal = nullptr;
    const bool strided_ok = (flags & PyBUF_STRIDES) == PyBUF_STRIDES;
    const char order = (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS       ? 'C'
                       : (flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS     ? 'F'
                       : (flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS ? 'A'
                       : strided_ok                                             ? '\0'
                                                                                : 'C';
    if (order && !PyBuffer_IsContiguous(view, order)) {
        PyErr_SetString(PyExc_BufferError, "the memory is not contiguous as requested");
        return -1;
    }
    if (!strided_ok) view->strides = nullptr;
    if ((flags & PyBUF_ND) != PyBUF_ND) {
        view->shape = nullptr;
        view->ndim = 1;
    }
    view->obj = Py_NewRef(self);
    return 0;
}

PyObject* exporter_repr(PyObject* self) {
    auto* exporter = reinterpret_cast<Exporter*>(self);
    return PyUnicode_FromFormat("<memory lent by interpreter %lld, %zd bytes>",
                                static_cast<long long>(exporter->lease->owner_id()), exporter->len);
}

PyType_Slot exporter_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(exporter_dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(exporter_repr)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(exporter_getbuffer)},
    {Py_tp_doc,
     const_cast<char*>("The holder of memory that another interpreter lends; exports it read-only.")},
    {0, nullptr},
};

PyType_Spec exporter_spec = {
    "memchannel._core.LentMemory",
    sizeof(Exporter),
    1,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    exporter_slots,
};

// ---- the view
//
// memoryview's own code tests for its exact type in many places (Objects/memoryobject.c: memoryiter,
// richcompare, hash, count, index, getbuffer of consumers), so each of them goes through a plain memoryview
// on the same managed buffer, which costs nothing but the object.

Ref plain(PyObject* view) noexcept {
    return Ref::steal(PyObject_CallOneArg(state_of_type(Py_TYPE(view)).to_readonly, view));
}

PyMemoryViewObject* fields(PyObject* view) noexcept { return reinterpret_cast<PyMemoryViewObject*>(view); }

bool released(PyObject* view) noexcept {
    return fields(view)->flags & _Py_MEMORYVIEW_RELEASED ||
           fields(view)->mbuf->flags & _Py_MANAGED_BUFFER_RELEASED;
}

PyObject* view_iter(PyObject* self) {
    Ref memory = plain(self);
    return memory ? PyObject_GetIter(memory.get()) : nullptr;
}

int view_contains(PyObject* self, PyObject* value) {
    Ref memory = plain(self);
    return memory ? PySequence_Contains(memory.get(), value) : -1;
}

PyObject* view_richcompare(PyObject* self, PyObject* other, int operation) {
    // A released memoryview equals nothing but itself (memory_richcompare).
    if (released(self)) {
        if (operation != Py_EQ && operation != Py_NE) Py_RETURN_NOTIMPLEMENTED;
        return PyBool_FromLong((self == other) == (operation == Py_EQ));
    }
    Ref left = plain(self);
    if (!left) return nullptr;
    Ref right = Ref::borrow(other);
    if (Py_IS_TYPE(other, Py_TYPE(self))) {
        if (released(other)) return PyBool_FromLong(operation == Py_NE);
        right = plain(other);
        if (!right) return nullptr;
    }
    return PyMemoryView_Type.tp_richcompare(left.get(), right.get(), operation);
}

Py_hash_t view_hash(PyObject* self) {
    if (fields(self)->hash != -1) return fields(self)->hash;  // kept across release(), as memory_hash does
    Ref memory = plain(self);
    if (!memory) return -1;
    return fields(self)->hash = PyObject_Hash(memory.get());
}

int view_getbuffer(PyObject* self, Py_buffer* buffer, int flags) {
    // Consumers hold the plain view, so that ours can be released while they live, as memoryview's users
    // expect.
    buffer->obj = nullptr;
    Ref memory = plain(self);
    return memory ? PyObject_GetBuffer(memory.get(), buffer, flags) : -1;
}

#if PY_VERSION_HEX >= 0x030E0000
PyObject* view_count(PyObject* self, PyObject* value) {
    Ref memory = plain(self);
    return memory ? PyObject_CallMethod(memory.get(), "count", "O", value) : nullptr;
}

PyObject* view_index(PyObject* self, PyObject* arguments) {
    Ref memory = plain(self);
    Ref index = memory ? Ref::steal(PyObject_GetAttrString(memory.get(), "index")) : Ref();
    return index ? PyObject_Call(index.get(), arguments, nullptr) : nullptr;
}
#endif

PyObject* view_repr(PyObject* self) {
    if (released(self)) return PyUnicode_FromFormat("<released CrossInterpreterView at %p>", self);
    Ref shape = Ref::steal(PyObject_GetAttrString(self, "shape"));
    Ref owner = Ref::steal(PyObject_GetAttrString(self, "interpreter"));
    if (!shape || !owner) return nullptr;
    return PyUnicode_FromFormat("<CrossInterpreterView of interpreter %S: format '%s', shape %R>",
                                owner.get(), fields(self)->view.format, shape.get());
}

// An unreleased view that dies as the last user of its lease is like an unclosed file. One that arrays or
// slices still use is not: they give the memory back.
void view_finalize(PyObject* self) {
    if (!fields(self)->mbuf || released(self) || fields(self)->mbuf->exports != 1) return;
    const ErrorScope errors;
    if (PyErr_ResourceWarning(self, 1, "unreleased %R", self) < 0) {
        if (PyErr_ExceptionMatches(PyExc_Warning)) {
            PyErr_WriteUnraisable(self);
        } else {
            PyErr_Clear();
        }
    }
}

PyObject* view_interpreter(PyObject* self, void*) {
    PyObject* const exporter = fields(self)->mbuf->master.obj;
    Lease* const lease = exporter ? exporter_lease(exporter) : nullptr;
    if (!lease) {
        PyErr_SetString(PyExc_ValueError, "operation forbidden on released memoryview object");
        return nullptr;
    }
    const OwnerId owner = lease->owner_id();
    if (owner == no_owner) Py_RETURN_NONE;
    return PyLong_FromLongLong(owner);
}

PyGetSetDef view_getset[] = {
    {"interpreter", view_interpreter, nullptr,
     "The id of the interpreter that owns the memory; None for memory that belongs to no interpreter.",
     nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMethodDef view_methods[] = {
#if PY_VERSION_HEX >= 0x030E0000
    {"count", view_count, METH_O, "Count the number of occurrences of a value."},
    {"index", view_index, METH_VARARGS, "Return the index of the first occurrence of a value."},
#endif
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot view_slots[] = {
    {Py_tp_iter, reinterpret_cast<void*>(view_iter)},
    {Py_sq_contains, reinterpret_cast<void*>(view_contains)},
    {Py_tp_richcompare, reinterpret_cast<void*>(view_richcompare)},
    {Py_tp_hash, reinterpret_cast<void*>(view_hash)},
    {Py_tp_repr, reinterpret_cast<void*>(view_repr)},
    {Py_tp_finalize, reinterpret_cast<void*>(view_finalize)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(view_getbuffer)},
    {Py_tp_methods, view_methods},
    {Py_tp_getset, view_getset},
    {Py_tp_doc, const_cast<char*>(
                    "A read-only memoryview of memory that belongs to another interpreter.\n\n"
                    "It keeps the exporting object and its interpreter alive; the buffer is given back in\n"
                    "that interpreter, once, after the last slice, array or re-export is gone.")},
    {0, nullptr},
};

// basicsize 0: inherited, as is Py_TPFLAGS_HAVE_GC with memoryview's traverse and clear.
PyType_Spec view_spec = {
    "memchannel.CrossInterpreterView",
    0,
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    view_slots,
};

// memoryview lacks Py_TPFLAGS_BASETYPE; it has it for the length of this one call. The type object is static
// and shared by all interpreters, hence the process-wide lock.
PyTypeObject* make_view_type(PyObject* module) noexcept {
    static std::mutex base_flag;
    std::unique_lock lock(base_flag, std::try_to_lock);
    if (!lock.owns_lock()) {
        const Detached detached;
        lock.lock();
    }
    const unsigned long flags = PyMemoryView_Type.tp_flags;
    PyMemoryView_Type.tp_flags = flags | Py_TPFLAGS_BASETYPE;
    PyObject* const type =
        PyType_FromModuleAndSpec(module, &view_spec, reinterpret_cast<PyObject*>(&PyMemoryView_Type));
    PyMemoryView_Type.tp_flags = flags;
    return reinterpret_cast<PyTypeObject*>(type);
}

}  // namespace

Ref make_exporter(ModuleState& state, LeaseRef lease, const Layout& layout) {
    const std::size_t dims = static_cast<std::size_t>(layout.ndim) * sizeof(Py_ssize_t);
    const std::size_t format = std::strlen(layout.format) + 1;
    PyTypeObject* const type = state.exporter_type;
    Ref object = Ref::steal(type->tp_alloc(type, static_cast<Py_ssize_t>(2 * dims + format)));
    if (!object) throw PythonError();
    auto* exporter = reinterpret_cast<Exporter*>(object.get());
    exporter->data = layout.data;
    exporter->len = layout.len;
    exporter->itemsize = layout.itemsize;
    exporter->ndim = layout.ndim;
    exporter->writable = layout.writable;
    if (dims) {
        std::memcpy(exporter->shape(), layout.shape, dims);
        std::memcpy(exporter->strides(), layout.strides, dims);
    }
    std::memcpy(exporter->format(), layout.format, format);
    exporter->lease = lease.release();
    return object;
}

Ref make_view(ModuleState& state, Ref exporter) {
    Ref view = Ref::steal(PyMemoryView_FromObject(exporter.get()));
    if (!view) throw PythonError();
    Py_INCREF(state.view_type);
    Py_SET_TYPE(view.get(), state.view_type);
    return view;
}

Lease* exporter_lease(PyObject* object) noexcept {
    // By the slot, not the type: a module that was imported twice has two types.
    if (Py_TYPE(object)->tp_dealloc != exporter_dealloc) return nullptr;
    return reinterpret_cast<Exporter*>(object)->lease;
}

bool add_view_types(PyObject* module, ModuleState& state) noexcept {
    state.exporter_type =
        reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &exporter_spec, nullptr));
    if (!state.exporter_type) return false;
    state.view_type = make_view_type(module);
    if (!state.view_type) return false;
    state.to_readonly = PyObject_GetAttrString(reinterpret_cast<PyObject*>(&PyMemoryView_Type), "toreadonly");
    return state.to_readonly && PyModule_AddType(module, state.view_type) == 0;
}

}  // namespace memchannel
