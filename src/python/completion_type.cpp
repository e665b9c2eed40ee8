#include "completion_type.hpp"

#include "arguments.hpp"
#include "callbacks.hpp"
#include "channel_types.hpp"
#include "core/completion.hpp"
#include "core/registry.hpp"
#include "descriptor_type.hpp"
#include "end.hpp"
#include "interrupt.hpp"
#include "lendings.hpp"
#include "parts.hpp"
#include "share.hpp"
#include "trace_functions.hpp"
#include "transfer.hpp"

namespace memchannel {

namespace {

struct CompletionObject {
    PyObject_HEAD Completion* completion;  // one count
    PyObject* value;                       // the decoded result, once asked for
    ModuleState* state;
};

CompletionObject* fields(PyObject* self) noexcept { return reinterpret_cast<CompletionObject*>(self); }

Completion& usable(PyObject* self) {
    Completion& completion = *fields(self)->completion;
    if (completion.of_this_process()) return completion;
    PyErr_SetString(PyExc_RuntimeError,
                    "this task belongs to the parent process: it does not survive os.fork()");
    throw PythonError();
}

Ref completion_object(ModuleState& state, Handle<Completion> completion) {
    Ref object = Ref::steal(state.completion_type->tp_alloc(state.completion_type, 0));
    if (!object) throw PythonError();
    fields(object.get())->completion = completion.release();
    fields(object.get())->state = &state;
    return object;
}

const char* name_of(Completion::State state) noexcept {
    switch (state) {
        case Completion::State::pending:
            return "pending";
        case Completion::State::running:
            return "running";
        case Completion::State::succeeded:
            return "succeeded";
        case Completion::State::failed:
            return "failed";
        case Completion::State::cancelled:
            return "cancelled";
        default:
            return "broken";
    }
}

// What can be waited for: the outcome, or that whoever might run the task let go of it.
struct Event {
    Status (Completion::*await)(Entry&) noexcept;
    bool (Completion::*happened)() const noexcept;
    const char* name;
};
constexpr Event settled{&Completion::await, &Completion::done, "result"};
constexpr Event dropped{&Completion::await_dropped, &Completion::dropped, "task's end"};

Status wait_for(Completion& completion, const Event& event, const Patience& patience) {
    if ((completion.*event.happened)()) return Status::ok;
    if (patience.nowait) return Status::timeout;
    Waiter waiter(current_interpreter(), event.name, 0);
    Entry entry;
    entry.waiter = &waiter;
    if ((completion.*event.await)(entry) == Status::ok) return Status::ok;
    Status status = wait_settled(waiter, patience.deadline, &registry().completion_spin);
    completion.withdraw(entry);
    if (status == Status::ok) status = waiter.settlement().status;
    return status != Status::interrupted && (completion.*event.happened)() ? Status::ok : status;
}

// The decoded result, the same object every time.
PyObject* value_of(PyObject* self, Completion& completion) {
    CompletionObject* const object = fields(self);
    if (!object->value) {
        Message message = completion.result();
        Ref value = message ? decode(*object->state, message, {}) : Ref::borrow(Py_None);
        // Decoding runs Python: another thread may have been here meanwhile.
        if (!object->value) object->value = value.release();
        completion.forget_result();
    }
    return object->value;
}

PyObject* completion_result(PyObject* self, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<1> arguments("result", {"timeout"}, 1, 0, values, given, nullptr);
        Completion& completion = usable(self);
        Patience patience;
        if (!completion.done() && !parse_timeout(arguments[0], patience.deadline, patience.nowait))
            return nullptr;
        const Status status = wait_for(completion, settled, patience);
        if (status == Status::interrupted) return nullptr;
        if (status == Status::timeout) {
            PyErr_SetNone(PyExc_TimeoutError);
            return nullptr;
        }
        if (status != Status::ok) {
            raise_ending("waiting for a result");
            return nullptr;
        }
        return Py_BuildValue("(sO)", name_of(completion.state()), value_of(self, completion));
    });
}

