#include "numpy_abi.hpp"

#include <new>

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
// where NumPy is not imported: so without an exception for a missing key.
Ref listed_module(const char* name) noexcept {
    PyObject* module = nullptr;
    PyMapping_GetOptionalItemString(PyImport_GetModuleDict(), name, &module);
    return Ref::steal(module);
}

}  // namespace

NumpyTable* loaded_numpy(NumpyTable*& slot) noexcept {
    if (slot) return slot;
    // Looked up, not imported: that could be interrupted. An import that failed leaves the second module
    // alone.
    Ref package = listed_module("numpy");
    Ref module = package ? listed_module("numpy._core._multiarray_umath") : Ref();
    Ref capsule = module ? attribute(module.get(), "_ARRAY_API") : Ref();
    NumpyTable* const table = capsule ? fetch(slot, capsule.get()) : nullptr;
    if (!table) PyErr_Clear();  // not imported (yet)
    return table;
}

}  // namespace memchannel
