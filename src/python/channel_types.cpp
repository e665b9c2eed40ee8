#include "channel_types.hpp"

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "arguments.hpp"
#include "core/registry.hpp"
#include "module.hpp"
#include "transfer.hpp"

namespace memchannel {

namespace {

struct End {
    PyObject_HEAD Channel* channel;  // one count
    Side side;
    ModuleState* state;  // lives as long as the type, which the object keeps alive
    PyObject* weak_references;
};

End* end(PyObject* self) noexcept { return reinterpret_cast<End*>(self); }
Channel& channel_of(PyObject* self) noexcept { return *end(self)->channel; }
Codec codec_of(const Channel& channel) noexcept { return static_cast<Codec>(channel.traits().codec); }

const char* codec_name(const Channel& channel) noexcept {
    switch (codec_of(channel)) {
        case Codec::buffer:
            return "MemChannel";
        case Codec::array:
            return "ArrayChannel";
        default:
            return "Channel";
    }
}

Channel& usable(PyObject* self) {
    if (!check_process(channel_of(self))) throw PythonError();
    return channel_of(self);
}

LendTerms terms_of(const Channel& channel) noexcept { return {channel.id(), channel.traits().deferred}; }

void raise_unless_ok(PyObject* self, Status status, Side side) {
    if (status == Status::ok) return;
    if (status != Status::interrupted) raise_status(*end(self)->state, status, channel_of(self), side);
    throw PythonError();
}

Patience parse_patience(PyObject* timeout) {
    Patience patience;
    if (!parse_timeout(timeout, patience.deadline, patience.nowait)) throw PythonError();
    return patience;
}

Ref end_object(PyTypeObject* type, ModuleState& state, Handle<Channel> channel, Side side) {
    Ref object = Ref::steal(type->tp_alloc(type, 0));
    if (!object) throw PythonError();
    End* const fields = end(object.get());
    fields->channel = channel.release();
    fields->side = side;
    fields->state = &state;
    return object;
}

// ---- sending

PyObject* end_send(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const Arguments<2> arguments("send", {"obj", "timeout"}, 2, 1, values, given, keywords);
        const Patience patience = parse_patience(arguments[1]);
        Message message = encode(*end(self)->state, codec_of(channel), arguments[0], terms_of(channel));
        raise_unless_ok(self, send_message(channel, message, patience), Side::send);
        Py_RETURN_NONE;
    });
}

PyObject* end_send_nowait(PyObject* self, PyObject* object) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        Message message = encode(*end(self)->state, codec_of(channel), object, terms_of(channel));
        const Status status = channel.try_send(current_interpreter(), message);
        if (status == Status::full || status == Status::retry) Py_RETURN_FALSE;
        raise_unless_ok(self, status, Side::send);
        Py_RETURN_TRUE;
    });
}

// ---- receiving

RecvOptions parse_options(const Channel& channel, const Arguments<3>& arguments) {
    const RecvOptions options{arguments.truth(1), arguments.truth(2)};
    if ((options.copy || options.as_view) && codec_of(channel) != Codec::array) {
        PyErr_SetString(PyExc_TypeError, "copy= and as_view= are for an ArrayChannel only");
        throw PythonError();
    }
    if (options.copy && options.as_view) {
        PyErr_SetString(PyExc_ValueError, "copy=True and as_view=True exclude each other");
        throw PythonError();
    }
    return options;
}

PyObject* end_recv(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const Arguments<3> arguments("recv", {"timeout", "copy", "as_view"}, 1, 0, values, given, keywords);
        const RecvOptions options = parse_options(channel, arguments);
        Message message;
        raise_unless_ok(self, recv_message(channel, message, parse_patience(arguments[0])), Side::recv);
        return decode(*end(self)->state, message, options).release();
    });
}

PyObject* end_recv_nowait(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const Arguments<3> arguments("recv_nowait", {"default", "copy", "as_view"}, 1, 0, values, given,
                                     keywords);
        const RecvOptions options = parse_options(channel, arguments);
        Message message;
        const Status status = channel.try_recv(current_interpreter(), message);
        if (status == Status::empty) return Py_NewRef(arguments[0] ? arguments[0] : Py_None);
        raise_unless_ok(self, status, Side::recv);
        return decode(*end(self)->state, message, options).release();
    });
}

