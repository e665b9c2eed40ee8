#include "string_view.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "arguments.hpp"
#include "display.hpp"
#include "lent_memory.hpp"
#include "string_view_docs.hpp"
#include "text.hpp"

namespace memchannel {

namespace {

struct StringViewObject {
    PyObject_HEAD Lease* lease;  // one count; nullptr: released
    const void* data;
    Py_ssize_t length;
    Py_ssize_t step;
    Py_hash_t hash;  // -1: not known yet
    int kind;
    bool whole;   // it was received, not sliced: who drops it unreleased is warned
    bool narrow;  // `kind` is the smallest that holds the characters, as in the str with them
    bool warned;
    PyObject* weak_references;
};

StringViewObject& fields(PyObject* self) noexcept { return *reinterpret_cast<StringViewObject*>(self); }

void dealloc(PyObject* self);

Ref make(PyTypeObject* type, Text text, bool whole, bool narrow) {
    Ref object = Ref::steal(type->tp_alloc(type, 0));
    if (!object) throw PythonError();
    StringViewObject& view = fields(object.get());
    view.data = text.data;
    view.length = text.length;
    view.step = text.step;
    view.hash = -1;
    view.kind = text.kind;
    view.whole = whole;
    view.narrow = narrow;
    view.lease = text.lease.release();
    return object;
}

// The characters, with a count of their own on the lease: another thread may release the view meanwhile.
Text text_of(PyObject* self) {
    const StringViewObject& view = fields(self);
    if (!view.lease) {
        PyErr_SetString(PyExc_ValueError, "operation forbidden on released StringView object");
        throw PythonError();
    }
    return {view.data, view.length, view.step, view.kind, LeaseRef::share(view.lease)};
}

Text text_of_str(PyObject* text) noexcept {
    return {PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text), 1, static_cast<int>(PyUnicode_KIND(text)), {}};
}

// A str or StringView among the arguments.
Text operand(PyObject* object, const char* where) {
    if (PyUnicode_Check(object)) return text_of_str(object);
    if (is_string_view(object)) return text_of(object);
    PyErr_Format(PyExc_TypeError, "%s must be str or StringView, not %.100s", where,
                 Py_TYPE(object)->tp_name);
    throw PythonError();
}

// ---- as a sequence

Py_ssize_t length(PyObject* self) {
    return guarded<Py_ssize_t>(-1, [&] { return text_of(self).length; });
}

PyObject* item(PyObject* self, Py_ssize_t index) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Text text = text_of(self);
        if (index < 0 || index >= text.length) {
            PyErr_SetString(PyExc_IndexError, "StringView index out of range");
            return nullptr;
        }
        const Py_UCS4 letter =
            visit_text(text, [&](auto chars) -> Py_UCS4 { return chars[static_cast<std::size_t>(index)]; });
        return PyUnicode_FromOrdinal(static_cast<int>(letter));
    });
}

PyObject* subscript(PyObject* self, PyObject* key) {
    if (PyIndex_Check(key)) {
        Py_ssize_t index = PyNumber_AsSsize_t(key, PyExc_IndexError);
        if (index == -1 && PyErr_Occurred()) return nullptr;
        if (index < 0) {
            const Py_ssize_t size = length(self);
            if (size < 0) return nullptr;
            index += size;
        }
        return item(self, index);
    }
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        if (!PySlice_Check(key)) {
            PyErr_Format(PyExc_TypeError, "StringView indices must be integers or slices, not %.100s",
                         Py_TYPE(key)->tp_name);
            return nullptr;
        }
        Py_ssize_t start, stop, step;
        if (PySlice_Unpack(key, &start, &stop, &step) < 0) return nullptr;  // runs Python
        const Text text = text_of(self);
        const Py_ssize_t count = PySlice_AdjustIndices(text.length, &start, &stop, step);
        const bool all = count == text.length && step == 1;
        return make(Py_TYPE(self), text.part(start, count, step), false, all && fields(self).narrow)
            .release();
    });
}

int contains(PyObject* self, PyObject* wanted) {
    return guarded<int>(-1, [&] {
        const Text text = text_of(self);
        return find_text(text, operand(wanted, "'in <StringView>': the left operand"), From::start) >= 0;
    });
}

