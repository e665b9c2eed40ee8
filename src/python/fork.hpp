// os.fork() beside other interpreters.
#pragma once

#include "ref.hpp"

namespace memchannel {

// Sees to it that a child of fork() is of use: CPython's own child ends every interpreter but the main one,
// in a thread that has no thread state at that moment, and crashes (Modules/posixmodule.c,
// PyOS_AfterFork_Child; Python/pystate.c, _PyInterpreterState_DeleteExceptMain). Ours forgets them before
// CPython looks. To be called after start_registry().
void prepare_for_fork() noexcept;

// _fork_is_mended() -> bool: False: this CPython's layout is unknown, a child of fork() crashes while another
// interpreter is alive.
PyObject* fork_is_mended(PyObject* module, PyObject*);

}  // namespace memchannel
