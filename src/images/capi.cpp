// Functions of the C API that the private images of one interpreter call in place of CPython's own.
//
// PyGILState_Ensure, PyGILState_Release. CPython's attach a thread that Python did not start to the main
// interpreter (pystate.c, PyGILState_Ensure; PEP 684 leaves it so). A library's worker thread would then
// touch the objects of the interpreter whose image it runs while holding another one's GIL: Arrow's pool
// frees them into the wrong allocator.
//
// Py_AddPendingCall. CPython's queues calls for the main interpreter: greenlet has it free the objects of
// threads that end.
//
// PyModule_FromDefAndSpec2, PyModule_FromSlotsAndSpec. CPython's refuse modules that do not declare support
// for an own GIL. A private image supports it whatever it declares, and so do the modules that it makes while
// it is executed (Polars nests some).
//
// This file is loaded as a private image itself, once in each interpreter that has any. Its statics are the
// interpreter's.

#include <Python.h>

#include <pthread.h>
#include <unistd.h>

#include <cstdlib>
#include <new>
#include <vector>

// Exported for CPython's own test modules, with this signature from 3.13 to 3.15 (pycore_ceval.h); null
// elsewhere.
extern "C" [[gnu::weak]] int _PyEval_AddPendingCall(PyInterpreterState*, int (*)(void*), void*, int);

