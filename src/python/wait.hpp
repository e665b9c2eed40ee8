// Blocking calls: detached waiting with signals served.
#pragma once

#include <functional>

#include "core/waiter.hpp"
#include "errors.hpp"

namespace memchannel {

// Seconds (float, int or None) as a deadline. False with ValueError (negative, nan), OverflowError (too
// large) or TypeError. `nowait` tells that the value was zero.
bool parse_timeout(PyObject* timeout, Deadline& deadline, bool& nowait) noexcept;

// What else is to be done while detached.
struct WaitSteps {
    std::function<bool()> before;  // true: there is nothing to wait for, which counts as ok
    std::function<void()> after;   // as soon as the call is settled
};

// Waits, detached, until the call is settled (ok) or the deadline passes (timeout). interrupted: a signal
// handler raised, and the exception is set.
Status wait_settled(Waiter& waiter, Deadline deadline, Spin* spin, const WaitSteps& steps = {}) noexcept;

// For a call that waited, before it takes anything: a signal that came meanwhile would be raised right after
// the call returned, and its result be lost. True: a signal handler raised, and the exception is set.
bool signal_raises() noexcept;

// The call completed although a signal handler raised: KeyboardInterrupt is raised a little later instead.
// Any other exception stays set (false).
bool postpone_interrupt() noexcept;

// Whether this is the thread in which signal handlers run. After a fork the forking thread is the child's
// main one, for the kernel and for CPython alike.
bool on_main_thread() noexcept;

// The exception for a wait that ends because its interpreter does; the format says what gave up. When the
// process ends, only daemon threads still wait in the main interpreter: they get SystemExit, which ends them
// as quietly as CPython ends those that wait in its own calls.
void raise_ending(const char* format, ...) noexcept;

// Module functions, for event loops.
// _signals_are_elsewhere() -> whether this is the main thread, which serves signals, but not in the main
// interpreter, where they are served.
PyObject* signals_are_elsewhere(PyObject* module, PyObject*);
// _serve_signals(): what the signal module's handlers do, and KeyboardInterrupt if that is what they raise.
PyObject* serve_signals(PyObject* module, PyObject*);
// _interrupts_elsewhere() -> how often Ctrl-C ended waits of this thread in other interpreters than the main
// one.
PyObject* interrupts_elsewhere(PyObject* module, PyObject*);
// _set_wakeup_fd(fd) -> previous one: signal.set_wakeup_fd in the main interpreter.
PyObject* set_wakeup_fd(PyObject* module, PyObject* fd);

}  // namespace memchannel
