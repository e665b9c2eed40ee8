#include "channel_types.hpp"

#include <cstddef>
#include <string>
#include <string_view>

#include "arguments.hpp"
#include "core/registry.hpp"
#include "end.hpp"
#include "end_docs.hpp"
#include "module.hpp"

namespace memchannel {

namespace {

Ref end_object(PyTypeObject* type, ModuleState& state, Handle<Channel> channel, Side side) {
    Ref object = Ref::steal(type->tp_alloc(type, 0));
    if (!object) throw PythonError();
    End& fields = end_fields(object.get());
    fields.channel = channel.release();
    fields.side = side;
    fields.state = &state;
    return object;
}

PyObject* end_richcompare(PyObject* self, PyObject* other, int operation) {
    const EndRef right = end_of(other);
    if ((operation != Py_EQ && operation != Py_NE) || !right) Py_RETURN_NOTIMPLEMENTED;
    const bool same = right.channel == end_fields(self).channel && right.side == end_fields(self).side;
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
        if (size == -1 && PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
                PyErr_Format(PyExc_OverflowError,
                             "maxsize must be an int of at most %zd, not %R; 0 is unbounded", PY_SSIZE_T_MAX,
                             maxsize);
            }
            throw PythonError();
        }
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

// A str without null characters, which names and settings are; empty if it was not given.
std::string parse_text(const char* argument, PyObject* value) {
    if (!value) return {};
    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, not %.100s", argument, Py_TYPE(value)->tp_name);
        throw PythonError();
    }
    Py_ssize_t size;
    const char* const text = PyUnicode_AsUTF8AndSize(value, &size);
    if (!text) throw PythonError();
    if (std::string_view(text, static_cast<std::size_t>(size)).find('\0') != std::string_view::npos) {
        PyErr_Format(PyExc_ValueError, "%s must have no null characters, unlike %R", argument, value);
        throw PythonError();
    }
    return {text, static_cast<std::size_t>(size)};
}

PyObject* new_channel(PyTypeObject* type, Codec codec, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"maxsize", "rendezvous", "release", "name", nullptr};
    PyObject* maxsize = nullptr;
    int rendezvous = 0;
    PyObject* release = nullptr;
    PyObject* name = nullptr;
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const std::string format = std::string("|O$pOO:") + channel_class(codec);
        if (!PyArg_ParseTupleAndKeywords(arguments, keywords, format.c_str(), const_cast<char**>(names),
                                         &maxsize, &rendezvous, &release, &name)) {
            return nullptr;
        }
        const std::string when = parse_text("release", release);
        if (release && when != "eager" && when != "deferred") {
            PyErr_Format(PyExc_ValueError, "release must be 'eager' or 'deferred', not %R", release);
            return nullptr;
        }
        ChannelTraits traits{static_cast<std::uint8_t>(codec), parse_maxsize(maxsize, rendezvous),
                             when == "deferred", false, name == Py_None ? "" : parse_text("name", name)};
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
    const bool possible = number != static_cast<unsigned long long>(-1) || !PyErr_Occurred();
    if (!possible && !PyErr_ExceptionMatches(PyExc_OverflowError)) throw PythonError();
    PyErr_Clear();  // negative or too large: such a channel does not exist either
    Handle<Channel> channel = possible ? registry().channels.find(number) : Handle<Channel>();
    if (!channel) {
        PyErr_Format(PyExc_ValueError,
                     "there is no channel %S: it was never made, or nobody holds an end of it", id);
        throw PythonError();
    }
    return channel;
}

template <Side side>
PyObject* open_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {"id", nullptr};
    PyObject* id;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords,
                                     side == Side::recv ? "O:RecvChannel" : "O:SendChannel",
                                     const_cast<char**>(names), &id))
        return nullptr;
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        if (!PyLong_Check(id) || PyBool_Check(id)) {
            PyErr_Format(PyExc_TypeError, "the id of a channel must be int, not %.100s",
                         Py_TYPE(id)->tp_name);
            return nullptr;
        }
        PyObject* const module = PyType_GetModuleByDef(type, &core_module);
        if (!module) return nullptr;
        Handle<Channel> channel = find_channel(id);
        if (side == Side::send && channel->is_subscription()) {
            PyErr_Format(PyExc_ValueError,
                         "%S is an end made by broadcast(), which only receives; send to channel %llu", id,
                         static_cast<unsigned long long>(channel->source().id()));
            return nullptr;
        }
        return end_object(type, state_of_module(module), std::move(channel), side).release();
    });
}

// ---- type tables