namespace {

// A thread state made here, for a thread that came without one of this interpreter.
struct Attachment {
    PyThreadState* state;
    PyThreadState* previous;  // another interpreter's, attached when the thread came; null if none was
    Attachment* below;
    long depth;
};

PyInterpreterState* g_interpreter = nullptr;
PyThreadState* g_anchor = nullptr;
uint64_t g_anchor_id = 0;

pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;  // guards the three below; never held while attaching
pthread_cond_t g_detached = PTHREAD_COND_INITIALIZER;
long g_attached = 0;
bool g_closed = false;

thread_local Attachment* t_top = nullptr;

bool is_ours(PyThreadState* state) {
    return state != nullptr && PyThreadState_GetInterpreter(state) == g_interpreter;
}

void count_in() {
    pthread_mutex_lock(&g_mutex);
    while (g_closed) {
        // The interpreter is gone, and its objects with it: as CPython does with threads that come too
        // late, this one stops here.
        pthread_mutex_unlock(&g_mutex);
        for (;;) {
            pause();
        }
    }
    ++g_attached;
    pthread_mutex_unlock(&g_mutex);
}

void count_out() {
    pthread_mutex_lock(&g_mutex);
    if (--g_attached == 0) {
        pthread_cond_broadcast(&g_detached);
    }
    pthread_mutex_unlock(&g_mutex);
}

PyGILState_STATE attach(PyThreadState* previous) {
    count_in();
    auto* attachment = static_cast<Attachment*>(std::malloc(sizeof(Attachment)));
    PyThreadState* state = PyThreadState_New(g_interpreter);
    if (attachment == nullptr || state == nullptr) {
        Py_FatalError("memchannel: no memory for a thread state");
    }
    *attachment = {state, previous, t_top, 1};
    if (previous != nullptr) {
        PyEval_SaveThread();
    }
    PyEval_RestoreThread(state);
    t_top = attachment;
    return PyGILState_UNLOCKED;
}

PyGILState_STATE ensure() {
    PyThreadState* current = PyThreadState_GetUnchecked();
    if (t_top != nullptr && (current == nullptr || current == t_top->state)) {
        ++t_top->depth;
        if (current != nullptr) {
            return PyGILState_LOCKED;
        }
        PyEval_RestoreThread(t_top->state);
        return PyGILState_UNLOCKED;
    }
    // CPython's own is right where the thread's last thread state is one of this interpreter.
    if (is_ours(current != nullptr ? current : PyGILState_GetThisThreadState())) {
        return PyGILState_Ensure();
    }
    return attach(current);
}

void release(PyGILState_STATE before) {
    Attachment* top = t_top;
    if (top == nullptr || PyThreadState_GetUnchecked() != top->state) {
        PyGILState_Release(before);
        return;
    }
    if (--top->depth > 0) {
        if (before == PyGILState_UNLOCKED) {
            PyEval_SaveThread();
        }
        return;
    }
    t_top = top->below;
    PyThreadState_Clear(top->state);  // may run finalizers
    PyThreadState_DeleteCurrent();
    count_out();
    if (top->previous != nullptr) {
        PyEval_RestoreThread(top->previous);
    }
    std::free(top);
}

int add_pending_call(int (*function)(void*), void* argument) {
    int result = -1;  // as when the queue is full
    pthread_mutex_lock(&g_mutex);
    if (!g_closed && _PyEval_AddPendingCall != nullptr) {
        result = _PyEval_AddPendingCall(g_interpreter, function, argument, 0);
    }
    pthread_mutex_unlock(&g_mutex);
    return result;
}

// At the exit of the process CPython 3.13 has deleted the other thread states before it ends an interpreter,
// and the pointer may be that of a newer one.
void delete_anchor() {
    PyThreadState* state = g_anchor == nullptr ? nullptr : PyInterpreterState_ThreadHead(g_interpreter);
    while (state != nullptr && state != g_anchor) {
        state = PyThreadState_Next(state);
    }
    if (state != nullptr && PyThreadState_GetID(state) == g_anchor_id) {
        PyThreadState_Clear(state);
        PyThreadState_Delete(state);
    }
    g_anchor = nullptr;
}

PyObject* close(PyObject*, PyObject*) {
    PyThreadState* self = PyEval_SaveThread();
    pthread_mutex_lock(&g_mutex);
    // Once the process finalizes, CPython lets no thread attach, and those counted may never come back.
    while (g_attached > 0 && !Py_IsFinalizing()) {
        pthread_cond_wait(&g_detached, &g_mutex);
    }
    g_closed = true;
    pthread_mutex_unlock(&g_mutex);
    PyEval_RestoreThread(self);
    delete_anchor();
    Py_RETURN_NONE;
}

// The number of the slot that declares support for interpreters, as compiled now and before 3.15.
bool is_interpreters_slot(int slot) { return slot == Py_mod_multiple_interpreters || slot == 3; }

// A copy of a module's slots that declares support for an own GIL.
template <typename Slot, typename Number>
std::vector<Slot> with_declaration(const Slot* slots, Number number, const Slot& declaration) {
    std::vector<Slot> result;
    for (; slots != nullptr && number(*slots) != 0; ++slots) {
        if (!is_interpreters_slot(number(*slots))) {
            result.push_back(*slots);
        }
    }
    result.push_back(declaration);
    result.push_back(Slot{});
    return result;
}

PyObject* module_from_definition(PyModuleDef* definition, PyObject* spec, int api_version) {
    // The definition is in this interpreter's image, and its import lock is held.
    PyModuleDef_Slot* const own = definition->m_slots;
    try {
        auto slots = with_declaration(own, [](const PyModuleDef_Slot& slot) { return slot.slot; },
                                      {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED});
        definition->m_slots = slots.data();
        PyObject* module = PyModule_FromDefAndSpec2(definition, spec, api_version);
        definition->m_slots = own;
        return module;
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
}

#if PY_VERSION_HEX >= 0x030f0000
PyObject* module_from_slots(const PySlot* own, PyObject* spec) {
    try {
        auto slots = with_declaration(
            own, [](const PySlot& slot) { return int{slot.sl_id}; },
            PySlot PySlot_PTR(Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED));
        return PyModule_FromSlotsAndSpec(slots.data(), spec);
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
}
#endif

int add_address(PyObject* module, const char* name, void* function) {
    PyObject* address = PyLong_FromVoidPtr(function);
    const int result = PyModule_AddObjectRef(module, name, address);
    Py_XDECREF(address);
    return result;
}

int execute(PyObject* module) {
    if (g_interpreter != nullptr) {
        PyErr_SetString(PyExc_ImportError,
                        "memchannel.images._capi serves one interpreter and is loaded in it");
        return -1;
    }
    g_interpreter = PyInterpreterState_Get();
#if PY_VERSION_HEX < 0x030e0000
    // An interpreter without any thread state gives its next one a place in itself, which on 3.13 is not
    // guarded against another being deleted just then. With this one, never attached, there always is one.
    g_anchor = PyThreadState_New(g_interpreter);
    if (g_anchor == nullptr) {
        PyErr_NoMemory();
        return -1;
    }
    g_anchor_id = PyThreadState_GetID(g_anchor);
#endif
    if (add_address(module, "PyGILState_Ensure", reinterpret_cast<void*>(&ensure)) < 0 ||
        add_address(module, "PyGILState_Release", reinterpret_cast<void*>(&release)) < 0 ||
#if PY_VERSION_HEX >= 0x030f0000
        add_address(module, "PyModule_FromSlotsAndSpec", reinterpret_cast<void*>(&module_from_slots)) < 0 ||
#endif
        add_address(module, "Py_AddPendingCall", reinterpret_cast<void*>(&add_pending_call)) < 0 ||
        add_address(module, "PyModule_FromDefAndSpec2", reinterpret_cast<void*>(&module_from_definition)) <
            0) {
        return -1;
    }
    return 0;
}

PyMethodDef methods[] = {
    {"close", close, METH_NOARGS,
     PyDoc_STR("close()\n--\n\nWait for the threads attached here, and let none attach from now on.")},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(&execute)},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "_capi",
    PyDoc_STR("Addresses of the C API functions that one interpreter's private images call."),
    0,
    methods,
    slots,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit__capi() { return PyModuleDef_Init(&definition); }
