// Small plain objects without pickle: what most messages, tasks and results consist of.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

#include "parts.hpp"
#include "plain_types.hpp"

namespace memchannel {

namespace {

constexpr int deepest = 8;
constexpr Py_ssize_t longest = 1 << 16;  // larger ones gain nothing here
constexpr Py_ssize_t most_items = 256;   // of a list, dict or set
constexpr std::size_t most_mutable = 1024;
constexpr std::size_t few_mutable = 16;  // to be looked through one by one

// What is written, without an allocation for what most messages consist of.
class Bytes {
   public:
    void add(const void* data, std::size_t size) {
        if (more_.empty()) {
            if (size <= few_.size() - used_) {
                std::memcpy(few_.data() + used_, data, size);
                used_ += size;
                return;
            }
            more_.assign(few_.data(), few_.data() + used_);
        }
        const auto* const from = static_cast<const std::byte*>(data);
        more_.insert(more_.end(), from, from + size);
    }
    std::span<const std::byte> all() const noexcept {
        return more_.empty() ? std::span(few_).first(used_) : std::span(more_);
    }

   private:
    std::size_t used_ = 0;
    std::array<std::byte, 120> few_;  // written before it is read
    std::vector<std::byte> more_;     // all of them, once there are more
};

class Writer {
   public:
    Writer(const ModuleState& state, Instances instances) noexcept : state_(state), instances_(instances) {}
    void tag(char tag) { raw(&tag, 1); }
    void raw(const void* data, std::size_t size) { bytes_.add(data, size); }
    template <class Number>
    void number(Number value) {
        raw(&value, sizeof value);
    }
    void size(Py_ssize_t value) { number(static_cast<std::uint32_t>(value)); }
    std::span<const std::byte> bytes() const noexcept { return bytes_.all(); }
    // False: it was there before, so that it must arrive as one object, which is for pickle; or it is one of
    // too many.
    bool add_mutable(PyObject* object) {
        if (mutable_.size() < few_mutable) {
            if (std::find(mutable_.begin(), mutable_.end(), object) != mutable_.end()) return false;
            mutable_.push_back(object);
            return true;
        }
        if (!more_mutable_) more_mutable_.emplace(mutable_.begin(), mutable_.end());
        return more_mutable_->size() < most_mutable && more_mutable_->insert(object).second;
    }
    // What is known of the object's type, if it is plain; else nullptr, and the type is to be learnt first if
    // that can help.
    const SentType* plain_type(PyObject* object) {
        PyTypeObject* const type = Py_TYPE(object);
        // What object.__new__ and object.__getattribute__ do here they do wherever the class is the same.
        if (instances_ == Instances::none || Py_TYPE(type) != &PyType_Type ||
            !PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) || type->tp_new != PyBaseObject_Type.tp_new ||
            type->tp_getattro != PyObject_GenericGetAttr) {
            return nullptr;
        }
        const SentType* const known = known_type(state_, type);
        if (!known) unknown_ = Ref::borrow(reinterpret_cast<PyObject*>(type));
        return known && is_sent_plainly(state_, *known, type) ? known : nullptr;
    }
    Ref take_unknown() noexcept { return std::move(unknown_); }

   private:
    const ModuleState& state_;
    const Instances instances_;
    Bytes bytes_;
    std::vector<PyObject*> mutable_;
    std::optional<std::unordered_set<PyObject*>> more_mutable_;
    Ref unknown_;
};

bool write_text(Writer& out, PyObject* object) {
    const Py_ssize_t length = PyUnicode_GET_LENGTH(object);
    const int kind = static_cast<int>(PyUnicode_KIND(object));
    if (length * kind > longest) return false;
    out.tag('s');
    out.number(static_cast<std::uint8_t>(kind));
    out.size(length);
    out.raw(PyUnicode_DATA(object), static_cast<std::size_t>(length) * static_cast<std::size_t>(kind));
    return true;
}

bool write(Writer& out, PyObject* object, int depth);

bool write_list(Writer& out, PyObject* object, int depth) {
    if (PyList_GET_SIZE(object) > most_items || !out.add_mutable(object)) return false;
    out.tag('[');
    out.size(PyList_GET_SIZE(object));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(object); ++i) {
        if (!write(out, PyList_GET_ITEM(object, i), depth + 1)) return false;
    }
    return true;
}

