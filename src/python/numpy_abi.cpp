#include "numpy_abi.hpp"

#include <new>

namespace memchannel {

namespace {

constexpr unsigned int abi_2 = 0x02000000;  // NPY_ABI_VERSION of NumPy 2.x

NumpyTable* fetch(NumpyTable*& slot) noexcept {
    if (slot) return slot;
    Ref module = Ref::steal(PyImport_ImportModule("numpy._core._multiarray_umath"));
    Ref capsule = module ? attribute(module.get(), "_ARRAY_API") : Ref();
    void** const api = capsule ? static_cast<void**>(PyCapsule_GetPointer(capsule.get(), nullptr)) : nullptr;
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
    table->set_base = reinterpret_cast<decltype(table->set_base)>(api[282]);
    return slot = table;
}

}  // namespace

NumpyTable* loaded_numpy(NumpyTable*& slot) noexcept {
    if (slot) return slot;
    PyObject* const modules = PyImport_GetModuleDict();  // borrowed
    Ref name = Ref::steal(PyUnicode_FromString("numpy._core._multiarray_umath"));
    Ref module = name ? Ref::steal(PyObject_GetItem(modules, name.get())) : Ref();
    Ref complete = module ? attribute(module.get(), "_ARRAY_API") : Ref();
    if (!complete) {
        PyErr_Clear();  // not imported (yet)
        return nullptr;
    }
    NumpyTable* const table = fetch(slot);
    if (!table) PyErr_Clear();
    return table;
}

}  // namespace memchannel