PyMemberDef end_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(End, weak_references), Py_READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot end_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(end_dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(end_repr)},
    {Py_tp_hash, reinterpret_cast<void*>(end_hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(end_richcompare)},
    {Py_sq_length, reinterpret_cast<void*>(end_length)},
    {Py_nb_bool, reinterpret_cast<void*>(end_truth)},
    {Py_tp_members, end_members},
    {Py_tp_methods, end_methods},
    {Py_tp_getset, end_getset},
    {Py_tp_doc, const_cast<char*>("What both ends of a channel have in common.")},
    {0, nullptr},
};

PyType_Slot recv_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(end_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(open_new<Side::recv>)},
    {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_tp_iternext, reinterpret_cast<void*>(end_next)},
    {Py_am_aiter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_am_anext, reinterpret_cast<void*>(end_async_next)},
    {Py_tp_methods, recv_methods},
    {Py_tp_doc, const_cast<char*>(docs::recv_channel)},
    {0, nullptr},
};

PyType_Slot send_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(end_dealloc)},
    {Py_tp_new, reinterpret_cast<void*>(open_new<Side::send>)},
    {Py_tp_methods, send_methods},
    {Py_tp_doc, const_cast<char*>(docs::send_channel)},
    {0, nullptr},
};

#define MEMCHANNEL_CHANNEL_SLOTS(codec, doc)                                                          \
    {                                                                                                 \
        {Py_tp_dealloc, reinterpret_cast<void*>(end_dealloc)},                                        \
            {Py_tp_new, reinterpret_cast<void*>(channel_new<codec>)}, {Py_tp_getset, channel_getset}, \
            {Py_tp_doc, const_cast<char*>(doc)}, {                                                    \
            0, nullptr                                                                                \
        }                                                                                             \
    }

PyType_Slot mem_slots[] = MEMCHANNEL_CHANNEL_SLOTS(Codec::buffer, docs::mem_channel);
PyType_Slot array_slots[] = MEMCHANNEL_CHANNEL_SLOTS(Codec::array, docs::array_channel);
PyType_Slot object_slots[] = MEMCHANNEL_CHANNEL_SLOTS(Codec::object, docs::object_channel);

// Only these files derive from a type that has the flag: see add_channel_types().
constexpr unsigned int end_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE;
constexpr unsigned int base_flags = end_flags | Py_TPFLAGS_BASETYPE;

PyType_Spec end_spec = {"memchannel._core._End", sizeof(End), 0,
                        base_flags | Py_TPFLAGS_DISALLOW_INSTANTIATION, end_slots};
PyType_Spec recv_spec = {"memchannel.RecvChannel", sizeof(End), 0, base_flags, recv_slots};
PyType_Spec send_spec = {"memchannel.SendChannel", sizeof(End), 0, base_flags, send_slots};
PyType_Spec mem_spec = {"memchannel.MemChannel", sizeof(End), 0, end_flags, mem_slots};
PyType_Spec array_spec = {"memchannel.ArrayChannel", sizeof(End), 0, end_flags, array_slots};
PyType_Spec object_spec = {"memchannel.Channel", sizeof(End), 0, end_flags, object_slots};

bool add_type(PyObject* module, PyTypeObject*& slot, PyType_Spec& spec, PyObject* bases) noexcept {
    slot = reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, bases));
    return slot && PyModule_AddType(module, slot) == 0;
}

}  // namespace

void end_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    if (end_fields(self).weak_references) PyObject_ClearWeakRefs(self);
    Channel* const channel = end_fields(self).channel;
    type->tp_free(self);
    Py_DECREF(type);
    if (channel) channel->drop();  // last: its queued leases may switch interpreters
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

bool add_channel_types(PyObject* module, ModuleState& state) noexcept {
    if (!add_type(module, state.end_type, end_spec, nullptr)) return false;
    auto* const end_type = reinterpret_cast<PyObject*>(state.end_type);
    if (!add_type(module, state.recv_type, recv_spec, end_type)) return false;
    if (!add_type(module, state.send_type, send_spec, end_type)) return false;
    // A channel is both ends: what takes an end takes a channel.
    Ref both = Ref::steal(PyTuple_Pack(2, state.recv_type, state.send_type));
    if (!both || !add_type(module, state.mem_channel_type, mem_spec, both.get())) return false;
    if (!add_type(module, state.array_channel_type, array_spec, both.get())) return false;
    if (!add_type(module, state.object_channel_type, object_spec, both.get())) return false;
    // Nobody else derives from them: an instance of another class would not travel as what it is.
    for (PyTypeObject* const base : {state.end_type, state.recv_type, state.send_type})
        base->tp_flags &= ~Py_TPFLAGS_BASETYPE;
    return true;
}

}  // namespace memchannel
