// The few entries of NumPy's public C ABI (2.x) that the array codec needs, declared here so that the
// extension builds without NumPy and works with each interpreter's own NumPy: the table is fetched at run
// time and belongs to one interpreter. Layout and indices: NumPy's ndarraytypes.h and the generated
// __multiarray_api.h, which NumPy keeps stable within an ABI version; the version is checked when the table
// is fetched.
#pragma once

#include <cstdint>

#include "ref.hpp"

namespace memchannel {

struct ModuleState;

struct ArrayFields {
    PyObject_HEAD char* data;
    int nd;
    Py_ssize_t* dimensions;
    Py_ssize_t* strides;
    PyObject* base;
    PyObject* descr;
    int flags;
};

struct DescrFields {
    PyObject_HEAD PyTypeObject* typeobj;
    char kind;
    char type;
    char byteorder;
    char former_flags;
    int type_num;
    std::uint64_t flags;
    Py_ssize_t elsize;
    Py_ssize_t alignment;
    PyObject* metadata;
    Py_hash_t hash;
    void* reserved[2];
    // Only for dtypes that existed before NumPy 2 (_PyArray_LegacyDescr), all numbers among them:
    PyObject* subarray;
    PyObject* fields;
    PyObject* names;
};

inline constexpr int array_owns_data = 0x0004;            // NPY_ARRAY_OWNDATA
inline constexpr int array_writeable = 0x0400;            // NPY_ARRAY_WRITEABLE
inline constexpr int array_write_back = 0x2000;           // NPY_ARRAY_WRITEBACKIFCOPY
inline constexpr std::uint64_t descr_has_objects = 0x01;  // NPY_ITEM_REFCOUNT
inline constexpr int type_object = 17;                    // NPY_OBJECT
inline constexpr int type_void = 20;                      // NPY_VOID, also of sub-arrays
inline constexpr int type_half = 23;                      // NPY_HALF, the last of the numeric ones
inline constexpr int type_string_dtype = 2056;            // NPY_VSTRING

inline ArrayFields* array_fields(PyObject* array) noexcept { return reinterpret_cast<ArrayFields*>(array); }
inline DescrFields* descr_fields(PyObject* descr) noexcept { return reinterpret_cast<DescrFields*>(descr); }

struct NumpyTable {
    PyTypeObject* array_type;
    PyObject* (*new_from_descr)(PyTypeObject*, PyObject* descr, int nd, const Py_ssize_t* dims,
                                const Py_ssize_t* strides, void* data, int flags, PyObject*);
    int (*set_base)(PyObject* array, PyObject* base);
    PyObject* (*descr_from_type)(int);
    PyObject* (*descr_new)(PyObject* descr);  // a copy

    bool is_array(PyObject* object) const noexcept { return PyObject_TypeCheck(object, array_type); }
};

// This interpreter's NumPy if it is imported already; nullptr without an exception otherwise.
NumpyTable* loaded_numpy(ModuleState& state) noexcept;
// StringDType: the array's own memory holds references to an arena of the dtype's.
inline bool keeps_text_elsewhere(PyObject* array) noexcept {
    return descr_fields(array_fields(array)->descr)->type_num == type_string_dtype;
}

// The object that really holds the memory of an array that does not own it, or nullptr. Borrowed.
inline PyObject* borrowed_memory_of(PyObject* array) noexcept {
    const ArrayFields* fields = array_fields(array);
    return fields->flags & (array_owns_data | array_write_back) ? nullptr : fields->base;
}

}  // namespace memchannel
