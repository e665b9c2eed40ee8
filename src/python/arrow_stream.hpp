// Frames of libraries that speak Arrow: their buffers stay in place, see memchannel.codecs.frames.
#pragma once

#include "state.hpp"

namespace memchannel {

// _arrow_batches(stream capsule), or (schema capsule, array capsule) -> ArrowBatches, which can be lent
PyObject* arrow_batches(PyObject* module, PyObject* const* values, Py_ssize_t given);
// _arrow_values(batches) -> (format, [(length, null count, offset, validity, values), ...], any nulls inside)
PyObject* arrow_values(PyObject* module, PyObject* batches);
// _arrow_stream(received buffer of an ArrowBatches) -> stream capsule
PyObject* arrow_stream(PyObject* module, PyObject* memory);

bool add_arrow_batches_type(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
