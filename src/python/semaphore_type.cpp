// memchannel.Semaphore and BoundedSemaphore.
#include "core/semaphore.hpp"

#include "primitive_docs.hpp"
#include "primitive_object.hpp"

namespace memchannel {

namespace {

// A count that the core can hold; `least` and its name are for the error.
std::size_t parse_count(PyObject* count, const char* name, Py_ssize_t least, const char* complaint) {
    const Py_ssize_t value = PyNumber_AsSsize_t(count, PyExc_OverflowError);
    if (value == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "%s must be an int, not %.100s", name, Py_TYPE(count)->tp_name);
        } else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            Ref zero = Ref::steal(PyLong_FromLong(0));
            const int negative = PyObject_RichCompareBool(count, zero.get(), Py_LT);
            if (negative == 1) PyErr_Format(PyExc_ValueError, "%s, not %R", complaint, count);
        }
        throw PythonError();
    }
    if (value < least) {
        PyErr_Format(PyExc_ValueError, "%s, not %zd", complaint, value);
        throw PythonError();
    }
    return static_cast<std::size_t>(value);
}

bool acquire(PyObject* self, const Patience& patience) {
    auto& semaphore = primitive_as<Semaphore>(self);
    const bool bounded = semaphore.kind() == PrimitiveKind::bounded_semaphore;
    const char* const verb = bounded ? "BoundedSemaphore.acquire" : "Semaphore.acquire";
    const Status status = await_turn(semaphore, verb, caller(primitive_state(self)), patience);
    if (status == Status::full || status == Status::timeout) return false;
    raise_unless_ok(self, status, "acquire");
    return true;
}

void release(PyObject* self, std::size_t count) {
    auto& semaphore = primitive_as<Semaphore>(self);
    if (semaphore.release(count) == Status::ok) return;
    PyErr_Format(PyExc_ValueError,
                 "Semaphore released too many times: it has %zu of at most %zu permits, and got %zu more",
                 semaphore.value(), semaphore.bound(), count);
    throw PythonError();
}

template <bool bounded>
PyObject* semaphore_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"value", nullptr};
    PyObject* value = nullptr;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, bounded ? "|O:BoundedSemaphore" : "|O:Semaphore",
                                     const_cast<char**>(names), &value))
        return nullptr;
    return guarded<PyObject*>(nullptr, [&] {
        const std::size_t permits =
            value ? parse_count(value, "value", 0, "semaphore initial value must be >= 0") : 1;
        return new_primitive(type, Handle<Primitive>(make_primitive<Semaphore>(permits, bounded))).release();
    });
}

PyObject* semaphore_acquire(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        if (given == 0 && !keywords) return PyBool_FromLong(acquire(self, {}));
        const Arguments<2> arguments("acquire", {"blocking", "timeout"}, 2, 0, values, given, keywords);
        const bool waits = !arguments[0] || arguments.truth(0);
        if (!waits && arguments[1] && arguments[1] != Py_None) {
            PyErr_SetString(PyExc_ValueError, "can't specify timeout for non-blocking acquire");
            return nullptr;
        }
        return PyBool_FromLong(acquire(self, waits ? patience(arguments[1]) : Patience{.nowait = true}));
    });
}

PyObject* semaphore_release(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<1> arguments("release", {"n"}, 1, 0, values, given, keywords);
        release(self, arguments[0] ? parse_count(arguments[0], "n", 1, "n must be one or more") : 1);
        Py_RETURN_NONE;
    });
}

PyObject* semaphore_enter(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] { return PyBool_FromLong(acquire(self, {})); });
}

PyObject* semaphore_exit(PyObject* self, PyObject* const*, Py_ssize_t) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        release(self, 1);
        Py_RETURN_NONE;
    });
}

PyObject* semaphore_repr(PyObject* self) {
    const auto& semaphore = static_cast<const Semaphore&>(*primitive_fields(self).primitive);
    const auto id = static_cast<unsigned long long>(semaphore.id());
    if (semaphore.kind() == PrimitiveKind::semaphore) {
        return PyUnicode_FromFormat("<memchannel.Semaphore at %p, number %llu: value=%zu>", self, id,
                                    semaphore.value());
    }
    return PyUnicode_FromFormat("<memchannel.BoundedSemaphore at %p, number %llu: value=%zu/%zu>", self, id,
                                semaphore.value(), semaphore.bound());
}

constexpr int fast = METH_FASTCALL | METH_KEYWORDS;

PyMethodDef semaphore_methods[] = {
    {"acquire", as_function(semaphore_acquire), fast, docs::semaphore_acquire},
    {"release", as_function(semaphore_release), fast, docs::semaphore_release},
    {"__enter__", semaphore_enter, METH_NOARGS, nullptr},
    {"__exit__", as_function(semaphore_exit), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot semaphore_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(primitive_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(semaphore_new<false>)},
    {Py_tp_repr, reinterpret_cast<void*>(semaphore_repr)},
    {Py_tp_methods, semaphore_methods},
    {Py_tp_doc, const_cast<char*>(docs::semaphore)},
    {0, nullptr},
};

PyType_Slot bounded_semaphore_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(primitive_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(semaphore_new<true>)},
    {Py_tp_repr, reinterpret_cast<void*>(semaphore_repr)},
    {Py_tp_methods, semaphore_methods},
    {Py_tp_doc, const_cast<char*>(docs::bounded_semaphore)},
    {0, nullptr},
};

}  // namespace

PyType_Spec semaphore_spec = {"memchannel.Semaphore", sizeof(PrimitiveObject), 0, primitive_flags,
                              semaphore_slots};
PyType_Spec bounded_semaphore_spec = {"memchannel.BoundedSemaphore", sizeof(PrimitiveObject), 0,
                                      primitive_flags, bounded_semaphore_slots};

}  // namespace memchannel
