// The object behind views and arrays: holds a lease on memory of another interpreter and exports the bytes.
#pragma once

#include <cstring>

#include "core/lease.hpp"
#include "state.hpp"

namespace memchannel {

enum class Access : std::uint8_t { read, write };

// Whether the bytes can still change while they are lent.
enum class Content : std::uint8_t { fixed, changing };

// A layout's sizes and format as they are kept behind headers and objects. Nearly all layouts have one
// dimension and one letter, for which memcpy and strlen take longer than the rest.
inline void copy_sizes(Py_ssize_t* to, const Py_ssize_t* from, int count) noexcept {
    if (count == 1) *to = *from;
    else if (count) std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof *to);
}
// With its end.
inline std::size_t format_size(const char* format) noexcept {
    return format[0] && !format[1] ? 2 : std::strlen(format) + 1;
}
inline void copy_format(char* to, const char* from, std::size_t size) noexcept {
    if (size == 2) to[0] = from[0], to[1] = '\0';
    else std::memcpy(to, from, size);
}

struct Layout {
    void* data;
    Py_ssize_t len;  // as in Py_buffer: the product of the shape times itemsize
    Py_ssize_t itemsize;
    int ndim;
    const Py_ssize_t* shape;
    const Py_ssize_t* strides;
    const char* format;
    Access access = Access::read;
    Content content = Content::changing;
};

// The layout is copied. Throws PythonError.
Ref make_lent_memory(ModuleState& state, const Layout& layout);
// Once, when nothing can fail any more, so that until then a message keeps its lease; before Python sees the
// object.
void give_lease(PyObject* lent_memory, LeaseRef lease) noexcept;

// What is under a LentMemory; nullptr for any other object. Borrowed.
Lease* lease_of(PyObject* object) noexcept;
// For a LentMemory only.
Content content_of(PyObject* lent_memory) noexcept;
// Whether a view of it that is dropped unreleased warns.
bool dropped_quietly(PyObject* lent_memory) noexcept;
void set_dropped_quietly(PyObject* lent_memory) noexcept;
// The owner's id, or None: a new reference.
PyObject* owner_of(const Lease& lease) noexcept;
PyObject* owner_of(PyObject* lent_memory) noexcept;

bool add_lent_memory_type(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
