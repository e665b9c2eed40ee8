#include "interrupt.hpp"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "arguments.hpp"
#include "core/registry.hpp"
#include "lifecycle.hpp"

namespace memchannel {

namespace {

// A call that spins before it parks (Spin's limit, 20 us) cannot be woken; this much later it is parked.
constexpr timespec until_parked = {0, 1'000'000};

std::uint64_t parse_token(PyObject* token) {
    const unsigned long long number = PyLong_AsUnsignedLongLong(token);
    if (number == static_cast<unsigned long long>(-1) && PyErr_Occurred()) throw PythonError();
    return number;
}

pid_t native_thread() noexcept { return static_cast<pid_t>(syscall(SYS_gettid)); }

enum class Reached { no, raised, woken };

// Attached to the thread's interpreter.
Reached interrupt_here(std::uint64_t token, bool again) noexcept {
    const std::optional<ArmedThread> armed = registry().interrupts.find(token);
    if (!armed) return Reached::no;
    if (registry().waiters.interrupt(armed->interpreter, armed->native_thread)) {
        // The wait raises KeyboardInterrupt itself: once is enough.
        if (again) PyThreadState_SetAsyncExc(armed->thread, nullptr);
        return Reached::woken;
    }
    if (!again) PyThreadState_SetAsyncExc(armed->thread, PyExc_KeyboardInterrupt);
    return Reached::raised;
}

Reached reach(std::uint64_t token, bool again) noexcept {
    const std::optional<ArmedThread> armed = registry().interrupts.find(token);
    Owner* const owner = armed ? registry().owners.find(armed->interpreter) : nullptr;
    Reached reached = Reached::no;
    if (owner) registry().owners.visit(*owner, [&] { reached = interrupt_here(token, again); });
    return reached;
}

// What Py_AddPendingCall calls for the main interpreter (Python/ceval_gil.c); it needs no GIL. The call is
// made by whichever thread of the interpreter looks first. Looked up at run time, because CPython promises
// nothing: without it waits end, and the rest is not stopped.
using AddPendingCall = int (*)(PyInterpreterState*, int (*)(void*), void*, int);
const auto add_pending_call = reinterpret_cast<AddPendingCall>(dlsym(RTLD_DEFAULT, "_PyEval_AddPendingCall"));

std::atomic<unsigned long> stopper{0};  // the thread that stops others, and looks into their interpreters
thread_local bool stops_masked = false;

struct Told {
    OwnerId interpreter = no_owner;
    std::uint64_t round = 0;
};
thread_local Told last_told;

// Threads that only look, or give memory back, or are about to leave.
bool spared() noexcept {
    return stops_masked || PyThread_get_thread_ident() == stopper || OwnerTable::is_visiting();
}

// sys.unraisablehook(unraisable) while the process ends, with the one before as `self`. What was raised in
// vain is raised once more as soon as the destructor is left, which may be all that a thread does.
PyObject* ignore_exits(PyObject* previous, PyObject* unraisable) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Ref type = attribute(unraisable, "exc_type");
        if (!type) return nullptr;
        if (type.get() != PyExc_SystemExit) return PyObject_CallOneArg(previous, unraisable);
        const Owner* const owner = registry().owners.find(current_interpreter());
        if (owner && owner->stops() && !spared())
            PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), PyExc_SystemExit);
        Py_RETURN_NONE;
    });
}

PyMethodDef ignore_exits_method = {"unraisablehook", ignore_exits, METH_O, nullptr};

// What is raised may come amid a destructor or a callback of weakref, importlib's own for instance, whose
// exceptions CPython prints.
void be_silent_about_exits() noexcept {
    PyObject* const hook = PySys_GetObject("unraisablehook");  // borrowed; no exception if there is none
    if (!hook || (PyCFunction_Check(hook) && PyCFunction_GetFunction(hook) == ignore_exits)) return;
    const Ref ours = Ref::steal(PyCFunction_New(&ignore_exits_method, hook));
    if (!ours || PySys_SetObject("unraisablehook", ours.get()) < 0) PyErr_Clear();  // then they are printed
}

