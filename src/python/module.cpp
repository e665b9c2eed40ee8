// The contents page of the extension.
#include "module.hpp"

#include "arguments.hpp"
#include "arrow_stream.hpp"
#include "async_call.hpp"
#include "callbacks.hpp"
#include "channel_types.hpp"
#include "completion_type.hpp"
#include "descriptor_type.hpp"
#include "end_docs.hpp"
#include "exports.hpp"
#include "fork.hpp"
#include "hold_type.hpp"
#include "inspect.hpp"
#include "interpreter_list.hpp"
#include "interrupt.hpp"
#include "lease_buffer.hpp"
#include "lendings.hpp"
#include "lent_memory.hpp"
#include "lifecycle.hpp"
#include "notes.hpp"
#include "numpy_abi.hpp"
#include "plain_types.hpp"
#include "primitive_types.hpp"
#include "process_arguments.hpp"
#include "share.hpp"
#include "shared_buffer.hpp"
#include "string_view.hpp"
#include "trace_functions.hpp"
#include "view.hpp"
#include "wait.hpp"

namespace memchannel {

namespace {

int exec(PyObject* module) {
    ModuleState& state = state_of_module(module);
    if (!check_only_copy()) return -1;
    state.errors = PyImport_ImportModule("memchannel.errors");
    state.dtypes = PyDict_New();
    state.dtype_codes = PyDict_New();
    if (!state.errors || !state.dtypes || !state.dtype_codes) return -1;
    if (!add_lent_memory_type(module, state)) return -1;
    if (!add_view_type(module, state)) return -1;
    if (!add_shared_buffer_type(module, state)) return -1;
    if (!add_share_types(module, state)) return -1;
    if (!add_string_view_type(module, state)) return -1;
    if (!add_channel_types(module, state)) return -1;
    if (!add_async_types(module, state)) return -1;
    if (!add_completion_type(module, state)) return -1;
    if (!add_primitive_types(module, state)) return -1;
    if (!add_descriptor_type(module, state)) return -1;
    if (!add_arrow_batches_type(module, state)) return -1;
    if (!add_lendings_type(module, state)) return -1;
    if (!add_hold_type(module, state)) return -1;
    if (!begin_interpreter(module, state)) return -1;
    return PyModule_AddStringConstant(module, "__version__", MEMCHANNEL_VERSION);
}

int traverse(PyObject* module, visitproc visit, void* arg) {
    return traverse_state(state_of_module(module), visit, arg);
}

int clear(PyObject* module) {
    clear_state(state_of_module(module));
    return 0;
}

// Also after a failed exec, and without a clear() before: CPython calls m_free alone when an interpreter
// ends.
void free_module(void* module) {
    ModuleState& state = state_of_module(static_cast<PyObject*>(module));
    clear_state(state);
    delete std::exchange(state.numpy, nullptr);
}

PyMethodDef methods[] = {
    {"select", as_function(select_function), METH_FASTCALL | METH_KEYWORDS, docs::select},
    {"_open_end", as_function(open_end), METH_FASTCALL, nullptr},
    {"_open_primitive", as_function(open_primitive), METH_FASTCALL, nullptr},
    {"_holder", holder_of, METH_O, nullptr},
    {"_abandon_locks", abandon_locks, METH_NOARGS, nullptr},
    {"_dlpack", as_function(export_dlpack), METH_FASTCALL, nullptr},
    {"_arrow_array", as_function(export_arrow), METH_FASTCALL, nullptr},
    {"_arrow_batches", as_function(arrow_batches), METH_FASTCALL, nullptr},
    {"_arrow_values", arrow_values, METH_O, nullptr},
    {"_arrow_stream", arrow_stream, METH_O, nullptr},
    {"_claim_block", claim_block, METH_O, nullptr},
    {"_submit", as_function(submit_task), METH_FASTCALL, nullptr},
    {"_work", as_function(run_tasks), METH_FASTCALL, nullptr},
    {"_add_blas", as_function(add_blas), METH_FASTCALL, nullptr},
    {"_discard_cancelled", discard_cancelled, METH_O, nullptr},
    {"_drain_tasks", as_function(drain_tasks), METH_FASTCALL, nullptr},
    {"_task_channel", task_channel, METH_O, nullptr},
    {"_stats", stats, METH_NOARGS, nullptr},
    {"_lent_by", lent_by, METH_O, nullptr},
    {"_without_drops", without_drops, METH_O, nullptr},
    {"_is_ending", is_ending, METH_O, nullptr},
    {"_end_with_references", end_with_references, METH_O, nullptr},
    {"_closing", as_function(closing), METH_FASTCALL, nullptr},
    {"_stop_lending", stop_lending, METH_O, nullptr},
    {"_resume_lending", resume_lending, METH_O, nullptr},
    {"_stop", as_function(stop), METH_FASTCALL, nullptr},
    {"_stop_no_more", stop_no_more, METH_O, nullptr},
    {"_mask_stops", mask_stops, METH_O, nullptr},
    {"_next_interpreter_number", next_interpreter_number, METH_NOARGS, nullptr},
    {"_interpreter_exists", interpreter_exists, METH_O, nullptr},
    {"_await_returned", as_function(await_returned), METH_FASTCALL, nullptr},
    {"_waits", waits, METH_NOARGS, nullptr},
    {"_channels", all_channels, METH_NOARGS, nullptr},
    {"_collect_channels", collect_channels, METH_NOARGS, nullptr},
    {"_signals_are_elsewhere", signals_are_elsewhere, METH_NOARGS, nullptr},
    {"_serve_signals", serve_signals, METH_NOARGS, nullptr},
    {"_interrupts_elsewhere", interrupts_elsewhere, METH_NOARGS, nullptr},
    {"_set_wakeup_fd", set_wakeup_fd, METH_O, nullptr},
    {"_on_gc", as_function(on_gc), METH_FASTCALL, nullptr},
    {"_check_copied", check_copied, METH_O, nullptr},
    {"_count_copied", count_copied, METH_O, nullptr},
    {"_leaving_ordinary", leaving_ordinary, METH_O, nullptr},
    {"_fork_is_mended", fork_is_mended, METH_NOARGS, nullptr},
    {"_note", as_function(add_note), METH_FASTCALL, nullptr},
    {"_noted", find_note, METH_O, nullptr},
    {"_process_arguments", process_arguments, METH_NOARGS, nullptr},
    {"_count_threads", count_threads, METH_NOARGS, nullptr},
    {"_current_frames", current_frames, METH_NOARGS, nullptr},
    {"_mark_interrupted", mark_interrupted, METH_NOARGS, nullptr},
    {"_arm", arm_interrupt, METH_O, nullptr},
    {"_disarm", disarm_interrupt, METH_O, nullptr},
    {"_interrupt", interrupt, METH_O, nullptr},
    {"_await_idle", await_idle, METH_NOARGS, nullptr},
    {"_collect_garbage", collect_garbage, METH_O, nullptr},
    {"_call_soon", as_function(call_soon), METH_FASTCALL, nullptr},
    {"_run_callbacks", run_callbacks_now, METH_NOARGS, nullptr},
    {"_forget_callbacks", forget_callbacks, METH_NOARGS, nullptr},
    {"_trace_start", trace_start, METH_O, nullptr},
    {"_trace_stop", trace_stop, METH_O, nullptr},
    {"_trace_read", trace_read, METH_O, nullptr},
    {"_trace_span", as_function(trace_span), METH_FASTCALL, nullptr},
    {"_tracing", is_tracing, METH_NOARGS, nullptr},
    {"_name_thread", name_this_thread, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(exec)},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, nullptr},
};

}  // namespace

PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    "memchannel._core",
    "The compiled part of memchannel: channels, views and shared memory over a Python-free core.",
    sizeof(ModuleState),
    methods,
    slots,
    traverse,
    clear,
    free_module,
};

}  // namespace memchannel

PyMODINIT_FUNC PyInit__core() { return PyModuleDef_Init(&memchannel::core_module); }