bool write_dict(Writer& out, PyObject* object, int depth) {
    if (PyDict_GET_SIZE(object) > most_items || !out.add_mutable(object)) return false;
    out.tag('{');
    out.size(PyDict_GET_SIZE(object));
    PyObject* key;
    PyObject* value;
    for (Py_ssize_t at = 0; PyDict_Next(object, &at, &key, &value);) {
        if (!write(out, key, depth + 1) || !write(out, value, depth + 1)) return false;
    }
    return true;
}

bool write_set(Writer& out, PyObject* object, int depth) {
    const Py_ssize_t size = PySet_GET_SIZE(object);
    const bool frozen = PyFrozenSet_CheckExact(object);
    if (size > most_items || (!frozen && !out.add_mutable(object))) return false;
    out.tag(frozen ? '<' : '|');
    out.size(size);
    const Ref items = Ref::steal(PyObject_GetIter(object));
    if (!items) throw PythonError();
    while (const Ref item = Ref::steal(PyIter_Next(items.get()))) {
        if (!write(out, item.get(), depth + 1)) return false;
    }
    if (PyErr_Occurred()) throw PythonError();
    return true;
}

bool write_long(Writer& out, PyObject* object) {
    int overflow;
    const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (!overflow) {
        out.tag('i');
        out.number(value);
        return true;
    }
    const Py_ssize_t size = PyLong_AsNativeBytes(object, nullptr, 0, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
    if (size < 0) throw PythonError();
    if (size > longest) return false;
    std::vector<std::byte> digits(static_cast<std::size_t>(size));
    if (PyLong_AsNativeBytes(object, digits.data(), size, Py_ASNATIVEBYTES_LITTLE_ENDIAN) < 0) {
        throw PythonError();
    }
    out.tag('I');
    out.size(size);
    out.raw(digits.data(), digits.size());
    return true;
}

bool write_bytes(Writer& out, char tag, const char* data, Py_ssize_t size) {
    if (size > longest) return false;
    out.tag(tag);
    out.size(size);
    out.raw(data, static_cast<std::size_t>(size));
    return true;
}

// What the instance's dict holds may be what pickle asks of the object itself: its __reduce_ex__.
bool is_attribute(PyObject* key) noexcept {
    if (!PyUnicode_CheckExact(key)) return false;
    return PyUnicode_GET_LENGTH(key) < 2 || PyUnicode_READ_CHAR(key, 0) != '_' ||
           PyUnicode_READ_CHAR(key, 1) != '_';
}

bool write_attributes(Writer& out, PyObject* dict, int depth) {
    out.size(dict ? PyDict_GET_SIZE(dict) : 0);
    PyObject* key;
    PyObject* value;
    for (Py_ssize_t at = 0; dict && PyDict_Next(dict, &at, &key, &value);) {
        if (!is_attribute(key) || !write_text(out, key) || !write(out, value, depth + 1)) return false;
    }
    return true;
}

bool write_slots(Writer& out, const SentType& type, PyObject* object, int depth) {
    std::vector<Ref> values;
    std::uint32_t filled = 0;
    for (const Ref& slot : type.slots) {
        PyObject* value;
        if (PyObject_GetOptionalAttr(object, slot.get(), &value) < 0) throw PythonError();
        values.push_back(Ref::steal(value));
        if (value) ++filled;
    }
    out.number(filled);
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (!values[i]) continue;
        if (!write_text(out, type.slots[i].get()) || !write(out, values[i].get(), depth + 1)) return false;
    }
    return true;
}

