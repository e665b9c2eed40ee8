// The array part: dtype, shape and strides beside the data, so that the other side gets the same array (what
// Antoine Pitrou asked for in the PEP 554 discussion).
#include <cstring>
#include <utility>
#include <vector>

#include "core/registry.hpp"
#include "numpy_abi.hpp"
#include "parts.hpp"

namespace memchannel {

namespace {

struct ArrayHeader {
    char* data;  // the first element
    Touched touched;
    Py_ssize_t itemsize;
    int ndim;
    int type_num;  // of a plain native dtype, or -1: the encoded dtype follows
    Py_ssize_t dtype_size;
    Access access;
    // shape, strides, encoded dtype follow
};

// What the header is made of, from an ndarray or from a description.
struct Elements {
    char* data;
    int ndim;
    const Py_ssize_t* shape;
    const Py_ssize_t* strides;
    Py_ssize_t itemsize;
    int type_num;
    PyObject* code;  // bytes or nullptr; borrowed
};

constexpr std::size_t cached_dtypes = 256;

PyObject* array_codec(ModuleState& state) {
    PyObject* const codec = module_once(state.array_codec, "memchannel.codecs.array");
    if (!codec) throw PythonError();
    return codec;
}

// Whether the type number says everything. A dtype of the same number can have fields, metadata or a scalar
// type of its own.
bool plain_native(const NumpyTable& numpy, const DescrFields* descr) {
    const int number = descr->type_num;
    if (!((number >= 0 && number < type_object) || number == type_half)) return false;
    Ref builtin = Ref::steal(numpy.descr_from_type(number));
    if (!builtin) throw PythonError();
    const DescrFields* const plain = descr_fields(builtin.get());
    return descr == plain || (descr->typeobj == plain->typeobj && descr->byteorder == plain->byteorder &&
                              !descr->metadata && !descr->subarray && !descr->fields && !descr->names);
}

// The names of a structure's fields, borrowed, or nullptr.
PyObject* field_names(PyObject* dtype) noexcept {
    const DescrFields* const descr = descr_fields(dtype);
    const bool has_room = descr->type_num >= 0 && descr->type_num < type_string_dtype;
    return has_room ? descr->names : nullptr;
}

// Whether `dtype.names = ...`, which changes a dtype in place, can reach anything but the names of its own
// fields: structures inside, also as the elements of a sub-array.
bool holds_structures(PyObject* dtype) {
    PyObject* const names = field_names(dtype);
    PyObject* const fields = names ? descr_fields(dtype)->fields : nullptr;
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); ++i) {
        PyObject* const field = PyDict_GetItemWithError(fields, PyTuple_GET_ITEM(names, i));
        if (!field) throw PythonError();
        PyObject* const part = PyTuple_GET_ITEM(field, 0);
        if (field_names(part) || (descr_fields(part)->type_num == type_void && descr_fields(part)->subarray))
            return true;
    }
    return false;
}

// By identity: dtypes that differ in their metadata only compare equal.
Ref encoded_dtype(ModuleState& state, PyObject* dtype) {
    Ref key = Ref::steal(PyLong_FromVoidPtr(dtype));
    if (!key) throw PythonError();
    PyObject* const names = field_names(dtype) ? field_names(dtype) : Py_None;
    PyObject* const known = PyDict_GetItemWithError(state.dtype_codes, key.get());  // borrowed
    if (known && PyTuple_GET_ITEM(known, 2) == names) return Ref::borrow(PyTuple_GET_ITEM(known, 1));
    if (PyErr_Occurred()) throw PythonError();
    Ref kept_names = Ref::borrow(names);
    Ref code =
        Ref::steal(PyObject_CallFunction(attribute(array_codec(state), "encode_dtype").get(), "O", dtype));
    if (!code) throw PythonError();
    if (!PyBytes_Check(code.get())) {
        PyErr_SetString(PyExc_TypeError, "encode_dtype must return bytes");
        throw PythonError();
    }
    if (holds_structures(dtype)) return code;
    // Keeps the dtype and its names, and so their addresses, alive.
    Ref entry = Ref::steal(PyTuple_Pack(3, dtype, code.get(), kept_names.get()));
    if (static_cast<std::size_t>(PyDict_GET_SIZE(state.dtype_codes)) >= cached_dtypes)
        PyDict_Clear(state.dtype_codes);
    if (!entry || PyDict_SetItem(state.dtype_codes, key.get(), entry.get()) < 0) throw PythonError();
    return code;
}

// A structure of its own for each array: the fields of one can be renamed.
Ref own_dtype(const NumpyTable& numpy, Ref dtype) {
    if (!field_names(dtype.get())) return dtype;
    Ref own = Ref::steal(numpy.descr_new(dtype.get()));
    if (!own) throw PythonError();
    return own;
}

