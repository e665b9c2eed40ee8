// Tasks for interpreters: submitting them, running them, and waiting for what comes of them.
#pragma once

#include "state.hpp"

namespace memchannel {

// _submit(channel, task, lend_from, lendings=None) -> Completion
PyObject* submit_task(PyObject* module, PyObject* const* values, Py_ssize_t given);
// _work(channel, functions, resolve, describe, limit, lend_from, blas_threads, more_allowed) -> tasks done
PyObject* run_tasks(PyObject* module, PyObject* const* values, Py_ssize_t given);
// _discard_cancelled(channel) -> how many queued tasks were cancelled, and are gone now
PyObject* discard_cancelled(PyObject* module, PyObject* end);
// _drain_tasks(channel, cancel) -> how many were queued; without `cancel` they are broken
PyObject* drain_tasks(PyObject* module, PyObject* const* values, Py_ssize_t given);

// _add_blas(get, set): the addresses of a library's functions for its number of threads
PyObject* add_blas(PyObject* module, PyObject* const* values, Py_ssize_t given);

bool add_completion_type(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
