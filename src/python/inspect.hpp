// Module functions that tell what the core is doing.
#pragma once

#include "state.hpp"

namespace memchannel {

PyObject* stats(PyObject* module, PyObject*);
PyObject* lent_by(PyObject* module, PyObject* interpreter);
// Calls a function while the core drops no reference on any interpreter.
PyObject* without_drops(PyObject* module, PyObject* function);
PyObject* is_ending(PyObject* module, PyObject* interpreter);
// _closing(interpreter, function): calls it unless another such call for that interpreter is under way.
PyObject* closing(PyObject* module, PyObject* const* values, Py_ssize_t given);
// False: something that it lent is out, and it goes on lending.
PyObject* stop_lending(PyObject* module, PyObject* interpreter);
PyObject* resume_lending(PyObject* module, PyObject* interpreter);
PyObject* await_returned(PyObject* module, PyObject* const* values, Py_ssize_t given);
PyObject* waits(PyObject* module, PyObject*);
PyObject* all_channels(PyObject* module, PyObject*);
PyObject* collect_channels(PyObject* module, PyObject*);
// For gc.callbacks: queued ends in cycles go away when garbage does.
PyObject* on_gc(PyObject* module, PyObject* const* values, Py_ssize_t given);
PyObject* count_copied(PyObject* module, PyObject* nbytes);

}  // namespace memchannel