PyObject* end_next(PyObject* self) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        Message message;
        const Status status = recv_message(channel, message, Patience{});
        if (status == Status::ended) return nullptr;  // the end of the iteration
        raise_unless_ok(self, status, Side::recv);
        return decode(*end(self)->state, message, {}).release();
    });
}

// ---- both sides

bool covers(PyObject* self, Side side) noexcept {
    return static_cast<int>(end(self)->side) & static_cast<int>(side);
}

PyObject* end_close(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const OwnerId interpreter = current_interpreter();
        bool was_associated = false;
        for (const Side side : {Side::recv, Side::send}) {
            if (covers(self, side)) was_associated = channel.close(side, interpreter) || was_associated;
        }
        return PyBool_FromLong(was_associated);
    });
}

PyObject* end_exit(PyObject* self, PyObject*) {
    Ref closed = Ref::steal(end_close(self, nullptr));
    if (!closed) return nullptr;
    Py_RETURN_NONE;
}

PyObject* end_enter(PyObject* self, PyObject*) { return Py_NewRef(self); }

PyObject* end_closed(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        bool closed = true;
        for (const Side side : {Side::recv, Side::send}) {
            if (covers(self, side)) closed = closed && channel.closed_by(side, current_interpreter());
        }
        return PyBool_FromLong(closed);
    });
}

PyObject* end_id(PyObject* self, void*) { return PyLong_FromUnsignedLongLong(channel_of(self).id()); }

PyObject* end_name(PyObject* self, void*) {
    const std::string& name = channel_of(self).traits().name;
    if (name.empty()) Py_RETURN_NONE;
    return PyUnicode_FromStringAndSize(name.data(), static_cast<Py_ssize_t>(name.size()));
}

PyObject* end_ends(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        ModuleState& state = *end(self)->state;
        Ref recv = make_end(state, Handle<Channel>::share(&channel), Side::recv);
        Ref send = make_end(state, Handle<Channel>::share(&channel), Side::send);
        return PyTuple_Pack(2, recv.get(), send.get());
    });
}

Ref id_list(const std::vector<OwnerId>& ids) {
    Ref list = Ref::steal(PyList_New(0));
    for (const OwnerId id : ids) {
        Ref number = list ? Ref::steal(PyLong_FromLongLong(id)) : Ref();
        if (!number || PyList_Append(list.get(), number.get()) < 0) throw PythonError();
    }
    return list;
}

PyObject* end_interpreters(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const ChannelStatistics now = usable(self).statistics();
        std::vector<OwnerId> all;
        if (covers(self, Side::recv)) all = now.receivers;
        if (covers(self, Side::send)) all.insert(all.end(), now.senders.begin(), now.senders.end());
        std::sort(all.begin(), all.end());
        all.erase(std::unique(all.begin(), all.end()), all.end());
        return id_list(all).release();
    });
}

PyObject* end_statistics(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const ChannelStatistics now = channel.statistics();
        Ref receivers = id_list(now.receivers);
        Ref senders = id_list(now.senders);
        Ref module = Ref::steal(PyImport_ImportModule("memchannel.statistics"));
        if (!module) return nullptr;
        Ref capacity = channel.traits().capacity == unlimited
                           ? Ref::borrow(Py_None)
                           : Ref::steal(PyLong_FromSize_t(channel.traits().capacity));
        if (!capacity) return nullptr;
        return PyObject_CallMethod(
            module.get(), "ChannelStatistics", "nnnOKKOONNN", static_cast<Py_ssize_t>(now.queued),
            static_cast<Py_ssize_t>(now.waiting_receivers), static_cast<Py_ssize_t>(now.waiting_senders),
            capacity.get(), static_cast<unsigned long long>(now.sent),
            static_cast<unsigned long long>(now.received), receivers.get(), senders.get(),
            PyBool_FromLong(now.recv_over), PyBool_FromLong(now.send_over), PyBool_FromLong(now.poisoned));
    });
}

