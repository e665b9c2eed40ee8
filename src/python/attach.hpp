// Thread states: leaving and entering interpreters. Every difference between CPython 3.13, 3.14 and 3.15 in
// that matter is hidden here.
#pragma once

#include "core/host.hpp"
#include "ref.hpp"

namespace memchannel {

// The id of the interpreter that this thread is attached to, or no_owner.
OwnerId current_interpreter() noexcept;

// PyEval_RestoreThread for a thread that may have to stay away for ever. CPython 3.13 ends such a thread with
// pthread_exit (Python/ceval_gil.c, take_gil), which unwinds C++ frames; 3.14 and later hang it. We hang it
// too.
void reattach(PyThreadState* state) noexcept;

// In a handler of whatever else is thrown: never returns if that is such an end of the thread. It is caught
// without a name, since it is no object of C++ and a reference to it would be null.
[[noreturn]] void stay_away() noexcept;

class Detached {
   public:
    Detached() noexcept : state_(PyEval_SaveThread()) {}
    Detached(const Detached&) = delete;
    Detached& operator=(const Detached&) = delete;
    ~Detached() { reattach(state_); }

   private:
    PyThreadState* const state_;
};

// Attaches this thread to another interpreter with a fresh thread state, and back.
class AttachedTo {
   public:
    explicit AttachedTo(PyInterpreterState* interpreter) noexcept;
    AttachedTo(const AttachedTo&) = delete;
    AttachedTo& operator=(const AttachedTo&) = delete;
    ~AttachedTo();
    explicit operator bool() const noexcept { return entered_ != nullptr; }

   private:
    PyThreadState* entered_;
    PyThreadState* home_ = nullptr;
};

// The core's host: one for the process.
Host& interpreter_host() noexcept;

// On 3.13 creating and deleting thread states concurrently in an interpreter that has no other thread state
// fails with "thread state already initialized" (Python/pystate.c reuses the interpreter's initial one): an
// anchor, made and never attached, keeps the list from becoming empty. Nothing elsewhere.
class Anchor {
   public:
    void drop(PyInterpreterState* interpreter) noexcept;
    bool make(PyInterpreterState* interpreter) noexcept;

   private:
    PyThreadState* state_ = nullptr;
    unsigned long long id_ = 0;
};

}  // namespace memchannel
