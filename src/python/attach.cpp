#include "attach.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

#include <exception>

#include "core/owner.hpp"

// Exported by every CPython that we support, and what `_interpreters.incref` and `decref` call.
extern "C" {
PyAPI_FUNC(void) _PyInterpreterState_IDDecref(PyInterpreterState*);
#if PY_VERSION_HEX < 0x030E0000
PyAPI_FUNC(int) _PyInterpreterState_IDIncref(PyInterpreterState*);
#else
PyAPI_FUNC(void) _PyInterpreterState_IDIncref(PyInterpreterState*);
#endif
}

namespace memchannel {

namespace {

#if PY_VERSION_HEX >= 0x030E0000
// Without bounds the first attach of a thread state on the main thread parses /proc/self/maps (100 us and
// more). The function came in 3.14.x and is looked up at run time, because the module must load in
// every 3.14.
using SetStackProtection = int (*)(PyThreadState*, void*, size_t);
const auto set_stack_protection =
    reinterpret_cast<SetStackProtection>(dlsym(RTLD_DEFAULT, "PyUnstable_ThreadState_SetStackProtection"));

void give_stack_bounds(PyThreadState* state) noexcept {
    if (!set_stack_protection) return;
    struct Bounds {
        void* base = nullptr;
        size_t size = 0;
    };
    static thread_local const Bounds bounds = [] {
        Bounds found;
        pthread_attr_t attributes;
        if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
            size_t guard = 0;
            if (pthread_attr_getguardsize(&attributes, &guard) == 0 &&
                pthread_attr_getstack(&attributes, &found.base, &found.size) == 0 && guard < found.size) {
                found.base = static_cast<char*>(found.base) + guard;
                found.size -= guard;
            }
            pthread_attr_destroy(&attributes);
        }
        return found;
    }();
    // Failure sets no exception that anybody could see: the state is not attached yet.
    if (bounds.base) static_cast<void>(set_stack_protection(state, bounds.base, bounds.size));
}
#else
void give_stack_bounds(PyThreadState*) noexcept {}
#endif

class InterpreterHost final : public Host {
   public:
    OwnerId current() const noexcept override { return current_interpreter(); }

    bool enter(Owner& owner, Visit& visit) noexcept override {
        PyThreadState* const state = PyThreadState_New(static_cast<PyInterpreterState*>(owner.runtime()));
        if (!state) return false;
        give_stack_bounds(state);
        visit.home = PyThreadState_GetUnchecked() ? PyEval_SaveThread() : nullptr;
        visit.entered = state;
        reattach(state);
        return true;
    }

    void leave(Visit& visit) noexcept override {
        PyThreadState_Clear(static_cast<PyThreadState*>(visit.entered));
        PyThreadState_DeleteCurrent();
        visit.entered = nullptr;
    }

    void resume(Visit& visit) noexcept override {
        if (visit.home) reattach(static_cast<PyThreadState*>(visit.home));
    }

    void hold(Owner& owner) noexcept override {
        // 3.13's may report a failure; it never does (Python/pystate.c).
        static_cast<void>(_PyInterpreterState_IDIncref(static_cast<PyInterpreterState*>(owner.runtime())));
    }

    void drop(Owner& owner) noexcept override {
        _PyInterpreterState_IDDecref(static_cast<PyInterpreterState*>(owner.runtime()));
    }

    void end_with_references(Owner& owner) noexcept override {
        _PyInterpreterState_RequireIDRef(static_cast<PyInterpreterState*>(owner.runtime()), 1);
    }

    void* detach() noexcept override { return PyEval_SaveThread(); }
    void reattach(void* token) noexcept override { memchannel::reattach(static_cast<PyThreadState*>(token)); }

    void warn_abandoned(OwnerId owner, std::size_t leases,
                        const std::vector<std::uint64_t>& channels) noexcept override;
};

}  // namespace

[[gnu::hot]] OwnerId current_interpreter() noexcept {
    PyThreadState* const state = PyThreadState_GetUnchecked();
    return state ? PyInterpreterState_GetID(state->interp) : no_owner;
}

void reattach(PyThreadState* state) noexcept {
    try {
        PyEval_RestoreThread(state);
    } catch (...) {
        stay_away();
    }
}

void stay_away() noexcept {
    if (std::current_exception()) std::terminate();  // null for what other languages throw, and for unwinding
    for (;;) pause();
}

AttachedTo::AttachedTo(PyInterpreterState* interpreter) noexcept : entered_(PyThreadState_New(interpreter)) {
    if (!entered_) return;
    give_stack_bounds(entered_);
    home_ = PyEval_SaveThread();
    reattach(entered_);
}

AttachedTo::~AttachedTo() {
    if (!entered_) return;
    PyThreadState_Clear(entered_);
    PyThreadState_DeleteCurrent();
    reattach(home_);
}

void InterpreterHost::warn_abandoned(OwnerId owner, std::size_t leases,
                                     const std::vector<std::uint64_t>& channels) noexcept {
    const ErrorScope errors;
    Ref names = Ref::steal(PyUnicode_FromString(""));
    for (const std::uint64_t channel : channels) {
        if (!names) break;
        names = Ref::steal(PyUnicode_FromFormat("%U%s%llu", names.get(),
                                                PyUnicode_GetLength(names.get()) ? ", " : "",
                                                static_cast<unsigned long long>(channel)));
    }
    if (!names ||
        PyErr_WarnFormat(
            PyExc_ResourceWarning, 1,
            "interpreter %lld ended while %zu of its buffers %s lent (channels: %U); the memory stays "
            "allocated until the process ends",
            static_cast<long long>(owner), leases, leases == 1 ? "was" : "were", names.get()) < 0) {
        PyErr_WriteUnraisable(nullptr);
    }
}

Host& interpreter_host() noexcept {
    static InterpreterHost host;
    return host;
}

#if PY_VERSION_HEX < 0x030E0000
bool Anchor::make(PyInterpreterState* interpreter) noexcept {
    state_ = PyThreadState_New(interpreter);
    if (!state_) return false;
    id_ = PyThreadState_GetID(state_);
    // It carries the id of the thread that makes it: PyThreadState_SetAsyncExc would take it for that thread.
    state_->thread_id = 0;
    return true;
}

void Anchor::drop(PyInterpreterState* interpreter) noexcept {
    // CPython's own finalization may have deleted it already and its address may be in use again: compare
    // ids.
    for (PyThreadState* one = PyInterpreterState_ThreadHead(interpreter); one;
         one = PyThreadState_Next(one)) {
        if (one == state_ && PyThreadState_GetID(one) == id_) {
            PyThreadState_Clear(one);
            PyThreadState_Delete(one);
            break;
        }
    }
    state_ = nullptr;
}
#else
bool Anchor::make(PyInterpreterState*) noexcept { return true; }
void Anchor::drop(PyInterpreterState*) noexcept {}
#endif

}  // namespace memchannel