Py_ssize_t end_length(PyObject* self) {
    return guarded<Py_ssize_t>(-1, [&] { return static_cast<Py_ssize_t>(usable(self).size()); });
}

int end_truth(PyObject*) { return 1; }  // an empty channel is not false

PyObject* end_repr(PyObject* self) {
    Channel& channel = channel_of(self);
    Ref name = Ref::steal(PyUnicode_FromString(""));
    if (!channel.traits().name.empty()) {
        name = Ref::steal(PyUnicode_FromFormat(" '%s'", channel.traits().name.c_str()));
    }
    if (!name) return nullptr;
    const char* const side = end(self)->side == Side::recv   ? "RecvChannel of "
                             : end(self)->side == Side::send ? "SendChannel of "
                                                             : "";
    if (!channel.of_this_process()) {
        return PyUnicode_FromFormat("<%s%s %llu%U of the parent process>", side, codec_name(channel),
                                    static_cast<unsigned long long>(channel.id()), name.get());
    }
    return PyUnicode_FromFormat("<%s%s %llu%U, %zu queued>", side, codec_name(channel),
                                static_cast<unsigned long long>(channel.id()), name.get(), channel.size());
}

Py_hash_t end_hash(PyObject* self) {
    const auto hash =
        static_cast<Py_hash_t>(channel_of(self).id() * 4 + static_cast<unsigned>(end(self)->side));
    return hash == -1 ? -2 : hash;
}

PyObject* end_richcompare(PyObject* self, PyObject* other, int operation);

PyObject* end_reduce(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        Ref module = Ref::steal(PyImport_ImportModule("memchannel._core"));
        Ref opener = module ? Ref::steal(PyObject_GetAttrString(module.get(), "_open_end")) : Ref();
        if (!opener) return nullptr;
        return Py_BuildValue("O(KiKi)", opener.get(), static_cast<unsigned long long>(channel.id()),
                             static_cast<int>(end(self)->side),
                             static_cast<unsigned long long>(registry().process_token),
                             static_cast<int>(channel.traits().codec));
    });
}

void end_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    if (end(self)->weak_references) PyObject_ClearWeakRefs(self);
    Channel* const channel = end(self)->channel;
    type->tp_free(self);
    Py_DECREF(type);
    if (channel) channel->drop();  // last: its queued leases may switch interpreters
}

PyObject* end_richcompare(PyObject* self, PyObject* other, int operation) {
    if ((operation != Py_EQ && operation != Py_NE) ||
        Py_TYPE(other)->tp_dealloc != Py_TYPE(self)->tp_dealloc) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    const EndRef right = end_of(*end(self)->state, other);
    if (!right) Py_RETURN_NOTIMPLEMENTED;
    const bool same = right.channel == end(self)->channel && right.side == end(self)->side;
    return PyBool_FromLong(same == (operation == Py_EQ));
}

// ---- construction

std::size_t parse_maxsize(PyObject* maxsize, bool rendezvous) {
    Py_ssize_t size = 0;
    if (maxsize) {
        if (PyBool_Check(maxsize) || !PyIndex_Check(maxsize)) {
            PyErr_Format(PyExc_TypeError, "maxsize must be an int, not %.100s", Py_TYPE(maxsize)->tp_name);
            throw PythonError();
        }
        size = PyNumber_AsSsize_t(maxsize, PyExc_OverflowError);
        if (size == -1 && PyErr_Occurred()) throw PythonError();
    }
    if (size < 0) {
        PyErr_Format(PyExc_ValueError, "maxsize must be >= 0 (0: unbounded), not %zd", size);
        throw PythonError();
    }
    if (rendezvous && size) {
        PyErr_Format(PyExc_ValueError, "rendezvous=True holds no messages: maxsize must be 0, not %zd", size);
        throw PythonError();
    }
    return rendezvous ? 0 : size ? static_cast<std::size_t>(size) : unlimited;
}

