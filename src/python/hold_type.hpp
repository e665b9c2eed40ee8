// What keeps an interpreter alive for as long as somebody has a handle on it.
#pragma once

#include "state.hpp"

namespace memchannel {

// Hold(interpreter, wait=False): while it lives the core has a reference on the interpreter, and drops it
// after the last of them. `wait`: who lets go of the hold finds the interpreter ended, if that ends it.
bool add_hold_type(PyObject* module, ModuleState& state) noexcept;

// _end_with_references(id): from now on the interpreter, to which the caller has a reference, ends with the
// last.
PyObject* end_with_references(PyObject* module, PyObject* interpreter);

}  // namespace memchannel
