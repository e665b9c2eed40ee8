// What channels and their ends do: methods, attributes and slots.
#include <algorithm>
#include <optional>

#include "arguments.hpp"
#include "core/registry.hpp"
#include "descriptor_type.hpp"
#include "display.hpp"
#include "end.hpp"
#include "end_docs.hpp"
#include "share.hpp"
#include "transfer.hpp"

namespace memchannel {

namespace {

Patience parse_patience(PyObject* timeout) {
    Patience patience;
    if (timeout && timeout != Py_None && !parse_timeout(timeout, patience.deadline, patience.nowait))
        throw PythonError();
    return patience;
}

[[gnu::hot]] Message encode_for(PyObject* self, Channel& channel, PyObject* object, bool by_value,
                                Tickets& tickets, std::vector<Ref>* moved = nullptr) {
    LendTerms terms = terms_of(channel);
    terms.tickets = &tickets;
    terms.moved = moved;
    return encode(state_of(self), codec_of(channel), object, terms, by_value);
}

template <std::size_t Count>
bool parse_move(const Channel& channel, const Arguments<Count>& arguments, std::size_t index) {
    if (!arguments.truth(index)) return false;
    if (codec_of(channel) == Codec::object) return true;
    PyErr_Format(PyExc_TypeError, "move=True is for a Channel: a%s sends no files and sockets",
                 codec_of(channel) == Codec::array ? "n ArrayChannel" : " MemChannel");
    throw PythonError();
}

// ---- sending

[[gnu::hot]] PyObject* end_send(PyObject* self, PyObject* const* values, Py_ssize_t given,
                                PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const Arguments<4> arguments("send", {"obj", "timeout", "move", "by_value"}, 2, 1, values, given,
                                     keywords);
        const Patience patience = parse_patience(arguments[1]);
        const bool move = parse_move(channel, arguments, 2);
        std::optional<std::vector<Ref>> moved;
        if (move) moved.emplace();
        Tickets tickets;
        Message message =
            encode_for(self, channel, arguments[0], arguments.truth(3), tickets, move ? &*moved : nullptr);
        raise_unless_ok(self, send_message(state_of(self).interpreter, channel, message, patience),
                        Side::send);
        tickets.sent();
        if (moved) close_moved(*moved);
        Py_RETURN_NONE;
    });
}

PyObject* end_send_nowait(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const Arguments<2> arguments("send_nowait", {"obj", "by_value"}, 1, 1, values, given, keywords);
        Tickets tickets;
        Message message = encode_for(self, channel, arguments[0], arguments.truth(1), tickets);
        const Status status = channel.try_send(state_of(self).interpreter, message);
        if (status == Status::full || status == Status::retry) Py_RETURN_FALSE;
        raise_unless_ok(self, status, Side::send);
        tickets.sent();
        Py_RETURN_TRUE;
    });
}

// The exception that is set tells how far the call came.
void tell_sent(std::size_t sent) noexcept {
    Ref error = Ref::steal(PyErr_GetRaisedException());
    Ref count = Ref::steal(PyLong_FromSize_t(sent));
    Ref name = Ref::steal(PyUnicode_InternFromString("sent"));
    // An exception without room for an attribute is raised as it is.
    if (!count || !name || PyObject_SetAttr(error.get(), name.get(), count.get()) < 0) PyErr_Clear();
    PyErr_SetRaisedException(error.release());
}

PyObject* end_send_many(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const Arguments<3> arguments("send_many", {"iterable", "timeout", "by_value"}, 2, 1, values, given,
                                     keywords);
        const bool by_value = arguments.truth(2);
        const Patience patience = parse_patience(arguments[1]);
        Ref iterator = Ref::steal(PyObject_GetIter(arguments[0]));
        if (!iterator) return nullptr;
        std::vector<std::pair<std::size_t, Tickets>>
            tickets;  // of the messages that have any, by their number
        MessageQueue messages;
        while (Ref object = Ref::steal(PyIter_Next(iterator.get()))) {
            Tickets own;
            Message message = encode_for(self, channel, object.get(), by_value, own);
            if (!own.empty()) tickets.emplace_back(messages.size(), std::move(own));
            messages.push(std::move(message));
        }
        if (PyErr_Occurred()) return nullptr;
        const std::size_t all = messages.size();
        const Status status = send_messages(state_of(self).interpreter, channel, messages, patience);
        if (status != Status::ok) {
            if (status != Status::interrupted) raise_status(state_of(self), status, channel, Side::send);
            tell_sent(all - messages.size());
        }
        for (auto& [number, own] : tickets) {
            if (number < all - messages.size()) own.sent();
        }
        if (status != Status::ok) return nullptr;
        Py_RETURN_NONE;
    });
}

// ---- receiving

