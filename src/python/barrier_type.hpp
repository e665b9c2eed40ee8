// What a barrier's action needs on its way to other interpreters.
#pragma once

#include "state.hpp"

namespace memchannel {

// Pickles the action of a barrier made here, so that whoever arrives last can call it. Throws PythonError: it
// cannot be pickled.
void pack_action(ModuleState& state, PyObject* barrier);

}  // namespace memchannel
