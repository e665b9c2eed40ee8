#include "display.hpp"

#include "ref.hpp"

namespace memchannel {

namespace {

PyObject* displayed(PyObject* self, const char* function) {
    Ref module = Ref::steal(PyImport_ImportModule("memchannel._display"));
    Ref callable = module ? attribute(module.get(), function) : Ref();
    return callable ? PyObject_CallOneArg(callable.get(), self) : nullptr;
}

}  // namespace

PyObject* show_html(PyObject* self, PyObject*) { return displayed(self, "html_of"); }
PyObject* show_rich(PyObject* self, PyObject*) { return displayed(self, "fields"); }

}  // namespace memchannel
