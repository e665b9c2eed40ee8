// What the extension keeps per interpreter.
#pragma once

#include "attach.hpp"
#include "ref.hpp"

namespace memchannel {

struct NumpyTable;
struct KnownTypes;

inline constexpr int primitive_kinds = 8;

// One list of Python objects; traverse and clear repeat it in this order.
struct ModuleState {
    PyTypeObject* lent_memory_type;
    PyTypeObject* view_type;
    PyTypeObject* recv_type;
    PyTypeObject* send_type;
    PyTypeObject* mem_channel_type;
    PyTypeObject* array_channel_type;
    PyTypeObject* object_channel_type;
    PyTypeObject* shared_buffer_type;
    PyTypeObject* completion_type;
    PyTypeObject* arrow_batches_type;
    PyTypeObject* lendings_type;
    PyTypeObject* end_type;
    PyTypeObject* notifier_type;
    PyTypeObject* async_call_type;
    PyTypeObject* primitive_type;
    PyTypeObject* descriptor_type;
    PyTypeObject* ticket_type;
    PyTypeObject* share_type;
    PyTypeObject* string_view_type;
    PyTypeObject* primitive_types[primitive_kinds];  // by PrimitiveKind
    PyObject* errors;                                // the module memchannel.errors
    PyObject* to_readonly;                           // memoryview.toreadonly
    PyObject* array_codec;                           // the module memchannel.codecs.array, once needed
    PyObject* arrayview;                             // the module memchannel.arrayview, once needed
    PyObject* object_codec;                          // the module memchannel.codecs.object, once needed
    PyObject* function_codec;                        // the module memchannel.codecs.functions, once needed
    PyObject* async_module;                          // the module memchannel._async, once needed
    PyObject* recv_coroutine;                        // its function recv_async, once needed
    PyObject* dtypes;                                // dict: encoded dtype (bytes) -> numpy.dtype
    PyObject* dtype_codes;  // dict: address of a numpy.dtype -> (dtype, its encoding, names of its fields)
    PyObject* registered;   // the dicts of memchannel.sharing, once needed
    PyObject* inherited;
    PyObject* dispatch_table;  // the dicts of copyreg, once needed
    PyObject* extension_registry;
    PyObject* numpy_name;  // "numpy", once needed
    // Not Python objects:
    KnownTypes* known_types;  // see plain_types.hpp
    NumpyTable* numpy;        // this interpreter's NumPy, once imported
    OwnerId interpreter;
    Owner* owner;
    unsigned generation;  // of the owner: a forked child makes its own
    Anchor* anchor;
};

int traverse_state(ModuleState& state, visitproc visit, void* arg) noexcept;
void clear_state(ModuleState& state) noexcept;

inline ModuleState& state_of_module(PyObject* module) noexcept {
    return *static_cast<ModuleState*>(PyModule_GetState(module));
}
// Only for types that nobody can subclass.
inline ModuleState& state_of_type(PyTypeObject* type) noexcept {
    return *static_cast<ModuleState*>(PyType_GetModuleState(type));
}

// The account of this interpreter. Throws std::bad_alloc.
Owner& this_owner(ModuleState& state);
inline OwnerId this_interpreter() noexcept { return current_interpreter(); }

// Imports memchannel.NAME once and keeps it in the slot. Borrowed; nullptr with an exception.
PyObject* module_once(PyObject*& slot, const char* name) noexcept;

}  // namespace memchannel
