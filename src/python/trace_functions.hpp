// Module functions that record what happens, and a pool's task as the recorder sees it.
#pragma once

#include "core/trace.hpp"
#include "state.hpp"

namespace memchannel {

// _trace_start(limit) -> the recording, a capsule; RuntimeError: somebody records already.
PyObject* trace_start(PyObject* module, PyObject* limit);
// _trace_stop(capsule) -> whether it went on until now.
PyObject* trace_stop(PyObject* module, PyObject* capsule);
// _trace_read(capsule) -> (began, ended, dropped, names, [(thread, label, events), ...]), once it is
// stopped; the events are packed as memchannel._trace unpacks them, and the recording has none afterwards.
PyObject* trace_read(PyObject* module, PyObject* capsule);
// _trace_span(kind, name, interpreter, begin): something began then, and ends now; both in ns.
PyObject* trace_span(PyObject* module, PyObject* const* values, Py_ssize_t given);
PyObject* is_tracing(PyObject* module, PyObject*);
// _name_thread(name): what this thread is called in recordings.
PyObject* name_this_thread(PyObject* module, PyObject* name);

// One task on its way through a worker; nothing unless something is recorded.
class TaskSpan {
   public:
    TaskSpan(std::uint64_t id, std::uint64_t channel) noexcept : id_(id), channel_(channel) {
        if (tracing()) [[unlikely]]
            begin_ns_ = monotonic_ns();
    }
    // `label` is called with the function and returns its name. No exception is left set.
    void name(PyObject* label, PyObject* function) noexcept {
        if (begin_ns_) [[unlikely]]
            find_name(label, function);
    }
    void done(bool succeeded) const noexcept {
        if (begin_ns_) [[unlikely]]
            record(succeeded);
    }

   private:
    void find_name(PyObject* label, PyObject* function) noexcept;
    void record(bool succeeded) const noexcept;

    const std::uint64_t id_;
    const std::uint64_t channel_;
    std::int64_t begin_ns_ = 0;  // 0: not recorded
    Ref name_;                   // of the function, a str
};

}  // namespace memchannel