PyObject* new_channel(PyTypeObject* type, Codec codec, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"maxsize", "rendezvous", "release", "name", nullptr};
    PyObject* maxsize = nullptr;
    int rendezvous = 0;
    const char* release = "eager";
    const char* name = nullptr;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O$psz", const_cast<char**>(names), &maxsize,
                                     &rendezvous, &release, &name)) {
        return nullptr;
    }
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const bool deferred = std::string_view(release) == "deferred";
        if (!deferred && std::string_view(release) != "eager") {
            PyErr_Format(PyExc_ValueError, "release must be 'eager' or 'deferred', not '%s'", release);
            return nullptr;
        }
        ChannelTraits traits{static_cast<std::uint8_t>(codec), parse_maxsize(maxsize, rendezvous), deferred,
                             false, name ? name : ""};
        PyObject* const module = PyType_GetModuleByDef(type, &core_module);
        if (!module) return nullptr;
        return end_object(type, state_of_module(module), Channel::make(std::move(traits)), Side::both)
            .release();
    });
}

template <Codec codec>
PyObject* channel_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    return new_channel(type, codec, arguments, keywords);
}

Handle<Channel> find_channel(PyObject* id) {
    const unsigned long long number = PyLong_AsUnsignedLongLong(id);
    if (number == static_cast<unsigned long long>(-1) && PyErr_Occurred()) throw PythonError();
    Handle<Channel> channel = registry().channels.find(number);
    if (!channel) {
        PyErr_Format(PyExc_ValueError,
                     "there is no channel %llu: it was never made, or nobody holds an end of it", number);
        throw PythonError();
    }
    return channel;
}

template <Side side>
PyObject* open_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"id", nullptr};
    PyObject* id;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!", const_cast<char**>(names), &PyLong_Type,
                                     &id)) {
        return nullptr;
    }
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        PyObject* const module = PyType_GetModuleByDef(type, &core_module);
        if (!module) return nullptr;
        return end_object(type, state_of_module(module), find_channel(id), side).release();
    });
}

// ---- type tables

