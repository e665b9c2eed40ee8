// memchannel.Barrier.
#include "barrier_type.hpp"

#include "core/barrier.hpp"
#include "primitive_docs.hpp"
#include "primitive_object.hpp"

namespace memchannel {

namespace {

[[noreturn]] void raise_broken(const char* why, const Barrier& barrier) {
    Ref threading = Ref::steal(PyImport_ImportModule("threading"));
    Ref type = threading ? attribute(threading.get(), "BrokenBarrierError") : Ref();
    if (type) PyErr_Format(type.get(), "Barrier %llu %s", static_cast<unsigned long long>(barrier.id()), why);
    throw PythonError();
}

PyObject* barrier_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"parties", "action", "timeout", nullptr};
    Py_ssize_t parties;
    PyObject* action = Py_None;
    PyObject* timeout = Py_None;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "n|OO:Barrier", const_cast<char**>(names), &parties,
                                     &action, &timeout))
        return nullptr;
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        if (parties < 1) {
            PyErr_Format(PyExc_ValueError, "parties must be >= 1, not %zd", parties);
            return nullptr;
        }
        if (action != Py_None && !PyCallable_Check(action)) {
            PyErr_Format(PyExc_TypeError, "action must be callable or None, not %.100s",
                         Py_TYPE(action)->tp_name);
            return nullptr;
        }
        static_cast<void>(patience(timeout));  // raises now what every wait would raise
        std::optional<double> seconds;
        if (timeout != Py_None) seconds = PyFloat_AsDouble(timeout);
        const bool acts = action != Py_None;
        Ref made = new_primitive(type, Handle<Primitive>(make_primitive<Barrier>(
                                           static_cast<std::size_t>(parties), acts, seconds)));
        if (acts) primitive_fields(made.get()).companion = Py_NewRef(action);
        return made.release();
    });
}

// What was made in another interpreter calls a copy of the action.
Ref action_of(PyObject* self, const Barrier& barrier) {
    PyObject*& kept = primitive_fields(self).companion;
    if (!kept) {
        const std::vector<std::byte> packed = barrier.action();
        Ref pickle = Ref::steal(PyImport_ImportModule("pickle"));
        Ref action = pickle ? Ref::steal(PyObject_CallFunction(attribute(pickle.get(), "loads").get(), "y#",
                                                               reinterpret_cast<const char*>(packed.data()),
                                                               static_cast<Py_ssize_t>(packed.size())))
                            : Ref();
        if (!action) throw PythonError();
        if (!kept) kept = action.release();
    }
    return Ref::borrow(kept);
}

// Whether it succeeded; the exception is set otherwise.
bool act(PyObject* self, const Barrier& barrier) {
    return guarded<bool>(false, [&] {
        Ref action = action_of(self, barrier);
        Ref result = Ref::steal(PyObject_CallNoArgs(action.get()));
        return static_cast<bool>(result);
    });
}

// Throws PythonError unless all came together; the place of this call.
std::size_t meet(PyObject* self, const Patience& patience) {
    auto& barrier = primitive_as<Barrier>(self);
    const OwnerId who = current_interpreter();
    if (!this_owner(primitive_state(self)).takes()) raise_unless_ok(self, Status::ending, "wait");
    Waiter waiter(who, "Barrier.wait", barrier.id());
    Entry entry;
    entry.waiter = &waiter;
    for (;;) {
        const Barrier::Arrival arrival = barrier.arrive(entry, who);
        if (arrival.status == Status::broken)
            raise_broken("is broken; reset() makes it usable again", barrier);
        if (arrival.status == Status::ok && arrival.acts) {
            const bool succeeded = act(self, barrier);
            const bool in_time = barrier.end_action(arrival.meeting, succeeded);
            if (!succeeded) throw PythonError();
            if (!in_time) raise_broken("was broken or reset while its action ran", barrier);
        }
        if (arrival.status == Status::ok) return barrier.parties() - 1;
        Status status = await_entry(barrier, entry, patience);
        if (status == Status::interrupted) {
            barrier.withdraw(entry);
            throw PythonError();
        }
        status = barrier.finish(entry);
        if (status == Status::ok) return waiter.settlement().index;
        if (status == Status::timeout) raise_broken("is broken: not all came in time", barrier);
        if (status == Status::broken) raise_broken("was broken or reset while this call waited", barrier);
        if (status != Status::retry) raise_unless_ok(self, status, "wait");
        waiter.begin_again();
    }
}

