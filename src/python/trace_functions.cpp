#include "trace_functions.hpp"

#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "arguments.hpp"
#include "core/registry.hpp"

namespace memchannel {

namespace {

constexpr const char* capsule_name = "memchannel.recording";

bool of_this_process(const Recording& recording) noexcept {
    return recording.generation() == registry().generation;
}

// Of a recording that nobody stopped: nobody can any more.
void forget_recording(PyObject* capsule) {
    auto recording =
        Handle<Recording>::adopt(static_cast<Recording*>(PyCapsule_GetPointer(capsule, capsule_name)));
    if (!of_this_process(*recording)) {
        // A thread of the parent may have been writing when it forked: left alone, it stays allocated.
        static_cast<void>(recording.release());
        return;
    }
    registry().recorder.stop(*recording);
    recording->forget_events();  // threads may keep the rest
}

Recording& recording_of(PyObject* capsule) {
    auto* const recording = static_cast<Recording*>(PyCapsule_GetPointer(capsule, capsule_name));
    if (!recording) throw PythonError();
    return *recording;
}

// The names of a recording, each with a number.
class Names {
   public:
    Names() : list_(Ref::steal(PyList_New(0))) {
        if (!list_) throw PythonError();
    }
    std::uint32_t index_of(const char* name) {
        const auto [found, fresh] =
            indices_.try_emplace(name ? name : "", static_cast<std::uint32_t>(indices_.size()));
        if (fresh) {
            const Ref text = Ref::steal(PyUnicode_DecodeUTF8(
                found->first.data(), static_cast<Py_ssize_t>(found->first.size()), "replace"));
            if (!text || PyList_Append(list_.get(), text.get()) < 0) throw PythonError();
        }
        return found->second;
    }
    PyObject* list() const noexcept { return list_.get(); }

   private:
    Ref list_;
    std::unordered_map<std::string_view, std::uint32_t> indices_;  // of names that outlive it
};

// Appends fields one after the other, as struct.Struct("=4q3Q2I3B") reads them.
class Packer {
   public:
    explicit Packer(char* at) noexcept : at_(at) {}
    template <class... Fields>
    void put(Fields... fields) noexcept {
        (put_one(fields), ...);
    }

   private:
    template <class Field>
    void put_one(Field field) noexcept {
        std::memcpy(at_, &field, sizeof field);
        at_ += sizeof field;
    }
    char* at_;
};
constexpr std::size_t packed_size = 4 * 8 + 3 * 8 + 2 * 4 + 3;

bool id_is_number(Traced kind) noexcept { return kind != Traced::visit; }

Ref packed(const Recording& recording, const ThreadLog& log, Names& names) {
    Ref bytes = Ref::steal(
        PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(log.events().size() * packed_size)));
    if (!bytes) throw PythonError();
    Packer packer(PyBytes_AS_STRING(bytes.get()));
    for (const TraceEvent& event : log.events()) {
        const bool known = !id_is_number(event.kind) || recording.knows(event.id);
        packer.put(event.begin_ns, event.end_ns, event.interpreter, event.other, event.object,
                   known ? event.id : std::uint64_t{0}, event.amount, names.index_of(event.name), event.count,
                   event.kind, event.side, static_cast<std::uint8_t>(event.status == Status::ok));
    }
    return bytes;
}

Ref thread_item(const Recording& recording, const ThreadLog& log, Names& names) {
    const Ref label = Ref::steal(
        PyUnicode_DecodeUTF8(log.label().data(), static_cast<Py_ssize_t>(log.label().size()), "replace"));
    if (!label) throw PythonError();
    const Ref events = packed(recording, log, names);
    Ref item = Ref::steal(Py_BuildValue("(lOO)", static_cast<long>(log.thread()), label.get(), events.get()));
    if (!item) throw PythonError();
    return item;
}

// In UTF-8, as long as the text is there; empty, with an exception set, if it is none.
std::string_view utf8(PyObject* text) noexcept {
    Py_ssize_t size = 0;
    const char* const data = PyUnicode_AsUTF8AndSize(text, &size);
    return data ? std::string_view(data, static_cast<std::size_t>(size)) : std::string_view();
}

}  // namespace