template <class Function>
PyCFunction cast(Function function) noexcept {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

constexpr int fast = METH_FASTCALL | METH_KEYWORDS;

#define MEMCHANNEL_SEND_METHODS                                                             \
    {"send", cast(end_send), fast,                                                          \
     "send(obj, timeout=None)\n--\n\nSend obj, waiting for room at most timeout seconds."}, \
        {"send_nowait", end_send_nowait, METH_O,                                            \
         "send_nowait(obj)\n--\n\nSend obj if there is room now; returns whether it was sent."}
#define MEMCHANNEL_RECV_METHODS                                                                            \
    {"recv", cast(end_recv), fast,                                                                         \
     "recv(timeout=None, *, copy=False, as_view=False)\n--\n\nReceive, waiting at most timeout seconds."}, \
        {"recv_nowait", cast(end_recv_nowait), fast,                                                       \
         "recv_nowait(default=None, *, copy=False, as_view=False)\n--\n\nReceive what is there, or "       \
         "default."}
#define MEMCHANNEL_COMMON_METHODS                                                                          \
    {"close", end_close, METH_NOARGS,                                                                      \
     "close()\n--\n\nLeave this end for the whole interpreter; returns whether it was associated."},       \
        {"statistics", end_statistics, METH_NOARGS, "statistics()\n--\n\nA snapshot: ChannelStatistics."}, \
        {"__enter__", end_enter, METH_NOARGS, nullptr}, {"__exit__", end_exit, METH_VARARGS, nullptr},     \
        {"__reduce__", end_reduce, METH_NOARGS, nullptr}, {                                                \
        nullptr, nullptr, 0, nullptr                                                                       \
    }

PyMethodDef recv_methods[] = {MEMCHANNEL_RECV_METHODS, MEMCHANNEL_COMMON_METHODS};
PyMethodDef send_methods[] = {MEMCHANNEL_SEND_METHODS, MEMCHANNEL_COMMON_METHODS};
PyMethodDef both_methods[] = {MEMCHANNEL_SEND_METHODS, MEMCHANNEL_RECV_METHODS, MEMCHANNEL_COMMON_METHODS};

PyGetSetDef end_getset[] = {
    {"id", end_id, nullptr, "The channel's number in this process.", nullptr},
    {"name", end_name, nullptr, "The name given at creation, or None.", nullptr},
    {"closed", end_closed, nullptr, "Whether this interpreter closed the end.", nullptr},
    {"interpreters", end_interpreters, nullptr, "Ids of the interpreters associated with the end.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};
PyGetSetDef channel_getset[] = {
    {"id", end_id, nullptr, "The channel's number in this process.", nullptr},
    {"name", end_name, nullptr, "The name given at creation, or None.", nullptr},
    {"closed", end_closed, nullptr, "Whether this interpreter closed both ends.", nullptr},
    {"interpreters", end_interpreters, nullptr, "Ids of the interpreters associated with an end.", nullptr},
    {"ends", end_ends, nullptr, "(RecvChannel, SendChannel)", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};
PyMemberDef end_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(End, weak_references), Py_READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

#define MEMCHANNEL_COMMON_SLOTS                                                                             \
    {Py_tp_dealloc, reinterpret_cast<void*>(end_dealloc)}, {Py_tp_repr, reinterpret_cast<void*>(end_repr)}, \
        {Py_tp_hash, reinterpret_cast<void*>(end_hash)},                                                    \
        {Py_tp_richcompare, reinterpret_cast<void*>(end_richcompare)},                                      \
        {Py_sq_length, reinterpret_cast<void*>(end_length)},                                                \
        {Py_nb_bool, reinterpret_cast<void*>(end_truth)}, {                                                 \
        Py_tp_members, end_members                                                                          \
    }
#define MEMCHANNEL_ITERATION_SLOTS                              \
    {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)}, { \
        Py_tp_iternext, reinterpret_cast<void*>(end_next)       \
    }

PyType_Slot recv_slots[] = {
    MEMCHANNEL_COMMON_SLOTS,
    MEMCHANNEL_ITERATION_SLOTS,
    {Py_tp_new, reinterpret_cast<void*>(open_new<Side::recv>)},
    {Py_tp_methods, recv_methods},
    {Py_tp_getset, end_getset},
    {Py_tp_doc, const_cast<char*>("RecvChannel(id)\n--\n\nThe receiving end of the channel with this id.")},
    {0, nullptr},
};
PyType_Slot send_slots[] = {
    MEMCHANNEL_COMMON_SLOTS,
    {Py_tp_new, reinterpret_cast<void*>(open_new<Side::send>)},
    {Py_tp_methods, send_methods},
    {Py_tp_getset, end_getset},
    {Py_tp_doc, const_cast<char*>("SendChannel(id)\n--\n\nThe sending end of the channel with this id.")},
    {0, nullptr},
};

#define MEMCHANNEL_CHANNEL_SLOTS(codec, doc)                                                         \
    {                                                                                                \
        MEMCHANNEL_COMMON_SLOTS, MEMCHANNEL_ITERATION_SLOTS,                                         \
            {Py_tp_new, reinterpret_cast<void*>(channel_new<codec>)}, {Py_tp_methods, both_methods}, \
            {Py_tp_getset, channel_getset}, {Py_tp_doc, const_cast<char*>(doc)}, {                   \
            0, nullptr                                                                               \
        }                                                                                            \
    }
#define MEMCHANNEL_SIGNATURE "(maxsize=0, *, rendezvous=False, release='eager', name=None)\n--\n\n"

PyType_Slot mem_slots[] = MEMCHANNEL_CHANNEL_SLOTS(
    Codec::buffer, "MemChannel" MEMCHANNEL_SIGNATURE
                   "Sends anything with a buffer; gives read-only CrossInterpreterViews of the same memory.");
PyType_Slot array_slots[] = MEMCHANNEL_CHANNEL_SLOTS(
    Codec::array,
    "ArrayChannel" MEMCHANNEL_SIGNATURE
    "Sends arrays; gives read-only numpy arrays over the same memory, with dtype, shape and strides.");
PyType_Slot object_slots[] = MEMCHANNEL_CHANNEL_SLOTS(
    Codec::object, "Channel" MEMCHANNEL_SIGNATURE
                   "Sends picklable objects; the arrays and buffers inside them travel without a copy.");

constexpr unsigned int end_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE;

PyType_Spec recv_spec = {"memchannel.RecvChannel", sizeof(End), 0, end_flags, recv_slots};
PyType_Spec send_spec = {"memchannel.SendChannel", sizeof(End), 0, end_flags, send_slots};
PyType_Spec mem_spec = {"memchannel.MemChannel", sizeof(End), 0, end_flags, mem_slots};
PyType_Spec array_spec = {"memchannel.ArrayChannel", sizeof(End), 0, end_flags, array_slots};
PyType_Spec object_spec = {"memchannel.Channel", sizeof(End), 0, end_flags, object_slots};

}  // namespace

EndRef end_of(ModuleState& state, PyObject* object) noexcept {
    static_cast<void>(state);
    if (Py_TYPE(object)->tp_dealloc != end_dealloc) return {};
    return {end(object)->channel, end(object)->side};
}

Ref make_end(ModuleState& state, Handle<Channel> channel, Side side) {
    PyTypeObject* type = side == Side::recv ? state.recv_type : state.send_type;
    if (side == Side::both) {
        switch (codec_of(*channel)) {
            case Codec::buffer:
                type = state.mem_channel_type;
                break;
            case Codec::array:
                type = state.array_channel_type;
                break;
            case Codec::object:
                type = state.object_channel_type;
                break;
        }
    }
    return end_object(type, state, std::move(channel), side);
}

Ref take_end(ModuleState& state, Channel& channel, Side side) {
    for (const Side one : {Side::recv, Side::send}) {
        if (static_cast<int>(side) & static_cast<int>(one)) channel.associate(one, current_interpreter());
    }
    return make_end(state, Handle<Channel>::share(&channel), side);
}

PyObject* open_end(PyObject* module, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<4> arguments("_open_end", {"id", "side", "process", "codec"}, 4, 4, values, given,
                                     nullptr);
        if (PyLong_AsUnsignedLongLong(arguments[2]) != registry().process_token) {
            if (PyErr_Occurred()) return nullptr;
            PyErr_SetString(
                PyExc_RuntimeError,
                "this end of a channel was pickled in another process: channels connect the interpreters of "
                "one process only");
            return nullptr;
        }
        const long side = PyLong_AsLong(arguments[1]);
        if (side < 1 || side > 3) {
            if (!PyErr_Occurred()) PyErr_Format(PyExc_ValueError, "no side %ld", side);
            return nullptr;
        }
        return make_end(state_of_module(module), find_channel(arguments[0]), static_cast<Side>(side))
            .release();
    });
}