// As object.__reduce_ex__ and the pickler take objects of a class that defines nothing for them: the name of
// the class, what is in __dict__, and the slots.
bool write_instance(Writer& out, PyObject* object, int depth) {
    const SentType* const type = out.plain_type(object);
    if (!type) return false;
    Ref dict = type->has_dict ? Ref::steal(PyObject_GenericGetDict(object, nullptr)) : Ref();
    if (type->has_dict && !dict) throw PythonError();
    if (dict && (!PyDict_CheckExact(dict.get()) || PyDict_GET_SIZE(dict.get()) > most_items)) return false;
    // Of the two it is the dict that others may have, too.
    if (!out.add_mutable(dict ? dict.get() : object)) return false;
    out.tag('o');
    out.size(static_cast<Py_ssize_t>(type->reference.size()));
    out.raw(type->reference.data(), type->reference.size());
    return write_attributes(out, dict.get(), depth) && write_slots(out, *type, object, depth);
}

// No Python code runs here, so that nothing changes meanwhile.
// Exact types only: a subclass must arrive as what it is. False: leave the whole object to pickle.
[[gnu::hot]] bool write(Writer& out, PyObject* object, int depth) {
    if (object == Py_None || object == Py_True || object == Py_False) {
        out.tag(object == Py_None ? 'N' : object == Py_True ? 'T' : 'F');
        return true;
    }
    PyTypeObject* const type = Py_TYPE(object);
    if (type == &PyLong_Type) {
        return write_long(out, object);
    } else if (type == &PyFloat_Type) {
        out.tag('d');
        out.number(PyFloat_AS_DOUBLE(object));
    } else if (type == &PyUnicode_Type) {
        return write_text(out, object);
    } else if (type == &PyBytes_Type) {
        return write_bytes(out, 'b', PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object));
    } else if (type == &PyTuple_Type && depth < deepest && PyTuple_GET_SIZE(object) <= longest) {
        out.tag('(');
        out.size(PyTuple_GET_SIZE(object));
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i) {
            if (!write(out, PyTuple_GET_ITEM(object, i), depth + 1)) return false;
        }
    } else if (type == &PyList_Type && depth < deepest) {
        return write_list(out, object, depth);
    } else if (type == &PyDict_Type && depth < deepest) {
        return write_dict(out, object, depth);
    } else if ((type == &PySet_Type || type == &PyFrozenSet_Type) && depth < deepest) {
        return write_set(out, object, depth);
    } else if (type == &PyComplex_Type) {
        const Py_complex value = PyComplex_AsCComplex(object);
        out.tag('c');
        out.number(value.real);
        out.number(value.imag);
    } else if (type == &PyByteArray_Type) {
        return out.add_mutable(object) &&
               write_bytes(out, 'B', PyByteArray_AS_STRING(object), PyByteArray_GET_SIZE(object));
    } else {
        return depth < deepest && write_instance(out, object, depth);
    }
    return true;
}

// What write() makes of an int, for one that is all there is: the least that can be sent. Empty: it is not.
Message encode_number(PyObject* object) {
    if (!PyLong_CheckExact(object)) return {};
    int overflow;
    const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow) return {};
    Message message = Message::make(static_cast<std::uint8_t>(MessageKind::simple), 1 + sizeof value, 0);
    std::byte* const at = message.header().data();
    *at = static_cast<std::byte>('i');
    std::memcpy(at + 1, &value, sizeof value);
    return message;
}

class Reader {
   public:
    Reader(ModuleState& state, const std::byte* at) noexcept : state_(state), at_(at) {}
    ModuleState& state() const noexcept { return state_; }
    template <class Number>
    Number number() noexcept {
        Number value;
        std::memcpy(&value, at_, sizeof value);
        at_ += sizeof value;
        return value;
    }
    std::uint32_t size() noexcept { return number<std::uint32_t>(); }
    const char* raw(std::size_t size) noexcept {
        const std::byte* const from = at_;
        at_ += size;
        return reinterpret_cast<const char*>(from);
    }
    const std::byte* at() const noexcept { return at_; }
    void go_on_at(const std::byte* at) noexcept { at_ = at; }
    // The items of a tuple or list that is being read: a hash or an import may run Python code meanwhile,
    // which must not find half of it.
    std::vector<Ref> items;

   private:
    ModuleState& state_;
    const std::byte* at_;
};

Ref read(Reader& in);

