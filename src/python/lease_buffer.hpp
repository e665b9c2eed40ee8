// Python memory as core leases: a buffer or an object lent by this interpreter.
#pragma once

#include <vector>

#include "core/lease.hpp"
#include "errors.hpp"
#include "lent_memory.hpp"

namespace memchannel {

class Lendings;
class Tickets;

// How a message's memory is accounted.
struct LendTerms {
    std::uint64_t channel;
    bool deferred;
    Lendings* lendings = nullptr;       // where leases are found that cover the memory already, and added
    std::vector<Ref>* moved = nullptr;  // takes the files and sockets whose descriptors travel
    Tickets* tickets = nullptr;  // gets those in the message; without it they count as sent once it is made
    PyObject* ticket = nullptr;  // kept by the lease; borrowed
};

// What the memory of a view, an array or another object stands on.
struct Ground {
    Lease* lease = nullptr;  // covers the memory already: sending it on must not nest; borrowed
    Content content = Content::changing;
    PyObject* array = nullptr;   // the last ndarray: what views of it are views of, or nullptr; borrowed
    PyObject* anchor = nullptr;  // the first object under it that is no ndarray, or nullptr; borrowed
    PyObject* root = nullptr;    // the last one; borrowed
};
Ground ground_of(ModuleState& state, PyObject* object) noexcept;

// Lends the buffer, which belongs to the lease from here on. Throws PythonError (this interpreter is ending;
// the buffer is released again) or std::bad_alloc.
LeaseRef lend_buffer(ModuleState& state, BufferScope& buffer, const LendTerms& terms);
// Lends what the object holds by itself, without an export: the object is kept.
LeaseRef lend_object(ModuleState& state, PyObject* object, std::size_t nbytes, const LendTerms& terms);
// Lends the memory of an ndarray. Its anchor is kept from resizing or unmapping it meanwhile.
LeaseRef lend_array(ModuleState& state, PyObject* array, const Ground& ground, std::size_t nbytes,
                    const LendTerms& terms);

// Raises ValueError when bytes of a memory-mapped file are lent whose file has become too short for the last
// of them: whoever read it would end the process by SIGBUS.
void check_mapped(ModuleState& state, const Ground& ground, const void* first, std::size_t nbytes);
// _check_copied(object): the same for an ndarray, or a buffer in one piece, that is about to be copied.
PyObject* check_copied(PyObject* module, PyObject* object);

}  // namespace memchannel
