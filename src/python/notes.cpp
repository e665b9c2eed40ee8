#include "notes.hpp"

#include "arguments.hpp"
#include "core/registry.hpp"

namespace memchannel {

namespace {

std::string name_of(PyObject* name) {
    Py_ssize_t size;
    const char* const text = PyUnicode_AsUTF8AndSize(name, &size);
    if (!text) throw PythonError();
    return {text, static_cast<std::size_t>(size)};
}

}  // namespace

PyObject* add_note(PyObject*, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("_note", {"name", "text"}, 2, 2, values, given, nullptr);
        char* text;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(arguments[1], &text, &size) < 0) return nullptr;
        registry().notes.add(name_of(arguments[0]), {text, static_cast<std::size_t>(size)});
        Py_RETURN_NONE;
    });
}

PyObject* find_note(PyObject*, PyObject* name) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Notes::Text text = registry().notes.find(name_of(name));
        if (!text) Py_RETURN_NONE;
        return PyBytes_FromStringAndSize(text->data(), static_cast<Py_ssize_t>(text->size()));
    });
}

}  // namespace memchannel