Ref decoded_dtype(ModuleState& state, const NumpyTable& numpy, const ArrayHeader& header,
                  const std::byte* code) {
    if (header.type_num >= 0) {
        Ref dtype = Ref::steal(numpy.descr_from_type(header.type_num));
        if (!dtype) throw PythonError();
        return dtype;
    }
    Ref key = Ref::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(code), header.dtype_size));
    if (!key) throw PythonError();
    PyObject* const known = PyDict_GetItemWithError(state.dtypes, key.get());
    if (known) return own_dtype(numpy, Ref::borrow(known));
    if (PyErr_Occurred()) throw PythonError();
    Ref dtype = Ref::steal(
        PyObject_CallFunction(attribute(array_codec(state), "decode_dtype").get(), "O", key.get()));
    if (!dtype) throw PythonError();
    if (holds_structures(dtype.get())) return dtype;
    if (static_cast<std::size_t>(PyDict_GET_SIZE(state.dtypes)) >= cached_dtypes) PyDict_Clear(state.dtypes);
    if (PyDict_SetItem(state.dtypes, key.get(), dtype.get()) < 0) throw PythonError();
    return own_dtype(numpy, std::move(dtype));
}

void check_lendable(PyObject* array, const DescrFields* descr) {
    if (!(descr->flags & descr_has_objects)) return;
    PyErr_Format(
        PyExc_TypeError,
        "cannot send an array of dtype %R: Python objects belong to one interpreter; convert it to a numeric "
        "dtype, or send the objects over a memchannel.Channel",
        array_fields(array)->descr);
    throw PythonError();
}

Touched write_header(const HeaderSink& sink, const Elements& elements, Access access) {
    const Touched touched = touched_bytes(elements.ndim, elements.shape, elements.strides, elements.itemsize);
    const std::size_t dims = static_cast<std::size_t>(elements.ndim) * sizeof(Py_ssize_t);
    const Py_ssize_t code_size = elements.code ? PyBytes_GET_SIZE(elements.code) : 0;
    std::byte* at = sink(sizeof(ArrayHeader) + 2 * dims + static_cast<std::size_t>(code_size));
    new (at) ArrayHeader{elements.data, touched, elements.itemsize, elements.ndim, elements.type_num,
                         code_size,     access};
    at += sizeof(ArrayHeader);
    copy_sizes(reinterpret_cast<Py_ssize_t*>(at), elements.shape, elements.ndim);
    copy_sizes(reinterpret_cast<Py_ssize_t*>(at + dims), elements.strides, elements.ndim);
    if (code_size) {
        std::memcpy(at + 2 * dims, PyBytes_AS_STRING(elements.code), static_cast<std::size_t>(code_size));
    }
    return touched;
}

Ref size_tuple(const Py_ssize_t* sizes, int count) {
    Ref tuple = Ref::steal(PyTuple_New(count));
    if (!tuple) throw PythonError();
    for (int i = 0; i < count; ++i) {
        PyObject* const size = PyLong_FromSsize_t(sizes[i]);
        if (!size) throw PythonError();
        PyTuple_SET_ITEM(tuple.get(), i, size);
    }
    return tuple;
}

// This interpreter's NumPy, imported if that can be; nullptr: there is none, and none is required.
const NumpyTable* numpy_or_none(ModuleState& state, bool required) {
    if (const NumpyTable* numpy = loaded_numpy(state)) return numpy;
    Ref imported = Ref::steal(PyObject_CallFunctionObjArgs(
        attribute(array_codec(state), "import_numpy").get(), required ? Py_True : Py_False, nullptr));
    if (!imported) throw PythonError();
    return imported.get() == Py_True ? loaded_numpy(state) : nullptr;
}

Ref make_array_view(ModuleState& state, const ArrayHeader& header, const Ref& memory, const Py_ssize_t* shape,
                    const Py_ssize_t* strides, const std::byte* code) {
    PyObject* const module = module_once(state.arrayview, "memchannel.arrayview");
    if (!module) throw PythonError();
    Ref dims = size_tuple(shape, header.ndim);
    Ref steps = size_tuple(strides, header.ndim);
    Ref view = Ref::steal(PyObject_CallFunction(attribute(module, "_rebuild").get(), "OnOOniy#", memory.get(),
                                                -header.touched.low, dims.get(), steps.get(), header.itemsize,
                                                header.type_num, reinterpret_cast<const char*>(code),
                                                header.dtype_size));
    if (!view) throw PythonError();
    return view;
}

Ref own_copy(const Ref& array) {
    Ref copy = Ref::steal(PyObject_CallFunction(attribute(array.get(), "copy").get(), "s", "K"));
    Ref nbytes = copy ? attribute(copy.get(), "nbytes") : Ref();
    const Py_ssize_t copied = nbytes ? PyLong_AsSsize_t(nbytes.get()) : -1;
    if (copied < 0) throw PythonError();
    registry().bytes_copied += static_cast<std::size_t>(copied);
    return copy;
}

}  // namespace

Py_ssize_t size_of(PyObject* number) {
    const Py_ssize_t size = PyLong_AsSsize_t(number);
    if (size == -1 && PyErr_Occurred()) throw PythonError();
    return size;
}

