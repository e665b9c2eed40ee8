#include "plain_types.hpp"

#include <functional>
#include <unordered_map>

#include "arguments.hpp"
#include "errors.hpp"

namespace memchannel {

namespace {

constexpr std::size_t most_types = 4096;  // so that programs that make classes all the time do not grow

struct HashText {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
        return std::hash<std::string_view>{}(text);
    }
};

unsigned version_of(PyTypeObject* type) noexcept {
    if (type->tp_version_tag == 0) PyUnstable_Type_AssignVersionTag(type);
    return type->tp_version_tag;
}

Ref checked(PyObject* object) {
    if (!object) throw PythonError();
    return Ref::steal(object);
}

std::string utf8(PyObject* text) {
    Py_ssize_t size;
    const char* const data = PyUnicode_AsUTF8AndSize(text, &size);
    if (!data) throw PythonError();
    return {data, static_cast<std::size_t>(size)};
}

Ref plain_module() { return checked(PyImport_ImportModule("memchannel.codecs.plain")); }

// The dicts that say what is registered: they stay the same objects.
void find_registries(ModuleState& state) {
    const struct {
        PyObject** slot;
        const char* module;
        const char* name;
    } registries[] = {
        {&state.registered, "memchannel.sharing", "_registered"},
        {&state.inherited, "memchannel.sharing", "_inherited"},
        {&state.dispatch_table, "copyreg", "dispatch_table"},
        {&state.extension_registry, "copyreg", "_extension_registry"},
    };
    for (const auto& one : registries) {
        if (*one.slot) continue;
        const Ref module = checked(PyImport_ImportModule(one.module));
        Ref found = attribute(module.get(), one.name);
        if (!found) throw PythonError();
        if (!PyDict_Check(found.get())) {
            PyErr_Format(PyExc_TypeError, "%s.%s is no dict", one.module, one.name);
            throw PythonError();
        }
        *one.slot = found.release();
    }
}

// (ordinary, name for the registry, None or (module, name, has a __dict__, slots)), see
// memchannel.codecs.plain
SentType described(PyTypeObject* type) {
    const Ref describe = attribute(plain_module().get(), "describe");
    if (!describe) throw PythonError();
    const Ref answer = checked(PyObject_CallOneArg(describe.get(), reinterpret_cast<PyObject*>(type)));
    SentType made;
    int ordinary, has_dict;
    PyObject *registered_name, *plain, *module, *name, *slots;
    if (!PyArg_ParseTuple(answer.get(), "pUO", &ordinary, &registered_name, &plain)) throw PythonError();
    made.ordinary = ordinary != 0;
    made.registered_name = Ref::borrow(registered_name);
    if (plain == Py_None) return made;
    if (!PyArg_ParseTuple(plain, "UUpO!", &module, &name, &has_dict, &PyTuple_Type, &slots)) {
        throw PythonError();
    }
    made.plain = true;
    made.has_dict = has_dict != 0;
    made.module = Ref::borrow(module);
    made.name = Ref::borrow(name);
    made.reference = utf8(module) + '\0' + utf8(name);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(slots); ++i) {
        made.slots.push_back(Ref::borrow(PyTuple_GET_ITEM(slots, i)));
    }
    return made;
}

// What the module's own dict has under that name. Borrowed; nullptr: nothing, or the module is no plain one.
// Runs no Python code.
PyObject* global_of(PyObject* module_name, PyObject* name) noexcept {
    const Ref module = Ref::steal(PyImport_GetModule(module_name));
    if (!module) PyErr_Clear();
    if (!module || !PyModule_CheckExact(module.get())) return nullptr;
    PyObject* const found = PyDict_GetItemWithError(PyModule_GetDict(module.get()), name);
    if (!found) PyErr_Clear();
    return found;
}

bool contains(PyObject* dict, PyObject* key) noexcept {
    const int found = PyDict_Contains(dict, key);
    if (found < 0) PyErr_Clear();
    return found != 0;  // if it cannot be told, take it for there
}

}  // namespace

struct KnownTypes {
    std::unordered_map<PyTypeObject*, SentType> sent;
    std::unordered_map<std::string, std::shared_ptr<ReceivedType>, HashText, std::equal_to<>> received;
};

void forget_types(KnownTypes* known) noexcept { delete known; }

const SentType* known_type(const ModuleState& state, PyTypeObject* type) noexcept {
    if (!state.known_types) return nullptr;
    const auto found = state.known_types->sent.find(type);
    if (found == state.known_types->sent.end()) return nullptr;
    return found->second.version == type->tp_version_tag ? &found->second : nullptr;
}

bool learn_type(ModuleState& state, PyTypeObject* type) {
    find_registries(state);
    // To ask copyreg for the names of slots may change the type: it keeps them there.
    for (int attempts = 2; attempts > 0; --attempts) {
        const unsigned version = version_of(type);
        if (version == 0) return false;
        SentType made = described(type);
        if (type->tp_version_tag != version) continue;
        made.version = version;
        if (!state.known_types) state.known_types = new KnownTypes();
        // Taken out of the map first: dropping strings runs no Python code.
        if (state.known_types->sent.size() >= most_types) state.known_types->sent.clear();
        state.known_types->sent.insert_or_assign(type, std::move(made));
        return true;
    }
    return false;
}