Ref read_long(const std::byte* at) {
    long long value;
    std::memcpy(&value, at, sizeof value);
    Ref object = Ref::steal(PyLong_FromLongLong(value));
    if (!object) throw PythonError();
    return object;
}

Ref read_text(Reader& in) {
    const auto kind = in.number<std::uint8_t>();
    const auto length = in.size();
    const char* const data = in.raw(static_cast<std::size_t>(length) * kind);
    // The characters may lie unaligned in the message.
    if (kind == 1) return Ref::steal(PyUnicode_FromKindAndData(kind, data, length));
    std::vector<std::uint32_t> aligned(static_cast<std::size_t>(length) * kind / 4 + 1);
    std::memcpy(aligned.data(), data, static_cast<std::size_t>(length) * kind);
    return Ref::steal(PyUnicode_FromKindAndData(kind, aligned.data(), length));
}

template <class Place>
Ref read_items(Reader& in, PyObject* (*make)(Py_ssize_t), Place place) {
    const auto size = in.size();
    const std::size_t first = in.items.size();
    for (std::uint32_t i = 0; i < size; ++i) in.items.push_back(read(in));
    Ref made = Ref::steal(make(size));
    if (!made) throw PythonError();
    for (std::uint32_t i = 0; i < size; ++i) place(made.get(), i, in.items[first + i].release());
    in.items.resize(first);
    return made;
}

Ref read_tuple(Reader& in) {
    return read_items(in, PyTuple_New,
                      [](PyObject* made, Py_ssize_t i, PyObject* item) { PyTuple_SET_ITEM(made, i, item); });
}

Ref read_list(Reader& in) {
    return read_items(in, PyList_New,
                      [](PyObject* made, Py_ssize_t i, PyObject* item) { PyList_SET_ITEM(made, i, item); });
}

Ref read_set(Reader& in) {
    Ref set = Ref::steal(PySet_New(nullptr));
    if (!set) throw PythonError();
    for (auto left = in.size(); left > 0; --left) {
        if (PySet_Add(set.get(), read(in).get()) < 0) throw PythonError();
    }
    return set;
}

Ref read_dict(Reader& in) {
    Ref dict = Ref::steal(PyDict_New());
    if (!dict) throw PythonError();
    for (auto left = in.size(); left > 0; --left) {
        const Ref key = read(in);
        const Ref value = read(in);
        if (PyDict_SetItem(dict.get(), key.get(), value.get()) < 0) throw PythonError();
    }
    return dict;
}

// A key like the one that the last object of the class had in this place is that one.
Ref read_key(Reader& in, ReceivedType* type, std::size_t index) {
    in.raw(1);  // the tag
    if (type && index < type->keys.size()) {
        PyObject* const last = type->keys[index].get();
        const std::byte* const from = in.at();
        const auto kind = in.number<std::uint8_t>();
        const auto length = in.size();
        const std::size_t size = static_cast<std::size_t>(length) * kind;
        if (PyUnicode_GET_LENGTH(last) == length && static_cast<int>(PyUnicode_KIND(last)) == kind &&
            std::memcmp(PyUnicode_DATA(last), in.raw(size), size) == 0) {
            return Ref::borrow(last);
        }
        in.go_on_at(from);
    }
    PyObject* key = read_text(in).release();
    if (!key) throw PythonError();
    PyUnicode_InternInPlace(&key);
    if (type && index <= type->keys.size() && index < static_cast<std::size_t>(most_items)) {
        type->keys.resize(std::max(type->keys.size(), index + 1));
        type->keys[index] = Ref::borrow(key);
    }
    return Ref::steal(key);
}

