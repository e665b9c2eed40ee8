// Python memory as core leases: a buffer or an object lent by this interpreter.
#pragma once

#include "core/lease.hpp"
#include "errors.hpp"

namespace memchannel {

// How a message's memory is accounted.
struct LendTerms {
    std::uint64_t channel;
    bool deferred;
};

// Lends the buffer, which belongs to the lease from here on. Throws PythonError (this interpreter is ending;
// the buffer is released again) or std::bad_alloc.
LeaseRef lend_buffer(ModuleState& state, BufferScope& buffer, const LendTerms& terms);
// Lends memory that the object keeps valid for as long as a reference to it exists (an ndarray).
LeaseRef lend_object(ModuleState& state, PyObject* object, std::size_t nbytes, const LendTerms& terms);

// The lease that already covers the memory of this object (a received view or array, a SharedBuffer, or what
// is based on one), so that sending it on does not nest. Empty: none.
LeaseRef existing_lease(ModuleState& state, PyObject* object) noexcept;

}  // namespace memchannel
