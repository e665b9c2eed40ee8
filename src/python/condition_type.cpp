// memchannel.Condition.
#include "core/condition.hpp"

#include "primitive_docs.hpp"
#include "primitive_object.hpp"

namespace memchannel {

namespace {

// The lock as an object, kept: conditions of one lock show the same one.
Ref lock_object(PyObject* self) {
    PrimitiveObject& fields = primitive_fields(self);
    if (!fields.companion) {
        Lock& lock = static_cast<Condition&>(*fields.primitive).lock();
        fields.companion = primitive_object(*fields.state, Handle<Lock>::share(&lock)).release();
    }
    return Ref::borrow(fields.companion);
}

PyObject* condition_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"lock", nullptr};
    PyObject* lock = nullptr;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:Condition", const_cast<char**>(names), &lock))
        return nullptr;
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Handle<Lock> own;
        if (!lock || lock == Py_None) {
            own = make_primitive<Lock>(true);
        } else {
            Primitive* const given = primitive_of(lock);
            if (!given || given->kind() > PrimitiveKind::recursive_lock) {
                PyErr_Format(
                    PyExc_TypeError,
                    "lock must be a memchannel.Lock or RLock, which other interpreters know, not %.100s",
                    Py_TYPE(lock)->tp_name);
                return nullptr;
            }
            own = Handle<Lock>::share(&primitive_as<Lock>(lock));
        }
        Ref made = new_primitive(type, Handle<Primitive>(make_primitive<Condition>(std::move(own))));
        if (lock && lock != Py_None) primitive_fields(made.get()).companion = Py_NewRef(lock);
        return made.release();
    });
}

bool is_owner(Lock& lock, const Caller& who) noexcept {
    return lock.recursive() ? lock.held_by(who) : lock.held();
}

// What interrupted the wait stays raised, with the failure to take the lock as its context. Throws
// PythonError if the lock is not held.
void take_again(PyObject* self, Lock& lock, const Caller& who, std::size_t depth) {
    Ref raised = Ref::steal(PyErr_GetRaisedException());
    const char* const verb = lock.recursive() ? "RLock.acquire" : "Lock.acquire";
    const Status status = await_turn(lock, verb, who, {});
    if (status == Status::ok) {
        lock.restore(depth);
        if (raised) PyErr_SetRaisedException(raised.release());
        return;
    }
    try {
        raise_unless_ok(self, status, "wait");
    } catch (const PythonError&) {
        if (raised) {
            PyException_SetContext(raised.get(), PyErr_GetRaisedException());
            PyErr_SetRaisedException(raised.release());
        }
        throw;
    }
}

// Lets the lock go, waits, and takes the lock again: also before it raises what interrupted the wait. True:
// notified. Throws PythonError.
bool wait(PyObject* self, const Patience& patience) {
    auto& condition = primitive_as<Condition>(self);
    Lock& lock = condition.lock();
    const Caller who = caller(primitive_state(self));
    if (!is_owner(lock, who)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot wait on un-acquired lock");
        throw PythonError();
    }
    Waiter waiter(who.owner.id(), "Condition.wait", condition.id());
    Entry entry;
    entry.waiter = &waiter;
    condition.enlist(entry);
    std::size_t depth = 0;
    if (lock.release_all(who, depth) != Status::ok) {
        condition.withdraw(entry);
        PyErr_SetString(PyExc_RuntimeError, "cannot wait on un-acquired lock: somebody released it just now");
        throw PythonError();
    }
    Status status = await_entry(condition, entry, patience);
    if (status == Status::interrupted) condition.withdraw(entry);
    else status = condition.finish(entry);
    waiter.begin_again();  // from here on it waits for the lock, if at all
    take_again(self, lock, who, depth);
    if (status == Status::timeout) return false;
    raise_unless_ok(self, status, "wait");
    return true;
}