Ref read_instance(Reader& in) {
    const auto size = in.size();
    const FoundClass found = find_class(in.state(), {in.raw(size), size});
    const auto attributes = in.size();
    Ref object, dict, slots;
    const bool plain = found.known && (attributes == 0 || found.known->has_dict);
    if (plain) {
        auto* const type = reinterpret_cast<PyTypeObject*>(found.object.get());
        const Ref nothing = Ref::steal(PyTuple_New(0));
        object = nothing ? Ref::steal(type->tp_new(type, nothing.get(), nullptr)) : Ref();
        if (!object) throw PythonError();
    }
    if (attributes > 0 || !plain) {
        dict = Ref::steal(plain ? PyObject_GenericGetDict(object.get(), nullptr) : PyDict_New());
        if (!dict) throw PythonError();
    }
    for (std::uint32_t i = 0; i < attributes; ++i) {
        const Ref key = read_key(in, found.known.get(), i);
        if (PyDict_SetItem(dict.get(), key.get(), read(in).get()) < 0) throw PythonError();
    }
    const auto filled = in.size();
    if (filled > 0) slots = Ref::steal(PyDict_New());
    if (filled > 0 && !slots) throw PythonError();
    for (std::uint32_t i = 0; i < filled; ++i) {
        const Ref key = read_key(in, found.known.get(), attributes + i);
        if (PyDict_SetItem(slots.get(), key.get(), read(in).get()) < 0) throw PythonError();
    }
    if (!plain) return build(found.object.get(), dict.get(), slots ? slots.get() : Py_None);
    PyObject* key;
    PyObject* value;
    for (Py_ssize_t at = 0; slots && PyDict_Next(slots.get(), &at, &key, &value);) {
        if (PyObject_SetAttr(object.get(), key, value) < 0) throw PythonError();
    }
    return object;
}

[[gnu::hot]] Ref read(Reader& in) {
    Ref object;
    switch (in.number<char>()) {
        case 'N':
            return Ref::borrow(Py_None);
        case 'T':
            return Ref::borrow(Py_True);
        case 'F':
            return Ref::borrow(Py_False);
        case 'i':
            return read_long(reinterpret_cast<const std::byte*>(in.raw(sizeof(long long))));
        case 'd':
            object = Ref::steal(PyFloat_FromDouble(in.number<double>()));
            break;
        case 's':
            object = read_text(in);
            break;
        case 'b': {
            const auto size = in.size();
            object = Ref::steal(PyBytes_FromStringAndSize(in.raw(size), size));
            break;
        }
        case 'B': {
            const auto size = in.size();
            object = Ref::steal(PyByteArray_FromStringAndSize(in.raw(size), size));
            break;
        }
        case 'I': {
            const auto size = in.size();
            object = Ref::steal(PyLong_FromNativeBytes(in.raw(size), size, Py_ASNATIVEBYTES_LITTLE_ENDIAN));
            break;
        }
        case 'c': {
            const auto real = in.number<double>();
            object = Ref::steal(PyComplex_FromDoubles(real, in.number<double>()));
            break;
        }
        case '(':
            return read_tuple(in);
        case '[':
            return read_list(in);
        case '{':
            return read_dict(in);
        case '|':
            return read_set(in);
        case '<': {
            const Ref items = read_tuple(in);
            object = Ref::steal(PyFrozenSet_New(items.get()));
            break;
        }
        case 'o':
            return read_instance(in);
        default:
            PyErr_SetString(PyExc_SystemError, "memchannel: corrupt message");
    }
    if (!object) throw PythonError();
    return object;
}

}  // namespace

[[gnu::hot]] Message encode_simple(ModuleState& state, PyObject* object, Instances instances) {
    if (Message number = encode_number(object)) return number;
    for (;;) {
        Writer out(state, instances);
        if (write(out, object, 0)) {
            Message message =
                Message::make(static_cast<std::uint8_t>(MessageKind::simple), out.bytes().size(), 0);
            std::memcpy(message.header().data(), out.bytes().data(), out.bytes().size());
            return message;
        }
        // To learn of a type takes Python code, which may change what is being written: begin again.
        const Ref unknown = out.take_unknown();
        if (!unknown || !learn_type(state, reinterpret_cast<PyTypeObject*>(unknown.get()))) return {};
    }
}

[[gnu::hot]] Ref decode_simple(ModuleState& state, const Message& message) {
    if (static_cast<char>(message.header()[0]) == 'i') return read_long(message.header().data() + 1);
    Reader in(state, message.header().data());
    return read(in);
}

}  // namespace memchannel