// What is not the default.
[[gnu::noinline]] RecvOptions checked_options(const Channel& channel, bool copy, bool as_view) {
    if (codec_of(channel) != Codec::array) {
        PyErr_SetString(PyExc_TypeError, "copy= and as_view= are for an ArrayChannel only");
        throw PythonError();
    }
    if (copy && as_view) {
        PyErr_SetString(PyExc_ValueError, "copy=True and as_view=True exclude each other");
        throw PythonError();
    }
    return {copy, as_view};
}

RecvOptions parse_options(const Channel& channel, bool copy, bool as_view) {
    return copy || as_view ? checked_options(channel, copy, as_view) : RecvOptions();
}

[[gnu::hot]] PyObject* end_recv(PyObject* self, PyObject* const* values, Py_ssize_t given,
                                PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const Arguments<3> arguments("recv", {"timeout", "copy", "as_view"}, 1, 0, values, given, keywords);
        const RecvOptions options = parse_options(channel, arguments.truth(1), arguments.truth(2));
        Message message;
        raise_unless_ok(
            self, recv_message(state_of(self).interpreter, channel, message, parse_patience(arguments[0])),
            Side::recv);
        return deliver(state_of(self), channel, std::move(message), options).release();
    });
}

PyObject* end_recv_nowait(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const Arguments<3> arguments("recv_nowait", {"default", "copy", "as_view"}, 1, 0, values, given,
                                     keywords);
        const RecvOptions options = parse_options(channel, arguments.truth(1), arguments.truth(2));
        Message message;
        const Status status = channel.try_recv(state_of(self).interpreter, message);
        if (status == Status::empty) return Py_NewRef(arguments[0] ? arguments[0] : Py_None);
        raise_unless_ok(self, status, Side::recv);
        return deliver(state_of(self), channel, std::move(message), options).release();
    });
}

std::size_t parse_limit(PyObject* limit) {
    if (PyBool_Check(limit) || !PyIndex_Check(limit)) {
        PyErr_Format(PyExc_TypeError, "limit must be an int, not %.100s", Py_TYPE(limit)->tp_name);
        throw PythonError();
    }
    const Py_ssize_t size = PyNumber_AsSsize_t(limit, nullptr);  // a huge one means all
    if (size == -1 && PyErr_Occurred()) throw PythonError();
    if (size < 1) {
        PyErr_Format(PyExc_ValueError, "limit must be 1 or more, not %R", limit);
        throw PythonError();
    }
    return static_cast<std::size_t>(size);
}

PyObject* end_recv_many(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const Arguments<4> arguments("recv_many", {"limit", "timeout", "copy", "as_view"}, 2, 1, values,
                                     given, keywords);
        const RecvOptions options = parse_options(channel, arguments.truth(2), arguments.truth(3));
        const std::size_t limit = parse_limit(arguments[0]);
        std::vector<Message> messages;
        const Patience patience = parse_patience(arguments[1]);
        raise_unless_ok(self, recv_messages(state_of(self).interpreter, channel, limit, messages, patience),
                        Side::recv);
        return deliver_all(state_of(self), channel, std::move(messages), options).release();
    });
}

// ---- in an event loop

// The coroutine functions are Python's (memchannel/_async.py): only they can await.
Ref coroutine_function(PyObject* self, const char* function) {
    PyObject* const module = module_once(state_of(self).async_module, "memchannel._async");
    Ref found = module ? attribute(module, function) : Ref();
    if (!found) throw PythonError();
    return found;
}

PyObject* coroutine(PyObject* self, const char* function, PyObject* first, PyObject* second) {
    if (!check_process(channel_of(self))) throw PythonError();
    return PyObject_CallFunctionObjArgs(coroutine_function(self, function).get(), self, first, second,
                                        nullptr);
}

PyObject* end_recv_async(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&] {
        const Arguments<2> arguments("recv_async", {"copy", "as_view"}, 0, 0, values, given, keywords);
        const RecvOptions options = parse_options(channel_of(self), arguments.truth(0), arguments.truth(1));
        if (options.copy || options.as_view) {
            return coroutine(self, "recv_async_as", options.copy ? Py_True : Py_False,
                             options.as_view ? Py_True : Py_False);
        }
        // Kept: a look-up would be a tenth of the receive of a queued message.
        PyObject*& function = state_of(self).recv_coroutine;
        if (!function) function = coroutine_function(self, "recv_async").release();
        if (!check_process(channel_of(self))) throw PythonError();
        return PyObject_CallOneArg(function, self);
    });
}

PyObject* end_send_async(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&] {
        const Arguments<2> arguments("send_async", {"obj", "by_value"}, 1, 1, values, given, keywords);
        return coroutine(self, "send_async", arguments[0], arguments.truth(1) ? Py_True : Py_False);
    });
}

