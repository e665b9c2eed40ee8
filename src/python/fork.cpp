#include "fork.hpp"

#include <pthread.h>

#include <cstdint>
#include <cstring>
#include <mutex>

#include "core/registry.hpp"
#include "view.hpp"

// The runtime, of which CPython exports only the beginning: a table of offsets for debuggers and profilers
// (Include/internal/pycore_debug_offsets.h; pycore_runtime.h in 3.13).
extern "C" {
PyAPI_DATA(char) _PyRuntime[];
}

namespace memchannel {

namespace {

// The first fields of _Py_DebugOffsets, alike in 3.13, 3.14 and 3.15. More may follow, these do not move.
struct DebugOffsets {
    char cookie[8];
    std::uint64_t version;
    std::uint64_t free_threaded;
    std::uint64_t runtime_size;
    std::uint64_t runtime_finalizing;
    std::uint64_t runtime_interpreters_head;
    std::uint64_t interpreter_size;
    std::uint64_t interpreter_id;
    std::uint64_t interpreter_next;
};

using InterpreterSlot = PyInterpreterState**;

// Where the list of interpreters begins, and where it goes on after the main one. Null: unknown.
InterpreterSlot list_head = nullptr;
InterpreterSlot after_main = nullptr;

InterpreterSlot slot_at(void* base, std::uint64_t offset, std::uint64_t size) noexcept {
    if (offset % alignof(void*) != 0 || offset + sizeof(void*) > size) return nullptr;
    return reinterpret_cast<InterpreterSlot>(static_cast<char*>(base) + offset);
}

// Trusts the table only where it agrees with what the public functions say.
void find_list() noexcept {
    DebugOffsets offsets;
    std::memcpy(&offsets, _PyRuntime, sizeof offsets);
    if (std::memcmp(offsets.cookie, "xdebugpy", sizeof offsets.cookie) != 0) return;
    if (offsets.version != Py_Version || offsets.free_threaded != 0) return;
    PyInterpreterState* const main = PyInterpreterState_Main();
    PyInterpreterState** const head =
        slot_at(_PyRuntime, offsets.runtime_interpreters_head, offsets.runtime_size);
    PyInterpreterState** const next = slot_at(main, offsets.interpreter_next, offsets.interpreter_size);
    if (!head || !next) return;
    if (*head != PyInterpreterState_Head() || *next != PyInterpreterState_Next(main)) return;
    list_head = head;
    after_main = next;
}

// Runs in the child before fork() returns. What the interpreters own is leaked there: the threads that worked
// in them do not exist, and their locks may be held for ever.
void forget_interpreters() {
    if (list_head) {
        *list_head = PyInterpreterState_Main();
        *after_main = nullptr;
    }
    renew_view_type_lock();
    // Its end has to be known to the child's core, whether or not it lends anything.
    registry().owners.enroll(0, PyInterpreterState_Main());
}

}  // namespace

void prepare_for_fork() noexcept {
    static std::once_flag once;
    std::call_once(once, [] {
        find_list();
        pthread_atfork(nullptr, nullptr, forget_interpreters);
    });
}

PyObject* fork_is_mended(PyObject*, PyObject*) { return PyBool_FromLong(list_head != nullptr); }

}  // namespace memchannel