PyObject* iterate(PyObject* self) {
    return guarded<PyObject*>(nullptr, [&] {
        static_cast<void>(text_of(self));
        return PySeqIter_New(self);
    });
}

// ---- comparison

PyObject* richcompare(PyObject* self, PyObject* other, int operation) {
    if (!PyUnicode_Check(other) && !is_string_view(other)) Py_RETURN_NOTIMPLEMENTED;
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const bool by_identity = operation == Py_EQ || operation == Py_NE;
        // A released view equals nothing but itself, as a released memoryview.
        if (by_identity && (!fields(self).lease || (is_string_view(other) && !fields(other).lease)))
            return PyBool_FromLong((self == other) == (operation == Py_EQ));
        const Text left = text_of(self);
        const Text right = operand(other, "the other operand");
        if (by_identity) return PyBool_FromLong(equal(left, right) == (operation == Py_EQ));
        const int order = compare(left, right);
        Py_RETURN_RICHCOMPARE(order, 0, operation);
    });
}

Py_hash_t hash_bytes(const void* data, Py_ssize_t size) noexcept {
#if PY_VERSION_HEX >= 0x030E0000
    return Py_HashBuffer(data, size);
#else
    if (size == 0) return 0;
    const Py_hash_t hash = PyHash_GetFuncDef()->hash(data, size);  // as _Py_HashBytes (Python/pyhash.c)
    return hash == -1 ? -2 : hash;
#endif
}

// That of the str, which hashes its storage (Objects/unicodeobject.c, unicode_hash).
Py_hash_t hash(PyObject* self) {
    return guarded<Py_hash_t>(-1, [&] {
        StringViewObject& view = fields(self);
        if (view.hash != -1) return view.hash;  // kept across release(), as memoryview does
        const Text text = text_of(self);
        if (view.narrow && text.step == 1) return view.hash = hash_bytes(text.data, text.length * text.kind);
        const Ref same = to_str(text);
        return view.hash = PyObject_Hash(same.get());
    });
}

// ---- search

// As the start or end of a slice; nullptr and None: as it is.
void take_index(PyObject* given, Py_ssize_t& index) {
    if (!given || given == Py_None) return;
    if (!PyIndex_Check(given)) {
        PyErr_SetString(PyExc_TypeError,
                        "slice indices must be integers or None or have an __index__ method");
        throw PythonError();
    }
    index = PyNumber_AsSsize_t(given, nullptr);  // too large ones become the largest
    if (index == -1 && PyErr_Occurred()) throw PythonError();
}

struct Part {
    Text text;
    Py_ssize_t offset;
};

// The part that str's methods look at, given start and end; nothing: there is none, not even an empty one.
std::optional<Part> part_of(const Text& text, PyObject* start_given, PyObject* end_given) {
    Py_ssize_t start = 0, end = text.length;
    take_index(start_given, start);
    take_index(end_given, end);
    const auto from_start = [&](Py_ssize_t index) { return index < 0 ? index + text.length : index; };
    end = std::clamp<Py_ssize_t>(from_start(end), 0, text.length);
    start = std::max<Py_ssize_t>(from_start(start), 0);
    if (start > end) return std::nullopt;
    return Part{text.part(start, end - start), start};
}

struct Search {
    Text wanted;
    std::optional<Part> part;
};

Search parse_search(const char* method, PyObject* self, PyObject* const* values, Py_ssize_t given) {
    const Arguments<3> arguments(method, {"sub", "start", "end"}, 3, 1, values, given, nullptr);
    Text wanted = operand(arguments[0], "what is looked for");
    return {std::move(wanted), part_of(text_of(self), arguments[1], arguments[2])};
}

Py_ssize_t find(const Search& search, From from) {
    if (!search.part) return -1;
    const Py_ssize_t at = find_text(search.part->text, search.wanted, from);
    return at < 0 ? -1 : search.part->offset + at;
}

PyObject* view_find(PyObject* self, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&] {
        return PyLong_FromSsize_t(find(parse_search("find", self, values, given), From::start));
    });
}

PyObject* view_rfind(PyObject* self, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&] {
        return PyLong_FromSsize_t(find(parse_search("rfind", self, values, given), From::end));
    });
}

