#include "async_call.hpp"

#include "arguments.hpp"
#include "core/notifier.hpp"
#include "core/registry.hpp"
#include "end.hpp"
#include "module.hpp"
#include "share.hpp"
#include "transfer.hpp"

namespace memchannel {

namespace {

// ---- the notifier of one event loop

struct NotifierObject {
    PyObject_HEAD Notifier* notifier;
    unsigned generation;
};

NotifierObject& notifier_fields(PyObject* self) noexcept { return *reinterpret_cast<NotifierObject*>(self); }

PyObject* notifier_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {nullptr};
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "", const_cast<char**>(names))) return nullptr;
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Ref self = Ref::steal(type->tp_alloc(type, 0));
        if (!self) return nullptr;
        auto notifier = std::make_unique<Notifier>();
        if (notifier->fd() < 0) return PyErr_SetFromErrno(PyExc_OSError);
        notifier_fields(self.get()).notifier = notifier.release();
        notifier_fields(self.get()).generation = registry().generation;
        return self.release();
    });
}

void notifier_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    delete notifier_fields(self).notifier;  // each call keeps it alive: none is left
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* notifier_fileno(PyObject* self, PyObject*) {
    return PyLong_FromLong(notifier_fields(self).notifier->fd());
}

PyObject* notifier_drain(PyObject* self, PyObject*);

PyMethodDef notifier_methods[] = {
    {"fileno", notifier_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\nThe event descriptor, readable when calls are settled."},
    {"drain", notifier_drain, METH_NOARGS,
     "drain($self, /)\n--\n\nThe futures of the calls that were settled."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot notifier_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(notifier_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(notifier_new)},
    {Py_tp_methods, notifier_methods},
    {Py_tp_doc, const_cast<char*>("Notifier()\n--\n\nHow one event loop learns of settled calls.")},
    {0, nullptr},
};

PyType_Spec notifier_spec = {"memchannel._core.Notifier", sizeof(NotifierObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, notifier_slots};

// ---- one call

struct Call {
    Call(Handle<Channel> where, Side which) noexcept : channel(std::move(where)), side(which) {}

    const Handle<Channel> channel;
    const Side side;
    Message message;  // to be sent, or received
    Tickets tickets;  // of what is to be sent
    RecvEntry recv_entry;
    SendEntry send_entry;
    Entry& entry() noexcept {
        return side == Side::recv ? static_cast<Entry&>(recv_entry) : static_cast<Entry&>(send_entry);
    }
    std::unique_ptr<Waiter> waiter;  // while enlisted
    Status status = Status::retry;   // of a call that was decided without waiting
};

struct CallObject {
    PyObject_HEAD Call* call;
    ModuleState* state;
    PyObject* end;
    PyObject* notifier;
    PyObject* future;  // completed by who drains the notifier
};

CallObject& call_fields(PyObject* self) noexcept { return *reinterpret_cast<CallObject*>(self); }

Call& usable_call(PyObject* self) {
    Call& call = *call_fields(self).call;
    if (!check_process(*call.channel)) throw PythonError();
    return call;
}

// Out of the line; a grant goes to the next receiver. True: a message was sent before that. One that was not
// ends here: the exception that comes next may keep the call alive for long.
bool give_up(Call& call) noexcept {
    bool sent = false;
    if (call.waiter) {
        call.channel->withdraw(call.entry());
        sent = call.side == Side::send && call.waiter->settlement().status == Status::ok;
        call.waiter.reset();
        if (sent) call.tickets.sent();
    }
    call.message.reset();
    call.send_entry.message.reset();
    return sent;
}

PyObject* call_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"end", "notifier", "obj", "by_value", nullptr};
    PyObject* module = PyType_GetModuleByDef(type, &core_module);
    if (!module) return nullptr;
    ModuleState& state = state_of_module(module);
    PyObject* end;
    PyObject* notifier;
    PyObject* object = nullptr;
    int by_value = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!O!|Op", const_cast<char**>(names),
                                     state.end_type, &end, state.notifier_type, &notifier, &object,
                                     &by_value)) {
        return nullptr;
    }
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(end);
        auto call =
            std::make_unique<Call>(Handle<Channel>::share(&channel), object ? Side::send : Side::recv);
        if (object) {
            LendTerms terms = terms_of(channel);
            terms.tickets = &call->tickets;
            call->message = encode(state, codec_of(channel), object, terms, by_value != 0);
        }
        Ref self = Ref::steal(type->tp_alloc(type, 0));
        if (!self) return nullptr;
        CallObject& fields = call_fields(self.get());
        fields.call = call.release();
        fields.state = &state;
        fields.end = Py_NewRef(end);
        fields.notifier = Py_NewRef(notifier);
        return self.release();
    });
}