std::vector<Py_ssize_t> sizes_of(PyObject* tuple) {
    std::vector<Py_ssize_t> sizes;
    sizes.reserve(static_cast<std::size_t>(PyTuple_GET_SIZE(tuple)));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); ++i)
        sizes.push_back(size_of(PyTuple_GET_ITEM(tuple, i)));
    return sizes;
}

char* first_element(const Py_buffer& buffer, Py_ssize_t offset, const std::vector<Py_ssize_t>& shape,
                    const std::vector<Py_ssize_t>& strides, Py_ssize_t itemsize) {
    const Touched there = touched_bytes(buffer.ndim, buffer.shape, buffer.strides, buffer.itemsize);
    const bool sound = shape.size() == strides.size() && itemsize >= 0 && !buffer.suboffsets;
    const Touched wanted =
        sound ? touched_bytes(static_cast<int>(shape.size()), shape.data(), strides.data(), itemsize)
              : Touched();
    if (!sound || (wanted.size() && (offset + wanted.low < there.low || offset + wanted.high > there.high))) {
        PyErr_SetString(PyExc_ValueError, "an array's description reaches outside its memory");
        throw PythonError();
    }
    return static_cast<char*>(buffer.buf) + offset;
}

LeaseRef encode_array(ModuleState& state, PyObject* array, const LendTerms& terms, const HeaderSink& sink,
                      Access access) {
    const ArrayFields* const fields = array_fields(array);
    const DescrFields* const descr = descr_fields(fields->descr);
    check_lendable(array, descr);
    Ref code;
    if (!plain_native(*state.numpy, descr)) code = encoded_dtype(state, fields->descr);
    const Touched touched =
        write_header(sink,
                     Elements{fields->data, fields->nd, fields->dimensions, fields->strides, descr->elsize,
                              code ? -1 : descr->type_num, code.get()},
                     access);
    const Ground ground = ground_of(state, array);
    if (ground.lease) return LeaseRef::share(ground.lease);
    check_mapped(state, ground, fields->data + touched.low, touched.size());
    return lend_array(state, array, ground, touched.size(), terms);
}

LeaseRef encode_elements(ModuleState& state, PyObject* description, const LendTerms& terms,
                         const HeaderSink& sink) {
    PyObject *memory, *shape, *strides, *code;
    Py_ssize_t offset, itemsize;
    int type_num;
    if (!PyArg_ParseTuple(description, "OnO!O!niS", &memory, &offset, &PyTuple_Type, &shape, &PyTuple_Type,
                          &strides, &itemsize, &type_num, &code)) {
        throw PythonError();
    }
    const std::vector<Py_ssize_t> dims = sizes_of(shape);
    const std::vector<Py_ssize_t> steps = sizes_of(strides);
    BufferScope buffer;
    if (!buffer.acquire(memory, PyBUF_FULL_RO)) throw PythonError();
    char* const data = first_element(*buffer, offset, dims, steps, itemsize);
    const int ndim = static_cast<int>(dims.size());
    const Touched wanted = touched_bytes(ndim, dims.data(), steps.data(), itemsize);
    write_header(sink, Elements{data, ndim, dims.data(), steps.data(), itemsize, type_num, code},
                 Access::read);
    const Ground ground = ground_of(state, memory);
    if (ground.lease) return LeaseRef::share(ground.lease);
    check_mapped(state, ground, data + wanted.low, wanted.size());
    return lend_buffer(state, buffer, terms);
}

Ref decode_array(ModuleState& state, const std::byte* at, const Message& message, std::size_t index,
                 const RecvOptions& options) try {
    ArrayHeader header;
    std::memcpy(&header, at, sizeof header);
    const auto* shape = reinterpret_cast<const Py_ssize_t*>(at + sizeof header);
    const auto* strides = shape + header.ndim;
    const auto* code = reinterpret_cast<const std::byte*>(strides + header.ndim);
    const Py_ssize_t one = 1;
    const auto size = static_cast<Py_ssize_t>(header.touched.size());
    Ref memory = make_lent_memory(
        state, Layout{header.data + header.touched.low, size, 1, 1, &size, &one, "B", header.access});
    const NumpyTable* const numpy =
        options.as_view ? nullptr : numpy_or_none(state, options.copy || options.ndarray);
    if (!numpy) {
        // Python sees it, and may keep it: in the traceback of an interrupt, for instance.
        give_lease(memory.get(), LeaseRef::share(message.leases()[index]));
        return make_array_view(state, header, memory, shape, strides, code);
    }
    Ref dtype = decoded_dtype(state, *numpy, header, code);
    const int flags = header.access == Access::write ? array_writeable : 0;
    Ref array = Ref::steal(numpy->new_from_descr(numpy->array_type, dtype.release(), header.ndim, shape,
                                                 strides, header.data, flags, nullptr));
    if (!array || numpy->set_base(array.get(), Py_NewRef(memory.get())) < 0) throw PythonError();
    if (options.copy) return own_copy(array);
    give_lease(memory.get(), message.take_lease(index));
    return array;
} catch (const PythonError&) {
    throw Undeliverable();
}

}  // namespace memchannel
