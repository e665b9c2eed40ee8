// The Python object behind every end of a channel and every channel: for the files that implement it.
#pragma once

#include "channel_types.hpp"
#include "codecs.hpp"
#include "core/channel.hpp"
#include "errors.hpp"

namespace memchannel {

struct End {
    PyObject_HEAD Channel* channel;  // one count
    Side side;
    ModuleState* state;  // lives as long as the type, which the object keeps alive
    PyObject* weak_references;
};

void end_dealloc(PyObject* self);

inline End& end_fields(PyObject* self) noexcept { return *reinterpret_cast<End*>(self); }
inline Channel& channel_of(PyObject* self) noexcept { return *end_fields(self).channel; }
inline ModuleState& state_of(PyObject* self) noexcept { return *end_fields(self).state; }
inline bool covers(PyObject* self, Side side) noexcept {
    return (static_cast<int>(end_fields(self).side) & static_cast<int>(side)) != 0;
}

struct EndRef {
    Channel* channel = nullptr;  // borrowed from the object
    Side side = Side::none;
    explicit operator bool() const noexcept { return channel != nullptr; }
};

// The channel and side behind an end or a channel; empty for anything else.
inline EndRef end_of(PyObject* object) noexcept {
    if (Py_TYPE(object)->tp_dealloc != end_dealloc) return {};
    return {end_fields(object).channel, end_fields(object).side};
}

inline Codec codec_of(const Channel& channel) noexcept { return static_cast<Codec>(channel.traits().codec); }
inline LendTerms terms_of(const Channel& channel) noexcept {
    return {channel.id(), channel.traits().deferred};
}

// The end's channel, unless it belongs to the parent of a forked process: then throws PythonError.
inline Channel& usable(PyObject* self) {
    if (!check_process(channel_of(self))) throw PythonError();
    return channel_of(self);
}

// Throws PythonError unless ok; interrupted means that the exception is set already.
inline void raise_unless_ok(PyObject* self, Status status, Side side) {
    if (status == Status::ok) return;
    if (status != Status::interrupted) raise_status(state_of(self), status, channel_of(self), side);
    throw PythonError();
}

// Slots of the types, in end_methods.cpp.
PyObject* end_next(PyObject* self);
PyObject* end_async_next(PyObject* self);
PyObject* end_repr(PyObject* self);
Py_ssize_t end_length(PyObject* self);
int end_truth(PyObject* self);
Py_hash_t end_hash(PyObject* self);
extern PyMethodDef end_methods[];
extern PyMethodDef recv_methods[];
extern PyMethodDef send_methods[];
extern PyGetSetDef end_getset[];
extern PyGetSetDef channel_getset[];

}  // namespace memchannel
