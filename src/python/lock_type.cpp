// memchannel.Lock and RLock, and their methods that conditions have, too.
#include "core/lock.hpp"

#include "core/condition.hpp"
#include "primitive_docs.hpp"
#include "primitive_object.hpp"

namespace memchannel {

namespace {

// A lock's own, or a condition's.
Lock& lock_of(PyObject* self) {
    auto& primitive = primitive_as<Primitive>(self);
    if (primitive.kind() == PrimitiveKind::condition) return static_cast<Condition&>(primitive).lock();
    return static_cast<Lock&>(primitive);
}

const char* acquire_verb(const Lock& lock) noexcept {
    return lock.recursive() ? "RLock.acquire" : "Lock.acquire";
}

// Throws PythonError.
bool acquire(PyObject* self, const Patience& patience) {
    Lock& lock = lock_of(self);
    const Status status = await_turn(lock, acquire_verb(lock), caller(primitive_state(self)), patience);
    if (status == Status::full || status == Status::timeout) return false;
    raise_unless_ok(self, status, "acquire");
    return true;
}

void raise_not_held(const Lock& lock) {
    if (lock.recursive()) {
        PyErr_Format(PyExc_RuntimeError,
                     "cannot release un-acquired lock: this thread does not hold RLock %llu",
                     static_cast<unsigned long long>(lock.id()));
    } else {
        PyErr_Format(PyExc_RuntimeError, "release unlocked lock: nobody holds Lock %llu",
                     static_cast<unsigned long long>(lock.id()));
    }
    throw PythonError();
}

template <bool recursive>
PyObject* lock_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    if (PyTuple_GET_SIZE(arguments) || (keywords && PyDict_GET_SIZE(keywords))) {
        PyErr_Format(PyExc_TypeError, "%s() takes no arguments", recursive ? "RLock" : "Lock");
        return nullptr;
    }
    return guarded<PyObject*>(nullptr, [&] {
        return new_primitive(type, Handle<Primitive>(make_primitive<Lock>(recursive))).release();
    });
}

PyObject* lock_recursion_count(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] {
        const Lock& lock = lock_of(self);
        return PyLong_FromSize_t(lock.held_by(caller(primitive_state(self))) ? lock.depth() : 0);
    });
}

PyObject* lock_repr(PyObject* self) {
    const auto& lock = static_cast<const Lock&>(*primitive_fields(self).primitive);
    const auto id = static_cast<unsigned long long>(lock.id());
    const Holder holder = lock.holder();
    const char* const name = kind_name(lock);
    if (holder.interpreter == no_owner && !lock.recursive())
        return PyUnicode_FromFormat("<unlocked memchannel.%s object %llu at %p>", name, id, self);
    Ref text = holder.interpreter == no_owner
                   ? Ref::steal(PyUnicode_FromString("nobody"))
                   : Ref::steal(PyUnicode_FromFormat("interpreter %lld",
                                                     static_cast<long long>(holder.interpreter)));
    if (!text) return nullptr;
    if (!lock.recursive()) {
        return PyUnicode_FromFormat("<locked memchannel.%s object %llu holder=%U at %p>", name, id,
                                    text.get(), self);
    }
    const char* const state = holder.interpreter == no_owner ? "unlocked" : "locked";
    return PyUnicode_FromFormat("<%s memchannel.%s object %llu holder=%U count=%zu at %p>", state, name, id,
                                text.get(), lock.depth(), self);
}

constexpr int fast = METH_FASTCALL | METH_KEYWORDS;

