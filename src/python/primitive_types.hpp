// Locks, semaphores and their like as Python types.
#pragma once

#include "core/primitive.hpp"
#include "state.hpp"

namespace memchannel {

// The primitive behind an object, borrowed; nullptr for anything else.
Primitive* primitive_of(PyObject* object) noexcept;
// An object for a primitive that came from elsewhere.
Ref primitive_object(ModuleState& state, Handle<Primitive> primitive);
// Before it travels: what is Python's in it becomes the core's. Throws PythonError.
void prepare_to_travel(ModuleState& state, PyObject* object);

// Module functions.
// _open_primitive(id, process) -> the primitive with that id
PyObject* open_primitive(PyObject* module, PyObject* const* values, Py_ssize_t given);
// _abandon_locks(): what this interpreter holds is free, as if it had ended; none of its threads may wait
PyObject* abandon_locks(PyObject* module, PyObject*);
// _holder(id) -> (interpreter, native id of the thread) that hold the lock with this id, or None
PyObject* holder_of(PyObject* module, PyObject* id);

bool add_primitive_types(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
