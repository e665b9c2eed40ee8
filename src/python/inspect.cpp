#include "inspect.hpp"

#include <optional>

#include "arguments.hpp"
#include "attach.hpp"
#include "channel_types.hpp"
#include "core/block.hpp"
#include "core/registry.hpp"
#include "wait.hpp"

namespace memchannel {

PyObject* stats(PyObject*, PyObject*) {
    const LeaseCounts leases = registry().owners.counts();
    const BlockCounts blocks = block_counts();
    return Py_BuildValue("(nnnnnnnnnnn)", leases.live, leases.lent, leases.returned, leases.abandoned,
                         leases.bytes_lent, registry().bytes_copied.load(), registry().channels.size(),
                         registry().waiters.size(), blocks.live, blocks.bytes, registry().descriptors.size());
}

PyObject* lent_by(PyObject*, PyObject* interpreter) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const OwnerId id = interpreter_number(interpreter);
        const LentOut out = registry().owners.lent_by(id);
        Ref by_channel = Ref::steal(PyList_New(0));
        if (!by_channel) return nullptr;
        for (const auto& [channel, count] : out.by_channel) {
            Ref item = Ref::steal(Py_BuildValue("(Kn)", static_cast<unsigned long long>(channel),
                                                static_cast<Py_ssize_t>(count)));
            if (!item || PyList_Append(by_channel.get(), item.get()) < 0) return nullptr;
        }
        return Py_BuildValue("(nO)", static_cast<Py_ssize_t>(out.leases), by_channel.get());
    });
}

PyObject* without_drops(PyObject*, PyObject* function) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        std::optional<OwnerTable::NoDrops> guard;
        {
            const Detached detached;  // an interpreter that begins to end may need this one's GIL for it
            guard.emplace(registry().owners);
        }
        return PyObject_CallNoArgs(function);
    });
}

PyObject* is_ending(PyObject*, PyObject* interpreter) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const OwnerId id = interpreter_number(interpreter);
        return PyBool_FromLong(registry().owners.is_ending(id));
    });
}

PyObject* closing(PyObject*, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("_closing", {"interpreter", "function"}, 2, 2, values, given, nullptr);
        const OwnerId id = interpreter_number(arguments[0]);
        const OwnerTable::Closing one(registry().owners, id);
        if (one.is_first()) return PyObject_CallNoArgs(arguments[1]);
        PyErr_Format(PyExc_RuntimeError, "interpreter %lld is being made or closed by another thread",
                     static_cast<long long>(id));
        return nullptr;
    });
}

PyObject* stop_lending(PyObject*, PyObject* interpreter) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const OwnerId id = interpreter_number(interpreter);
        return PyBool_FromLong(registry().owners.stop_lending(id));
    });
}

PyObject* resume_lending(PyObject*, PyObject* interpreter) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const OwnerId id = interpreter_number(interpreter);
        registry().owners.resume_lending(id);
        Py_RETURN_NONE;
    });
}

PyObject* await_returned(PyObject*, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("_await_returned", {"interpreter", "timeout"}, 2, 2, values, given,
                                     nullptr);
        const OwnerId id = interpreter_number(arguments[0]);
        Deadline deadline = Deadline::never();
        bool nowait;
        if (!parse_timeout(arguments[1], deadline, nowait)) return nullptr;
        OwnerTable& owners = registry().owners;
        Owner* const owner = owners.find(id);
        if (!owner) Py_RETURN_TRUE;  // never imported memchannel: lent nothing
        Waiter waiter(current_interpreter(), "close", 0);
        Entry entry;
        entry.waiter = &waiter;
        if (!owners.await_returned(*owner, entry)) Py_RETURN_TRUE;
        const Status status = nowait ? Status::timeout : wait_settled(waiter, deadline, nullptr);
        owners.withdraw(*owner, entry);
        if (status == Status::interrupted) return nullptr;
        return PyBool_FromLong(waiter.settlement().status == Status::ok);
    });
}

namespace {

const char* side_name(Side side) noexcept {
    return side == Side::recv ? "recv" : side == Side::send ? "send" : nullptr;
}

Ref target_list(const std::vector<Target>& targets) {
    Ref list = Ref::steal(PyList_New(0));
    for (const Target& target : targets) {
        Ref item = list ? Ref::steal(Py_BuildValue("(Kz)", static_cast<unsigned long long>(target.object),
                                                   side_name(target.side)))
                        : Ref();
        if (!item || PyList_Append(list.get(), item.get()) < 0) throw PythonError();
    }
    if (!list) throw PythonError();
    return list;
}

}  // namespace

PyObject* waits(PyObject*, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const std::int64_t now = monotonic_ns();
        Ref list = Ref::steal(PyList_New(0));
        if (!list) return nullptr;
        for (const Waiting& one : registry().waiters.snapshot()) {
            Ref targets = target_list(one.targets);
            Ref item = Ref::steal(Py_BuildValue("(LlsOdO)", static_cast<long long>(one.interpreter),
                                                static_cast<long>(one.thread), one.verb, targets.get(),
                                                static_cast<double>(now - one.since_ns) / 1e9,
                                                one.timed ? Py_True : Py_False));
            if (!item || PyList_Append(list.get(), item.get()) < 0) return nullptr;
        }
        return list.release();
    });
}

PyObject* all_channels(PyObject* module, PyObject*) {
    ModuleState& state = state_of_module(module);
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Ref list = Ref::steal(PyList_New(0));
        if (!list) return nullptr;
        for (const Handle<Channel>& channel : registry().channels.all()) {
            Ref recv = make_end(state, channel, Side::recv);
            Ref send = make_end(state, Handle<Channel>::share(&channel->source()), Side::send);
            Ref pair = Ref::steal(PyTuple_Pack(2, recv.get(), send.get()));
            if (!pair || PyList_Append(list.get(), pair.get()) < 0) return nullptr;
        }
        return list.release();
    });
}

PyObject* collect_channels(PyObject*, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] { return PyLong_FromSize_t(registry().channels.collect()); });
}

PyObject* on_gc(PyObject*, PyObject* const* values, Py_ssize_t given) {
    // After each collection of this interpreter, thousands of times a second perhaps: nothing queued, nothing
    // to do.
    if (given != 2 || queued_with_riders() == 0) Py_RETURN_NONE;
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        if (!PyUnicode_Check(values[0]) || PyUnicode_CompareWithASCIIString(values[0], "stop") != 0)
            Py_RETURN_NONE;
        Ref generation = Ref::steal(PyMapping_GetItemString(values[1], "generation"));
        if (!generation) return nullptr;
        const int old = PyObject_IsTrue(generation.get());  // the youngest goes too often
        if (old < 0) return nullptr;
        if (old) registry().channels.collect();
        Py_RETURN_NONE;
    });
}

PyObject* count_copied(PyObject*, PyObject* nbytes) {
    const Py_ssize_t count = PyLong_AsSsize_t(nbytes);
    if (count == -1 && PyErr_Occurred()) return nullptr;
    registry().bytes_copied += static_cast<std::size_t>(count);
    Py_RETURN_NONE;
}

}  // namespace memchannel