PyObject* task_channel(PyObject* module, PyObject* name) {
    ModuleState& state = state_of_module(module);
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const char* const text = PyUnicode_AsUTF8(name);
        if (!text) return nullptr;
        ChannelTraits traits{static_cast<std::uint8_t>(Codec::object), unlimited, true, true, text};
        return make_end(state, Channel::make(std::move(traits)), Side::both).release();
    });
}

PyObject* lend(PyObject* module, PyObject* const* values, Py_ssize_t given) {
    ModuleState& state = state_of_module(module);
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("_lend", {"channel", "array"}, 2, 2, values, given, nullptr);
        const EndRef end = end_of(state, arguments[0]);
        if (!end) {
            PyErr_Format(PyExc_TypeError, "expected an end of a channel, not %R", arguments[0]);
            return nullptr;
        }
        return decode(state, encode(state, Codec::array, arguments[1], terms_of(*end.channel)), {}).release();
    });
}

bool add_channel_types(PyObject* module, ModuleState& state) noexcept {
    const struct {
        PyTypeObject** slot;
        PyType_Spec* spec;
    } types[] = {
        {&state.recv_type, &recv_spec},
        {&state.send_type, &send_spec},
        {&state.mem_channel_type, &mem_spec},
        {&state.array_channel_type, &array_spec},
        {&state.object_channel_type, &object_spec},
    };
    for (const auto& one : types) {
        *one.slot = reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, one.spec, nullptr));
        if (!*one.slot || PyModule_AddType(module, *one.slot) < 0) return false;
    }
    return true;
}

}  // namespace memchannel