bool may_be_registered(const ModuleState& state, const SentType& known, PyTypeObject* type) noexcept {
    // The type last: a metaclass may have a hash of its own, and then `known` may be gone.
    return (PyDict_GET_SIZE(state.inherited) > 0 && contains(state.inherited, known.registered_name.get())) ||
           (PyDict_GET_SIZE(state.registered) > 0 &&
            contains(state.registered, reinterpret_cast<PyObject*>(type)));
}

bool is_sent_plainly(const ModuleState& state, const SentType& known, PyTypeObject* type) noexcept {
    auto* const object = reinterpret_cast<PyObject*>(type);
    // The name may be set without a new version.
    return known.plain && reinterpret_cast<PyHeapTypeObject*>(type)->ht_qualname == known.name.get() &&
           !may_be_registered(state, known, type) && PyDict_GET_SIZE(state.extension_registry) == 0 &&
           !contains(state.dispatch_table, object) &&
           global_of(known.module.get(), known.name.get()) == object;
}

FoundClass find_class(ModuleState& state, std::string_view reference) {
    if (!state.known_types) state.known_types = new KnownTypes();
    auto& received = state.known_types->received;
    if (const auto found = received.find(reference); found != received.end()) {
        std::shared_ptr<ReceivedType> known = found->second;
        // As the unpickler does (Modules/_pickle.c, find_class); a hook may refuse.
        if (PySys_Audit("pickle.find_class", "OO", known->module.get(), known->name.get()) < 0) {
            throw PythonError();
        }
        Ref object = Ref::borrow(global_of(known->module.get(), known->name.get()));
        if (object && object.get() == reinterpret_cast<PyObject*>(known->type) &&
            known->type->tp_version_tag == known->version) {
            return {std::move(object), std::move(known)};
        }
    }
    const std::size_t zero = reference.find('\0');
    const std::string_view module = reference.substr(0, zero), name = reference.substr(zero + 1);
    const Ref find = attribute(plain_module().get(), "find_class");
    if (!find) throw PythonError();
    const Ref answer = checked(PyObject_CallFunction(find.get(), "s#s#", module.data(),
                                                     static_cast<Py_ssize_t>(module.size()), name.data(),
                                                     static_cast<Py_ssize_t>(name.size())));
    auto made = std::make_shared<ReceivedType>();
    PyObject *object, *module_name, *class_name;
    int plain, has_dict;
    if (!PyArg_ParseTuple(answer.get(), "OUUpp", &object, &module_name, &class_name, &plain, &has_dict)) {
        throw PythonError();
    }
    if (!plain) return {Ref::borrow(object), nullptr};
    made->type = reinterpret_cast<PyTypeObject*>(object);
    made->version = version_of(made->type);
    made->plain = true;
    made->has_dict = has_dict != 0;
    made->module = Ref::borrow(module_name);
    made->name = Ref::borrow(class_name);
    if (made->version != 0) {
        auto& cache = state.known_types->received;
        if (cache.size() >= most_types) cache.clear();
        cache.insert_or_assign(std::string(reference), made);
    }
    return {Ref::borrow(object), std::move(made)};
}

Ref build(PyObject* kind, PyObject* attributes, PyObject* slots) {
    const Ref function = attribute(plain_module().get(), "build");
    if (!function) throw PythonError();
    return checked(PyObject_CallFunctionObjArgs(function.get(), kind, attributes, slots, nullptr));
}

namespace {

// self is (module, reduce); the arguments are the pickler and the object.
PyObject* override_reducer(PyObject* self, PyObject* const* arguments, Py_ssize_t given) {
    return guarded(static_cast<PyObject*>(nullptr), [&]() -> PyObject* {
        if (given != 2) {
            PyErr_SetString(PyExc_TypeError, "reducer_override() takes one object");
            return nullptr;
        }
        ModuleState& state = state_of_module(PyTuple_GET_ITEM(self, 0));
        PyTypeObject* const type = Py_TYPE(arguments[1]);
        const SentType* known = known_type(state, type);
        if (!known && learn_type(state, type)) known = known_type(state, type);
        if (known && known->ordinary && !may_be_registered(state, *known, type)) {
            return Py_NewRef(Py_NotImplemented);
        }
        return PyObject_Vectorcall(PyTuple_GET_ITEM(self, 1), arguments, 2, nullptr);
    });
}

PyMethodDef override_method = {"reducer_override", as_function(override_reducer), METH_FASTCALL, nullptr};

}  // namespace

PyObject* leaving_ordinary(PyObject* module, PyObject* reduce) {
    const Ref self = Ref::steal(PyTuple_Pack(2, module, reduce));
    const Ref function = self ? Ref::steal(PyCFunction_New(&override_method, self.get())) : Ref();
    return function ? PyInstanceMethod_New(function.get()) : nullptr;
}

}  // namespace memchannel
