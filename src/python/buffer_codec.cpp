// The buffer part: a Py_buffer's layout.
#include <bit>
#include <cstring>

#include "core/registry.hpp"
#include "numpy_abi.hpp"
#include "parts.hpp"

namespace memchannel {

namespace {

struct BufferHeader {
    void* data;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    Py_ssize_t ndim;
    // shape, strides, format follow
};

constexpr bool little_endian = std::endian::native == std::endian::little;

// A struct-module format with a byte-order prefix that says native order, for one plain item: the letter that
// memoryview can index. ctypes writes '<l' for its 8-byte c_long, so the size decides, not the letter.
char native_letter(const char* format, Py_ssize_t itemsize) noexcept {
    const char prefix = format[0];
    const bool native = prefix == '@' || prefix == '=' || prefix == (little_endian ? '<' : '>');
    const bool foreign = prefix == (little_endian ? '>' : '<');
    if ((!native && !foreign) || !format[1] || format[2]) return '\0';
    const char letter = format[1];
    if (std::strchr("cbB?", letter)) return letter;
    if (foreign) return '\0';
    if (std::strchr("hilqn", letter)) {
        return itemsize == 2 ? 'h' : itemsize == 4 ? 'i' : itemsize == 8 ? 'q' : '\0';
    }
    if (std::strchr("HILQN", letter)) {
        return itemsize == 2 ? 'H' : itemsize == 4 ? 'I' : itemsize == 8 ? 'Q' : '\0';
    }
    return std::strchr("efdP", letter) ? letter : '\0';
}

// 'O' anywhere but in a field's name (":name:").
bool names_objects(const char* format) noexcept {
    bool in_name = false;
    for (const char* at = format; *at; ++at) {
        if (*at == ':') in_name = !in_name;
        if (*at == 'O' && !in_name) return true;
    }
    return false;
}

void check_lendable(PyObject* object, const Py_buffer& buffer) {
    if (buffer.suboffsets) {
        PyErr_Format(PyExc_BufferError,
                     "cannot send the indirect (PIL-style) buffer of %R: copy it into a plain one first",
                     object);
        throw PythonError();
    }
    if (buffer.format && names_objects(buffer.format)) {
        PyErr_Format(
            PyExc_TypeError,
            "cannot send a buffer of Python objects (format '%s'): objects belong to one interpreter; send "
            "numbers, or the object over a memchannel.Channel",
            buffer.format);
        throw PythonError();
    }
}

[[noreturn]] void explain_no_buffer(ModuleState& state, PyObject* object) {
    const NumpyTable* numpy = loaded_numpy(state.numpy);
    if (numpy && numpy->is_array(object)) {
        // The buffer protocol has no letter for datetime64, object, bfloat16, ...
        // (numpy/_core/src/multiarray/buffer.c)
        Ref dtype = Ref::steal(PyObject_GetAttrString(object, "dtype"));
        Ref cause = Ref::steal(PyErr_GetRaisedException());
        if (dtype) {
            PyErr_Format(PyExc_TypeError,
                         "the buffer protocol cannot describe an array of %R: send it over an ArrayChannel",
                         dtype.get());
            Ref error = Ref::steal(PyErr_GetRaisedException());
            PyException_SetCause(error.get(), cause.release());
            PyErr_SetRaisedException(error.release());
        }
    }
    throw PythonError();
}

}  // namespace

LeaseRef encode_buffer(ModuleState& state, PyObject* object, const LendTerms& terms, const HeaderSink& sink) {
    BufferScope buffer;
    if (!buffer.acquire(object, PyBUF_FULL_RO)) explain_no_buffer(state, object);
    check_lendable(object, *buffer);
    const char* format = buffer->format ? buffer->format : "B";
    char letter[2] = {native_letter(format, buffer->itemsize), '\0'};
    if (letter[0]) format = letter;

    const std::size_t dims = static_cast<std::size_t>(buffer->ndim) * sizeof(Py_ssize_t);
    const std::size_t format_size = std::strlen(format) + 1;
    std::byte* at = sink(sizeof(BufferHeader) + 2 * dims + format_size);
    new (at) BufferHeader{buffer->buf, buffer->len, buffer->itemsize, buffer->ndim};
    at += sizeof(BufferHeader);
    if (dims) {
        std::memcpy(at, buffer->shape, dims);
        if (buffer->strides) {
            std::memcpy(at + dims, buffer->strides, dims);
        } else {
            PyBuffer_FillContiguousStrides(buffer->ndim, buffer->shape,
                                           reinterpret_cast<Py_ssize_t*>(at + dims),
                                           static_cast<int>(buffer->itemsize), 'C');
        }
    }
    std::memcpy(at + 2 * dims, format, format_size);

    static_cast<void>(loaded_numpy(state.numpy));
    if (LeaseRef lease = existing_lease(state, object)) return lease;
    return lend_buffer(state, buffer, terms);
}

Ref decode_buffer(ModuleState& state, const std::byte* at, LeaseRef lease) {
    BufferHeader header;
    std::memcpy(&header, at, sizeof header);
    const auto* shape = reinterpret_cast<const Py_ssize_t*>(at + sizeof header);
    const auto* strides = shape + header.ndim;
    return make_lent_memory(state, std::move(lease),
                         Layout{header.data, header.len, header.itemsize, static_cast<int>(header.ndim),
                                shape, strides, reinterpret_cast<const char*>(strides + header.ndim)});
}

}  // namespace memchannel