PyObject* completion_wait_dropped(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Status status = wait_for(usable(self), dropped, Patience{});
        if (status == Status::interrupted) return nullptr;
        if (status != Status::ok) {
            raise_ending("waiting for the end of a task");
            return nullptr;
        }
        Py_RETURN_NONE;
    });
}

PyObject* completion_cancel(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] { return PyBool_FromLong(usable(self).cancel()); });
}

PyObject* completion_done(PyObject* self, PyObject*) {
    return PyBool_FromLong(fields(self)->completion->done());
}

PyObject* completion_state(PyObject* self, void*) {
    return PyUnicode_FromString(name_of(fields(self)->completion->state()));
}

PyObject* completion_subscribe(PyObject* self, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("subscribe", {"channel", "note"}, 2, 2, values, given, nullptr);
        Completion& completion = usable(self);
        const EndRef end = end_of(arguments[0]);
        Message note = encode_simple(*fields(self)->state, arguments[1], Instances::none);
        if (!end || !note) {
            PyErr_SetString(PyExc_TypeError, "subscribe() takes a Channel and a simple object");
            return nullptr;
        }
        completion.subscribe(Handle<Channel>::share(end.channel), current_interpreter(), std::move(note));
        Py_RETURN_NONE;
    });
}

int completion_traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(fields(self)->value);
    return 0;
}

int completion_clear(PyObject* self) {
    Py_CLEAR(fields(self)->value);
    return 0;
}

void completion_dealloc(PyObject* self) {
    PyObject_GC_UnTrack(self);
    completion_clear(self);
    PyTypeObject* const type = Py_TYPE(self);
    Completion* const completion = fields(self)->completion;
    type->tp_free(self);
    Py_DECREF(type);
    if (completion) completion->drop();
}

