// One lent thing inside a message: its header bytes and its lease. A buffer or array message is one part; an
// object message has any number.
#pragma once

#include <cstddef>
#include <vector>

#include "codecs.hpp"
#include "lent_memory.hpp"

namespace memchannel {

enum class PartKind : std::uint8_t {
    buffer = 1,
    array = 2,
    end = 3,
    view = 4,
    primitive = 5,
    share = 6,
    text = 7,
    descriptor = 8
};

// Where an encoder wants its header: called once, with the size, when nothing can fail any more but memory.
// Refers to the function that it is made from.
class HeaderSink {
   public:
    template <class Make>
    explicit HeaderSink(const Make& make) noexcept
        : make_(&make), call_([](const void* function, std::size_t size) {
              return (*static_cast<const Make*>(function))(size);
          }) {}
    std::byte* operator()(std::size_t size) const { return call_(make_, size); }

   private:
    const void* const make_;
    std::byte* (*const call_)(const void* function, std::size_t size);
};

// The bytes that the elements of an array occupy, relative to its first element.
struct Touched {
    Py_ssize_t low = 0;   // of the first byte; <= 0
    Py_ssize_t high = 0;  // past the last one
    std::size_t size() const noexcept { return static_cast<std::size_t>(high - low); }
};
inline Touched touched_bytes(int ndim, const Py_ssize_t* shape, const Py_ssize_t* strides,
                             Py_ssize_t itemsize) noexcept {
    Touched touched{0, itemsize};
    for (int i = 0; i < ndim; ++i) {
        if (shape[i] == 0) return {};
        const Py_ssize_t reach = (shape[i] - 1) * strides[i];
        (reach < 0 ? touched.low : touched.high) += reach;
    }
    return touched;
}

LeaseRef encode_buffer(ModuleState& state, PyObject* object, const LendTerms& terms, const HeaderSink& sink);
// The memory, without its lease yet: see give_lease().
Ref decode_buffer(ModuleState& state, const std::byte* at);

// For ndarrays only. `write`: the receiver's array is writable; the caller vouches for an exclusive claim.
LeaseRef encode_array(ModuleState& state, PyObject* array, const LendTerms& terms, const HeaderSink& sink,
                      Access access = Access::read);
// An array without NumPy: the tuple (memory, offset, shape, strides, itemsize, type_num, code) that
// memchannel.arrayview describes; memory is a buffer, offset counts bytes from where that begins.
inline bool is_description(PyObject* object) noexcept {
    return PyTuple_CheckExact(object) && PyTuple_GET_SIZE(object) == 7;
}
// Where the array's first element is. Throws PythonError: it would reach outside the buffer.
char* first_element(const Py_buffer& buffer, Py_ssize_t offset, const std::vector<Py_ssize_t>& shape,
                    const std::vector<Py_ssize_t>& strides, Py_ssize_t itemsize);
// An int, and those of a tuple.
Py_ssize_t size_of(PyObject* number);
std::vector<Py_ssize_t> sizes_of(PyObject* tuple);
LeaseRef encode_elements(ModuleState& state, PyObject* description, const LendTerms& terms,
                         const HeaderSink& sink);
// Takes the lease of that index last of all. Throws Undeliverable.
Ref decode_array(ModuleState& state, const std::byte* at, const Message& message, std::size_t index,
                 const RecvOptions& options);

// Pickled bytes and the parts they refer to. `loader` tells which module puts them together again.
enum class Loader : std::uint8_t { array, object };
Message encode_composite(ModuleState& state, Loader loader, PyObject* payload, PyObject* items,
                         const LendTerms& terms);
Ref decode_composite(ModuleState& state, const Message& message, const RecvOptions& options);

// None, bool, int, float, complex, str, bytes, bytearray, small containers of them, and objects that are
// nothing but a class and attributes, without pickle. Empty message: it is for pickle.
enum class Instances : bool { none, plain };
Message encode_simple(ModuleState& state, PyObject* object, Instances instances);
Ref decode_simple(ModuleState& state, const Message& message);

}  // namespace memchannel
