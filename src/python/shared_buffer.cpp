#include "shared_buffer.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "display.hpp"
#include "errors.hpp"
#include "lent_memory.hpp"
#include "numpy_abi.hpp"

namespace memchannel {

namespace {

struct SharedBuffer {
    PyObject_HEAD Block* block;  // one count
};

Block* block_of(PyObject* self) noexcept { return reinterpret_cast<SharedBuffer*>(self)->block; }

PyObject* shared_buffer_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"nbytes", nullptr};
    Py_ssize_t nbytes;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "n:SharedBuffer", const_cast<char**>(names),
                                     &nbytes)) {
        return nullptr;
    }
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        if (nbytes < 0) {
            PyErr_Format(PyExc_ValueError, "nbytes must be >= 0, not %zd", nbytes);
            return nullptr;
        }
        Handle<Block> block = Block::make(static_cast<std::size_t>(nbytes));
        if (!block) {
            PyErr_Format(PyExc_MemoryError, "cannot allocate a shared buffer of %zd bytes", nbytes);
            return nullptr;
        }
        PyObject* const self = type->tp_alloc(type, 0);
        if (self) reinterpret_cast<SharedBuffer*>(self)->block = block.release();
        return self;
    });
}

void shared_buffer_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    Block* const block = block_of(self);
    type->tp_free(self);
    Py_DECREF(type);
    if (block) block->drop();
}

int shared_buffer_getbuffer(PyObject* self, Py_buffer* view, int flags) {
    return PyBuffer_FillInfo(view, self, block_of(self)->data(),
                             static_cast<Py_ssize_t>(block_of(self)->nbytes()), 0, flags);
}

Py_ssize_t shared_buffer_length(PyObject* self) { return static_cast<Py_ssize_t>(block_of(self)->nbytes()); }

PyObject* shared_buffer_repr(PyObject* self) {
    return PyUnicode_FromFormat("<SharedBuffer of %zu bytes at %p>", block_of(self)->nbytes(),
                                static_cast<void*>(block_of(self)->data()));
}

PyMethodDef shared_buffer_methods[] = {
    rich_method,
    html_method,
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot shared_buffer_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(shared_buffer_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(shared_buffer_dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(shared_buffer_repr)},
    {Py_sq_length, reinterpret_cast<void*>(shared_buffer_length)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(shared_buffer_getbuffer)},
    {Py_tp_methods, shared_buffer_methods},
    {Py_tp_doc,
     const_cast<char*>("SharedBuffer(nbytes)\n--\n\n"
                       "Zeroed memory, aligned to 64 bytes, that belongs to no interpreter.\n\n"
                       "Counted by the core: sending it never switches interpreters to give it back, and\n"
                       "it outlives the interpreter that made it. Its size never changes.\n\n"
                       "Parameters\n----------\nnbytes : int\n    Its size.\n\n"
                       "Raises\n------\nValueError\n    `nbytes` is negative.\n"
                       "MemoryError\n    The memory cannot be had.")},
    {0, nullptr},
};

PyType_Spec shared_buffer_spec = {
    "memchannel.SharedBuffer", sizeof(SharedBuffer), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    shared_buffer_slots,
};

struct Axis {
    std::size_t stride;
    std::size_t reach;  // from the first element to the last along this axis
};

// Which bytes of the block the array's elements occupy, see Extent.
Extent extent_of(const ArrayFields* fields, std::size_t itemsize, const std::byte* base) {
    std::vector<Axis> axes;
    const char* low = fields->data;
    for (int i = 0; i < fields->nd; ++i) {
        const Py_ssize_t reach = (fields->dimensions[i] - 1) * fields->strides[i];
        if (fields->dimensions[i] == 0) return {};
        if (reach < 0) low += reach;
        if (reach != 0) {
            axes.push_back({static_cast<std::size_t>(std::abs(fields->strides[i])),
                            static_cast<std::size_t>(std::abs(reach))});
        }
    }
    std::sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.stride < b.stride; });
    Extent extent;
    extent.low = static_cast<std::size_t>(reinterpret_cast<const std::byte*>(low) - base);
    std::size_t inner = itemsize;
    for (std::size_t k = 0; k < axes.size(); ++k) {
        const std::size_t stride = axes[k].stride;
        const bool periodic = std::all_of(axes.begin() + static_cast<std::ptrdiff_t>(k), axes.end(),
                                          [&](const Axis& outer) { return outer.stride % stride == 0; });
        if (!extent.period && inner < stride && periodic && extent.low % stride + inner <= stride) {
            extent.period = stride;
            extent.phase_low = extent.low % stride;
            extent.phase_high = extent.phase_low + inner;
        }
        inner += axes[k].reach;
    }
    extent.high = extent.low + inner;
    return extent;
}

}  // namespace

Block* shared_buffer_block(ModuleState& state, PyObject* object) noexcept {
    static_cast<void>(state);
    return Py_TYPE(object)->tp_dealloc == shared_buffer_dealloc ? block_of(object) : nullptr;
}

PyObject* claim_block(PyObject* module, PyObject* array) {
    ModuleState& state = state_of_module(module);
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const NumpyTable* const numpy = loaded_numpy(state);
        if (numpy && numpy->is_array(array) && !(array_fields(array)->flags & array_writeable)) {
            PyErr_SetString(PyExc_ValueError, "cannot lend a read-only array writable");
            return nullptr;
        }
        Block* block = nullptr;
        for (PyObject* at = array; numpy && at && !block;) {
            block = shared_buffer_block(state, at);
            at = numpy->is_array(at)                          ? borrowed_memory_of(at)
                 : PyObject_TypeCheck(at, &PyMemoryView_Type) ? PyMemoryView_GET_BASE(at)
                                                              : nullptr;
        }
        if (!block || !numpy->is_array(array)) {
            PyErr_SetString(
                PyExc_TypeError,
                "only memory that belongs to no interpreter can be lent writable: make the array with "
                "memchannel.empty(), zeros() or array()");
            return nullptr;
        }
        const ArrayFields* const fields = array_fields(array);
        const auto itemsize = static_cast<std::size_t>(descr_fields(fields->descr)->elsize);
        auto part =
            WritablePart::claim(Handle<Block>::share(block), extent_of(fields, itemsize, block->data()));
        if (!part) {
            PyErr_SetString(PyExc_BufferError, "this block overlaps one that is lent writable already");
            return nullptr;
        }
        const auto size = static_cast<Py_ssize_t>(block->nbytes());
        const Py_ssize_t one = 1;
        Ref memory =
            make_lent_memory(state, Layout{block->data(), size, 1, 1, &size, &one, "B", Access::write});
        give_lease(memory.get(), LeaseRef(std::move(part)));
        Ref claimed = Ref::steal(numpy->new_from_descr(numpy->array_type, Py_NewRef(fields->descr),
                                                       fields->nd, fields->dimensions, fields->strides,
                                                       fields->data, array_writeable, nullptr));
        if (!claimed || numpy->set_base(claimed.get(), memory.release()) < 0) return nullptr;
        return claimed.release();
    });
}

bool add_shared_buffer_type(PyObject* module, ModuleState& state) noexcept {
    state.shared_buffer_type =
        reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &shared_buffer_spec, nullptr));
    return state.shared_buffer_type && PyModule_AddType(module, state.shared_buffer_type) == 0;
}

}  // namespace memchannel
