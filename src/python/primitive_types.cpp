#include "primitive_types.hpp"

#include <cmath>
#include <cstddef>

#include "barrier_type.hpp"
#include "core/condition.hpp"
#include "core/registry.hpp"
#include "module.hpp"
#include "primitive_docs.hpp"
#include "primitive_object.hpp"

namespace memchannel {

namespace {

struct Kind {
    const char* name;
    PyType_Spec* spec;
};

// By PrimitiveKind.
const Kind kinds[primitive_kinds] = {
    {"Lock", &lock_spec},           {"RLock", &recursive_lock_spec},
    {"Semaphore", &semaphore_spec}, {"BoundedSemaphore", &bounded_semaphore_spec},
    {"Event", &event_spec},         {"Condition", &condition_spec},
    {"Barrier", &barrier_spec},     {"Counter", &counter_spec},
};

unsigned long long number(const Primitive& primitive) noexcept {
    return static_cast<unsigned long long>(primitive.id());
}

PyObject* primitive_richcompare(PyObject* self, PyObject* other, int operation) {
    const Primitive* const right = primitive_of(other);
    if ((operation != Py_EQ && operation != Py_NE) || !right) Py_RETURN_NOTIMPLEMENTED;
    return PyBool_FromLong((right == primitive_of(self)) == (operation == Py_EQ));
}

Py_hash_t primitive_hash(PyObject* self) { return static_cast<Py_hash_t>(primitive_of(self)->id()); }

PyObject* primitive_id(PyObject* self, void*) {
    return PyLong_FromUnsignedLongLong(number(*primitive_of(self)));
}

PyObject* primitive_reduce(PyObject* self, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Primitive& primitive = primitive_as<Primitive>(self);
        prepare_to_travel(primitive_state(self), self);
        Ref module = Ref::steal(PyImport_ImportModule("memchannel._core"));
        Ref opener = module ? attribute(module.get(), "_open_primitive") : Ref();
        if (!opener) return nullptr;
        return Py_BuildValue("O(KK)", opener.get(), number(primitive),
                             static_cast<unsigned long long>(registry().process_token));
    });
}

PyMethodDef primitive_methods[] = {
    {"__reduce__", primitive_reduce, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef primitive_getset[] = {
    {"id", primitive_id, nullptr, "Number of the object, the same in every interpreter.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMemberDef primitive_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(PrimitiveObject, weak_references), Py_READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot primitive_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(primitive_dealloc)},
    {Py_tp_hash, reinterpret_cast<void*>(primitive_hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(primitive_richcompare)},
    {Py_tp_members, primitive_members},
    {Py_tp_methods, primitive_methods},
    {Py_tp_getset, primitive_getset},
    {Py_tp_doc,
     const_cast<char*>("What all objects that interpreters share for keeping step have in common.")},
    {0, nullptr},
};

PyType_Spec primitive_spec = {"memchannel._core._Primitive", sizeof(PrimitiveObject), 0,
                              primitive_flags | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                              primitive_slots};

Ref alloc(PyTypeObject* type, ModuleState& state, Handle<Primitive> primitive) {
    Ref object = Ref::steal(type->tp_alloc(type, 0));
    if (!object) throw PythonError();
    PrimitiveObject& fields = primitive_fields(object.get());
    fields.primitive = primitive.release();
    fields.state = &state;
    return object;
}

// Seconds as threading takes them (Modules/_threadmodule.c, lock_acquire_parse_timeout).
double parse_seconds(PyObject* timeout) {
    const double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "timeout must be a number of seconds, not %.100s",
                         Py_TYPE(timeout)->tp_name);
        }
        throw PythonError();
    }
    if (std::isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "timeout must be a number of seconds, not nan");
        throw PythonError();
    }
    if (seconds * 1e6 > static_cast<double>(PY_TIMEOUT_MAX)) {
        PyErr_Format(PyExc_OverflowError, "timeout of %R seconds is too large: threading.TIMEOUT_MAX is most",
                     timeout);
        throw PythonError();
    }
    return seconds;
}

Patience patience_of(double seconds) noexcept {
    if (seconds <= 0) return {Deadline::never(), true};
    return {Deadline::after_ns(static_cast<std::int64_t>(seconds * 1e9)), false};
}

Handle<Primitive> find_primitive(PyObject* id) {
    const unsigned long long wanted = PyLong_AsUnsignedLongLong(id);
    if (wanted == static_cast<unsigned long long>(-1) && PyErr_Occurred()) throw PythonError();
    return registry().primitives.find(wanted);
}

}  // namespace

void primitive_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    PrimitiveObject& fields = primitive_fields(self);
    if (fields.weak_references) PyObject_ClearWeakRefs(self);
    Py_CLEAR(fields.companion);
    Primitive* const primitive = fields.primitive;
    type->tp_free(self);
    Py_DECREF(type);
    if (primitive) primitive->drop();
}

Primitive* primitive_of(PyObject* object) noexcept {
    const destructor dealloc = Py_TYPE(object)->tp_dealloc;
    if (dealloc != primitive_dealloc && dealloc != dealloc_with_companion) return nullptr;
    return primitive_fields(object).primitive;
}

int traverse_companion(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(primitive_fields(self).companion);
    return 0;
}

int clear_companion(PyObject* self) {
    Py_CLEAR(primitive_fields(self).companion);
    return 0;
}

void dealloc_with_companion(PyObject* self) {
    PyObject_GC_UnTrack(self);
    primitive_dealloc(self);
}

