#include "numpy_abi.hpp"

#include <new>

#include "state.hpp"

namespace memchannel {

namespace {

constexpr unsigned int abi_2 = 0x02000000;  // NPY_ABI_VERSION of NumPy 2.x

NumpyTable* fetch(NumpyTable*& slot, PyObject* capsule) noexcept {
    void** const api = static_cast<void**>(PyCapsule_GetPointer(capsule, nullptr));
    if (!api) return nullptr;
    const unsigned int version = reinterpret_cast<unsigned int (*)()>(api[0])();
    if (version >> 24 != abi_2 >> 24) {
        PyErr_Format(PyExc_ImportError, "memchannel needs NumPy 2.x; this interpreter's NumPy has C ABI 0x%x",
                     version);
        return nullptr;
    }
    auto* table = new (std::nothrow) NumpyTable();
    if (!table) {
        PyErr_NoMemory();
        return nullptr;
    }
    table->array_type = static_cast<PyTypeObject*>(api[2]);
    table->descr_from_type = reinterpret_cast<decltype(table->descr_from_type)>(api[45]);
    table->new_from_descr = reinterpret_cast<decltype(table->new_from_descr)>(api[94]);
    table->descr_new = reinterpret_cast<decltype(table->descr_new)>(api[95]);
    table->set_base = reinterpret_cast<decltype(table->set_base)>(api[282]);
    return slot = table;
}

// Not PyImport_GetModule, which waits for other threads' imports and can be interrupted. Each send comes by
// where NumPy is not imported: so without an exception for a missing key, and with a name that is there.
Ref listed_module(PyObject* name) noexcept {
    PyObject* module = nullptr;
    if (name) PyMapping_GetOptionalItem(PyImport_GetModuleDict(), name, &module);
    return Ref::steal(module);
}

}  // namespace

NumpyTable* loaded_numpy(ModuleState& state) noexcept {
    if (state.numpy) return state.numpy;
    // Looked up, not imported: that could be interrupted. An import that failed leaves the second module
    // alone.
    if (!state.numpy_name) state.numpy_name = PyUnicode_InternFromString("numpy");
    Ref capsule;
    if (listed_module(state.numpy_name)) {
        const Ref name = Ref::steal(PyUnicode_FromString("numpy._core._multiarray_umath"));
        const Ref module = listed_module(name.get());
        if (module) capsule = attribute(module.get(), "_ARRAY_API");
    }
    NumpyTable* const table = capsule ? fetch(state.numpy, capsule.get()) : nullptr;
    if (!table) PyErr_Clear();  // not imported (yet)
    return table;
}

}  // namespace memchannel