// ---- both sides

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

PyObject* end_enter(PyObject* self, PyObject*) { return Py_NewRef(self); }

PyObject* end_exit(PyObject* self, PyObject*) {
    Ref closed = Ref::steal(end_close(self, nullptr));
    if (!closed) return nullptr;
    Py_RETURN_NONE;
}

PyObject* end_poison(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const Arguments<1> arguments("poison", {"exc"}, 1, 0, values, given, keywords);
        PyObject* const exc = arguments[0] ? arguments[0] : Py_None;
        if (exc != Py_None && !PyExceptionInstance_Check(exc)) {
            PyErr_Format(PyExc_TypeError, "poison() takes an exception or None, not %R", exc);
            return nullptr;
        }
        Ref packed = Ref::steal(
            PyObject_CallFunction(attribute(state_of(self).errors, "pack_exception").get(), "O", exc));
        char* data;
        Py_ssize_t size;
        if (!packed || PyBytes_AsStringAndSize(packed.get(), &data, &size) < 0) return nullptr;
        const auto* const bytes = reinterpret_cast<const std::byte*>(data);
        channel.poison({bytes, bytes + size});
        Py_RETURN_NONE;
    });
}

PyObject* end_broadcast(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        Handle<Channel> subscription;
        const Status status = channel.subscribe(current_interpreter(), subscription);
        if (status == Status::misused) {
            PyErr_Format(
                PyExc_ValueError,
                channel.traits().capacity == 0
                    ? "channel %llu is a rendezvous channel, which has one receiver for each message; "
                      "broadcast on one with maxsize=1"
                    : "channel %llu has messages or plain receivers already; broadcast on a new one",
                static_cast<unsigned long long>(channel.id()));
            return nullptr;
        }
        raise_unless_ok(self, status, Side::recv);
        return make_end(state_of(self), std::move(subscription), Side::recv).release();
    });
}

Ref id_list(const std::vector<OwnerId>& ids) {
    Ref list = Ref::steal(PyList_New(0));
    for (const OwnerId id : ids) {
        Ref number = list ? Ref::steal(PyLong_FromLongLong(id)) : Ref();
        if (!number || PyList_Append(list.get(), number.get()) < 0) throw PythonError();
    }
    if (!list) throw PythonError();
    return list;
}

Ref backlog_dict(const ChannelStatistics& now) {
    if (!now.broadcast || now.subscribers.empty()) return Ref::steal(PyDict_New());
    Ref dict = Ref::steal(PyDict_New());
    for (const auto& [id, count] : now.subscribers) {
        Ref key = dict ? Ref::steal(PyLong_FromUnsignedLongLong(id)) : Ref();
        Ref value = key ? Ref::steal(PyLong_FromSize_t(count)) : Ref();
        if (!value || PyDict_SetItem(dict.get(), key.get(), value.get()) < 0) throw PythonError();
    }
    return dict;
}

PyObject* end_statistics(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        const ChannelStatistics now = channel.statistics();
        Ref receivers = id_list(now.receivers);
        Ref senders = id_list(now.senders);
        Ref subscribers = backlog_dict(now);
        Ref module = Ref::steal(PyImport_ImportModule("memchannel.statistics"));
        if (!module || !subscribers) return nullptr;
        Ref capacity = channel.traits().capacity == unlimited
                           ? Ref::borrow(Py_None)
                           : Ref::steal(PyLong_FromSize_t(channel.traits().capacity));
        if (!capacity) return nullptr;
        const auto number = [](std::size_t count) { return static_cast<Py_ssize_t>(count); };
        return PyObject_CallFunction(
            attribute(module.get(), "ChannelStatistics").get(), "nnnnOKKOOnnONNNN", number(now.queued),
            number(now.waiting_receivers), number(now.looking_receivers), number(now.waiting_senders),
            capacity.get(), static_cast<unsigned long long>(now.sent),
            static_cast<unsigned long long>(now.received), receivers.get(), senders.get(),
            number(now.receivers_on_the_way), number(now.senders_on_the_way), subscribers.get(),
            PyBool_FromLong(now.broadcast), PyBool_FromLong(now.recv_over), PyBool_FromLong(now.send_over),
            PyBool_FromLong(now.poisoned));
    });
}

PyObject* end_reduce(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        Ref module = Ref::steal(PyImport_ImportModule("memchannel._core"));
        Ref opener = module ? attribute(module.get(), "_open_end") : Ref();
        if (!opener) return nullptr;
        return Py_BuildValue("O(KiKi)", opener.get(), static_cast<unsigned long long>(channel.id()),
                             static_cast<int>(end_fields(self).side),
                             static_cast<unsigned long long>(registry().process_token),
                             static_cast<int>(channel.traits().codec));
    });
}

// ---- attributes

