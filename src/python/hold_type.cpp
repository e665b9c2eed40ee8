#include "hold_type.hpp"

#include <utility>

#include "arguments.hpp"
#include "core/registry.hpp"

namespace memchannel {

namespace {

struct HoldObject {
    PyObject_HEAD OwnerId interpreter;
    bool wait;
    bool held;
};

HoldObject* fields(PyObject* self) noexcept { return reinterpret_cast<HoldObject*>(self); }

void drop(PyObject* self) noexcept {
    HoldObject* const hold = fields(self);
    if (std::exchange(hold->held, false)) registry().owners.drop_handle(hold->interpreter, hold->wait);
}

PyObject* hold_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"interpreter", "wait", nullptr};
    long long interpreter;
    int wait = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "L|p:Hold", const_cast<char**>(names), &interpreter,
                                     &wait))
        return nullptr;
    PyObject* const self = type->tp_alloc(type, 0);
    if (!self) return nullptr;
    fields(self)->interpreter = interpreter;
    fields(self)->wait = wait != 0;
    fields(self)->held = registry().owners.add_handle(interpreter);
    return self;
}

void hold_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    drop(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* hold_drop(PyObject* self, PyObject*) {
    drop(self);
    Py_RETURN_NONE;
}

PyObject* is_held(PyObject* self, void*) { return PyBool_FromLong(fields(self)->held); }

PyMethodDef methods[] = {
    {"drop", hold_drop, METH_NOARGS, "drop($self, /)\n--\n\nHold it no longer; again: nothing."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef getset[] = {
    {"held", is_held, nullptr, "False: the interpreter was ending, or drop() was called.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(hold_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(hold_dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, const_cast<char*>("Keeps an interpreter alive, by a reference of the core's.")},
    {0, nullptr},
};

PyType_Spec spec = {
    "memchannel._core.Hold", sizeof(HoldObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, slots,
};

}  // namespace

PyObject* end_with_references(PyObject*, PyObject* interpreter) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const OwnerId id = interpreter_number(interpreter);
        if (!registry().owners.end_with_references(id)) {
            PyErr_Format(PyExc_RuntimeError,
                         "interpreter %lld was closed by others, or has not imported memchannel",
                         static_cast<long long>(id));
            return nullptr;
        }
        Py_RETURN_NONE;
    });
}

bool add_hold_type(PyObject* module, ModuleState&) noexcept {
    const Ref type = Ref::steal(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return type && PyModule_AddType(module, reinterpret_cast<PyTypeObject*>(type.get())) == 0;
}

}  // namespace memchannel
