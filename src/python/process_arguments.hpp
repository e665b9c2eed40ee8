// The arguments that the process was started with.
#pragma once

#include <Python.h>

namespace memchannel {

// _process_arguments() -> (int, int): their number, and the address of their array
PyObject* process_arguments(PyObject* module, PyObject* none);

}  // namespace memchannel
