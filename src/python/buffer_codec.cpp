// The buffer part: a Py_buffer's layout.
#include <bit>
#include <cstring>
#include <new>

#include "core/registry.hpp"
#include "numpy_abi.hpp"
#include "parts.hpp"

namespace memchannel {

namespace {

struct BufferHeader {
    void* data;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int ndim;
    Content content;
    // shape, strides, format follow
};

constexpr bool little_endian = std::endian::native == std::endian::little;

std::size_t native_size(char letter) noexcept {
    switch (letter) {
        case 'h':
        case 'H':
            return sizeof(short);
        case 'i':
        case 'I':
            return sizeof(int);
        case 'l':
        case 'L':
            return sizeof(long);
        case 'q':
        case 'Q':
            return sizeof(long long);
        case 'n':
        case 'N':
            return sizeof(std::size_t);
        default:
            return 0;
    }
}

// For one plain item whose format has a byte-order prefix that says native order: the letter that memoryview
// can index. '\0': leave the format as it is. ctypes writes '<q' for its c_long, and the standard sizes of
// '<' and '=' are not always the native ones, so that the item's size decides.
char native_letter(const char* format, Py_ssize_t itemsize) noexcept {
    const char prefix = format[0];
    const bool native = prefix == '@' || prefix == '=' || prefix == (little_endian ? '<' : '>');
    const bool foreign = prefix == (little_endian ? '>' : '<') || prefix == (little_endian ? '!' : '\0');
    if ((!native && !foreign) || !format[1] || format[2]) return '\0';
    const char letter = format[1];
    if (std::strchr("cbB?", letter)) return letter;
    if (foreign) return '\0';
    const auto size = static_cast<std::size_t>(itemsize);
    if (std::strchr("hilqnHILQN", letter)) {
        if (native_size(letter) == size) return letter;
        const bool is_signed = letter >= 'a';
        for (const char other : {'h', 'i', 'q'}) {
            if (native_size(other) == size) return is_signed ? other : static_cast<char>(other - 'a' + 'A');
        }
        return '\0';
    }
    return std::strchr("efdP", letter) ? letter : '\0';
}

// 'O' anywhere but in a field's name (":name:"). ctypes does not keep colons out of names, but it writes a
// byte order before each code, which a name has no reason to hold.
bool names_objects(const char* format) noexcept {
    bool in_name = false;
    for (const char* at = format; *at; ++at) {
        if (*at == ':') in_name = !in_name;
        if (*at != 'O') continue;
        if (!in_name || (at > format && std::strchr("<>=@!", at[-1]))) return true;
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

// Called with the exception of the failed request set.
[[noreturn]] void explain_no_buffer(ModuleState& state, PyObject* object) {
    Ref cause = Ref::steal(PyErr_GetRaisedException());
    const NumpyTable* numpy = loaded_numpy(state);
    if (PyType_Check(object)) {
        PyErr_Format(PyExc_TypeError, "a MemChannel cannot send the class %.200s: send an object of it",
                     reinterpret_cast<PyTypeObject*>(object)->tp_name);
    } else if (!PyObject_CheckBuffer(object)) {
        PyErr_Format(
            PyExc_TypeError,
            "a MemChannel cannot send %.200s: it exports no buffer, as bytes, bytearray, array.array, "
            "mmap and arrays do, and is no str; use a memchannel.Channel for other objects",
            Py_TYPE(object)->tp_name);
    } else if (numpy && numpy->is_array(object)) {
        // The buffer protocol has no letter for datetime64, bfloat16, ...
        // (numpy/_core/src/multiarray/buffer.c)
        PyErr_Format(PyExc_TypeError,
                     "the buffer protocol cannot describe an array of %R: send it over an ArrayChannel",
                     array_fields(object)->descr);
        Ref error = Ref::steal(PyErr_GetRaisedException());
        PyException_SetCause(error.get(), cause.release());
        PyErr_SetRaisedException(error.release());
    } else {
        PyErr_SetRaisedException(cause.release());  // released, closed, ...: the exporter knows best
    }
    throw PythonError();
}

}  // namespace

[[gnu::hot]] LeaseRef encode_buffer(ModuleState& state, PyObject* object, const LendTerms& terms,
                                    const HeaderSink& sink) {
    BufferScope buffer;
    if (!buffer.acquire(object, PyBUF_FULL_RO)) explain_no_buffer(state, object);
    check_lendable(object, *buffer);
    static_cast<void>(loaded_numpy(state));
    const Ground ground = ground_of(state, object);
    const char* format = buffer->format ? buffer->format : "B";
    char letter[2] = {native_letter(format, buffer->itemsize), '\0'};
    if (letter[0]) format = letter;

    const std::size_t dims = static_cast<std::size_t>(buffer->ndim) * sizeof(Py_ssize_t);
    const std::size_t letters = format_size(format);
    const bool fixed = ground.lease ? ground.content == Content::fixed : PyBytes_Check(ground.root);
    std::byte* at = sink(sizeof(BufferHeader) + 2 * dims + letters);
    new (at) BufferHeader{buffer->buf, buffer->len, buffer->itemsize, buffer->ndim,
                          fixed ? Content::fixed : Content::changing};
    auto* const shape = reinterpret_cast<Py_ssize_t*>(at + sizeof(BufferHeader));
    Py_ssize_t* const strides = shape + buffer->ndim;
    if (dims) {
        copy_sizes(shape, buffer->shape, buffer->ndim);
        if (buffer->strides) {
            copy_sizes(strides, buffer->strides, buffer->ndim);
        } else {
            PyBuffer_FillContiguousStrides(buffer->ndim, shape, strides, static_cast<int>(buffer->itemsize),
                                           'C');
        }
    }
    copy_format(reinterpret_cast<char*>(strides + buffer->ndim), format, letters);

    const Touched touched = touched_bytes(buffer->ndim, shape, strides, buffer->itemsize);
    check_mapped(state, ground, static_cast<const char*>(buffer->buf) + touched.low, touched.size());
    // The owner of received memory does not know who else wants to be told of its return: lent once more.
    if (ground.lease && !terms.ticket) return LeaseRef::share(ground.lease);
    return lend_buffer(state, buffer, terms);
}

[[gnu::hot]] Ref decode_buffer(ModuleState& state, const std::byte* at) {
    const auto& header = *std::launder(reinterpret_cast<const BufferHeader*>(at));
    const auto* shape = reinterpret_cast<const Py_ssize_t*>(at + sizeof header);
    const auto* strides = shape + header.ndim;
    return make_lent_memory(
        state, Layout{header.data, header.len, header.itemsize, header.ndim, shape, strides,
                      reinterpret_cast<const char*>(strides + header.ndim), Access::read, header.content});
}

}  // namespace memchannel