PyObject* condition_wait(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&] {
        const Arguments<1> arguments("wait", {"timeout"}, 1, 0, values, given, keywords);
        return PyBool_FromLong(wait(self, patience(arguments[0])));
    });
}

PyObject* condition_wait_for(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("wait_for", {"predicate", "timeout"}, 2, 1, values, given, keywords);
        const Patience limit = patience(arguments[1]);
        for (bool last = false;; last = last || limit.nowait || limit.deadline.passed()) {
            Ref result = Ref::steal(PyObject_CallNoArgs(arguments[0]));
            if (!result) return nullptr;
            const int truth = PyObject_IsTrue(result.get());
            if (truth < 0) return nullptr;
            if (truth || last) return result.release();
            wait(self, limit);
        }
    });
}

void notify(PyObject* self, std::size_t count) {
    auto& condition = primitive_as<Condition>(self);
    if (!is_owner(condition.lock(), caller(primitive_state(self)))) {
        PyErr_SetString(PyExc_RuntimeError, "cannot notify on un-acquired lock");
        throw PythonError();
    }
    condition.notify(count);
}

PyObject* condition_notify(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<1> arguments("notify", {"n"}, 1, 0, values, given, keywords);
        Py_ssize_t count = 1;
        if (arguments[0]) {
            count = PyNumber_AsSsize_t(arguments[0], nullptr);
            if (count == -1 && PyErr_Occurred()) return nullptr;
        }
        notify(self, count > 0 ? static_cast<std::size_t>(count) : 0);
        Py_RETURN_NONE;
    });
}

PyObject* condition_notify_all(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        notify(self, static_cast<std::size_t>(-1));
        Py_RETURN_NONE;
    });
}

PyObject* condition_repr(PyObject* self) {
    return guarded<PyObject*>(nullptr, [&] {
        const auto& condition = static_cast<const Condition&>(*primitive_fields(self).primitive);
        Ref lock = lock_object(self);
        return PyUnicode_FromFormat("<memchannel.Condition(%R, %zu) at %p, number %llu>", lock.get(),
                                    condition.waiting(), self,
                                    static_cast<unsigned long long>(condition.id()));
    });
}

constexpr int fast = METH_FASTCALL | METH_KEYWORDS;

PyMethodDef condition_methods[] = {
    {"acquire", as_function(lock_acquire), fast, docs::condition_acquire},
    {"release", lock_release, METH_NOARGS, docs::condition_release},
    {"locked", lock_locked, METH_NOARGS, docs::lock_locked},
    {"wait", as_function(condition_wait), fast, docs::condition_wait},
    {"wait_for", as_function(condition_wait_for), fast, docs::condition_wait_for},
    {"notify", as_function(condition_notify), fast, docs::condition_notify},
    {"notify_all", condition_notify_all, METH_NOARGS, docs::condition_notify_all},
    {"__enter__", lock_enter, METH_NOARGS, nullptr},
    {"__exit__", as_function(lock_exit), METH_FASTCALL, nullptr},
    {"_is_owned", lock_is_owned, METH_NOARGS, nullptr},
    {"_release_save", lock_release_save, METH_NOARGS, nullptr},
    {"_acquire_restore", lock_acquire_restore, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot condition_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc_with_companion)},
    {Py_tp_traverse, reinterpret_cast<void*>(traverse_companion)},
    {Py_tp_clear, reinterpret_cast<void*>(clear_companion)},
    {Py_tp_new, reinterpret_cast<void*>(condition_new)},
    {Py_tp_repr, reinterpret_cast<void*>(condition_repr)},
    {Py_tp_methods, condition_methods},
    {Py_tp_doc, const_cast<char*>(docs::condition)},
    {0, nullptr},
};

}  // namespace

PyType_Spec condition_spec = {"memchannel.Condition", sizeof(PrimitiveObject), 0,
                              primitive_flags | Py_TPFLAGS_HAVE_GC, condition_slots};

}  // namespace memchannel