Status enlist(Call& call) {
    if (call.side == Side::recv) return call.channel->enlist_recv(call.recv_entry, call.message);
    call.send_entry.message = std::move(call.message);
    const Status status = call.channel->enlist_send(call.send_entry);
    if (status != Status::parked && status != Status::ok) call.message = std::move(call.send_entry.message);
    return status;
}

PyObject* call_start(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Call& call = usable_call(self);
        if (notifier_fields(call_fields(self).notifier).generation != registry().generation) {
            PyErr_SetString(PyExc_RuntimeError, "this event loop belongs to the parent process");
            return nullptr;
        }
        call.waiter = std::make_unique<Waiter>(current_interpreter(),
                                               call.side == Side::recv ? "recv_async" : "send_async",
                                               call.channel->id(), call.side);
        call.entry().waiter = call.waiter.get();
        call.status = enlist(call);
        if (call.status != Status::parked) call.waiter.reset();
        call.recv_entry.span.leave_to_loop();
        call.send_entry.span.leave_to_loop();
        return PyBool_FromLong(call.status == Status::parked);
    });
}

Call& waiting_call(PyObject* self) {
    Call& call = usable_call(self);
    if (call.waiter) return call;
    PyErr_SetString(PyExc_RuntimeError, "this call is not in line: call start() first");
    throw PythonError();
}

PyObject* call_may_be_soon(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] {
        const Call& call = waiting_call(self);
        return PyBool_FromLong(call.channel->spin(call.side).worth_it());
    });
}

PyObject* call_look(PyObject* self, PyObject* idle) {
    return guarded<PyObject*>(nullptr, [&] {
        Call& call = waiting_call(self);
        Spin& spin = call.channel->spin(call.side);
        if (call.waiter->settled() || idle != Py_True) {
            spin.learn(call.waiter->settled());
        } else {
            const Detached detached;
            call.waiter->look(spin);
        }
        return PyBool_FromLong(call.waiter->settled());
    });
}

PyObject* call_wait(PyObject* self, PyObject* future) {
    return guarded<PyObject*>(nullptr, [&] {
        Call& call = waiting_call(self);
        CallObject& fields = call_fields(self);
        Py_XSETREF(fields.future, Py_NewRef(future));
        return PyBool_FromLong(call.waiter->leave_to(*notifier_fields(fields.notifier).notifier, self));
    });
}

Status finish(Call& call) noexcept {
    if (!call.waiter) return call.status;
    Status status;
    if (call.side == Side::recv) {
        status = call.channel->finish_recv(call.recv_entry, call.message);
    } else {
        status = call.channel->finish_send(call.send_entry);
        if (status != Status::ok) call.message = std::move(call.send_entry.message);
    }
    call.waiter.reset();
    return status;
}

