#include "view.hpp"

#include <mutex>
#include <new>

#include "display.hpp"
#include "errors.hpp"
#include "lent_memory.hpp"

namespace memchannel {

namespace {

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
    if (!released(self) && fields(self)->view.ndim == 1) return PySeqIter_New(self);  // ends with the view
    Ref memory = plain(self);
    return memory ? PyObject_GetIter(memory.get()) : nullptr;  // raises what memoryview raises
}

int view_contains(PyObject* self, PyObject* value) {
    Ref memory = plain(self);
    return memory ? PySequence_Contains(memory.get(), value) : -1;
}

PyObject* view_richcompare(PyObject* self, PyObject* other, int operation) {
    if (operation != Py_EQ && operation != Py_NE) Py_RETURN_NOTIMPLEMENTED;
    // A released memoryview equals nothing but itself (memory_richcompare).
    const bool both_ours = Py_IS_TYPE(other, Py_TYPE(self));
    if (released(self) || (both_ours && released(other)))
        return PyBool_FromLong((self == other) == (operation == Py_EQ));
    Ref left = plain(self);
    Ref right = both_ours ? plain(other) : Ref::borrow(other);
    if (!left || !right) return nullptr;
    return PyMemoryView_Type.tp_richcompare(left.get(), right.get(), operation);
}

Py_hash_t view_hash(PyObject* self) {
    if (fields(self)->hash != -1) return fields(self)->hash;  // kept across release(), as memory_hash does
    Ref memory = plain(self);
    if (!memory) return -1;
    return fields(self)->hash = PyObject_Hash(memory.get());
}

// np.ndarray(buffer=view) asks with these flags, gives the buffer back at once and goes on using the memory
// on the strength of a reference to the view (numpy/_core/src/multiarray/conversion_utils.c,
// PyArray_BufferConverter).
constexpr int borrowing_flags = PyBUF_ANY_CONTIGUOUS | PyBUF_SIMPLE;

// The LentMemory that lives as long as the view, released or not; memoryview itself leaves the field alone.
PyObject* pinned(PyObject* view) noexcept { return static_cast<PyObject*>(fields(view)->view.internal); }

int view_getbuffer(PyObject* self, Py_buffer* buffer, int flags) {
    // Consumers hold the plain view, so that ours can be released while they live, as memoryview's users
    // expect.
    buffer->obj = nullptr;
    Ref memory = plain(self);
    if (!memory || PyObject_GetBuffer(memory.get(), buffer, flags) < 0) return -1;
    if (flags == borrowing_flags && !pinned(self))
        fields(self)->view.internal = Py_NewRef(fields(self)->mbuf->master.obj);
    return 0;
}

#if PY_VERSION_HEX >= 0x030E0000
PyObject* view_count(PyObject* self, PyObject* value) {
    Ref memory = plain(self);
    Ref count = memory ? attribute(memory.get(), "count") : Ref();
    return count ? PyObject_CallOneArg(count.get(), value) : nullptr;
}

PyObject* view_index(PyObject* self, PyObject* arguments) {
    Ref memory = plain(self);
    Ref index = memory ? attribute(memory.get(), "index") : Ref();
    return index ? PyObject_Call(index.get(), arguments, nullptr) : nullptr;
}
#endif

PyObject* view_interpreter(PyObject* self, void*) {
    if (!released(self)) return owner_of(fields(self)->mbuf->master.obj);
    PyErr_SetString(PyExc_ValueError, "operation forbidden on released memoryview object");
    return nullptr;
}

PyObject* view_repr(PyObject* self) {
    if (released(self)) return PyUnicode_FromFormat("<CrossInterpreterView: released memory at %p>", self);
    Ref shape = attribute(self, "shape");
    Ref owner = Ref::steal(view_interpreter(self, nullptr));
    if (!shape || !owner) return nullptr;
    return PyUnicode_FromFormat("<CrossInterpreterView of interpreter %S: format '%s', shape %R>",
                                owner.get(), fields(self)->view.format, shape.get());
}

// Whether slices, arrays or others still use the memory, and will give it back: through the managed buffer,
// the LentMemory itself, or a borrowed reference to the view.
bool has_users(PyObject* view) noexcept {
    const _PyManagedBufferObject* const managed = fields(view)->mbuf;
    return managed->exports != 1 || Py_REFCNT(managed->master.obj) != 1 || pinned(view);
}

void view_finalize(PyObject* self) {
    if (released(self) || has_users(self)) return;
    if (dropped_quietly(fields(self)->mbuf->master.obj)) return;
    warn_unreleased(self);
}

[[gnu::hot]] void view_dealloc(PyObject* self) {
    if (!released(self) && PyObject_CallFinalizerFromDealloc(self) < 0) return;  // somebody took it back
    PyTypeObject* const type = Py_TYPE(self);
    Ref memory = Ref::steal(pinned(self));
    PyMemoryView_Type.tp_dealloc(self);
    Py_DECREF(type);
}

int view_traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    return PyMemoryView_Type.tp_traverse(self, visit, arg);
}

int view_clear(PyObject* self) { return PyMemoryView_Type.tp_clear(self); }

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
    rich_method,
    html_method,
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot view_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(view_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(view_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(view_clear)},
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

// Sizes of 0 are inherited.
PyType_Spec view_spec = {
    "memchannel.CrossInterpreterView",
    0,
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    view_slots,
};

std::mutex base_flag;

// memoryview lacks Py_TPFLAGS_BASETYPE; it has it for the length of this one call. The type object is static
// and shared by all interpreters, hence the process-wide lock.
PyTypeObject* make_view_type(PyObject* module) noexcept {
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

void renew_view_type_lock() noexcept { new (&base_flag) std::mutex; }

[[gnu::hot]] Ref make_view(ModuleState& state, const Ref& lent_memory, Drop drop) {
    if (drop == Drop::quiet) set_dropped_quietly(lent_memory.get());
    Ref view = Ref::steal(PyMemoryView_FromObject(lent_memory.get()));
    if (!view) throw PythonError();
    Py_SET_TYPE(view.get(), reinterpret_cast<PyTypeObject*>(Py_NewRef(state.view_type)));
    return view;
}

PyObject* base_of_view(PyObject* view) noexcept {
    if (!released(view)) return PyMemoryView_GET_BASE(view);
    // Slices copy the field, but only a view of ours owns what is there.
    return Py_TYPE(view)->tp_dealloc == view_dealloc ? pinned(view) : nullptr;
}

bool add_view_type(PyObject* module, ModuleState& state) noexcept {
    state.view_type = make_view_type(module);
    if (!state.view_type) return false;
    state.to_readonly = attribute(reinterpret_cast<PyObject*>(&PyMemoryView_Type), "toreadonly").release();
    return state.to_readonly && PyModule_AddType(module, state.view_type) == 0;
}

}  // namespace memchannel
