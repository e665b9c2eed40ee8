// Lent memory for other libraries: DLPack and Arrow capsules, which hold a lease and no Python object, so
// that they may end on any thread, attached or not.
#pragma once

#include "ref.hpp"

namespace memchannel {

// _dlpack(memory, offset, shape, strides, itemsize, type_code, copy, versioned) -> capsule
PyObject* export_dlpack(PyObject* module, PyObject* const* values, Py_ssize_t given);
// _arrow_array(memory, offset, length, itemsize, format) -> (schema capsule, array capsule)
PyObject* export_arrow(PyObject* module, PyObject* const* values, Py_ssize_t given);

}  // namespace memchannel
