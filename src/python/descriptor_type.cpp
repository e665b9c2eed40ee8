#include "descriptor_type.hpp"

#include <cstddef>

#include "arguments.hpp"
#include "codecs.hpp"
#include "module.hpp"

namespace memchannel {

namespace {

struct DescriptorObject {
    PyObject_HEAD Descriptor* descriptor;  // one count
    PyObject* owner;
};
DescriptorObject& fields(PyObject* self) noexcept { return *reinterpret_cast<DescriptorObject*>(self); }

Ref alloc(PyTypeObject* type, Handle<Descriptor> descriptor, PyObject* owner) {
    Ref object = Ref::steal(type->tp_alloc(type, 0));
    if (!object) throw PythonError();
    fields(object.get()).descriptor = descriptor.release();
    fields(object.get()).owner = Py_NewRef(owner);
    return object;
}

PyObject* descriptor_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"", "", nullptr};
    int fd = -1;
    PyObject* owner = nullptr;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "iO", const_cast<char**>(names), &fd, &owner))
        return nullptr;
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Handle<Descriptor> copy = Descriptor::duplicate(fd);
        if (!copy) return PyErr_SetFromErrno(PyExc_OSError);
        return alloc(type, std::move(copy), owner).release();
    });
}

void descriptor_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    Descriptor* const descriptor = fields(self).descriptor;
    Py_CLEAR(fields(self).owner);
    type->tp_free(self);
    Py_DECREF(type);
    if (descriptor) descriptor->drop();
}

PyObject* descriptor_detach(PyObject* self, PyObject*) {
    const int fd = fields(self).descriptor->release();
    if (fd >= 0) return PyLong_FromLong(fd);
    PyErr_SetString(PyExc_ValueError, "this descriptor was detached already");
    return nullptr;
}

PyMethodDef methods[] = {
    {"detach", descriptor_detach, METH_NOARGS,
     "detach() -> int\n\nReturn the file descriptor, which is the caller's to close from here on."},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"owner", Py_T_OBJECT_EX, offsetof(DescriptorObject, owner), 0,
     "The file or socket that it was made from, or that was made of it; None: not yet."},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(descriptor_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(descriptor_dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc, const_cast<char*>(
                    "Descriptor(fd, owner, /)\n\nA duplicate of a file descriptor, closed with this object "
                    "unless it was detached.")},
    {0, nullptr},
};

PyType_Spec spec = {"memchannel._core.Descriptor", sizeof(DescriptorObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, slots};

}  // namespace

Descriptor* descriptor_of(const ModuleState& state, PyObject* object) noexcept {
    return Py_IS_TYPE(object, state.descriptor_type) ? fields(object).descriptor : nullptr;
}

PyObject* file_of(PyObject* descriptor) noexcept { return fields(descriptor).owner; }

Ref received_descriptor(ModuleState& state, const Message& message, Descriptor& sent) {
    const bool alone = !message.shared() && sent.references() == 1;
    Handle<Descriptor> copy = alone ? Handle<Descriptor>::share(&sent) : sent.duplicate();
    if (!copy) {
        PyErr_SetFromErrno(PyExc_OSError);
        throw Undeliverable();
    }
    return alloc(state.descriptor_type, std::move(copy), Py_None);
}

void close_moved(const std::vector<Ref>& moved) {
    Ref interrupt;
    for (const Ref& one : moved) {
        Ref close = attribute(one.get(), "close");
        Ref closed = close ? Ref::steal(PyObject_CallNoArgs(close.get())) : Ref();
        if (closed) continue;
        if (!interrupt && !PyErr_ExceptionMatches(PyExc_Exception)) {
            interrupt = Ref::steal(PyErr_GetRaisedException());
        } else {
            PyErr_WriteUnraisable(one.get());
        }
    }
    if (!interrupt) return;
    PyErr_SetRaisedException(interrupt.release());
    throw PythonError();
}

void close_forgotten(std::vector<Ref> moved) {
    std::erase_if(moved, [](const Ref& one) { return Py_REFCNT(one.get()) != 1; });
    close_moved(moved);
}

bool add_descriptor_type(PyObject* module, ModuleState& state) noexcept {
    state.descriptor_type = reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return state.descriptor_type && PyModule_AddType(module, state.descriptor_type) == 0;
}

}  // namespace memchannel
