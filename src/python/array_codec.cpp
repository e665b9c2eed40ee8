// The array part: dtype, shape and strides beside the data, so that the other side gets the same array (what
// Antoine Pitrou asked for in the PEP 554 discussion).
#include <algorithm>
#include <cstring>

#include "core/registry.hpp"
#include "numpy_abi.hpp"
#include "parts.hpp"

namespace memchannel {

namespace {

struct ArrayHeader {
    char* data;
    Py_ssize_t low;   // offset of the first byte that the array touches, from data; <= 0
    Py_ssize_t size;  // bytes from there to the last one touched
    int ndim;
    int type_num;  // of a plain native dtype, or -1: the encoded dtype follows
    Py_ssize_t dtype_size;
    bool writable;
    // shape, strides, encoded dtype follow
};

constexpr std::size_t cached_dtypes = 256;

bool plain_native(const DescrFields* descr) noexcept {
    const bool numeric =
        (descr->type_num >= 0 && descr->type_num < type_object) || descr->type_num == type_half;
    return numeric && !descr->metadata && (descr->byteorder == '=' || descr->byteorder == '|');
}

// By identity: dtypes that differ in their metadata only compare equal.
Ref encoded_dtype(ModuleState& state, PyObject* dtype) {
    Ref key = Ref::steal(PyLong_FromVoidPtr(dtype));
    if (!key) throw PythonError();
    PyObject* const known = PyDict_GetItemWithError(state.dtype_codes, key.get());  // borrowed
    if (known) return Ref::borrow(PyTuple_GET_ITEM(known, 1));
    if (PyErr_Occurred()) throw PythonError();
    PyObject* const codec = module_once(state.array_codec, "memchannel.codecs.array");
    Ref code = codec ? Ref::steal(PyObject_CallMethod(codec, "encode_dtype", "O", dtype)) : Ref();
    if (!code) throw PythonError();
    if (!PyBytes_Check(code.get())) {
        PyErr_SetString(PyExc_TypeError, "encode_dtype must return bytes");
        throw PythonError();
    }
    Ref entry = Ref::steal(PyTuple_Pack(2, dtype, code.get()));  // keeps the dtype, and so its address, alive
    if (static_cast<std::size_t>(PyDict_GET_SIZE(state.dtype_codes)) >= cached_dtypes)
        PyDict_Clear(state.dtype_codes);
    if (!entry || PyDict_SetItem(state.dtype_codes, key.get(), entry.get()) < 0) throw PythonError();
    return code;
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
    if (known) return Ref::borrow(known);
    if (PyErr_Occurred()) throw PythonError();
    PyObject* const codec = module_once(state.array_codec, "memchannel.codecs.array");
    Ref dtype = codec ? Ref::steal(PyObject_CallMethod(codec, "decode_dtype", "O", key.get())) : Ref();
    if (!dtype) throw PythonError();
    if (static_cast<std::size_t>(PyDict_GET_SIZE(state.dtypes)) >= cached_dtypes) PyDict_Clear(state.dtypes);
    if (PyDict_SetItem(state.dtypes, key.get(), dtype.get()) < 0) throw PythonError();
    return dtype;
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

struct Touched {
    Py_ssize_t low = 0;
    Py_ssize_t high = 0;
};

Touched extent(const ArrayFields* fields, Py_ssize_t itemsize) noexcept {
    Touched touched{0, itemsize};
    for (int i = 0; i < fields->nd; ++i) {
        if (fields->dimensions[i] == 0) return {0, 0};
        const Py_ssize_t reach = (fields->dimensions[i] - 1) * fields->strides[i];
        (reach < 0 ? touched.low : touched.high) += reach;
    }
    return touched;
}

Ref make_array_view(ModuleState& state, const ArrayHeader& header, Ref memory, const Py_ssize_t* shape,
                    const Py_ssize_t* strides, const std::byte* code) {
    Ref view_module = Ref::steal(PyImport_ImportModule("memchannel.arrayview"));
    if (!view_module) throw PythonError();
    Ref dims = Ref::steal(PyTuple_New(header.ndim));
    Ref steps = Ref::steal(PyTuple_New(header.ndim));
    if (!dims || !steps) throw PythonError();
    for (int i = 0; i < header.ndim; ++i) {
        PyObject* const dim = PyLong_FromSsize_t(shape[i]);
        PyTuple_SET_ITEM(dims.get(), i, dim);
        PyObject* const step = PyLong_FromSsize_t(strides[i]);
        PyTuple_SET_ITEM(steps.get(), i, step);
        if (!dim || !step) throw PythonError();
    }
    Ref plain = Ref::steal(PyMemoryView_FromObject(memory.get()));
    if (!plain) throw PythonError();
    Ref view = Ref::steal(PyObject_CallMethod(view_module.get(), "_rebuild", "OnOOiy#", plain.get(),
                                              -header.low, dims.get(), steps.get(), header.type_num,
                                              reinterpret_cast<const char*>(code), header.dtype_size));
    static_cast<void>(state);
    if (!view) throw PythonError();
    return view;
}

}  // namespace

LeaseRef encode_array(ModuleState& state, PyObject* array, const LendTerms& terms, const HeaderSink& sink,
                      Access access) {
    const ArrayFields* const fields = array_fields(array);
    const DescrFields* const descr = descr_fields(fields->descr);
    check_lendable(array, descr);
    Ref code;
    if (!plain_native(descr)) code = encoded_dtype(state, fields->descr);
    const Touched touched = extent(fields, descr->elsize);
    const std::size_t dims = static_cast<std::size_t>(fields->nd) * sizeof(Py_ssize_t);
    const Py_ssize_t code_size = code ? PyBytes_GET_SIZE(code.get()) : 0;

    std::byte* at = sink(sizeof(ArrayHeader) + 2 * dims + static_cast<std::size_t>(code_size));
    new (at) ArrayHeader{fields->data,
                         touched.low,
                         touched.high - touched.low,
                         fields->nd,
                         code ? -1 : descr->type_num,
                         code_size,
                         access == Access::write};
    at += sizeof(ArrayHeader);
    if (dims) {
        std::memcpy(at, fields->dimensions, dims);
        std::memcpy(at + dims, fields->strides, dims);
    }
    if (code) std::memcpy(at + 2 * dims, PyBytes_AS_STRING(code.get()), static_cast<std::size_t>(code_size));
    if (LeaseRef lease = existing_lease(state, array)) return lease;
    return lend_object(state, array, static_cast<std::size_t>(touched.high - touched.low), terms);
}

Ref decode_array(ModuleState& state, const std::byte* at, LeaseRef lease, const RecvOptions& options) {
    ArrayHeader header;
    std::memcpy(&header, at, sizeof header);
    const auto* shape = reinterpret_cast<const Py_ssize_t*>(at + sizeof header);
    const auto* strides = shape + header.ndim;
    const auto* code = reinterpret_cast<const std::byte*>(strides + header.ndim);
    const Py_ssize_t one = 1;
    Ref memory = make_lent_memory(
        state, std::move(lease),
        Layout{header.data + header.low, header.size, 1, 1, &header.size, &one, "B", header.writable});
    const NumpyTable* const numpy = options.as_view ? nullptr : import_numpy(state.numpy);
    if (!numpy) {
        if (!options.as_view && !PyErr_ExceptionMatches(PyExc_ImportError)) throw PythonError();
        PyErr_Clear();
        return make_array_view(state, header, std::move(memory), shape, strides, code);
    }
    Ref dtype = decoded_dtype(state, *numpy, header, code);
    Ref array =
        Ref::steal(numpy->new_from_descr(numpy->array_type, dtype.release(), header.ndim, shape, strides,
                                         header.data, header.writable ? array_writeable : 0, nullptr));
    if (!array || numpy->set_base(array.get(), memory.release()) < 0) throw PythonError();
    if (!options.copy) return array;
    Ref copy = Ref::steal(PyObject_CallMethod(array.get(), "copy", "s", "K"));
    if (!copy) throw PythonError();
    registry().bytes_copied += static_cast<std::size_t>(header.size);
    return copy;
}

}  // namespace memchannel
