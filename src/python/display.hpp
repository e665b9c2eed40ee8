// What notebooks and rich show of the extension's objects: not worth C, memchannel/_display.py makes it.
#pragma once

#include <Python.h>

namespace memchannel {

PyObject* show_html(PyObject* self, PyObject*);
PyObject* show_rich(PyObject* self, PyObject*);

// Methods of each type that memchannel._display.fields() knows.
inline constexpr PyMethodDef html_method = {"_repr_html_", show_html, METH_NOARGS, nullptr};
inline constexpr PyMethodDef rich_method = {"__rich_repr__", show_rich, METH_NOARGS, nullptr};

}  // namespace memchannel
