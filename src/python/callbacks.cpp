#include "callbacks.hpp"

#include "arguments.hpp"
#include "codecs.hpp"
#include "core/registry.hpp"
#include "module.hpp"

namespace memchannel {

namespace {

ModuleState* loaded_state() noexcept {
    const Ref name = Ref::steal(PyUnicode_FromString("memchannel._core"));
    const Ref module = name ? Ref::steal(PyImport_GetModule(name.get())) : Ref();
    return module ? &state_of_module(module.get()) : nullptr;
}

// False: KeyboardInterrupt is set.
bool make_call(ModuleState& state, const Message& message) noexcept {
    Ref call;
    const Ref result = Ref::steal(guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        call = decode(state, message, {});
        if (!PyTuple_Check(call.get()) || PyTuple_GET_SIZE(call.get()) != 2) {
            PyErr_SetString(PyExc_SystemError, "memchannel: a callback must be (function, args)");
            return nullptr;
        }
        return PyObject_CallObject(PyTuple_GET_ITEM(call.get(), 0), PyTuple_GET_ITEM(call.get(), 1));
    }));
    if (result) return true;
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) return false;
    PyErr_WriteUnraisable(call ? PyTuple_GET_ITEM(call.get(), 0) : nullptr);
    return true;
}

}  // namespace

bool run_callbacks() noexcept {
    CallbackTable& callbacks = registry().callbacks;
    const OwnerId self = current_interpreter();
    if (!callbacks.any(self)) return true;
    PyObject* const before = PyErr_GetRaisedException();
    bool ok = true;
    if (ModuleState* const state = loaded_state()) {
        while (ok) {
            const Message call = callbacks.pop(self);
            if (!call) break;
            ok = make_call(*state, call);
        }
    }
    if (ok) {
        PyErr_SetRaisedException(before);
    } else {
        Py_XDECREF(before);
    }
    return ok;
}

PyObject* call_soon(PyObject* module, PyObject* const* values, Py_ssize_t given) {
    ModuleState& state = state_of_module(module);
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("_call_soon", {"interpreter", "call"}, 2, 2, values, given, nullptr);
        const OwnerId id = interpreter_number(arguments[0]);
        // Deferred: dropping what the call brought along must not stall the interpreter that made it.
        registry().callbacks.push(id, encode_task(state, arguments[1], {0, true}, 0));
        registry().waiters.nudge(id);
        Py_RETURN_NONE;
    });
}

PyObject* run_callbacks_now(PyObject*, PyObject*) {
    if (!run_callbacks()) return nullptr;
    Py_RETURN_NONE;
}

PyObject* forget_callbacks(PyObject*, PyObject*) {
    registry().callbacks.clear(current_interpreter());
    Py_RETURN_NONE;
}

}  // namespace memchannel