// Made by any thread that is in the interpreter. Nothing is raised at its end: CPython prints what calls that
// are left over raise then (_Py_FinishPendingCalls).
int raise_exit(void* argument) {
    Owner& owner = *static_cast<Owner*>(argument);
    owner.told();
    const std::uint64_t round = owner.stops();
    if (!round || registry().owners.is_ending(owner.id())) return 0;
    if (owner.begin_round(round)) {
        be_silent_about_exits();
        raise_in_own_threads(PyExc_SystemExit);
    }
    // Those of the interpreter's own were told.
    if (spared() || is_own_thread() || (last_told.interpreter == owner.id() && last_told.round == round))
        return 0;
    last_told = {owner.id(), round};
    PyErr_SetNone(PyExc_SystemExit);
    return -1;
}

void tell_to_stop(Owner& owner) noexcept {
    if (!add_pending_call || !owner.begin_to_tell()) return;
    if (add_pending_call(static_cast<PyInterpreterState*>(owner.runtime()), raise_exit, &owner, 0) != 0)
        owner.told();  // the queue is full
}

}  // namespace

void drop_interrupt() noexcept { PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), nullptr); }

InterruptsMasked::InterruptsMasked() noexcept : thread_(native_thread()) {
    registry().interrupts.mask(thread_, true);
    drop_interrupt();
}

InterruptsMasked::~InterruptsMasked() { registry().interrupts.mask(thread_, false); }

PyObject* arm_interrupt(PyObject*, PyObject* token) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        registry().interrupts.arm(
            {parse_token(token), current_interpreter(), PyThread_get_thread_ident(), native_thread()});
        Py_RETURN_NONE;
    });
}

PyObject* disarm_interrupt(PyObject*, PyObject* token) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        registry().interrupts.disarm(parse_token(token));
        Py_RETURN_NONE;
    });
}

PyObject* interrupt(PyObject*, PyObject* token) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const std::uint64_t number = parse_token(token);
        Reached reached = reach(number, false);
        if (reached == Reached::raised) {
            {
                const Detached detached;
                nanosleep(&until_parked, nullptr);
            }
            reach(number, true);
        }
        return PyBool_FromLong(reached != Reached::no);
    });
}

PyObject* stop(PyObject*, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("_stop", {"interpreter", "round"}, 2, 2, values, given, nullptr);
        Owner* const owner = registry().owners.find(interpreter_number(arguments[0]));
        const std::uint64_t round = parse_token(arguments[1]);
        if (!owner) Py_RETURN_NONE;
        registry().waiters.end(owner->id());
        stopper = PyThread_get_thread_ident();
        owner->stop(round);
        registry().owners.keep(*owner, [&] { tell_to_stop(*owner); });
        Py_RETURN_NONE;
    });
}

PyObject* stop_no_more(PyObject*, PyObject* interpreter) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Owner* const owner = registry().owners.find(interpreter_number(interpreter));
        if (owner) owner->stop(0);
        Py_RETURN_NONE;
    });
}

PyObject* mask_stops(PyObject*, PyObject* yes) {
    stops_masked = yes == Py_True;
    Py_RETURN_NONE;
}

PyObject* await_idle(PyObject*, PyObject*) {
    bool idle;
    {
        const Detached detached;
        idle = registry().owners.await_idle(std::chrono::seconds(10));
    }
    return PyBool_FromLong(idle);
}

PyObject* collect_garbage(PyObject*, PyObject* interpreter) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const OwnerId id = interpreter_number(interpreter);
        Owner* const owner = registry().owners.find(id);
        const bool entered = owner && registry().owners.visit(*owner, [] {
            // Not PyGC_Collect, which does nothing where the collector is disabled.
            Ref gc = Ref::steal(PyImport_ImportModule("gc"));
            Ref found =
                gc ? Ref::steal(PyObject_CallFunction(attribute(gc.get(), "collect").get(), nullptr)) : Ref();
            if (!found) PyErr_WriteUnraisable(nullptr);
        });
        return PyBool_FromLong(entered);
    });
}

}  // namespace memchannel
