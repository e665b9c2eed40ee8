#include "lent_memory.hpp"

#include "errors.hpp"

namespace memchannel {

namespace {

struct LentMemory {
    PyObject_VAR_HEAD Lease* lease;  // one count
    void* data;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int ndim;
    Access access;
    Content content;
    bool dropped_quietly;
    // shape, strides and format follow in the same allocation
    Py_ssize_t* shape() noexcept { return reinterpret_cast<Py_ssize_t*>(this + 1); }
    Py_ssize_t* strides() noexcept { return shape() + ndim; }
    char* format() noexcept { return reinterpret_cast<char*>(strides() + ndim); }
};

LentMemory* lent(PyObject* self) noexcept { return reinterpret_cast<LentMemory*>(self); }

[[gnu::hot]] void dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    Lease* const lease = lent(self)->lease;
    type->tp_free(self);
    Py_DECREF(type);
    // Last, with the object wholly gone: this may switch to the owner, and at exit never come back.
    if (lease) lease->drop();
}

// The contiguity that a request asks for; '\0': none, any strides will do.
char requested_order(int flags) noexcept {
    if ((flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS) return 'C';
    if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS) return 'F';
    if ((flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS) return 'A';
    return (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? '\0' : 'C';
}

[[gnu::hot]] int getbuffer(PyObject* self, Py_buffer* view, int flags) {
    LentMemory* const memory = lent(self);
    view->obj = nullptr;
    if ((flags & PyBUF_WRITABLE) == PyBUF_WRITABLE && memory->access == Access::read) {
        PyErr_SetString(PyExc_BufferError,
                        "memory received from another interpreter is read-only: copy it to change it");
        return -1;
    }
    view->buf = memory->data;
    view->len = memory->len;
    view->itemsize = memory->itemsize;
    view->readonly = memory->access == Access::read;
    view->ndim = memory->ndim;
    view->format = flags & PyBUF_FORMAT ? memory->format() : nullptr;
    view->shape = memory->ndim ? memory->shape() : nullptr;
    view->strides = memory->ndim ? memory->strides() : nullptr;
    view->suboffsets = nullptr;
    view->internal = nullptr;
    const char order = requested_order(flags);
    if (order && !PyBuffer_IsContiguous(view, order)) {
        PyErr_SetString(PyExc_BufferError, "the memory is not contiguous as requested");
        return -1;
    }
    if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES) view->strides = nullptr;
    if ((flags & PyBUF_ND) != PyBUF_ND) {
        view->shape = nullptr;
        view->ndim = 1;
    }
    view->obj = Py_NewRef(self);
    return 0;
}

PyObject* repr(PyObject* self) {
    Ref owner = Ref::steal(owner_of(self));
    return owner ? PyUnicode_FromFormat("<memory lent by interpreter %S, %zd bytes>", owner.get(),
                                        lent(self)->len)
                 : nullptr;
}

// memoryview asks its exporter before it hashes bytes (Objects/memoryobject.c, memory_hash).
Py_hash_t hash(PyObject* self) {
    if (lent(self)->content == Content::fixed) return PyObject_GenericHash(self);
    PyErr_SetString(
        PyExc_ValueError,
        "cannot hash memory that the interpreter that lends it can still write: hash bytes(view)");
    return -1;
}

PyObject* get_address(PyObject* self, void*) { return PyLong_FromVoidPtr(lent(self)->data); }
PyObject* get_nbytes(PyObject* self, void*) { return PyLong_FromSsize_t(lent(self)->len); }
PyObject* get_interpreter(PyObject* self, void*) { return owner_of(self); }

PyGetSetDef getset[] = {
    {"address", get_address, nullptr, "Where the first byte is.", nullptr},
    {"nbytes", get_nbytes, nullptr, "How many bytes there are.", nullptr},
    {"interpreter", get_interpreter, nullptr,
     "The id of the interpreter that owns the memory; None for memory that belongs to no interpreter.",
     nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(repr)},
    {Py_tp_hash, reinterpret_cast<void*>(hash)},
    {Py_tp_getset, getset},
    {Py_bf_getbuffer, reinterpret_cast<void*>(getbuffer)},
    {Py_tp_doc,
     const_cast<char*>("The holder of memory that another interpreter lends; exports it read-only.")},
    {0, nullptr},
};

PyType_Spec spec = {
    "memchannel._core.LentMemory",
    sizeof(LentMemory),
    1,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace

[[gnu::hot]] Ref make_lent_memory(ModuleState& state, const Layout& layout) {
    const std::size_t dims = static_cast<std::size_t>(layout.ndim) * sizeof(Py_ssize_t);
    const std::size_t format = format_size(layout.format);
    const auto size = static_cast<Py_ssize_t>(2 * dims + format);
    LentMemory* const memory = PyObject_NewVar(LentMemory, state.lent_memory_type, size);
    if (!memory) throw PythonError();
    memory->lease = nullptr;
    memory->data = layout.data;
    memory->len = layout.len;
    memory->itemsize = layout.itemsize;
    memory->ndim = layout.ndim;
    memory->access = layout.access;
    memory->content = layout.content;
    memory->dropped_quietly = false;
    copy_sizes(memory->shape(), layout.shape, layout.ndim);
    copy_sizes(memory->strides(), layout.strides, layout.ndim);
    copy_format(memory->format(), layout.format, format);
    return Ref::steal(reinterpret_cast<PyObject*>(memory));
}

void give_lease(PyObject* lent_memory, LeaseRef lease) noexcept {
    lent(lent_memory)->lease = lease.release();
}

Lease* lease_of(PyObject* object) noexcept {
    // By the slot, not the type: a module that was imported twice has two types.
    return Py_TYPE(object)->tp_dealloc == dealloc ? lent(object)->lease : nullptr;
}

Content content_of(PyObject* lent_memory) noexcept { return lent(lent_memory)->content; }

bool dropped_quietly(PyObject* lent_memory) noexcept { return lent(lent_memory)->dropped_quietly; }

void set_dropped_quietly(PyObject* lent_memory) noexcept { lent(lent_memory)->dropped_quietly = true; }

PyObject* owner_of(PyObject* lent_memory) noexcept { return owner_of(*lent(lent_memory)->lease); }

PyObject* owner_of(const Lease& lease) noexcept {
    const OwnerId owner = lease.owner_id();
    if (owner == no_owner) Py_RETURN_NONE;
    return PyLong_FromLongLong(owner);
}

bool add_lent_memory_type(PyObject* module, ModuleState& state) noexcept {
    state.lent_memory_type =
        reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return state.lent_memory_type && PyModule_AddType(module, state.lent_memory_type) == 0;
}

}  // namespace memchannel
