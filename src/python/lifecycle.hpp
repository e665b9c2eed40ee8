// What happens when an interpreter first imports the extension, and when it ends.
#pragma once

#include "state.hpp"

namespace memchannel {

// Enrolls this interpreter with the core and arranges for its end. False with an exception.
bool begin_interpreter(PyObject* module, ModuleState& state) noexcept;

// _mark_interrupted(): the process ends as one that SIGINT ended, whatever other interpreters ran since.
// CPython keeps one flag for all of them and clears it whenever source is run (run_eval_code_obj in
// Python/pythonrun.c).
PyObject* mark_interrupted(PyObject* module, PyObject*);

// _count_threads(): how many threads that this interpreter started are alive, whether they run already or
// not.
PyObject* count_threads(PyObject* module, PyObject*);
// Has an exception raised in each of these threads, as soon as it runs Python code. Attached.
void raise_in_own_threads(PyObject* type) noexcept;
// Whether the calling thread is one of these.
bool is_own_thread() noexcept;
// _current_frames(): what sys._current_frames() gives, of the threads of this interpreter alone.
PyObject* current_frames(PyObject* module, PyObject*);

// Refuses a second copy of this library in the process: it would be a second, deaf core. False with
// ImportError.
bool check_only_copy() noexcept;

}  // namespace memchannel