PyObject* barrier_wait(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&] {
        const Arguments<1> arguments("wait", {"timeout"}, 1, 0, values, given, keywords);
        const std::optional<double> usual = primitive_as<Barrier>(self).timeout();
        Ref timeout = Ref::borrow(arguments[0] ? arguments[0] : Py_None);
        if (timeout.get() == Py_None && usual) timeout = Ref::steal(PyFloat_FromDouble(*usual));
        if (!timeout) throw PythonError();
        return PyLong_FromSize_t(meet(self, patience(timeout.get())));
    });
}

PyObject* barrier_reset(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        primitive_as<Barrier>(self).reset();
        Py_RETURN_NONE;
    });
}

PyObject* barrier_abort(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        primitive_as<Barrier>(self).abort();
        Py_RETURN_NONE;
    });
}

PyObject* barrier_parties(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr,
                              [&] { return PyLong_FromSize_t(primitive_as<Barrier>(self).parties()); });
}

PyObject* barrier_n_waiting(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr,
                              [&] { return PyLong_FromSize_t(primitive_as<Barrier>(self).waiting()); });
}

PyObject* barrier_broken(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr, [&] { return PyBool_FromLong(primitive_as<Barrier>(self).broken()); });
}

PyObject* barrier_repr(PyObject* self) {
    const auto& barrier = static_cast<const Barrier&>(*primitive_fields(self).primitive);
    const auto id = static_cast<unsigned long long>(barrier.id());
    if (barrier.broken())
        return PyUnicode_FromFormat("<memchannel.Barrier at %p, number %llu: broken>", self, id);
    return PyUnicode_FromFormat("<memchannel.Barrier at %p, number %llu: waiters=%zu/%zu>", self, id,
                                barrier.waiting(), barrier.parties());
}

PyMethodDef barrier_methods[] = {
    {"wait", as_function(barrier_wait), METH_FASTCALL | METH_KEYWORDS, docs::barrier_wait},
    {"reset", barrier_reset, METH_NOARGS, docs::barrier_reset},
    {"abort", barrier_abort, METH_NOARGS, docs::barrier_abort},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef barrier_getset[] = {
    {"parties", barrier_parties, nullptr, "How many calls it takes.", nullptr},
    {"n_waiting", barrier_n_waiting, nullptr, "How many calls wait now.", nullptr},
    {"broken", barrier_broken, nullptr, "Whether it is broken.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot barrier_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc_with_companion)},
    {Py_tp_traverse, reinterpret_cast<void*>(traverse_companion)},
    {Py_tp_clear, reinterpret_cast<void*>(clear_companion)},
    {Py_tp_new, reinterpret_cast<void*>(barrier_new)},
    {Py_tp_repr, reinterpret_cast<void*>(barrier_repr)},
    {Py_tp_methods, barrier_methods},
    {Py_tp_getset, barrier_getset},
    {Py_tp_doc, const_cast<char*>(docs::barrier)},
    {0, nullptr},
};

}  // namespace

PyType_Spec barrier_spec = {"memchannel.Barrier", sizeof(PrimitiveObject), 0,
                            primitive_flags | Py_TPFLAGS_HAVE_GC, barrier_slots};

void pack_action(ModuleState& state, PyObject* barrier) {
    auto& core = primitive_as<Barrier>(barrier);
    PyObject* const action = primitive_fields(barrier).companion;
    if (!action || !core.action().empty()) return;
    PyObject* const codec = module_once(state.function_codec, "memchannel.codecs.functions");
    Ref packed =
        codec ? Ref::steal(PyObject_CallFunction(attribute(codec, "pickle_by_value").get(), "O", action))
              : Ref();
    BufferScope bytes;
    if (!packed || !bytes.acquire(packed.get(), PyBUF_SIMPLE)) throw PythonError();
    const auto* const first = static_cast<const std::byte*>(bytes->buf);
    core.set_action({first, first + bytes->len});
}

}  // namespace memchannel