PyMethodDef completion_methods[] = {
    {"result", as_function(completion_result), METH_FASTCALL,
     "result($self, timeout=None, /)\n--\n\n(state, value), waiting for them."},
    {"cancel", completion_cancel, METH_NOARGS,
     "cancel($self, /)\n--\n\nCancel the task if it has not started."},
    {"wait_dropped", completion_wait_dropped, METH_NOARGS,
     "wait_dropped($self, /)\n--\n\nWait until nobody who might run the task holds it or its arguments."},
    {"done", completion_done, METH_NOARGS, "done($self, /)\n--\n\nWhether there is an outcome."},
    {"subscribe", as_function(completion_subscribe), METH_FASTCALL,
     "subscribe($self, channel, note, /)\n--\n\nSend note to the channel when there is an outcome."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef completion_getset[] = {
    {"state", completion_state, nullptr, "pending, running, succeeded, failed, cancelled or broken", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot completion_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(completion_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(completion_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(completion_clear)},
    {Py_tp_methods, completion_methods},
    {Py_tp_getset, completion_getset},
    {Py_tp_doc, const_cast<char*>("The outcome of a task that another interpreter runs.")},
    {0, nullptr},
};

PyType_Spec completion_spec = {
    "memchannel._core.Completion",
    sizeof(CompletionObject),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    completion_slots,
};

Channel& channel_argument(PyObject* object) {
    const EndRef end = end_of(object);
    if (!end) {
        PyErr_Format(PyExc_TypeError, "expected an end of a channel, not %R", object);
        throw PythonError();
    }
    if (!check_process(*end.channel)) throw PythonError();
    return *end.channel;
}

Handle<Completion> completion_of(const Message& message) {
    if (message.riders().empty()) return {};
    auto* const completion = dynamic_cast<Completion*>(&message.riders().back().object());
    return Handle<Completion>::share(completion);
}

// ---- running

struct Worker {
    ModuleState& state;
    Channel& channel;
    PyObject* functions;  // dict: how a function was named -> the function
    PyObject* resolve;
    PyObject* describe;
    PyObject* label;  // a function's name, for recordings
    Py_ssize_t lend_from;

    LendTerms terms() const noexcept { return {channel.id(), true}; }
};

Ref function_for(const Worker& worker, PyObject* name) {
    PyObject* const known = PyDict_GetItemWithError(worker.functions, name);
    if (known) return Ref::borrow(known);
    if (PyErr_Occurred()) return {};
    Ref function = Ref::steal(PyObject_CallOneArg(worker.resolve, name));
    if (function && PyDict_SetItem(worker.functions, name, function.get()) < 0) return {};
    return function;
}

Ref call(const Worker& worker, const Message& message, TaskSpan& span) {
    Ref task = decode(worker.state, message, {});
    if (!PyTuple_Check(task.get()) || PyTuple_GET_SIZE(task.get()) != 3) {
        PyErr_SetString(PyExc_SystemError, "memchannel: a task must be (function, args, kwargs)");
        return {};
    }
    Ref function = function_for(worker, PyTuple_GET_ITEM(task.get(), 0));
    if (!function) return {};
    span.name(worker.label, function.get());
    PyObject* const keywords = PyTuple_GET_ITEM(task.get(), 2);
    return Ref::steal(PyObject_Call(function.get(), PyTuple_GET_ITEM(task.get(), 1),
                                    keywords == Py_None ? nullptr : keywords));
}

// The exception of the task, or the one for which its result could not be encoded, as what can travel.
Message describe_exception(const Worker& worker, Ref result) {
    Ref error = Ref::steal(PyErr_GetRaisedException());
    const InterruptsMasked masked;  // one that comes now is too late for the task, and would end its report
    PyObject* const given[] = {error.get(), result.get()};
    Ref description =
        error ? Ref::steal(PyObject_Vectorcall(worker.describe, given, result ? 2 : 1, nullptr)) : Ref();
    if (!description) throw PythonError();
    return encode_task(worker.state, description.get(), worker.terms(), worker.lend_from);
}

void run_task(const Worker& worker, Message message, Runner& runner, BlasClaim& blas) {
    bool succeeded = false;
    Message outcome;
    Ref result;
    TaskSpan span(message.trace_id(), worker.channel.id());
    try {
        result = call(worker, message, span);
        message.reset();  // the arguments go back before the result is known
        if (result) {
            std::vector<Ref> files;
            LendTerms terms = worker.terms();
            terms.moved = &files;
            outcome = encode_task(worker.state, result.get(), terms, worker.lend_from);
            result = Ref();
            close_forgotten(std::move(files));
            succeeded = true;
        }
    } catch (const PythonError&) {
        succeeded = false;
    }
    if (!succeeded) outcome = describe_exception(worker, std::move(result));
    if (worker.channel.size() == 0) blas.leave();  // before anybody knows the result
    span.done(succeeded);                          // before anybody can stop the recording for it
    runner->finish(std::move(outcome), succeeded);
}

void trace_submit(const Channel& channel, std::uint64_t id, std::int64_t at_ns) noexcept {
    registry().recorder.record({.begin_ns = at_ns,
                                .end_ns = at_ns,
                                .interpreter = current_interpreter(),
                                .object = channel.id(),
                                .id = id,
                                .kind = Traced::submit});
}

}  // namespace

PyObject* submit_task(PyObject* module, PyObject* const* values, Py_ssize_t given) {
    ModuleState& state = state_of_module(module);
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<4> arguments("_submit", {"channel", "task", "lend_from", "lendings"}, 4, 3, values,
                                     given, nullptr);
        Channel& channel = channel_argument(arguments[0]);
        const Py_ssize_t lend_from = PyLong_AsSsize_t(arguments[2]);
        if (lend_from == -1 && PyErr_Occurred()) return nullptr;
        Tickets tickets;
        const LendTerms terms{.channel = channel.id(),
                              .deferred = true,
                              .lendings = lendings_of(state, arguments[3]),
                              .tickets = &tickets};
        Message message = encode_task(state, arguments[1], terms, lend_from);
        Handle<Completion> completion = Completion::make();
        // The object first: once sent, the task runs whatever fails here.
        Ref object = completion_object(state, completion);
        MessageSpan span;
        span.begin_send(message);
        const std::uint64_t id = message.trace_id();
        const std::int64_t submitted_ns = id ? monotonic_ns() : 0;
        message.add_rider(Handle<Transferable>(std::move(completion)), Side::none);
        const Status status = channel.try_send(state.interpreter, message);
        if (status == Status::ok) {
            tickets.sent();
            if (id) [[unlikely]]
                trace_submit(channel, id, submitted_ns);
            return object.release();
        }
        raise_status(state, status == Status::full ? Status::timeout : status, channel, Side::send);
        return nullptr;
    });
}

PyObject* run_tasks(PyObject* module, PyObject* const* values, Py_ssize_t given) {
    ModuleState& state = state_of_module(module);
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<9> arguments("_work",
                                     {"channel", "functions", "resolve", "describe", "limit", "lend_from",
                                      "blas_threads", "more_allowed", "label"},
                                     9, 9, values, given, nullptr);
        const Worker worker{
            state,        channel_argument(arguments[0]), arguments[1], arguments[2], arguments[3],
            arguments[8], PyLong_AsSsize_t(arguments[5])};
        const Py_ssize_t limit = PyLong_AsSsize_t(arguments[4]);
        if (PyErr_Occurred() || !PyDict_Check(worker.functions)) return PyErr_BadInternalCall(), nullptr;
        BlasClaim blas(registry().blas_threads,
                       {static_cast<int>(PyLong_AsLong(arguments[6])), arguments.truth(7)});
        if (PyErr_Occurred()) return nullptr;
        Py_ssize_t done = 0;
        while (limit < 0 || done < limit) {
            if (!run_callbacks()) return nullptr;
            Message message;
            Status status =
                recv_message(state.interpreter, worker.channel, message, {.nowait = blas.entered()});
            if (status == Status::timeout) {  // no wait with a claim: others may have taken what was queued
                blas.leave();
                status = recv_message(state.interpreter, worker.channel, message, Patience{});
            }
            if (status == Status::interrupted) return nullptr;
            if (status != Status::ok) break;  // shut down
            Handle<Completion> completion = completion_of(message);
            if (!completion || !completion->start()) continue;  // cancelled while queued
            Runner runner(std::move(completion));
            blas.enter();
            run_task(worker, std::move(message), runner, blas);
            drop_interrupt();  // it was for this task, not for the next one
            ++done;
            if (PyErr_CheckSignals() < 0) return nullptr;
        }
        return PyLong_FromSsize_t(done);
    });
}

