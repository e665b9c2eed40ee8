#include "interpreter_list.hpp"

#include <cstdint>
#include <cstring>

#include "arguments.hpp"

// The runtime, of which CPython exports only the beginning: a table of offsets for debuggers and profilers
// (Include/internal/pycore_debug_offsets.h; pycore_runtime.h in 3.13).
extern "C" {
PyAPI_DATA(char) _PyRuntime[];
PyAPI_FUNC(PyInterpreterState*) _PyInterpreterState_LookUpID(std::int64_t);
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
// What the next interpreter will be numbered, which no other ever was. Null: unknown.
const std::int64_t* next_number = nullptr;

InterpreterSlot slot_at(void* base, std::uint64_t offset, std::uint64_t size) noexcept {
    if (offset % alignof(void*) != 0 || offset + sizeof(void*) > size) return nullptr;
    return reinterpret_cast<InterpreterSlot>(static_cast<char*>(base) + offset);
}

// Behind the head come the main interpreter and then the number (Include/internal/pycore_runtime_structs.h,
// struct pyinterpreters; pycore_interp.h in 3.13).
void find_next_number(InterpreterSlot head) noexcept {
    const auto* const number = reinterpret_cast<const std::int64_t*>(head + 2);
    const std::int64_t own = PyInterpreterState_GetID(PyInterpreterState_Get());
    if (head[1] == PyInterpreterState_Main() && *number > own && *number < own + 1'000'000)
        next_number = number;
}

}  // namespace

// Trusts the table only where it agrees with what the public functions say.
void find_interpreter_list() noexcept {
    DebugOffsets offsets;
    std::memcpy(&offsets, _PyRuntime, sizeof offsets);
    if (std::memcmp(offsets.cookie, "xdebugpy", sizeof offsets.cookie) != 0) return;
    if (offsets.version != Py_Version || offsets.free_threaded != 0) return;
    PyInterpreterState* const main = PyInterpreterState_Main();
    InterpreterSlot head = slot_at(_PyRuntime, offsets.runtime_interpreters_head, offsets.runtime_size);
    InterpreterSlot next = slot_at(main, offsets.interpreter_next, offsets.interpreter_size);
    if (!head || !next) return;
    if (*head != PyInterpreterState_Head() || *next != PyInterpreterState_Next(main)) return;
    list_head = head;
    after_main = next;
    find_next_number(head);
}

bool interpreter_list_is_known() noexcept { return list_head != nullptr; }

void unlink_other_interpreters() noexcept {
    if (!list_head) return;
    *list_head = PyInterpreterState_Main();
    *after_main = nullptr;
}

PyObject* next_interpreter_number(PyObject*, PyObject*) {
    if (!next_number) Py_RETURN_NONE;
    return PyLong_FromLongLong(__atomic_load_n(next_number, __ATOMIC_RELAXED));
}

PyObject* interpreter_exists(PyObject*, PyObject* interpreter) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const bool found = _PyInterpreterState_LookUpID(interpreter_number(interpreter)) != nullptr;
        if (!found) PyErr_Clear();  // InterpreterNotFoundError
        return PyBool_FromLong(found);
    });
}

}  // namespace memchannel