PyObject* call_finish(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Call& call = usable_call(self);
        const Arguments<2> arguments("finish", {"copy", "as_view"}, 2, 0, values, given, keywords);
        const RecvOptions options{arguments.truth(0), arguments.truth(1)};
        CallObject& fields = call_fields(self);
        const Status status = finish(call);
        if (status == Status::retry) return Py_NewRef(self);
        if (status != Status::ok) give_up(call);
        raise_unless_ok(fields.end, status, call.side);
        call.tickets.sent();
        if (call.side == Side::send) Py_RETURN_NONE;
        return deliver(*fields.state, *call.channel, std::move(call.message), options).release();
    });
}

PyObject* call_cancel(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] { return PyBool_FromLong(give_up(usable_call(self))); });
}

int call_traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(call_fields(self).end);
    Py_VISIT(call_fields(self).notifier);
    Py_VISIT(call_fields(self).future);
    return 0;
}

// Not the end and the notifier: a call that is still in line needs them, and they lead nowhere.
int call_clear(PyObject* self) {
    Py_CLEAR(call_fields(self).future);
    return 0;
}

void call_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    CallObject& fields = call_fields(self);
    if (fields.call && fields.call->channel->of_this_process()) {
        give_up(*fields.call);
        delete fields.call;
    }
    Py_XDECREF(fields.future);
    Py_XDECREF(fields.end);
    Py_XDECREF(fields.notifier);
    type->tp_free(self);
    Py_DECREF(type);
}

PyMethodDef call_methods[] = {
    {"start", call_start, METH_NOARGS, "start($self, /)\n--\n\nGet in line. False: finish now."},
    {"may_be_soon", call_may_be_soon, METH_NOARGS,
     "may_be_soon($self, /)\n--\n\nWhether to look for a moment instead of waiting at once."},
    {"look", call_look, METH_O,
     "look($self, idle, /)\n--\n\nLook whether the call is settled, for up to 20 us if the loop is idle. "
     "True: finish now."},
    {"wait", call_wait, METH_O,
     "wait($self, future, /)\n--\n\nHave the future drained. False: it will not be, finish now."},
    {"finish", as_function(call_finish), METH_FASTCALL | METH_KEYWORDS,
     "finish($self, copy=False, as_view=False)\n--\n\nThe outcome of a settled call; the call itself: start "
     "again."},
    {"cancel", call_cancel, METH_NOARGS,
     "cancel($self, /)\n--\n\nGet out of line; returns whether the message had been sent already."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot call_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(call_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(call_new)},
    {Py_tp_traverse, reinterpret_cast<void*>(call_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(call_clear)},
    {Py_tp_methods, call_methods},
    {Py_tp_doc, const_cast<char*>("AsyncCall(end, notifier, obj=<to receive>, by_value=False)\n--\n\nA send "
                                  "or receive that waits in an event loop.")},
    {0, nullptr},
};

PyType_Spec call_spec = {"memchannel._core.AsyncCall", sizeof(CallObject), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE, call_slots};

PyObject* notifier_drain(PyObject* self, PyObject*) {
    Ref futures = Ref::steal(PyList_New(0));
    if (!futures || notifier_fields(self).generation != registry().generation) return futures.release();
    // A waiter that the notifier knows belongs to a live call: its dealloc takes it out first, attached to
    // this interpreter as we are.
    while (const Waiter* const waiter = notifier_fields(self).notifier->next()) {
        PyObject* const future = call_fields(static_cast<PyObject*>(waiter->tag())).future;
        if (future && PyList_Append(futures.get(), future) < 0) return nullptr;
    }
    return futures.release();
}

}  // namespace

bool add_async_types(PyObject* module, ModuleState& state) noexcept {
    const struct {
        PyTypeObject** slot;
        PyType_Spec* spec;
    } types[] = {
        {&state.notifier_type, &notifier_spec},
        {&state.async_call_type, &call_spec},
    };
    for (const auto& one : types) {
        *one.slot = reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, one.spec, nullptr));
        if (!*one.slot || PyModule_AddType(module, *one.slot) < 0) return false;
    }
    return true;
}

}  // namespace memchannel
