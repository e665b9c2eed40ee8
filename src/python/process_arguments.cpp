#include "process_arguments.hpp"

namespace memchannel {

namespace {

int argument_count = 0;
char** argument_array = nullptr;

// The dynamic linker of glibc gives constructors the arguments of main (elf/dl-init.c, call_init), and there
// is no other public way to them. Named in the section itself: GCC's link-time optimization calls all
// functions with the attribute `constructor` from one of its own, without arguments (gcc/ipa.cc,
// cgraph_build_static_cdtor).
void keep_arguments(int count, char** arguments) {
    argument_count = count;
    argument_array = arguments;
}
[[gnu::section(".init_array"), gnu::used]] void (*const kept_by)(int, char**) = keep_arguments;

}  // namespace

PyObject* process_arguments(PyObject*, PyObject*) {
    return Py_BuildValue("iN", argument_count, PyLong_FromVoidPtr(static_cast<void*>(argument_array)));
}

}  // namespace memchannel