PyObject* trace_start(PyObject*, PyObject* limit) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const std::size_t most = PyLong_AsSize_t(limit);
        if (most == static_cast<std::size_t>(-1) && PyErr_Occurred()) return nullptr;
        Recorder& recorder = registry().recorder;
        auto recording = recorder.start(current_interpreter(), registry().generation, most);
        if (!recording) {
            PyErr_Format(PyExc_RuntimeError,
                         "a trace that interpreter %lld started is recording already, and there is one for "
                         "all interpreters of the process: stop that one first",
                         static_cast<long long>(recorder.starter()));
            return nullptr;
        }
        PyObject* const capsule = PyCapsule_New(recording.get(), capsule_name, forget_recording);
        if (!capsule) return recorder.stop(*recording), nullptr;
        static_cast<void>(recording.release());
        return capsule;
    });
}

PyObject* trace_stop(PyObject*, PyObject* capsule) {
    return guarded<PyObject*>(nullptr, [&] {
        Recording& recording = recording_of(capsule);
        return PyBool_FromLong(of_this_process(recording) && registry().recorder.stop(recording));
    });
}

PyObject* trace_read(PyObject*, PyObject* capsule) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Recording& recording = recording_of(capsule);
        if (!of_this_process(recording)) {
            PyErr_SetString(PyExc_RuntimeError,
                            "this trace belongs to the parent process: it does not survive os.fork()");
            return nullptr;
        }
        if (!recording.ended_ns()) {
            PyErr_SetString(PyExc_RuntimeError, "this trace is still recording: stop() it first");
            return nullptr;
        }
        Names names;
        const Ref threads = Ref::steal(PyList_New(0));
        if (!threads) return nullptr;
        for (const ThreadLog& log : recording.logs()) {
            const Ref item = thread_item(recording, log, names);
            if (PyList_Append(threads.get(), item.get()) < 0) return nullptr;
        }
        PyObject* const all =
            Py_BuildValue("(LLnOO)", static_cast<long long>(recording.began_ns()),
                          static_cast<long long>(recording.ended_ns()),
                          static_cast<Py_ssize_t>(recording.dropped()), names.list(), threads.get());
        if (all) recording.forget_events();
        return all;
    });
}

PyObject* trace_span(PyObject*, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<4> arguments("_trace_span", {"kind", "name", "interpreter", "begin"}, 4, 4, values,
                                     given, nullptr);
        const long kind = PyLong_AsLong(arguments[0]);
        const long long interpreter = PyLong_AsLongLong(arguments[2]);
        const long long begin = PyLong_AsLongLong(arguments[3]);
        if (PyErr_Occurred()) return nullptr;
        if (kind != static_cast<long>(Traced::wait) && kind != static_cast<long>(Traced::run)) {
            PyErr_Format(PyExc_ValueError, "_trace_span() records waits and runs, not kind %ld", kind);
            return nullptr;
        }
        if (!tracing()) Py_RETURN_NONE;
        const std::string_view name = utf8(arguments[1]);
        if (PyErr_Occurred()) return nullptr;
        registry().recorder.record({.begin_ns = begin,
                                    .end_ns = monotonic_ns(),
                                    .interpreter = interpreter,
                                    .kind = static_cast<Traced>(kind)},
                                   name);
        Py_RETURN_NONE;
    });
}

PyObject* is_tracing(PyObject*, PyObject*) { return PyBool_FromLong(tracing()); }

PyObject* name_this_thread(PyObject*, PyObject* name) {
    Py_ssize_t size = 0;
    const char* const text = PyUnicode_AsUTF8AndSize(name, &size);
    if (!text) return nullptr;
    name_thread({text, static_cast<std::size_t>(size)});
    Py_RETURN_NONE;
}

void TaskSpan::find_name(PyObject* label, PyObject* function) noexcept {
    Ref text = Ref::steal(PyObject_CallOneArg(label, function));
    if (text && PyUnicode_AsUTF8AndSize(text.get(), nullptr)) name_ = std::move(text);
    PyErr_Clear();  // a function whose name cannot be told is a task without a name
}

void TaskSpan::record(bool succeeded) const noexcept {
    const std::string_view name = name_ ? utf8(name_.get()) : std::string_view();  // which is known by now
    registry().recorder.record({.begin_ns = begin_ns_,
                                .end_ns = monotonic_ns(),
                                .interpreter = current_interpreter(),
                                .object = channel_,
                                .id = id_,
                                .kind = Traced::task,
                                .status = succeeded ? Status::ok : Status::broken},
                               name);
}

}  // namespace memchannel