PyObject* found(Py_ssize_t at) noexcept {
    if (at >= 0) return PyLong_FromSsize_t(at);
    PyErr_SetString(PyExc_ValueError, "substring not found");
    return nullptr;
}

PyObject* view_index(PyObject* self, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(
        nullptr, [&] { return found(find(parse_search("index", self, values, given), From::start)); });
}

PyObject* view_rindex(PyObject* self, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(
        nullptr, [&] { return found(find(parse_search("rindex", self, values, given), From::end)); });
}

PyObject* view_count(PyObject* self, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&] {
        const Search search = parse_search("count", self, values, given);
        return PyLong_FromSsize_t(search.part ? count_text(search.part->text, search.wanted) : 0);
    });
}

bool stands_at(const Text& text, const Text& affix, From from) {
    if (affix.length > text.length) return false;
    return equal(text.part(from == From::start ? 0 : text.length - affix.length, affix.length), affix);
}

PyObject* has_affix(const char* method, PyObject* self, PyObject* const* values, Py_ssize_t given,
                    From from) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<3> arguments(method, {"affix", "start", "end"}, 3, 1, values, given, nullptr);
        const std::optional<Part> part = part_of(text_of(self), arguments[1], arguments[2]);
        PyObject* const affix = arguments[0];
        if (!PyTuple_Check(affix)) {
            const Text one = operand(affix, "what it may start or end with, or each item of a tuple,");
            return PyBool_FromLong(part && stands_at(part->text, one, from));
        }
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(affix); ++i) {
            const Text one = operand(PyTuple_GET_ITEM(affix, i),
                                     "each item of the tuple of what it may start or end with");
            if (part && stands_at(part->text, one, from)) Py_RETURN_TRUE;
        }
        Py_RETURN_FALSE;
    });
}

PyObject* view_startswith(PyObject* self, PyObject* const* values, Py_ssize_t given) {
    return has_affix("startswith", self, values, given, From::start);
}
PyObject* view_endswith(PyObject* self, PyObject* const* values, Py_ssize_t given) {
    return has_affix("endswith", self, values, given, From::end);
}

// ---- text and display

PyObject* as_str(PyObject* self) {
    return guarded<PyObject*>(nullptr, [&] { return to_str(text_of(self)).release(); });
}

PyObject* repr(PyObject* self) {
    constexpr Py_ssize_t shown = 40;
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        if (!fields(self).lease) return PyUnicode_FromFormat("<StringView: released text at %p>", self);
        const Text text = text_of(self);
        const Ref owner = Ref::steal(owner_of(*text.lease));
        const Ref begin = to_str(text.part(0, std::min(text.length, shown)));
        if (!owner) return nullptr;
        return PyUnicode_FromFormat("<StringView of interpreter %S: %R%s, length %zd>", owner.get(),
                                    begin.get(), text.length > shown ? "..." : "", text.length);
    });
}

// ---- the lease

PyObject* view_release(PyObject* self, PyObject*) {
    // The field first: the drop may switch interpreters, and others see the view meanwhile.
    if (Lease* const lease = std::exchange(fields(self).lease, nullptr)) lease->drop();
    Py_RETURN_NONE;
}

PyObject* view_enter(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&] {
        static_cast<void>(text_of(self));
        return Py_NewRef(self);
    });
}

PyObject* view_exit(PyObject* self, PyObject* const*, Py_ssize_t) { return view_release(self, nullptr); }

void finalize(PyObject* self) {
    StringViewObject& view = fields(self);
    if (!view.lease || !view.whole || view.warned || view.lease->holders() != 1) return;
    view.warned = true;  // who records warnings may keep the view for a while
    warn_unreleased(self);
}

void dealloc(PyObject* self) {
    if (PyObject_CallFinalizerFromDealloc(self) < 0) return;  // somebody took it back
    if (fields(self).weak_references) PyObject_ClearWeakRefs(self);
    PyTypeObject* const type = Py_TYPE(self);
    Lease* const lease = fields(self).lease;
    type->tp_free(self);
    Py_DECREF(type);
    if (lease) lease->drop();  // last: this may switch to the owner, and at exit never come back
}

