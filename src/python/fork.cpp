#include "fork.hpp"

#include <pthread.h>

#include <mutex>

#include "core/registry.hpp"
#include "interpreter_list.hpp"
#include "view.hpp"

namespace memchannel {

namespace {

// Runs in the child before fork() returns. What the interpreters own is leaked there: the threads that worked
// in them do not exist, and their locks may be held for ever.
void forget_interpreters() {
    unlink_other_interpreters();
    renew_view_type_lock();
    // Its end has to be known to the child's core, whether or not it lends anything.
    registry().owners.enroll(0, PyInterpreterState_Main());
}

}  // namespace

void prepare_for_fork() noexcept {
    static std::once_flag once;
    std::call_once(once, [] {
        find_interpreter_list();
        pthread_atfork(nullptr, nullptr, forget_interpreters);
    });
}

PyObject* fork_is_mended(PyObject*, PyObject*) { return PyBool_FromLong(interpreter_list_is_known()); }

}  // namespace memchannel
