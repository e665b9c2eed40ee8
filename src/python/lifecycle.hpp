// What happens when an interpreter first imports the extension, and when it ends.
#pragma once

#include "state.hpp"

namespace memchannel {

// Enrolls this interpreter with the core and arranges for its end. False with an exception.
bool begin_interpreter(PyObject* module, ModuleState& state) noexcept;

// Refuses a second copy of this library in the process: it would be a second, deaf core. False with
// ImportError.
bool check_only_copy() noexcept;

}  // namespace memchannel