PyObject* view_interpreter(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr, [&] { return owner_of(*text_of(self).lease); });
}
PyObject* view_address(PyObject* self, void*) {
    return guarded<PyObject*>(nullptr,
                              [&] { return PyLong_FromVoidPtr(const_cast<void*>(text_of(self).data)); });
}
PyObject* view_itemsize(PyObject* self, void*) { return PyLong_FromLong(fields(self).kind); }
PyObject* view_nbytes(PyObject* self, void*) {
    return PyLong_FromSsize_t(fields(self).length * fields(self).kind);
}

PyMethodDef methods[] = {
    {"find", as_function(view_find), METH_FASTCALL, docs::text_find},
    {"rfind", as_function(view_rfind), METH_FASTCALL, docs::text_rfind},
    {"index", as_function(view_index), METH_FASTCALL, docs::text_index},
    {"rindex", as_function(view_rindex), METH_FASTCALL, docs::text_rindex},
    {"count", as_function(view_count), METH_FASTCALL, docs::text_count},
    {"startswith", as_function(view_startswith), METH_FASTCALL, docs::text_startswith},
    {"endswith", as_function(view_endswith), METH_FASTCALL, docs::text_endswith},
    {"release", view_release, METH_NOARGS, docs::text_release},
    {"__enter__", view_enter, METH_NOARGS, nullptr},
    {"__exit__", as_function(view_exit), METH_FASTCALL, nullptr},
    rich_method,
    html_method,
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef getset[] = {
    {"interpreter", view_interpreter, nullptr, "The id of the interpreter that owns the text.", nullptr},
    {"address", view_address, nullptr, "Where the first character is.", nullptr},
    {"itemsize", view_itemsize, nullptr, "How many bytes a character has: 1, 2 or 4.", nullptr},
    {"nbytes", view_nbytes, nullptr, "How many bytes the characters have together.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMemberDef members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(StringViewObject, weak_references), Py_READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_finalize, reinterpret_cast<void*>(finalize)},
    {Py_tp_repr, reinterpret_cast<void*>(repr)},
    {Py_tp_str, reinterpret_cast<void*>(as_str)},
    {Py_tp_hash, reinterpret_cast<void*>(hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(richcompare)},
    {Py_tp_iter, reinterpret_cast<void*>(iterate)},
    {Py_sq_length, reinterpret_cast<void*>(length)},
    {Py_sq_item, reinterpret_cast<void*>(item)},
    {Py_sq_contains, reinterpret_cast<void*>(contains)},
    {Py_mp_length, reinterpret_cast<void*>(length)},
    {Py_mp_subscript, reinterpret_cast<void*>(subscript)},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_members, members},
    {Py_tp_doc, const_cast<char*>(docs::string_view)},
    {0, nullptr},
};

PyType_Spec spec = {
    "memchannel.StringView",
    sizeof(StringViewObject),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

struct TextHeader {
    const void* data;
    Py_ssize_t length;
    Py_ssize_t step;
    int kind;
    bool narrow;
};

}  // namespace

bool is_string_view(PyObject* object) noexcept { return Py_TYPE(object)->tp_dealloc == dealloc; }

bool is_text(PyObject* object) noexcept { return PyUnicode_Check(object) || is_string_view(object); }

LeaseRef encode_text(ModuleState& state, PyObject* object, const LendTerms& terms, const HeaderSink& sink) {
    Text text = operand(object, "text");
    const bool own = PyUnicode_Check(object);
    const bool narrow = own || fields(object).narrow;
    new (sink(sizeof(TextHeader))) TextHeader{text.data, text.length, text.step, text.kind, narrow};
    if (!own) return std::move(text.lease);  // a view that is passed on does not nest
    return lend_object(state, object, static_cast<std::size_t>(text.length * text.kind), terms);
}

Ref decode_text(ModuleState& state, const std::byte* at, LeaseRef lease) {
    TextHeader header;
    std::memcpy(&header, at, sizeof header);
    return make(state.string_view_type,
                Text{header.data, header.length, header.step, header.kind, std::move(lease)}, true,
                header.narrow);
}

bool add_string_view_type(PyObject* module, ModuleState& state) noexcept {
    state.string_view_type =
        reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return state.string_view_type && PyModule_AddType(module, state.string_view_type) == 0;
}

}  // namespace memchannel
