#include "wait.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmath>
#include <cstdarg>

#include "callbacks.hpp"
#include "core/registry.hpp"

namespace memchannel {

namespace {

// A signal that arrives just before the thread parks interrupts nothing: look once more after this long.
constexpr std::int64_t first_look_ns = 50'000'000;

// In a subinterpreter a look means a visit to the main one: not oftener than that. A thread whose waits are
// all too short to be interrupted would otherwise never look.
bool time_to_look() noexcept {
    static thread_local std::int64_t last = 0;
    const std::int64_t now = monotonic_ns();
    if (now - last < first_look_ns) return false;
    last = now;
    return true;
}

// Of this thread, in interpreters other than the main one.
thread_local std::uint64_t keyboard_interrupts_elsewhere = 0;

bool in_main_interpreter() noexcept { return PyInterpreterState_Get() == PyInterpreterState_Main(); }

// PyErr_CheckSignals does nothing in a subinterpreter (Python/pystate.c, _Py_ThreadCanHandleSignals), not
// even on the main thread: visit the main interpreter.
int check_signals() noexcept {
    if (in_main_interpreter()) return PyErr_CheckSignals();
    bool keyboard_interrupt = false;
    bool raised = false;
    {
        const AttachedTo attached(PyInterpreterState_Main());
        if (!attached) {
            // No memory for a thread state: the signal stays pending, the next look finds it.
            return 0;
        }
        if (PyErr_CheckSignals() < 0) {
            raised = true;
            keyboard_interrupt = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
            if (keyboard_interrupt) {
                PyErr_Clear();
            } else {
                PyErr_WriteUnraisable(
                    nullptr);  // objects of the main interpreter cannot be raised in another
            }
        }
    }
    if (!raised) return 0;
    if (keyboard_interrupt) {
        ++keyboard_interrupts_elsewhere;
        PyErr_SetNone(PyExc_KeyboardInterrupt);
    } else {
        PyErr_SetString(PyExc_InterruptedError, "a signal handler raised in the main interpreter");
    }
    return -1;
}

}  // namespace

bool on_main_thread() noexcept {
    struct Answer {
        unsigned generation = 0;
        bool main = false;
    };
    static thread_local Answer known;  // two system calls would cost half a hand-over
    const unsigned generation = registry().generation;
    if (known.generation != generation) known = {generation, syscall(SYS_gettid) == getpid()};
    return known.main;
}

void raise_ending(const char* format, ...) noexcept {
    va_list arguments;
    va_start(arguments, format);
    Ref what = Ref::steal(PyUnicode_FromFormatV(format, arguments));
    va_end(arguments);
    if (!what) return;
    PyObject* const type = in_main_interpreter() && !on_main_thread() ? PyExc_SystemExit : PyExc_RuntimeError;
    PyErr_Format(type, "%U gave up: this interpreter is ending", what.get());
}

PyObject* signals_are_elsewhere(PyObject*, PyObject*) {
    return PyBool_FromLong(on_main_thread() && !in_main_interpreter());
}

PyObject* interrupts_elsewhere(PyObject*, PyObject*) {
    return PyLong_FromUnsignedLongLong(keyboard_interrupts_elsewhere);
}

PyObject* serve_signals(PyObject*, PyObject*) {
    if (check_signals() < 0) return nullptr;
    Py_RETURN_NONE;
}

PyObject* set_wakeup_fd(PyObject*, PyObject* fd) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const long number = PyLong_AsLong(fd);
        if (number == -1 && PyErr_Occurred()) return nullptr;
        long previous = -1;
        bool failed = false;
        {
            const AttachedTo attached(PyInterpreterState_Main());
            if (!attached) throw std::bad_alloc();
            Ref module = Ref::steal(PyImport_ImportModule("signal"));
            Ref result = module ? Ref::steal(PyObject_CallFunction(
                                      attribute(module.get(), "set_wakeup_fd").get(), "l", number))
                                : Ref();
            if (result) previous = PyLong_AsLong(result.get());
            failed = PyErr_Occurred() != nullptr;
            if (failed) PyErr_WriteUnraisable(nullptr);  // nothing of another interpreter can be raised here
        }
        if (!failed) return PyLong_FromLong(previous);
        PyErr_SetString(PyExc_RuntimeError, "signal.set_wakeup_fd() failed in the main interpreter");
        return nullptr;
    });
}