PyObject* add_blas(PyObject*, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("_add_blas", {"get", "set"}, 2, 2, values, given, nullptr);
        void* const get = PyLong_AsVoidPtr(arguments[0]);
        void* const set = PyLong_AsVoidPtr(arguments[1]);
        if (PyErr_Occurred()) return nullptr;
        registry().blas_threads.add(reinterpret_cast<BlasThreads::Get>(get),
                                    reinterpret_cast<BlasThreads::Set>(set));
        Py_RETURN_NONE;
    });
}

PyObject* drain_tasks(PyObject*, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("_drain_tasks", {"channel", "cancel"}, 2, 2, values, given, nullptr);
        const bool cancel = arguments.truth(1);
        MessageQueue queued = channel_argument(arguments[0]).drain();
        Py_ssize_t tasks = 0;
        while (!queued.empty()) {
            const Message message = queued.pop();
            const Handle<Completion> completion = completion_of(message);
            if (!completion) continue;
            ++tasks;
            if (cancel) completion->cancel();
        }
        return PyLong_FromSsize_t(tasks);
    });
}

PyObject* discard_cancelled(PyObject*, PyObject* end) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        // Ends here, outside the channel's lock: what the messages hold goes back to its owners.
        const MessageQueue discarded = channel_argument(end).extract([](const Message& message) {
            const Handle<Completion> completion = completion_of(message);
            return completion && completion->state() == Completion::State::cancelled;
        });
        return PyLong_FromSize_t(discarded.size());
    });
}

bool add_completion_type(PyObject* module, ModuleState& state) noexcept {
    state.completion_type =
        reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &completion_spec, nullptr));
    return state.completion_type && PyModule_AddType(module, state.completion_type) == 0;
}

}  // namespace memchannel
