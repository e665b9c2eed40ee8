// memchannel.Counter.
#include "core/counter.hpp"

#include "primitive_docs.hpp"
#include "primitive_object.hpp"

namespace memchannel {

namespace {

std::int64_t parse_number(PyObject* number, const char* name) {
    Ref index = Ref::steal(PyNumber_Index(number));
    if (!index) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "%s must be an int, not %.100s", name, Py_TYPE(number)->tp_name);
        throw PythonError();
    }
    int overflow;
    const long long value = PyLong_AsLongLongAndOverflow(index.get(), &overflow);
    if (overflow) {
        PyErr_Format(PyExc_OverflowError, "%s must fit into 64 bits, unlike %R", name, number);
        throw PythonError();
    }
    if (value == -1 && PyErr_Occurred()) throw PythonError();
    return value;
}

PyObject* counter_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"value", nullptr};
    PyObject* value = nullptr;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:Counter", const_cast<char**>(names), &value))
        return nullptr;
    return guarded<PyObject*>(nullptr, [&] {
        const std::int64_t start = value ? parse_number(value, "value") : 0;
        return new_primitive(type, Handle<Primitive>(make_primitive<Counter>(start))).release();
    });
}

PyObject* counter_add(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<1> arguments("add", {"n"}, 1, 0, values, given, keywords);
        const std::int64_t number = arguments[0] ? parse_number(arguments[0], "n") : 1;
        auto& counter = primitive_as<Counter>(self);
        std::int64_t sum = 0;
        if (counter.add(number, sum)) return PyLong_FromLongLong(sum);
        PyErr_Format(PyExc_OverflowError, "adding %lld to %lld leaves 64 bits",
                     static_cast<long long>(number), static_cast<long long>(counter.value()));
        return nullptr;
    });
}

PyObject* counter_exchange(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&] {
        const Arguments<2> arguments("compare_exchange", {"old", "new"}, 2, 2, values, given, keywords);
        const std::int64_t expected = parse_number(arguments[0], "old");
        const std::int64_t replacement = parse_number(arguments[1], "new");
        return PyBool_FromLong(primitive_as<Counter>(self).compare_exchange(expected, replacement));
    });
}

PyObject* counter_value(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr,
                              [&] { return PyLong_FromLongLong(primitive_as<Counter>(self).value()); });
}

PyObject* counter_repr(PyObject* self) {
    const auto& counter = static_cast<const Counter&>(*primitive_fields(self).primitive);
    return PyUnicode_FromFormat("<memchannel.Counter at %p, number %llu: value=%lld>", self,
                                static_cast<unsigned long long>(counter.id()),
                                static_cast<long long>(counter.value()));
}

constexpr int fast = METH_FASTCALL | METH_KEYWORDS;

PyMethodDef counter_methods[] = {
    {"add", as_function(counter_add), fast, docs::counter_add},
    {"compare_exchange", as_function(counter_exchange), fast, docs::counter_exchange},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef counter_getset[] = {
    {"value", counter_value, nullptr, "The number as it is now.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot counter_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(primitive_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(counter_new)},
    {Py_tp_repr, reinterpret_cast<void*>(counter_repr)},
    {Py_tp_methods, counter_methods},
    {Py_tp_getset, counter_getset},
    {Py_tp_doc, const_cast<char*>(docs::counter)},
    {0, nullptr},
};

}  // namespace

PyType_Spec counter_spec = {"memchannel.Counter", sizeof(PrimitiveObject), 0, primitive_flags, counter_slots};

}  // namespace memchannel
