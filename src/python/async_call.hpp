// Sends and receives that wait in an event loop instead of a thread: what memchannel/_async.py is made of.
#pragma once

#include "state.hpp"

namespace memchannel {

bool add_async_types(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
