#include "lendings.hpp"

#include <functional>
#include <iterator>

#include "errors.hpp"

namespace memchannel {

namespace {

// For each lease that is added so many are looked at, so that those not needed never outnumber the others.
constexpr int looked_at = 2;

struct LendingsObject {
    PyObject_HEAD Lendings* lendings;
};

LendingsObject* fields(PyObject* self) noexcept { return reinterpret_cast<LendingsObject*>(self); }

PyObject* lendings_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
    static const char* const names[] = {nullptr};
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, ":Lendings", const_cast<char**>(names)))
        return nullptr;
    return guarded<PyObject*>(nullptr, [&] {
        Ref self = Ref::steal(type->tp_alloc(type, 0));
        if (self) fields(self.get())->lendings = new Lendings;
        return self.release();
    });
}

void lendings_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    Lendings* const lendings = fields(self)->lendings;
    type->tp_free(self);
    Py_DECREF(type);
    delete lendings;
}

PyObject* lendings_clear(PyObject* self, PyObject*) {
    fields(self)->lendings->clear();
    Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"clear", lendings_clear, METH_NOARGS, "clear($self, /)\n--\n\nKeep no lease any more."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(lendings_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(lendings_dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_doc, const_cast<char*>("Leases that tasks submitted with this object share.")},
    {0, nullptr},
};

PyType_Spec spec = {
    "memchannel._core.Lendings",
    sizeof(LendingsObject),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace

std::size_t Lendings::Hash::operator()(const Memory& memory) const noexcept {
    return std::hash<const void*>()(memory.data) ^ (std::hash<std::size_t>()(memory.nbytes) << 1U);
}

LeaseRef Lendings::find(const Memory& memory) const noexcept {
    const auto found = by_memory_.find(memory);
    return found == by_memory_.end() ? LeaseRef() : found->second->lease;
}

void Lendings::add(const Memory& memory, PyObject* holder, const LeaseRef& lease) {
    Entries given_up;  // goes last: to give memory back may run Python, which may come here again
    for (int i = 0; i < looked_at && !entries_.empty(); ++i) {
        const auto first = entries_.begin();
        if (first->may_come_again()) {
            entries_.splice(entries_.end(), entries_, first);
        } else {
            by_memory_.erase(first->memory);
            given_up.splice(given_up.end(), entries_, first);
        }
    }
    Entries added;
    added.push_back({memory, holder, lease});
    if (!by_memory_.emplace(memory, added.begin()).second) return;
    entries_.splice(entries_.end(), added);
}

void Lendings::clear() noexcept {
    by_memory_.clear();
    Entries given_up;
    given_up.swap(entries_);
}

Lendings* lendings_of(ModuleState& state, PyObject* object) {
    if (!object || object == Py_None) return nullptr;
    if (Py_IS_TYPE(object, state.lendings_type)) return fields(object)->lendings;
    PyErr_Format(PyExc_TypeError, "expected Lendings or None, not %R", object);
    throw PythonError();
}

bool add_lendings_type(PyObject* module, ModuleState& state) noexcept {
    state.lendings_type = reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return state.lendings_type && PyModule_AddType(module, state.lendings_type) == 0;
}

}  // namespace memchannel
