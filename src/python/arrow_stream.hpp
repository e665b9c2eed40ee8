// Frames of libraries that speak Arrow: their buffers stay in place, see memchannel.codecs.frames.
#pragma once

#include "state.hpp"

namespace memchannel {

// _arrow_batches(stream capsule) -> ArrowBatches, an exporter that can be lent
PyObject* arrow_batches(PyObject* module, PyObject* capsule);
// _arrow_stream(received buffer of an ArrowBatches) -> stream capsule
PyObject* arrow_stream(PyObject* module, PyObject* memory);

bool add_arrow_batches_type(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
