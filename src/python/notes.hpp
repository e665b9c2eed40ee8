// The process's notes, for Python.
#pragma once

#include "ref.hpp"

namespace memchannel {

// _note(name, text): the bytes by which others find the str; what was noted before stays.
PyObject* add_note(PyObject* module, PyObject* const* values, Py_ssize_t given);
// _noted(name): the bytes, or None.
PyObject* find_note(PyObject* module, PyObject* name);

}  // namespace memchannel