PyMethodDef lock_methods[] = {
    {"acquire", as_function(lock_acquire), fast, docs::lock_acquire},
    {"release", lock_release, METH_NOARGS, docs::lock_release},
    {"locked", lock_locked, METH_NOARGS, docs::lock_locked},
    {"__enter__", lock_enter, METH_NOARGS, nullptr},
    {"__exit__", as_function(lock_exit), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyMethodDef recursive_lock_methods[] = {
    {"acquire", as_function(lock_acquire), fast, docs::recursive_lock_acquire},
    {"release", lock_release, METH_NOARGS, docs::recursive_lock_release},
    {"locked", lock_locked, METH_NOARGS, docs::lock_locked},
    {"__enter__", lock_enter, METH_NOARGS, nullptr},
    {"__exit__", as_function(lock_exit), METH_FASTCALL, nullptr},
    {"_is_owned", lock_is_owned, METH_NOARGS, nullptr},
    {"_recursion_count", lock_recursion_count, METH_NOARGS, nullptr},
    {"_release_save", lock_release_save, METH_NOARGS, nullptr},
    {"_acquire_restore", lock_acquire_restore, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot lock_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(primitive_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(lock_new<false>)},
    {Py_tp_repr, reinterpret_cast<void*>(lock_repr)},
    {Py_tp_methods, lock_methods},
    {Py_tp_doc, const_cast<char*>(docs::lock)},
    {0, nullptr},
};

PyType_Slot recursive_lock_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(primitive_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(lock_new<true>)},
    {Py_tp_repr, reinterpret_cast<void*>(lock_repr)},
    {Py_tp_methods, recursive_lock_methods},
    {Py_tp_doc, const_cast<char*>(docs::recursive_lock)},
    {0, nullptr},
};

}  // namespace

PyType_Spec lock_spec = {"memchannel.Lock", sizeof(PrimitiveObject), 0, primitive_flags, lock_slots};
PyType_Spec recursive_lock_spec = {"memchannel.RLock", sizeof(PrimitiveObject), 0, primitive_flags,
                                   recursive_lock_slots};

PyObject* lock_acquire(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&] {
        if (given == 0 && !keywords) return PyBool_FromLong(acquire(self, {}));
        const Arguments<2> arguments("acquire", {"blocking", "timeout"}, 2, 0, values, given, keywords);
        return PyBool_FromLong(acquire(self, lock_patience(arguments[0], arguments[1])));
    });
}

PyObject* lock_release(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Lock& lock = lock_of(self);
        if (lock.release(caller(primitive_state(self))) != Status::ok) raise_not_held(lock);
        Py_RETURN_NONE;
    });
}

PyObject* lock_enter(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] { return PyBool_FromLong(acquire(self, {})); });
}

// A wait for a condition may end without the lock: it was abandoned, or its taking interrupted. What was
// raised then is what there is to tell.
PyObject* lock_exit(PyObject* self, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Lock& lock = lock_of(self);
        const Caller who = caller(primitive_state(self));
        const bool raised = given > 0 && values[0] != Py_None;
        if (raised && !lock.held_by(who)) Py_RETURN_NONE;
        if (lock.release(who) != Status::ok) raise_not_held(lock);
        Py_RETURN_NONE;
    });
}

PyObject* lock_locked(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] { return PyBool_FromLong(lock_of(self).held()); });
}

// As threading has it: of a lock that any thread may release, every thread is an owner.
PyObject* lock_is_owned(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] {
        const Lock& lock = lock_of(self);
        return PyBool_FromLong(lock.recursive() ? lock.held_by(caller(primitive_state(self))) : lock.held());
    });
}

PyObject* lock_release_save(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] {
        Lock& lock = lock_of(self);
        std::size_t depth = 0;
        if (lock.release_all(caller(primitive_state(self)), depth) != Status::ok) raise_not_held(lock);
        return PyLong_FromSize_t(depth);
    });
}

PyObject* lock_acquire_restore(PyObject* self, PyObject* depth) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const std::size_t count = PyLong_AsSize_t(depth);
        if (PyErr_Occurred()) return nullptr;
        acquire(self, {});
        lock_of(self).restore(count);
        Py_RETURN_NONE;
    });
}

}  // namespace memchannel