bool closed_here(PyObject* self, const Channel& channel) {
    for (const Side side : {Side::recv, Side::send}) {
        if (covers(self, side) && !channel.closed_by(side, current_interpreter())) return false;
    }
    return true;
}

PyObject* end_closed(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr, [&] { return PyBool_FromLong(closed_here(self, usable(self))); });
}

// Whether the end still works, in words; "open" if it does.
const char* state_in_words(PyObject* self, const Channel& channel) {
    const ChannelStatistics now = channel.statistics();
    if (now.poisoned) return "poisoned";
    if (closed_here(self, channel)) return "closed here";
    if (now.recv_over) return now.send_over ? "both sides over" : "receiving side over";
    return now.send_over ? "sending side over" : "open";
}

PyObject* end_state(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr,
                              [&] { return PyUnicode_FromString(state_in_words(self, usable(self))); });
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
        Ref recv = make_end(state_of(self), Handle<Channel>::share(&channel), Side::recv);
        Ref send = make_end(state_of(self), Handle<Channel>::share(&channel), Side::send);
        return PyTuple_Pack(2, recv.get(), send.get());
    });
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

}  // namespace

// ---- slots

PyObject* end_next(PyObject* self) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        Channel& channel = usable(self);
        Message message;
        const Status status = recv_message(state_of(self).interpreter, channel, message, Patience{});
        if (status == Status::ended) return nullptr;  // the end of the iteration
        raise_unless_ok(self, status, Side::recv);
        return deliver(state_of(self), channel, std::move(message), {}).release();
    });
}

PyObject* end_async_next(PyObject* self) {
    return guarded<PyObject*>(nullptr, [&] { return coroutine(self, "next_async", nullptr, nullptr); });
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
    const char* const side = end_fields(self).side == Side::recv   ? "RecvChannel of "
                             : end_fields(self).side == Side::send ? "SendChannel of "
                                                                   : "";
    if (!channel.of_this_process()) {
        return PyUnicode_FromFormat("<%s%s %llu%U of the parent process>", side,
                                    channel_class(codec_of(channel)),
                                    static_cast<unsigned long long>(channel.id()), name.get());
    }
    return guarded<PyObject*>(nullptr, [&] {
        const char* const state = state_in_words(self, channel);
        const bool open = std::string_view(state) == "open";
        return PyUnicode_FromFormat("<%s%s %llu%U, %zu queued%s%s>", side, channel_class(codec_of(channel)),
                                    static_cast<unsigned long long>(channel.id()), name.get(), channel.size(),
                                    open ? "" : ", ", open ? "" : state);
    });
}

Py_hash_t end_hash(PyObject* self) {
    const auto hash =
        static_cast<Py_hash_t>(channel_of(self).id() * 4 + static_cast<unsigned>(end_fields(self).side));
    return hash == -1 ? -2 : hash;
}

// ---- tables

namespace {

constexpr int fast = METH_FASTCALL | METH_KEYWORDS;

}  // namespace

PyMethodDef end_methods[] = {
    {"close", end_close, METH_NOARGS, docs::close},
    {"poison", as_function(end_poison), fast, docs::poison},
    {"broadcast", end_broadcast, METH_NOARGS, docs::broadcast},
    {"statistics", end_statistics, METH_NOARGS, docs::statistics},
    {"__enter__", end_enter, METH_NOARGS, nullptr},
    {"__exit__", end_exit, METH_VARARGS, nullptr},
    {"__reduce__", end_reduce, METH_NOARGS, nullptr},
    rich_method,
    html_method,
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyMethodDef recv_methods[] = {
    {"recv", as_function(end_recv), fast, docs::recv},
    {"recv_nowait", as_function(end_recv_nowait), fast, docs::recv_nowait},
    {"recv_many", as_function(end_recv_many), fast, docs::recv_many},
    {"recv_async", as_function(end_recv_async), fast, docs::recv_async},
    {nullptr, nullptr, 0, nullptr},
};

PyMethodDef send_methods[] = {
    {"send", as_function(end_send), fast, docs::send},
    {"send_nowait", as_function(end_send_nowait), fast, docs::send_nowait},
    {"send_many", as_function(end_send_many), fast, docs::send_many},
    {"send_async", as_function(end_send_async), fast, docs::send_async},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef end_getset[] = {
    {"id", end_id, nullptr, docs::id, nullptr},
    {"name", end_name, nullptr, docs::name, nullptr},
    {"closed", end_closed, nullptr, docs::closed, nullptr},
    {"_state", end_state, nullptr, nullptr, nullptr},
    {"interpreters", end_interpreters, nullptr, docs::interpreters, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyGetSetDef channel_getset[] = {
    {"ends", end_ends, nullptr, docs::ends, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

}  // namespace memchannel
