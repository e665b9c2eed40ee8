// CrossInterpreterView, a real memoryview subclass.
#pragma once

#include "state.hpp"

namespace memchannel {

// Of a LentMemory. Throws PythonError.
Ref make_view(ModuleState& state, Ref lent_memory);

// What a memoryview, of either kind, is based on; nullptr if it was released. Borrowed.
PyObject* base_of_view(PyObject* view) noexcept;

bool add_view_type(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
