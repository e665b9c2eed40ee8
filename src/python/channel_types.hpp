// Channels and their ends as Python types.
#pragma once

#include "core/channel.hpp"
#include "state.hpp"

namespace memchannel {

// An object for the end; `both` gives the channel class itself.
Ref make_end(ModuleState& state, Handle<Channel> channel, Side side);
// The same for an end that was handed over: this interpreter is associated with it from here on.
Ref take_end(ModuleState& state, Channel& channel, Side side);

// Module functions.
PyObject* open_end(PyObject* module, PyObject* const* values, Py_ssize_t given);
// _task_channel(name) -> a Channel for tasks: deferred release, and idle workers are served last come, first
// served
PyObject* task_channel(PyObject* module, PyObject* name);
PyObject* select_function(PyObject* module, PyObject* const* values, Py_ssize_t given, PyObject* keywords);

bool add_channel_types(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
