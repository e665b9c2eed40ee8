#include "codecs.hpp"

#include "numpy_abi.hpp"
#include "parts.hpp"
#include "string_view.hpp"
#include "view.hpp"

namespace memchannel {

namespace {

template <class Encoder>
Message one_part(MessageKind kind, const Encoder& encode_part) {
    Message message;
    const auto make = [&](std::size_t size) {
        message = Message::make(static_cast<std::uint8_t>(kind), size, 1);
        return message.header().data();
    };
    LeaseRef lease = encode_part(HeaderSink(make));
    message.leases()[0] = lease.release();
    return message;
}

// (payload: bytes, items: list) as the codecs' dumps() return it.
Message composite(ModuleState& state, Loader loader, PyObject* dumped, const LendTerms& terms) {
    if (!PyTuple_Check(dumped) || PyTuple_GET_SIZE(dumped) != 2 ||
        !PyBytes_Check(PyTuple_GET_ITEM(dumped, 0)) || !PyList_Check(PyTuple_GET_ITEM(dumped, 1))) {
        PyErr_SetString(PyExc_TypeError, "a codec must return (bytes, list)");
        throw PythonError();
    }
    return encode_composite(state, loader, PyTuple_GET_ITEM(dumped, 0), PyTuple_GET_ITEM(dumped, 1), terms);
}

Message encode_for_array_channel(ModuleState& state, PyObject* object, const LendTerms& terms) {
    const NumpyTable* numpy = loaded_numpy(state);
    Ref sent = Ref::borrow(object);
    if (!numpy || !Py_IS_TYPE(object, numpy->array_type) || keeps_text_elsewhere(object)) {
        PyObject* const codec = module_once(state.array_codec, "memchannel.codecs.array");
        sent = codec ? Ref::steal(PyObject_CallFunction(attribute(codec, "prepare").get(), "(O)", object))
                     : Ref();
        if (!sent) throw PythonError();
        numpy = loaded_numpy(state);
    }
    if (numpy && numpy->is_array(sent.get())) {
        return one_part(MessageKind::array,
                        [&](const HeaderSink& sink) { return encode_array(state, sent.get(), terms, sink); });
    }
    if (is_description(sent.get())) {
        return one_part(MessageKind::array, [&](const HeaderSink& sink) {
            return encode_elements(state, sent.get(), terms, sink);
        });
    }
    return composite(state, Loader::array, sent.get(), terms);
}

// Objects that need pickle, through the dumps() of one of the codec modules.
Message pickled(ModuleState& state, PyObject* codec, const char* dumps, PyObject* object,
                const LendTerms& terms, Py_ssize_t lend_from) {
    Ref dumped =
        codec ? Ref::steal(PyObject_CallFunction(attribute(codec, dumps).get(), "On", object, lend_from))
              : Ref();
    if (!dumped) throw PythonError();
    return composite(state, Loader::object, dumped.get(), terms);
}

Message encode_object(ModuleState& state, PyObject* object, const LendTerms& terms) {
    if (Message message = encode_simple(state, object, Instances::plain)) return message;
    return pickled(state, module_once(state.object_codec, "memchannel.codecs.object"), "dumps", object, terms,
                   0);
}

Message encode_by_value(ModuleState& state, PyObject* object, const LendTerms& terms, Py_ssize_t lend_from,
                        const char* dumps) {
    // No instances: their class may have to go by value.
    if (Message message = encode_simple(state, object, Instances::none)) return message;
    PyObject* const codec = module_once(state.function_codec, "memchannel.codecs.functions");
    return pickled(state, codec, dumps, object, terms, lend_from);
}

}  // namespace

// Who hands the task over says which part of it cannot be pickled.
Message encode_task(ModuleState& state, PyObject* object, const LendTerms& terms, Py_ssize_t lend_from) {
    return encode_by_value(state, object, terms, lend_from, "dumps_by_value");
}

[[gnu::hot]] Message encode(ModuleState& state, Codec codec, PyObject* object, const LendTerms& terms,
                            bool by_value) {
    if (by_value) {
        if (codec == Codec::object) return encode_by_value(state, object, terms, 0, "dumps_sent_by_value");
        PyErr_SetString(PyExc_TypeError, "by_value=True is for a Channel: other channels carry no functions");
        throw PythonError();
    }
    switch (codec) {
        case Codec::buffer:
            if (is_text(object)) {
                return one_part(MessageKind::text, [&](const HeaderSink& sink) {
                    return encode_text(state, object, terms, sink);
                });
            }
            return one_part(MessageKind::buffer, [&](const HeaderSink& sink) {
                return encode_buffer(state, object, terms, sink);
            });
        case Codec::array:
            return encode_for_array_channel(state, object, terms);
        case Codec::object:
            return encode_object(state, object, terms);
    }
    PyErr_SetString(PyExc_SystemError, "memchannel: unknown codec");
    throw PythonError();
}

bool is_left_whole(const Message& message) noexcept {
    switch (static_cast<MessageKind>(message.kind())) {
        case MessageKind::buffer:
        case MessageKind::array:
        case MessageKind::simple:
            return true;
        default:
            return false;
    }
}

[[gnu::hot]] Ref decode(ModuleState& state, const Message& message, const RecvOptions& options) {
    switch (static_cast<MessageKind>(message.kind())) {
        case MessageKind::buffer: {
            Ref memory = decode_buffer(state, message.header().data());
            Ref view = make_view(state, memory);
            give_lease(memory.get(), message.take_lease(0));
            return view;
        }
        case MessageKind::array:
            return decode_array(state, message.header().data(), message, 0, options);
        case MessageKind::composite:
            return decode_composite(state, message, options);
        case MessageKind::simple:
            return decode_simple(state, message);
        case MessageKind::text:
            return decode_text(state, message.header().data(), message.take_lease(0));
    }
    PyErr_SetString(PyExc_SystemError, "memchannel: corrupt message");
    throw PythonError();
}

}  // namespace memchannel
