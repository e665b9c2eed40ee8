#include "exports.hpp"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "arrow_abi.hpp"
#include "core/registry.hpp"
#include "parts.hpp"

namespace memchannel {

namespace {

// ---- DLPack (dmlc/dlpack, include/dlpack/dlpack.h, versions 0.8 and 1.0)

struct DlDevice {
    std::int32_t type;
    std::int32_t id;
};
struct DlType {
    std::uint8_t code;
    std::uint8_t bits;
    std::uint16_t lanes;
};
struct DlTensor {
    void* data;
    DlDevice device;
    std::int32_t ndim;
    DlType dtype;
    std::int64_t* shape;
    std::int64_t* strides;  // in elements
    std::uint64_t byte_offset;
};
struct DlManagedTensor {
    DlTensor tensor;
    void* context;
    void (*deleter)(DlManagedTensor*);
    static constexpr const char* name = "dltensor";
};
struct DlManagedTensorVersioned {
    std::uint32_t major;
    std::uint32_t minor;
    void* context;
    void (*deleter)(DlManagedTensorVersioned*);
    std::uint64_t flags;
    DlTensor tensor;
    static constexpr const char* name = "dltensor_versioned";
};
constexpr std::int32_t dl_cpu = 1;
constexpr std::uint64_t dl_read_only = 1;
constexpr std::uint64_t dl_copied = 2;

template <class Managed>
struct Tensor {
    Managed managed{};
    std::vector<std::int64_t> sizes;
    LeaseRef lease;
    std::unique_ptr<char[]> copy;
};

// A consumer that took the tensor has renamed the capsule.
template <class Managed>
void end_capsule(PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, Managed::name)) return;
    auto* const managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, Managed::name));
    managed->deleter(managed);
}

// In C order.
void pack(char*& to, const char* from, std::size_t axis, const std::vector<Py_ssize_t>& shape,
          const std::vector<Py_ssize_t>& strides, std::size_t itemsize) noexcept {
    if (axis == shape.size()) {
        std::memcpy(to, from, itemsize);
        to += itemsize;
        return;
    }
    for (Py_ssize_t i = 0; i < shape[axis]; ++i)
        pack(to, from + i * strides[axis], axis + 1, shape, strides, itemsize);
}

struct Source {
    char* data;
    std::vector<Py_ssize_t> shape;
    std::vector<Py_ssize_t> strides;
    Py_ssize_t itemsize;
    LeaseRef lease;

    std::size_t nbytes() const noexcept {
        std::size_t product = static_cast<std::size_t>(itemsize);
        for (const Py_ssize_t length : shape) product *= static_cast<std::size_t>(length);
        return product;
    }
};

Source source_of(ModuleState& state, PyObject* memory, Py_ssize_t offset, std::vector<Py_ssize_t> shape,
                 std::vector<Py_ssize_t> strides, Py_ssize_t itemsize) {
    BufferScope buffer;
    if (!buffer.acquire(memory, PyBUF_FULL_RO)) throw PythonError();
    Lease* const lease = ground_of(state, memory).lease;
    if (!lease) {
        PyErr_Format(PyExc_TypeError, "expected lent memory, not %.100s", Py_TYPE(memory)->tp_name);
        throw PythonError();
    }
    char* const data = first_element(*buffer, offset, shape, strides, itemsize);
    return Source{data, std::move(shape), std::move(strides), itemsize, LeaseRef::share(lease)};
}