const char* kind_name(const Primitive& primitive) noexcept {
    return kinds[static_cast<std::size_t>(primitive.kind())].name;
}

Ref new_primitive(PyTypeObject* type, Handle<Primitive> primitive) {
    PyObject* const module = PyType_GetModuleByDef(type, &core_module);
    if (!module) throw PythonError();
    return alloc(type, state_of_module(module), std::move(primitive));
}

Ref primitive_object(ModuleState& state, Handle<Primitive> primitive) {
    PyTypeObject* const type = state.primitive_types[static_cast<std::size_t>(primitive->kind())];
    return alloc(type, state, std::move(primitive));
}

void prepare_to_travel(ModuleState& state, PyObject* object) {
    if (primitive_of(object)->kind() == PrimitiveKind::barrier) pack_action(state, object);
}

bool check_process(const Primitive& primitive) noexcept {
    if (primitive.of_this_process()) return true;
    PyErr_Format(PyExc_RuntimeError,
                 "%s %llu belongs to the parent process: it does not survive os.fork(); make a new one",
                 kind_name(primitive), number(primitive));
    return false;
}

void raise_unless_ok(PyObject* self, Status status, const char* verb) {
    if (status == Status::ok) return;
    const Primitive& primitive = *primitive_of(self);
    const char* const kind = kind_name(primitive);
    switch (status) {
        case Status::interrupted:
            break;
        case Status::ending:
            raise_ending("%s.%s on %s %llu", kind, verb, kind, number(primitive));
            break;
        case Status::abandoned: {
            const Primitive* lock = &primitive;
            if (primitive.kind() == PrimitiveKind::condition)
                lock = &static_cast<const Condition&>(primitive).lock();
            raise_named(primitive_state(self), "AbandonedLockError",
                        "interpreter %lld ended while it held %s %llu: the lock is free now, and not yours; "
                        "what it protects may be half done",
                        static_cast<long long>(static_cast<const Lock&>(*lock).abandoned_by()),
                        kind_name(*lock), number(*lock));
            break;
        }
        default:
            PyErr_Format(PyExc_SystemError, "unexpected outcome %d of %s.%s", static_cast<int>(status), kind,
                         verb);
    }
    throw PythonError();
}

Patience lock_patience(PyObject* blocking, PyObject* timeout) {
    const int waits = blocking ? PyObject_IsTrue(blocking) : 1;
    if (waits < 0) throw PythonError();
    const double seconds = timeout ? parse_seconds(timeout) : -1;
    if (!waits && seconds != -1) {
        PyErr_SetString(PyExc_ValueError, "can't specify a timeout for a non-blocking call");
        throw PythonError();
    }
    if (seconds < 0 && seconds != -1) {
        PyErr_Format(PyExc_ValueError, "timeout must be >= 0, or -1 to wait for ever, not %R", timeout);
        throw PythonError();
    }
    if (!waits) return {Deadline::never(), true};
    return seconds == -1 ? Patience() : patience_of(seconds);
}

Patience patience(PyObject* timeout) {
    return !timeout || timeout == Py_None ? Patience() : patience_of(parse_seconds(timeout));
}

PyObject* open_primitive(PyObject* module, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("_open_primitive", {"id", "process"}, 2, 2, values, given, nullptr);
        if (PyLong_AsUnsignedLongLong(arguments[1]) != registry().process_token) {
            if (PyErr_Occurred()) return nullptr;
            PyErr_SetString(
                PyExc_RuntimeError,
                "this object was pickled in another process: locks and their like are shared by the "
                "interpreters of one process only");
            return nullptr;
        }
        Handle<Primitive> found = find_primitive(arguments[0]);
        if (!found) {
            PyErr_Format(PyExc_ValueError,
                         "what was pickled as number %S is gone: nobody kept it until it was unpickled; send "
                         "it through a Channel, which does",
                         arguments[0]);
            return nullptr;
        }
        return primitive_object(state_of_module(module), std::move(found)).release();
    });
}

PyObject* abandon_locks(PyObject*, PyObject*) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        for (const Handle<Primitive>& one : registry().primitives.all())
            one->end_interpreter(this_interpreter());
        Py_RETURN_NONE;
    });
}

PyObject* holder_of(PyObject*, PyObject* id) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Handle<Primitive> found = find_primitive(id);
        if (!found) Py_RETURN_NONE;
        const PrimitiveKind kind = found->kind();
        Holder holder;
        if (kind == PrimitiveKind::lock || kind == PrimitiveKind::recursive_lock)
            holder = static_cast<const Lock&>(*found).holder();
        if (holder.interpreter == no_owner) Py_RETURN_NONE;
        return Py_BuildValue("Ll", static_cast<long long>(holder.interpreter),
                             static_cast<long>(holder.thread.native));
    });
}

bool add_primitive_types(PyObject* module, ModuleState& state) noexcept {
    const auto add = [&](PyTypeObject*& slot, PyType_Spec& spec, PyObject* base) {
        slot = reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, base));
        return slot && PyModule_AddType(module, slot) == 0;
    };
    if (!add(state.primitive_type, primitive_spec, nullptr)) return false;
    for (int kind = 0; kind < primitive_kinds; ++kind) {
        if (!add(state.primitive_types[kind], *kinds[kind].spec,
                 reinterpret_cast<PyObject*>(state.primitive_type)))
            return false;
    }
    // Nobody else derives from it: an instance of another class would not travel as what it is.
    state.primitive_type->tp_flags &= ~Py_TPFLAGS_BASETYPE;
    return true;
}

}  // namespace memchannel
