#include "state.hpp"

#include "core/registry.hpp"
#include "plain_types.hpp"

namespace memchannel {

int traverse_state(ModuleState& state, visitproc visit, void* arg) noexcept {
    Py_VISIT(state.lent_memory_type);
    Py_VISIT(state.view_type);
    Py_VISIT(state.recv_type);
    Py_VISIT(state.send_type);
    Py_VISIT(state.mem_channel_type);
    Py_VISIT(state.array_channel_type);
    Py_VISIT(state.object_channel_type);
    Py_VISIT(state.shared_buffer_type);
    Py_VISIT(state.completion_type);
    Py_VISIT(state.arrow_batches_type);
    Py_VISIT(state.lendings_type);
    Py_VISIT(state.end_type);
    Py_VISIT(state.notifier_type);
    Py_VISIT(state.async_call_type);
    Py_VISIT(state.primitive_type);
    Py_VISIT(state.descriptor_type);
    Py_VISIT(state.ticket_type);
    Py_VISIT(state.share_type);
    Py_VISIT(state.string_view_type);
    for (PyTypeObject* const type : state.primitive_types) Py_VISIT(type);
    Py_VISIT(state.errors);
    Py_VISIT(state.to_readonly);
    Py_VISIT(state.array_codec);
    Py_VISIT(state.arrayview);
    Py_VISIT(state.object_codec);
    Py_VISIT(state.function_codec);
    Py_VISIT(state.async_module);
    Py_VISIT(state.recv_coroutine);
    Py_VISIT(state.dtypes);
    Py_VISIT(state.dtype_codes);
    Py_VISIT(state.registered);
    Py_VISIT(state.inherited);
    Py_VISIT(state.dispatch_table);
    Py_VISIT(state.extension_registry);
    Py_VISIT(state.numpy_name);
    return 0;
}

void clear_state(ModuleState& state) noexcept {
    Py_CLEAR(state.lent_memory_type);
    Py_CLEAR(state.view_type);
    Py_CLEAR(state.recv_type);
    Py_CLEAR(state.send_type);
    Py_CLEAR(state.mem_channel_type);
    Py_CLEAR(state.array_channel_type);
    Py_CLEAR(state.object_channel_type);
    Py_CLEAR(state.shared_buffer_type);
    Py_CLEAR(state.completion_type);
    Py_CLEAR(state.arrow_batches_type);
    Py_CLEAR(state.lendings_type);
    Py_CLEAR(state.end_type);
    Py_CLEAR(state.notifier_type);
    Py_CLEAR(state.async_call_type);
    Py_CLEAR(state.primitive_type);
    Py_CLEAR(state.descriptor_type);
    Py_CLEAR(state.ticket_type);
    Py_CLEAR(state.share_type);
    Py_CLEAR(state.string_view_type);
    for (PyTypeObject*& type : state.primitive_types) Py_CLEAR(type);
    Py_CLEAR(state.errors);
    Py_CLEAR(state.to_readonly);
    Py_CLEAR(state.array_codec);
    Py_CLEAR(state.arrayview);
    Py_CLEAR(state.object_codec);
    Py_CLEAR(state.function_codec);
    Py_CLEAR(state.async_module);
    Py_CLEAR(state.recv_coroutine);
    Py_CLEAR(state.dtypes);
    Py_CLEAR(state.dtype_codes);
    Py_CLEAR(state.registered);
    Py_CLEAR(state.inherited);
    Py_CLEAR(state.dispatch_table);
    Py_CLEAR(state.extension_registry);
    Py_CLEAR(state.numpy_name);
    forget_types(std::exchange(state.known_types, nullptr));
}

[[gnu::hot]] Owner& this_owner(ModuleState& state) {
    if (state.generation != registry().generation) {
        PyInterpreterState* const interpreter = PyInterpreterState_Get();
        state.owner = &registry().owners.enroll(PyInterpreterState_GetID(interpreter), interpreter);
        state.generation = registry().generation;
    }
    return *state.owner;
}

PyObject* module_once(PyObject*& slot, const char* name) noexcept {
    if (!slot) slot = PyImport_ImportModule(name);
    return slot;
}

}  // namespace memchannel