template <class Managed>
Ref make_tensor(Source source, std::uint8_t type_code, bool copy) {
    auto tensor = std::make_unique<Tensor<Managed>>();
    const std::size_t ndim = source.shape.size();
    const auto itemsize = static_cast<std::size_t>(source.itemsize);
    if (copy) {
        const std::size_t size = source.nbytes();
        tensor->copy = std::make_unique_for_overwrite<char[]>(size);
        char* to = tensor->copy.get();
        pack(to, source.data, 0, source.shape, source.strides, itemsize);
        registry().bytes_copied += size;
        source.data = tensor->copy.get();
        Py_ssize_t step = source.itemsize;
        for (std::size_t i = ndim; i-- > 0; step *= source.shape[i]) source.strides[i] = step;
    } else {
        tensor->lease = std::move(source.lease);
    }
    tensor->sizes.assign(source.shape.begin(), source.shape.end());
    for (const Py_ssize_t stride : source.strides) tensor->sizes.push_back(stride / source.itemsize);
    Managed& managed = tensor->managed;
    managed.tensor = DlTensor{source.data,
                              {dl_cpu, 0},
                              static_cast<std::int32_t>(ndim),
                              {type_code, static_cast<std::uint8_t>(8 * itemsize), 1},
                              tensor->sizes.data(),
                              tensor->sizes.data() + ndim,
                              0};
    if constexpr (std::is_same_v<Managed, DlManagedTensorVersioned>) {
        managed.major = 1;
        managed.flags = copy ? dl_copied : dl_read_only;
    }
    managed.context = tensor.get();
    managed.deleter = [](Managed* self) { delete static_cast<Tensor<Managed>*>(self->context); };
    Ref capsule = Ref::steal(PyCapsule_New(&managed, Managed::name, end_capsule<Managed>));
    if (!capsule) throw PythonError();
    tensor.release();
    return capsule;
}

// ---- Arrow

struct ArrowMemory {
    const void* buffers[2];  // validity, values
    LeaseRef lease;
};

Ref make_schema(const char* format) {
    Owned<ArrowSchema> schema(new ArrowSchema());
    auto text = std::make_unique<std::string>(format);
    schema->format = text->c_str();
    schema->name = "";
    schema->release = [](ArrowSchema* self) {
        delete static_cast<std::string*>(self->private_data);
        self->release = nullptr;
    };
    schema->private_data = text.release();
    return structure_capsule(std::move(schema));
}

Ref make_arrow_array(Source source) {
    Owned<ArrowArray> array(new ArrowArray());
    auto memory = std::make_unique<ArrowMemory>();
    memory->buffers[1] = source.data;
    memory->lease = std::move(source.lease);
    array->length = source.shape[0];
    array->n_buffers = 2;
    array->buffers = memory->buffers;
    array->release = [](ArrowArray* self) {
        self->release = nullptr;
        delete static_cast<ArrowMemory*>(self->private_data);
    };
    array->private_data = memory.release();
    return structure_capsule(std::move(array));
}

}  // namespace

PyObject* export_dlpack(PyObject* module, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&] {
        const Arguments<8> arguments(
            "_dlpack", {"memory", "offset", "shape", "strides", "itemsize", "type_code", "copy", "versioned"},
            8, 8, values, given, nullptr);
        Source source = source_of(state_of_module(module), arguments[0], size_of(arguments[1]),
                                  sizes_of(arguments[2]), sizes_of(arguments[3]), size_of(arguments[4]));
        const auto type_code = static_cast<std::uint8_t>(size_of(arguments[5]));
        const bool copy = arguments.truth(6);
        return arguments.truth(7)
                   ? make_tensor<DlManagedTensorVersioned>(std::move(source), type_code, copy).release()
                   : make_tensor<DlManagedTensor>(std::move(source), type_code, copy).release();
    });
}

PyObject* export_arrow(PyObject* module, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&] {
        const Arguments<5> arguments("_arrow_array", {"memory", "offset", "length", "itemsize", "format"}, 5,
                                     5, values, given, nullptr);
        const Py_ssize_t itemsize = size_of(arguments[3]);
        const char* const format = PyUnicode_AsUTF8(arguments[4]);
        if (!format) throw PythonError();
        Ref schema = make_schema(format);
        Ref array = make_arrow_array(source_of(state_of_module(module), arguments[0], size_of(arguments[1]),
                                               {size_of(arguments[2])}, {itemsize}, itemsize));
        return PyTuple_Pack(2, schema.get(), array.get());
    });
}

}  // namespace memchannel
