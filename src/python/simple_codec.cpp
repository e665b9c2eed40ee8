// Small plain objects without pickle: what most messages, tasks and results consist of.
#include <algorithm>
#include <cstring>
#include <vector>

#include "parts.hpp"

namespace memchannel {

namespace {

constexpr int deepest = 8;
constexpr Py_ssize_t longest = 1 << 16;  // larger ones gain nothing here
constexpr Py_ssize_t most_items = 256;   // of a list or dict
constexpr std::size_t most_mutable = 32;

class Writer {
   public:
    void tag(char tag) { bytes_.push_back(static_cast<std::byte>(tag)); }
    void raw(const void* data, std::size_t size) {
        const auto* from = static_cast<const std::byte*>(data);
        bytes_.insert(bytes_.end(), from, from + size);
    }
    template <class Number>
    void number(Number value) {
        raw(&value, sizeof value);
    }
    const std::vector<std::byte>& bytes() const noexcept { return bytes_; }
    // False: it was there before, so that it must arrive as one object, which is for pickle; or it is one of
    // too many to look for.
    bool add_mutable(PyObject* object) {
        if (mutable_.size() == most_mutable) return false;
        if (std::find(mutable_.begin(), mutable_.end(), object) != mutable_.end()) return false;
        mutable_.push_back(object);
        return true;
    }

   private:
    std::vector<std::byte> bytes_;
    std::vector<PyObject*> mutable_;
};

bool write_text(Writer& out, PyObject* object) {
    const Py_ssize_t length = PyUnicode_GET_LENGTH(object);
    const int kind = static_cast<int>(PyUnicode_KIND(object));
    if (length * kind > longest) return false;
    out.tag('s');
    out.number(static_cast<std::uint8_t>(kind));
    out.number(static_cast<std::uint32_t>(length));
    out.raw(PyUnicode_DATA(object), static_cast<std::size_t>(length) * static_cast<std::size_t>(kind));
    return true;
}

bool write(Writer& out, PyObject* object, int depth);

bool write_list(Writer& out, PyObject* object, int depth) {
    if (PyList_GET_SIZE(object) > most_items || !out.add_mutable(object)) return false;
    out.tag('[');
    out.number(static_cast<std::uint32_t>(PyList_GET_SIZE(object)));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(object); ++i) {
        if (!write(out, PyList_GET_ITEM(object, i), depth + 1)) return false;
    }
    return true;
}

bool write_dict(Writer& out, PyObject* object, int depth) {
    if (PyDict_GET_SIZE(object) > most_items || !out.add_mutable(object)) return false;
    out.tag('{');
    out.number(static_cast<std::uint32_t>(PyDict_GET_SIZE(object)));
    PyObject* key;
    PyObject* value;
    for (Py_ssize_t at = 0; PyDict_Next(object, &at, &key, &value);) {
        if (!write(out, key, depth + 1) || !write(out, value, depth + 1)) return false;
    }
    return true;
}

// No Python code runs here, so that nothing changes meanwhile.
// Exact types only: a subclass must arrive as what it is. False: leave the whole object to pickle.
bool write(Writer& out, PyObject* object, int depth) {
    if (object == Py_None || object == Py_True || object == Py_False) {
        out.tag(object == Py_None ? 'N' : object == Py_True ? 'T' : 'F');
        return true;
    }
    PyTypeObject* const type = Py_TYPE(object);
    if (type == &PyLong_Type) {
        int overflow;
        const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
        if (overflow) return false;
        out.tag('i');
        out.number(value);
    } else if (type == &PyFloat_Type) {
        out.tag('d');
        out.number(PyFloat_AS_DOUBLE(object));
    } else if (type == &PyUnicode_Type) {
        return write_text(out, object);
    } else if (type == &PyBytes_Type) {
        const Py_ssize_t size = PyBytes_GET_SIZE(object);
        if (size > longest) return false;
        out.tag('b');
        out.number(static_cast<std::uint32_t>(size));
        out.raw(PyBytes_AS_STRING(object), static_cast<std::size_t>(size));
    } else if (type == &PyTuple_Type && depth < deepest && PyTuple_GET_SIZE(object) <= longest) {
        out.tag('(');
        out.number(static_cast<std::uint32_t>(PyTuple_GET_SIZE(object)));
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i) {
            if (!write(out, PyTuple_GET_ITEM(object, i), depth + 1)) return false;
        }
    } else if (type == &PyList_Type && depth < deepest) {
        return write_list(out, object, depth);
    } else if (type == &PyDict_Type && depth < deepest) {
        return write_dict(out, object, depth);
    } else {
        return false;
    }
    return true;
}

