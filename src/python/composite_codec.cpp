// Pickled bytes with lent parts beside them: objects with arrays inside, arrays that are more than one array.
#include <cstring>
#include <vector>

#include "channel_types.hpp"
#include "descriptor_type.hpp"
#include "end.hpp"
#include "numpy_abi.hpp"
#include "parts.hpp"
#include "primitive_types.hpp"
#include "share.hpp"
#include "string_view.hpp"
#include "view.hpp"

namespace memchannel {

namespace {

struct CompositeHeader {
    Loader loader;
    std::uint32_t parts;
    std::uint64_t payload_size;
    // PartHeader[parts], payload, the parts' headers (each aligned)
};

struct PartHeader {
    PartKind kind = PartKind::array;
    std::uint8_t side;      // ends
    std::uint8_t as_class;  // ends: the codec of the class it was sent as, or 0
    std::uint32_t index;    // of the lease, or of the rider
    std::uint64_t offset;   // of the part's own header
};

constexpr std::size_t aligned(std::size_t size) noexcept { return (size + 7) / 8 * 8; }

struct Part {
    PartHeader header{};
    std::vector<std::byte> bytes;
    LeaseRef lease;
    Handle<Transferable> rider;
};

Part make_part(ModuleState& state, PyObject* item, const LendTerms& terms, Tickets& tickets) {
    Part part;
    const auto make = [&part](std::size_t size) {
        part.bytes.resize(size);
        return part.bytes.data();
    };
    const HeaderSink sink(make);
    const NumpyTable* const numpy = loaded_numpy(state);
    if (const EndRef end = end_of(item)) {
        part.header.kind = PartKind::end;
        part.header.side = static_cast<std::uint8_t>(end.side);
        part.rider = Handle<Transferable>(Handle<Channel>::share(end.channel));
    } else if (Primitive* const primitive = primitive_of(item)) {
        prepare_to_travel(state, item);
        part.header.kind = PartKind::primitive;
        part.rider = Handle<Transferable>(Handle<Primitive>::share(primitive));
    } else if (Descriptor* const descriptor = descriptor_of(state, item)) {
        part.header.kind = PartKind::descriptor;
        part.rider = Handle<Transferable>(Handle<Descriptor>::share(descriptor));
        if (terms.moved) terms.moved->push_back(Ref::borrow(file_of(item)));
    } else if (is_string_view(item)) {
        part.header.kind = PartKind::text;
        part.lease = encode_text(state, item, terms, sink);
    } else if (const Share share = share_of(item)) {
        part.header.kind = PartKind::share;
        if (share.ticket) tickets.add(share.ticket);
        LendTerms own = terms;
        own.ticket = share.ticket;
        part.lease = encode_buffer(state, share.buffer, own, sink);
    } else if (is_description(item)) {
        part.header.kind = PartKind::array;
        part.lease = encode_elements(state, item, terms, sink);
    } else if (numpy && PyTuple_CheckExact(item)) {
        // (array, True): an exclusive writable block, see memchannel.memory
        part.header.kind = PartKind::array;
        part.lease = encode_array(state, PyTuple_GET_ITEM(item, 0), terms, sink, Access::write);
    } else if (numpy && numpy->is_array(item)) {
        part.header.kind = PartKind::array;
        part.lease = encode_array(state, item, terms, sink);
    } else {
        // A view arrives as one; a pickle's own buffer as the plain memoryview that unpickling takes.
        part.header.kind = Py_IS_TYPE(item, state.view_type) ? PartKind::view : PartKind::buffer;
        part.lease = encode_buffer(state, item, terms, sink);
    }
    return part;
}

Ref decode_part(ModuleState& state, const Message& message, const PartHeader& part,
                const RecvOptions& options) {
    const std::byte* const at = message.header().data() + part.offset;
    const auto memory = [&] {
        Ref lent = decode_buffer(state, at);
        give_lease(lent.get(), message.take_lease(part.index));
        return lent;
    };
    switch (part.kind) {
        case PartKind::array:
            return decode_array(state, at, message, part.index, options);
        case PartKind::buffer: {
            Ref view = Ref::steal(PyMemoryView_FromObject(memory().get()));
            if (!view) throw PythonError();
            return view;
        }
        case PartKind::view:
            return make_view(state, memory());
        case PartKind::share:
            return make_view(state, memory(), Drop::quiet);
        case PartKind::text:
            return decode_text(state, at, message.take_lease(part.index));
        case PartKind::end: {
            const Rider& rider = message.riders()[part.index];
            auto& channel = static_cast<Channel&>(rider.object());
            return take_end(state, channel, rider.side());
        }
        case PartKind::primitive: {
            auto& primitive = static_cast<Primitive&>(message.riders()[part.index].object());
            return primitive_object(state, Handle<Primitive>::share(&primitive));
        }
        case PartKind::descriptor:
            return received_descriptor(state, message,
                                       static_cast<Descriptor&>(message.riders()[part.index].object()));
    }
    PyErr_SetString(PyExc_SystemError, "memchannel: corrupt message");
    throw PythonError();
}

Ref load_alone(ModuleState& state, const std::byte* payload, std::uint64_t size) {
    PyObject* const codec = module_once(state.object_codec, "memchannel.codecs.object");
    const Ref load = codec ? attribute(codec, "loads_alone") : Ref();
    const Ref bytes = load ? Ref::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(payload),
                                                                  static_cast<Py_ssize_t>(size)))
                           : Ref();
    Ref made = bytes ? Ref::steal(PyObject_CallOneArg(load.get(), bytes.get())) : Ref();
    if (!made) throw PythonError();
    return made;
}

}  // namespace

