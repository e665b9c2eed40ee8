// memchannel.Event.
#include "core/event.hpp"

#include "primitive_docs.hpp"
#include "primitive_object.hpp"

namespace memchannel {

namespace {

Status await_set(Event& event, const Patience& patience) {
    if (event.is_set()) return Status::ok;
    if (patience.nowait) return Status::timeout;
    Waiter waiter(current_interpreter(), "Event.wait", event.id());
    Entry entry;
    entry.waiter = &waiter;
    if (event.enlist(entry) == Status::ok) return Status::ok;
    const Status status = await_entry(event, entry, patience);
    const Status outcome = event.finish(entry);
    return status == Status::interrupted ? status : outcome;
}

PyObject* event_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    if (PyTuple_GET_SIZE(arguments) || (keywords && PyDict_GET_SIZE(keywords))) {
        PyErr_SetString(PyExc_TypeError, "Event() takes no arguments");
        return nullptr;
    }
    return guarded<PyObject*>(
        nullptr, [&] { return new_primitive(type, Handle<Primitive>(make_primitive<Event>())).release(); });
}

PyObject* event_wait(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<1> arguments("wait", {"timeout"}, 1, 0, values, given, keywords);
        const Status status = await_set(primitive_as<Event>(self), patience(arguments[0]));
        if (status == Status::timeout) Py_RETURN_FALSE;
        raise_unless_ok(self, status, "wait");
        Py_RETURN_TRUE;
    });
}

PyObject* event_set(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        primitive_as<Event>(self).set();
        Py_RETURN_NONE;
    });
}

PyObject* event_clear(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        primitive_as<Event>(self).clear();
        Py_RETURN_NONE;
    });
}

PyObject* event_is_set(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] { return PyBool_FromLong(primitive_as<Event>(self).is_set()); });
}

PyObject* event_repr(PyObject* self) {
    const auto& event = static_cast<const Event&>(*primitive_fields(self).primitive);
    return PyUnicode_FromFormat("<memchannel.Event at %p, number %llu: %s>", self,
                                static_cast<unsigned long long>(event.id()),
                                event.is_set() ? "set" : "unset");
}

PyMethodDef event_methods[] = {
    {"is_set", event_is_set, METH_NOARGS, docs::event_is_set},
    {"set", event_set, METH_NOARGS, docs::event_set},
    {"clear", event_clear, METH_NOARGS, docs::event_clear},
    {"wait", as_function(event_wait), METH_FASTCALL | METH_KEYWORDS, docs::event_wait},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot event_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(primitive_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(event_new)},
    {Py_tp_repr, reinterpret_cast<void*>(event_repr)},
    {Py_tp_methods, event_methods},
    {Py_tp_doc, const_cast<char*>(docs::event)},
    {0, nullptr},
};

}  // namespace

PyType_Spec event_spec = {"memchannel.Event", sizeof(PrimitiveObject), 0, primitive_flags, event_slots};

}  // namespace memchannel