bool parse_timeout(PyObject* timeout, Deadline& deadline, bool& nowait) noexcept {
    deadline = Deadline::never();
    nowait = false;
    if (!timeout || timeout == Py_None) return true;
    const double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "timeout must be None or a number of seconds, not %.100s",
                         Py_TYPE(timeout)->tp_name);
        } else if (PyErr_ExceptionMatches(PyExc_OverflowError) && PyLong_Check(timeout)) {
            PyErr_Clear();  // no float is as large; nor would its digits tell much
            const Ref zero = Ref::steal(PyLong_FromLong(0));
            const int negative = zero ? PyObject_RichCompareBool(timeout, zero.get(), Py_LT) : -1;
            if (negative > 0) {
                PyErr_SetString(PyExc_ValueError, "timeout must be None or a number of seconds >= 0");
            } else if (negative == 0) {
                PyErr_SetString(PyExc_OverflowError, "timeout is too large; use None to wait for ever");
            }
        }
        return false;
    }
    if (std::isnan(seconds) || seconds < 0) {
        PyErr_Format(PyExc_ValueError, "timeout must be None or a number of seconds >= 0, not %R", timeout);
        return false;
    }
    // PyThread's own limit for timed waits is PY_TIMEOUT_MAX microseconds.
    if (seconds * 1e6 > static_cast<double>(PY_TIMEOUT_MAX) || seconds > 9e9) {
        PyErr_Format(PyExc_OverflowError, "timeout of %R seconds is too large; use None to wait for ever",
                     timeout);
        return false;
    }
    nowait = seconds == 0;
    if (!nowait) deadline = Deadline::after_ns(static_cast<std::int64_t>(seconds * 1e9));
    return true;
}

namespace {

Status wait_until(Waiter& waiter, Deadline deadline, Spin* spin, const WaitSteps& steps) noexcept {
    const bool serves_signals = on_main_thread();
    bool look_soon = serves_signals;
    bool begins = true;
    for (;;) {
        Deadline until = deadline;
        if (look_soon) until = deadline.sooner(Deadline::after_ns(first_look_ns));
        Status status;
        {
            const Detached detached;
            const bool nothing_to_wait_for = begins && steps.before && steps.before();
            status = nothing_to_wait_for ? Status::ok : waiter.wait(until, begins ? spin : nullptr);
            if (status == Status::ok && steps.after) steps.after();
        }
        begins = false;
        if (status == Status::ok) {
            if (waiter.settlement().status == Status::interrupted) {
                PyErr_SetNone(PyExc_KeyboardInterrupt);
                return Status::interrupted;
            }
            return signal_raises() ? Status::interrupted : status;
        }
        if (status == Status::timeout && until == deadline) return status;
        // A real interruption opens the same gap again: one more early look after it.
        look_soon = serves_signals && status == Status::interrupted;
        if (check_signals() < 0 || !run_callbacks()) return Status::interrupted;
    }
}

}  // namespace

bool signal_raises() noexcept {
    return on_main_thread() && (in_main_interpreter() || time_to_look()) && check_signals() < 0;
}

Status wait_settled(Waiter& waiter, Deadline deadline, Spin* spin, const WaitSteps& steps) noexcept {
    const std::int64_t begin_ns = tracing() ? monotonic_ns() : 0;
    const Status status = wait_until(waiter, deadline, spin, steps);
    if (begin_ns) [[unlikely]] {
        registry().recorder.record({.begin_ns = begin_ns,
                                    .end_ns = monotonic_ns(),
                                    .interpreter = waiter.interpreter(),
                                    .object = waiter.target().object,
                                    .name = waiter.verb(),
                                    .kind = Traced::wait,
                                    .side = waiter.target().side,
                                    .status = status});
    }
    return status;
}

bool postpone_interrupt() noexcept {
    if (!PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) return false;
    PyErr_Clear();
    PyErr_SetInterruptEx(SIGINT);
    return true;
}

}  // namespace memchannel
