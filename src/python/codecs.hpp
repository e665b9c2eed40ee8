// What each kind of channel puts into header and leases, and takes out again.
#pragma once

#include "core/message.hpp"
#include "errors.hpp"
#include "lease_buffer.hpp"

namespace memchannel {

enum class Codec : std::uint8_t { buffer = 1, array = 2, object = 3 };

constexpr const char* channel_class(Codec codec) noexcept {
    return codec == Codec::buffer ? "MemChannel" : codec == Codec::array ? "ArrayChannel" : "Channel";
}

enum class MessageKind : std::uint8_t { buffer = 1, array = 2, composite = 3, simple = 4, text = 5 };

struct RecvOptions {
    bool copy = false;     // arrays: an own, writable one
    bool as_view = false;  // arrays: an ArrayView
    bool ndarray = false;  // arrays: no ArrayView where NumPy cannot be imported
};

// Nothing is wrong with the message, but this interpreter lacks what it takes: NumPy, the module of a dtype,
// memory for a copy. It must stay receivable.
struct Undeliverable : PythonError {};

// Throw PythonError or std::bad_alloc; the object and its memory are as before then.
// `by_value`: functions and classes that the other side cannot import travel as they are; objects only.
Message encode(ModuleState& state, Codec codec, PyObject* object, const LendTerms& terms,
               bool by_value = false);
Ref decode(ModuleState& state, const Message& message, const RecvOptions& options);
// Whether decode() takes nothing out of such a message if it fails, also where nobody else holds it.
bool is_left_whole(const Message& message) noexcept;

// The object codec for tasks and results: arrays of fewer bytes than `lend_from` are copied into the message
// instead of lent, and what the other side cannot import is pickled by value.
Message encode_task(ModuleState& state, PyObject* object, const LendTerms& terms, Py_ssize_t lend_from);

}  // namespace memchannel
