// The Python object behind every lock, semaphore and their like: for the files that implement them.
#pragma once

#include "arguments.hpp"
#include "core/primitive.hpp"
#include "core/turns.hpp"
#include "primitive_types.hpp"
#include "transfer.hpp"

namespace memchannel {

struct PrimitiveObject {
    PyObject_HEAD Primitive* primitive;  // one count
    ModuleState* state;                  // lives as long as the type, which the object keeps alive
    PyObject* weak_references;
    PyObject* companion;  // of a condition: its lock as an object; of a barrier: the action; or nullptr
};

inline PrimitiveObject& primitive_fields(PyObject* self) noexcept {
    return *reinterpret_cast<PrimitiveObject*>(self);
}
inline ModuleState& primitive_state(PyObject* self) noexcept { return *primitive_fields(self).state; }
// What the object stands for, unless it belongs to the parent of a forked process: then throws PythonError.
template <class T>
T& primitive_as(PyObject* self) {
    Primitive& primitive = *primitive_fields(self).primitive;
    if (!check_process(primitive)) throw PythonError();
    return static_cast<T&>(primitive);
}
inline Caller caller(ModuleState& state) { return {this_owner(state), this_thread()}; }

// The object for a primitive that was just made.
Ref new_primitive(PyTypeObject* type, Handle<Primitive> primitive);
const char* kind_name(const Primitive& primitive) noexcept;

// Throws PythonError unless ok; interrupted means that the exception is set already.
void raise_unless_ok(PyObject* self, Status status, const char* verb);

// How long to wait, as threading's classes take it. Throw PythonError with TypeError, ValueError or
// OverflowError.
// blocking=True, timeout=-1: of locks
Patience lock_patience(PyObject* blocking, PyObject* timeout);
// timeout=None; what is negative does not wait
Patience patience(PyObject* timeout);

// Waits for a turn. ok, full (it was not to wait), timeout, ending, abandoned, or interrupted with an
// exception set.
template <class Turned>
Status await_turn(Turned& primitive, const char* verb, const Caller& who, const Patience& patience) {
    Status status = primitive.try_acquire(who);
    if (status != Status::full || patience.nowait) return status;
    Waiter waiter(who.owner.id(), verb, primitive.id());
    TurnEntry entry;
    entry.waiter = &waiter;
    for (;;) {
        status = primitive.enlist(entry, who);
        if (status != Status::parked) return status;
        Deadline until = patience.deadline;
        if (entry.yields) until = until.sooner(Deadline::after_ns(TurnQueue::courtesy_ns));
        waiter.limit(patience.deadline);
        status = wait_settled(waiter, until, &primitive.spin(),
                              {.before = {}, .after = [&] { primitive.woken(entry); }});
        if (status == Status::interrupted) {
            primitive.withdraw(entry);
            return status;
        }
        status = primitive.finish(entry, who);
        const bool cut_short = status == Status::timeout && !(until == patience.deadline);
        if (status != Status::retry && !cut_short) return status;
        waiter.begin_again();
    }
}

// Waits where an entry stands. Call it after the enlisting call returned parked.
template <class Awaited>
Status await_entry(Awaited& primitive, Entry& entry, const Patience& patience) {
    entry.waiter->limit(patience.deadline);
    const Deadline until = patience.nowait ? Deadline::after_ns(0) : patience.deadline;
    return wait_settled(*entry.waiter, until, &primitive.spin());
}

// Tables of the types, each in a file of its own.
extern PyType_Spec lock_spec;
extern PyType_Spec recursive_lock_spec;
extern PyType_Spec semaphore_spec;
extern PyType_Spec bounded_semaphore_spec;
extern PyType_Spec event_spec;
extern PyType_Spec condition_spec;
extern PyType_Spec barrier_spec;
extern PyType_Spec counter_spec;

// Locks' methods, which conditions have too.
PyObject* lock_acquire(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords);
PyObject* lock_release(PyObject* self, PyObject*);
PyObject* lock_enter(PyObject* self, PyObject*);
PyObject* lock_exit(PyObject* self, PyObject* const* values, Py_ssize_t given);
PyObject* lock_locked(PyObject* self, PyObject*);
PyObject* lock_is_owned(PyObject* self, PyObject*);
PyObject* lock_release_save(PyObject* self, PyObject*);
PyObject* lock_acquire_restore(PyObject* self, PyObject* depth);

void primitive_dealloc(PyObject* self);
// For types whose companion may be part of a cycle.
int traverse_companion(PyObject* self, visitproc visit, void* arg);
int clear_companion(PyObject* self);
void dealloc_with_companion(PyObject* self);

inline constexpr unsigned int primitive_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE;

}  // namespace memchannel
