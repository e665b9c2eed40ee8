// SharedBuffer: memory that belongs to no interpreter, as a Python object; and exclusive writable blocks of
// it.
#pragma once

#include "core/block.hpp"
#include "state.hpp"

namespace memchannel {

// The block behind a SharedBuffer object; nullptr for anything else. Borrowed.
Block* shared_buffer_block(ModuleState& state, PyObject* object) noexcept;

// claim_block(array): a writable array over the same elements, exclusive among all claims.
PyObject* claim_block(PyObject* module, PyObject* array);

bool add_shared_buffer_type(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