class Reader {
   public:
    explicit Reader(const std::byte* at) noexcept : at_(at) {}
    template <class Number>
    Number number() noexcept {
        Number value;
        std::memcpy(&value, at_, sizeof value);
        at_ += sizeof value;
        return value;
    }
    const char* raw(std::size_t size) noexcept {
        const std::byte* const from = at_;
        at_ += size;
        return reinterpret_cast<const char*>(from);
    }

   private:
    const std::byte* at_;
};

Ref read(Reader& in);

Ref read_text(Reader& in) {
    const auto kind = in.number<std::uint8_t>();
    const auto length = in.number<std::uint32_t>();
    const char* const data = in.raw(static_cast<std::size_t>(length) * kind);
    // The characters may lie unaligned in the message.
    if (kind == 1) return Ref::steal(PyUnicode_FromKindAndData(kind, data, length));
    std::vector<std::uint32_t> aligned(static_cast<std::size_t>(length) * kind / 4 + 1);
    std::memcpy(aligned.data(), data, static_cast<std::size_t>(length) * kind);
    return Ref::steal(PyUnicode_FromKindAndData(kind, aligned.data(), length));
}

Ref read_tuple(Reader& in) {
    const auto size = in.number<std::uint32_t>();
    Ref tuple = Ref::steal(PyTuple_New(size));
    if (!tuple) throw PythonError();
    for (std::uint32_t i = 0; i < size; ++i) PyTuple_SET_ITEM(tuple.get(), i, read(in).release());
    return tuple;
}

Ref read_list(Reader& in) {
    const auto size = in.number<std::uint32_t>();
    Ref list = Ref::steal(PyList_New(size));
    if (!list) throw PythonError();
    for (std::uint32_t i = 0; i < size; ++i) PyList_SET_ITEM(list.get(), i, read(in).release());
    return list;
}

Ref read_dict(Reader& in) {
    Ref dict = Ref::steal(PyDict_New());
    if (!dict) throw PythonError();
    for (auto left = in.number<std::uint32_t>(); left > 0; --left) {
        const Ref key = read(in);
        const Ref value = read(in);
        if (PyDict_SetItem(dict.get(), key.get(), value.get()) < 0) throw PythonError();
    }
    return dict;
}

Ref read(Reader& in) {
    Ref object;
    switch (in.number<char>()) {
        case 'N':
            return Ref::borrow(Py_None);
        case 'T':
            return Ref::borrow(Py_True);
        case 'F':
            return Ref::borrow(Py_False);
        case 'i':
            object = Ref::steal(PyLong_FromLongLong(in.number<long long>()));
            break;
        case 'd':
            object = Ref::steal(PyFloat_FromDouble(in.number<double>()));
            break;
        case 's':
            object = read_text(in);
            break;
        case 'b': {
            const auto size = in.number<std::uint32_t>();
            object = Ref::steal(PyBytes_FromStringAndSize(in.raw(size), size));
            break;
        }
        case '(':
            return read_tuple(in);
        case '[':
            return read_list(in);
        case '{':
            return read_dict(in);
        default:
            PyErr_SetString(PyExc_SystemError, "memchannel: corrupt message");
    }
    if (!object) throw PythonError();
    return object;
}

}  // namespace

Message encode_simple(PyObject* object) {
    Writer out;
    if (!write(out, object, 0)) return {};
    Message message = Message::make(static_cast<std::uint8_t>(MessageKind::simple), out.bytes().size(), 0);
    std::memcpy(message.header().data(), out.bytes().data(), out.bytes().size());
    return message;
}

Ref decode_simple(const Message& message) {
    Reader in(message.header().data());
    return read(in);
}

}  // namespace memchannel
