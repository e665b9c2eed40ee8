#include "share.hpp"

#include <utility>

#include "errors.hpp"
#include "wait.hpp"

namespace memchannel {

namespace {

struct TicketObject {
    PyObject_HEAD PyObject* object;
    PyObject* on_returned;
    bool sent;
};

struct ShareObject {
    PyObject_HEAD PyObject* buffer;
    PyObject* ticket;  // or nullptr
};

TicketObject& ticket_fields(PyObject* self) noexcept { return *reinterpret_cast<TicketObject*>(self); }
ShareObject& share_fields(PyObject* self) noexcept { return *reinterpret_cast<ShareObject*>(self); }

// Runs in the interpreter that made the ticket, on whatever thread gave the last buffer back: leases end
// there. Nobody is there to catch what the callback raises.
void tell_returned(PyObject* on_returned, PyObject* object) noexcept {
    const ErrorScope errors;
    if (Ref::steal(PyObject_CallOneArg(on_returned, object))) return;
    if (on_main_thread() && postpone_interrupt()) return;
    PyErr_WriteUnraisable(on_returned);
}

void ticket_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    const Ref object = Ref::steal(ticket_fields(self).object);
    const Ref on_returned = Ref::steal(ticket_fields(self).on_returned);
    const bool sent = ticket_fields(self).sent;
    type->tp_free(self);
    Py_DECREF(type);
    if (sent && on_returned.get() != Py_None) tell_returned(on_returned.get(), object.get());
}

PyObject* ticket_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"obj", "on_returned", nullptr};
    PyObject* object;
    PyObject* on_returned;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OO:Ticket", const_cast<char**>(names), &object,
                                     &on_returned)) {
        return nullptr;
    }
    PyObject* const self = type->tp_alloc(type, 0);
    if (!self) return nullptr;
    ticket_fields(self).object = Py_NewRef(object);
    ticket_fields(self).on_returned = Py_NewRef(on_returned);
    return self;
}

void share_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    const Ref buffer = Ref::steal(share_fields(self).buffer);
    const Ref ticket = Ref::steal(share_fields(self).ticket);
    type->tp_free(self);
    Py_DECREF(type);
}

bool is_ticket(PyObject* object) noexcept { return Py_TYPE(object)->tp_dealloc == ticket_dealloc; }

PyObject* share_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"buffer", "ticket", nullptr};
    PyObject* buffer;
    PyObject* ticket;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OO:Share", const_cast<char**>(names), &buffer,
                                     &ticket)) {
        return nullptr;
    }
    if (ticket != Py_None && !is_ticket(ticket)) {
        PyErr_Format(PyExc_TypeError, "expected a Ticket or None, not %R", ticket);
        return nullptr;
    }
    PyObject* const self = type->tp_alloc(type, 0);
    if (!self) return nullptr;
    share_fields(self).buffer = Py_NewRef(buffer);
    share_fields(self).ticket = ticket == Py_None ? nullptr : Py_NewRef(ticket);
    return self;
}

PyType_Slot ticket_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(ticket_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(ticket_new)},
    {Py_tp_doc, const_cast<char*>("Ticket(obj, on_returned)\n--\n\n"
                                  "Calls on_returned(obj) when nobody holds it any more, once it was sent; "
                                  "None: only keeps the object.")},
    {0, nullptr},
};

PyType_Slot share_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(share_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(share_new)},
    {Py_tp_doc, const_cast<char*>("Share(buffer, ticket)\n--\n\n"
                                  "A buffer of a registered object, to be lent beside a pickle.")},
    {0, nullptr},
};

PyType_Spec ticket_spec = {"memchannel._core.Ticket", sizeof(TicketObject), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, ticket_slots};
PyType_Spec share_spec = {"memchannel._core.Share", sizeof(ShareObject), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, share_slots};

}  // namespace

void Tickets::tell() noexcept {
    const auto done = std::exchange(tickets_, {});
    for (const Ref& ticket : *done) ticket_fields(ticket.get()).sent = true;
}

Share share_of(PyObject* object) noexcept {
    if (Py_TYPE(object)->tp_dealloc != share_dealloc) return {};
    return {share_fields(object).buffer, share_fields(object).ticket};
}

bool add_share_types(PyObject* module, ModuleState& state) noexcept {
    const struct {
        PyTypeObject** slot;
        PyType_Spec* spec;
    } types[] = {
        {&state.ticket_type, &ticket_spec},
        {&state.share_type, &share_spec},
    };
    for (const auto& one : types) {
        *one.slot = reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, one.spec, nullptr));
        if (!*one.slot || PyModule_AddType(module, *one.slot) < 0) return false;
    }
    return true;
}

}  // namespace memchannel
