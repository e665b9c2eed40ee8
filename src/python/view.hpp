// CrossInterpreterView, a real memoryview subclass.
#pragma once

#include "state.hpp"

namespace memchannel {

// What an unreleased view does when it is dropped as the last user of its memory: as part of an object it
// goes with that, which nobody closes.
enum class Drop : std::uint8_t { warns, quiet };
// Of a LentMemory. Throws PythonError.
Ref make_view(ModuleState& state, const Ref& lent_memory, Drop drop = Drop::warns);

// What a memoryview, of either kind, is based on; nullptr if it was released. Borrowed.
PyObject* base_of_view(PyObject* view) noexcept;

bool add_view_type(PyObject* module, ModuleState& state) noexcept;
// In a forked child: the thread that holds the lock may not exist there.
void renew_view_type_lock() noexcept;

}  // namespace memchannel