Message encode_composite(ModuleState& state, Loader loader, PyObject* payload, PyObject* items,
                         const LendTerms& terms) {
    Tickets own_tickets;
    Tickets& tickets = terms.tickets ? *terms.tickets : own_tickets;
    std::vector<Part> parts;
    const Py_ssize_t count = PyList_GET_SIZE(items);
    parts.reserve(static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count && i < PyList_GET_SIZE(items); ++i) {
        Ref item = Ref::borrow(PyList_GET_ITEM(items, i));
        parts.push_back(make_part(state, item.get(), terms, tickets));
    }
    const auto payload_size = static_cast<std::size_t>(PyBytes_GET_SIZE(payload));
    std::size_t size = sizeof(CompositeHeader) + parts.size() * sizeof(PartHeader);
    const std::size_t payload_at = size;
    size = aligned(size + payload_size);
    std::uint32_t leases = 0;
    std::uint32_t riders = 0;
    for (Part& part : parts) {
        part.header.offset = size;
        size += aligned(part.bytes.size());
        part.header.index = part.rider ? riders++ : leases++;
    }
    Message message = Message::make(static_cast<std::uint8_t>(MessageKind::composite), size, leases);
    std::byte* const base = message.header().data();
    new (base) CompositeHeader{loader, static_cast<std::uint32_t>(parts.size()), payload_size};
    std::memcpy(base + payload_at, PyBytes_AS_STRING(payload), payload_size);
    for (std::size_t i = 0; i < parts.size(); ++i) {
        Part& part = parts[i];
        std::memcpy(base + sizeof(CompositeHeader) + i * sizeof(PartHeader), &part.header,
                    sizeof(PartHeader));
        if (!part.bytes.empty()) std::memcpy(base + part.header.offset, part.bytes.data(), part.bytes.size());
        if (part.rider) {
            message.add_rider(std::move(part.rider), static_cast<Side>(part.header.side));
        } else {
            message.leases()[part.header.index] = part.lease.release();
        }
    }
    own_tickets.sent();
    return message;
}

Ref decode_composite(ModuleState& state, const Message& message, const RecvOptions& options) {
    // What is more than an ndarray is nothing that an ArrayView could be.
    const RecvOptions own{.copy = options.copy, .ndarray = true};
    CompositeHeader header;
    const std::byte* const base = message.header().data();
    std::memcpy(&header, base, sizeof header);
    const std::size_t payload_at = sizeof header + header.parts * sizeof(PartHeader);
    if (header.parts == 0 && header.loader == Loader::object) {
        return load_alone(state, base + payload_at, header.payload_size);
    }
    Ref items = Ref::steal(PyList_New(0));
    if (!items) throw PythonError();
    for (std::uint32_t i = 0; i < header.parts; ++i) {
        PartHeader part;
        std::memcpy(&part, base + sizeof header + i * sizeof part, sizeof part);
        Ref item = decode_part(state, message, part, own);
        if (PyList_Append(items.get(), item.get()) < 0) throw PythonError();
    }
    PyObject* const codec = header.loader == Loader::array
                                ? module_once(state.array_codec, "memchannel.codecs.array")
                                : module_once(state.object_codec, "memchannel.codecs.object");
    if (!codec) throw PythonError();
    Ref result = Ref::steal(PyObject_CallFunction(attribute(codec, "loads").get(), "y#O",
                                                  reinterpret_cast<const char*>(base + payload_at),
                                                  static_cast<Py_ssize_t>(header.payload_size), items.get()));
    if (result) return result;
    if (header.loader == Loader::array) throw Undeliverable();
    throw PythonError();
}

}  // namespace memchannel
