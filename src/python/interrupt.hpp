// Reaching into other interpreters: interrupting a thread there, collecting garbage there.
#pragma once

#include <sys/types.h>

#include "state.hpp"

namespace memchannel {

// _arm(token): interrupt(token) reaches this thread from now on, until _disarm(token).
PyObject* arm_interrupt(PyObject* module, PyObject* token);
PyObject* disarm_interrupt(PyObject* module, PyObject* token);
// _interrupt(token) -> bool: raises KeyboardInterrupt in the armed thread; False: it is not armed any more.
PyObject* interrupt(PyObject* module, PyObject* token);

// _stop(interpreter, round): lets its present and future waits end, and SystemExit be raised in the next
// thread that runs Python code there, but for the calling one; to be called again for others: it is raised
// once in each thread for each round, a number above 0. At the end of the process.
PyObject* stop(PyObject* module, PyObject* const* values, Py_ssize_t given);
// _stop_no_more(interpreter): what was not raised by now never is.
PyObject* stop_no_more(PyObject* module, PyObject* interpreter);
// _mask_stops(yes): nothing is raised in this thread, which is about to leave.
PyObject* mask_stops(PyObject* module, PyObject* yes);

// Drops an interrupt that is on its way to this thread.
void drop_interrupt() noexcept;

// While it lives, interrupts do not reach this thread, nor does one that is on its way.
class InterruptsMasked {
   public:
    InterruptsMasked() noexcept;
    InterruptsMasked(const InterruptsMasked&) = delete;
    InterruptsMasked& operator=(const InterruptsMasked&) = delete;
    ~InterruptsMasked();

   private:
    const pid_t thread_;
};

// _collect_garbage(interpreter) -> bool: gc.collect() there; False: it cannot be entered.
PyObject* collect_garbage(PyObject* module, PyObject* interpreter);

// _await_idle() -> bool: waits until no memory and no reference is on its way back by the core's own thread;
// False: after ten seconds there still is.
PyObject* await_idle(PyObject* module, PyObject*);

}  // namespace memchannel
