#include "lifecycle.hpp"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "attach.hpp"
#include "core/registry.hpp"
#include "errors.hpp"
#include "fork.hpp"

// What another copy of this library finds us by.
extern "C" __attribute__((visibility("default"))) const char memchannel_core_identity = 'm';

namespace memchannel {

namespace {

// One per interpreter, leaked: CPython's exit callbacks may come twice, and in any order with our module's
// end.
struct Ending {
    OwnerId interpreter;
    PyInterpreterState* state;
    Anchor anchor;
};

std::atomic<bool> process_ends{false};

// Counts the other thread states of this interpreter that fit. With its GIL the list only grows, at its head
// (Python/pystate.c, add_threadstate and tstate_delete_common).
template <typename Fits>
Py_ssize_t count_other_threads(Fits fits) noexcept {
    PyThreadState* const own = PyThreadState_Get();
    Py_ssize_t count = 0;
    for (PyThreadState* state = PyInterpreterState_ThreadHead(own->interp); state;
         state = PyThreadState_Next(state)) {
        if (state != own && fits(*state)) ++count;
    }
    return count;
}

// Whether the interpreter's own code started the thread: no thread of another interpreter's that visits it.
// The values are _PyThreadState_WHENCE_THREADING and, of 3.15, _PyThreadState_WHENCE_THREADING_DAEMON, which
// only CPython's own sources see (Include/cpython/pystate.h).
bool is_started_here(const PyThreadState& state) noexcept { return state._whence == 3 || state._whence == 6; }

// CPython aborts the process where threads are left that it did not wait for (Python/pylifecycle.c,
// Py_EndInterpreter: "not the last thread"): those that the _thread module started. Nothing tells of their
// end.
void await_other_threads() noexcept {
    timespec pause{0, 100'000};
    while (count_other_threads([](const PyThreadState&) { return true; }) > 0) {
        const Detached detached;
        nanosleep(&pause, nullptr);
        if (pause.tv_nsec < 20'000'000) pause.tv_nsec *= 2;
    }
}

bool waits(OwnerId interpreter) {
    const std::vector<Waiting> all = registry().waiters.snapshot();
    return std::any_of(all.begin(), all.end(),
                       [=](const Waiting& one) { return one.interpreter == interpreter; });
}

// Those that waited leave by SystemExit: a moment for their `finally` blocks, as CPython lets nobody in once
// the main interpreter finalizes.
void let_daemons_leave(OwnerId interpreter) {
    constexpr timespec pause{0, 500'000};
    for (int looks = 0; looks < 200 && waits(interpreter); ++looks) {
        const Detached detached;
        nanosleep(&pause, nullptr);
    }
}

void end_interpreter(Ending& ending) noexcept {
    // By id, not by pointer: a forked child has accounts of its own.
    if (current_interpreter() != ending.interpreter) return;
    Owner* const owner = registry().owners.find(ending.interpreter);
    if (!owner) return;
    const ErrorScope errors;
    try {
        registry().waiters.end(ending.interpreter);
        if (ending.interpreter == 0) let_daemons_leave(ending.interpreter);
        registry().channels.end_interpreter(ending.interpreter);
        registry().primitives.end_interpreter(*owner);
    } catch (const std::bad_alloc&) {
        // Harmless: associations stay on the books of channels; no memory is touched by that.
    }
    registry().callbacks.clear(ending.interpreter);
    registry().recorder.end(ending.interpreter);
    registry().owners.end(*owner, ending.interpreter == 0);
    ending.anchor.drop(ending.state);
    if (ending.interpreter == 0) process_ends = true;
    else if (!process_ends) await_other_threads();
}

Ending* ending_of(PyObject* capsule) noexcept {
    return static_cast<Ending*>(PyCapsule_GetPointer(capsule, nullptr));
}

PyObject* at_exit(PyObject* capsule, PyObject*) {
    end_interpreter(*ending_of(capsule));
    Py_RETURN_NONE;
}

void at_exit_late(void* ending) { end_interpreter(*static_cast<Ending*>(ending)); }

// Runs before CPython joins the interpreter's threads (threading._shutdown), which would otherwise wait for
// those parked in our calls.
PyObject* wake_waiters(PyObject* capsule, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const OwnerId interpreter = ending_of(capsule)->interpreter;
        if (Owner* const owner = registry().owners.find(interpreter)) registry().owners.begin_end(*owner);
        registry().waiters.end(interpreter);
        Py_RETURN_NONE;
    });
}

PyMethodDef at_exit_method = {"_memchannel_at_exit", at_exit, METH_NOARGS, nullptr};
PyMethodDef wake_method = {"_memchannel_wake_waiters", wake_waiters, METH_NOARGS, nullptr};

bool register_callback(const char* module_name, const char* function, PyMethodDef& method,
                       PyObject* capsule) noexcept {
    Ref callback = Ref::steal(PyCFunction_New(&method, capsule));
    Ref module = callback ? Ref::steal(PyImport_ImportModule(module_name)) : Ref();
    Ref result =
        module
            ? Ref::steal(PyObject_CallFunction(attribute(module.get(), function).get(), "O", callback.get()))
            : Ref();
    return static_cast<bool>(result);
}

bool arrange_end(Ending& ending) noexcept {
    Ref capsule = Ref::steal(PyCapsule_New(&ending, nullptr, nullptr));
    if (!capsule) return false;
    // Python's atexit is the hook that counts: PyUnstable_AtExit comes after the modules' globals are gone,
    // too late for views in them. It stays as the net for interpreters whose atexit module was cleared.
    if (!register_callback("atexit", "register", at_exit_method, capsule.get())) return false;
    if (PyUnstable_AtExit(ending.state, at_exit_late, &ending) < 0) return false;
    if (ending.interpreter == 0)
        return true;  // threads of the main interpreter go on waiting, as in queue.Queue
    return register_callback("threading", "_register_atexit", wake_method, capsule.get());
}

struct Search {
    std::vector<std::string> names;
};

int collect_name(dl_phdr_info* info, std::size_t, void* search) {
    try {
        if (info->dlpi_name && *info->dlpi_name)
            static_cast<Search*>(search)->names.emplace_back(info->dlpi_name);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

std::string path_of(const void* symbol) {
    Dl_info info;
    return dladdr(symbol, &info) && info.dli_fname ? info.dli_fname : "?";
}

}  // namespace

PyObject* count_threads(PyObject*, PyObject*) {
    return PyLong_FromSsize_t(count_other_threads(is_started_here));
}

void raise_in_own_threads(PyObject* type) noexcept {
    for (PyThreadState* one = PyInterpreterState_ThreadHead(PyInterpreterState_Get()); one;
         one = PyThreadState_Next(one)) {
        if (is_started_here(*one)) PyThreadState_SetAsyncExc(one->thread_id, type);
    }
}

bool is_own_thread() noexcept { return is_started_here(*PyThreadState_Get()); }

PyObject* current_frames(PyObject*, PyObject*) {
    Ref frames = Ref::steal(PyDict_New());
    if (!frames) return nullptr;
    // The list stays as it is: since 3.12 no allocation collects garbage or lets go of the GIL
    // (Python/ceval_gil.c, _Py_HandlePending).
    for (PyThreadState* one = PyInterpreterState_ThreadHead(PyInterpreterState_Get()); one;
         one = PyThreadState_Next(one)) {
        const Ref frame = Ref::steal(reinterpret_cast<PyObject*>(PyThreadState_GetFrame(one)));
        if (!frame) continue;
        const Ref thread = Ref::steal(PyLong_FromUnsignedLong(one->thread_id));
        if (!thread || PyDict_SetItem(frames.get(), thread.get(), frame.get()) < 0) return nullptr;
    }
    return frames.release();
}

PyObject* mark_interrupted(PyObject*, PyObject*) {
    const Ref names = Ref::steal(PyDict_New());
    if (!names || PyDict_SetItemString(names.get(), "__builtins__", PyEval_GetBuiltins()) < 0) return nullptr;
    const Ref result =
        Ref::steal(PyRun_String("raise KeyboardInterrupt", Py_file_input, names.get(), names.get()));
    if (!result && !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) return nullptr;
    // 3.13 notes it where source was run, 3.14 and newer where it is printed (Python/pythonrun.c).
    PyErr_PrintEx(0);
    Py_RETURN_NONE;
}

bool check_only_copy() noexcept {
    return guarded<bool>(false, [] {
        static bool checked = false;  // under the GIL or not: the answer is the same every time
        if (checked) return true;
        Search search;
        dl_iterate_phdr(collect_name, &search);
        for (const std::string& name : search.names) {
            void* const library = dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD);
            if (!library) continue;
            const void* const identity = dlsym(library, "memchannel_core_identity");
            dlclose(library);
            if (!identity || identity == &memchannel_core_identity ||
                path_of(identity) == path_of(&memchannel_core_identity))
                continue;
            PyErr_Format(PyExc_ImportError,
                         "two copies of memchannel in one process: %s is loaded already, this one is %s. "
                         "Each would know "
                         "nothing of the other's channels; remove one of the installations",
                         path_of(identity).c_str(), path_of(&memchannel_core_identity).c_str());
            return false;
        }
        return checked = true;
    });
}

bool begin_interpreter(PyObject* module, ModuleState& state) noexcept {
    static_cast<void>(module);
    return guarded<bool>(false, [&] {
        start_registry(interpreter_host());
        prepare_for_fork();
        PyInterpreterState* const interpreter = PyInterpreterState_Get();
        const OwnerId id = PyInterpreterState_GetID(interpreter);
        const bool first = registry().owners.find(id) == nullptr;
        state.interpreter = id;
        state.owner = &registry().owners.enroll(id, interpreter);
        state.generation = registry().generation;
        if (!first) return true;
        auto ending = std::make_unique<Ending>(id, interpreter);
        if (id != 0 && !ending->anchor.make(interpreter)) throw std::bad_alloc();
        return arrange_end(*ending.release());  // a callback may have it already
    });
}

}  // namespace memchannel
