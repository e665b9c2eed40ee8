// CPython's list of interpreters, of which it exports too little to use it while others end.
#pragma once

#include "ref.hpp"

namespace memchannel {

// Once, before the functions below.
void find_interpreter_list() noexcept;
// False: this CPython's layout is unknown.
bool interpreter_list_is_known() noexcept;
// For a child of fork(): only the main interpreter is left in the list.
void unlink_other_interpreters() noexcept;

// _next_interpreter_number() -> int or None: all that there are, and ever were, have lower ones. None: this
// CPython's layout is unknown.
PyObject* next_interpreter_number(PyObject* module, PyObject*);
// _interpreter_exists(number) -> bool: also if it is being made or ended. It is looked up under the runtime's
// lock (Python/pystate.c, _PyInterpreterState_LookUpID), and not looked into.
PyObject* interpreter_exists(PyObject* module, PyObject* interpreter);

}  // namespace memchannel
