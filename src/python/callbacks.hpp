// call_soon(): calls that other interpreters want made in this one.
#pragma once

#include "state.hpp"

namespace memchannel {

// Makes the calls that are queued for this interpreter. What they raise is reported as unraisable, but for
// KeyboardInterrupt: then false, and it is set. An exception that is set already stays set.
bool run_callbacks() noexcept;

// _call_soon(interpreter, (function, args)): queues a call and wakes one waiting call of that interpreter.
PyObject* call_soon(PyObject* module, PyObject* const* values, Py_ssize_t given);
// _run_callbacks() and _forget_callbacks(): of this interpreter.
PyObject* run_callbacks_now(PyObject* module, PyObject*);
PyObject* forget_callbacks(PyObject* module, PyObject*);

}  // namespace memchannel
