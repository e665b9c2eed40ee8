// Leases that many messages share: the tasks of one map often carry the same array.
#pragma once

#include <cstddef>
#include <list>
#include <unordered_map>

#include "core/lease.hpp"
#include "state.hpp"

namespace memchannel {

// Bytes of this interpreter. The object tells apart what a resized array was and is; for a buffer, which
// cannot move while it is exported, the address alone says what it is.
struct Memory {
    const PyObject* object;  // an ndarray, or nullptr
    const void* data;
    std::size_t nbytes;
    bool operator==(const Memory&) const noexcept = default;
};

// Used by one interpreter only, attached to it. A lease is kept until clear(), but not longer than somebody
// else has the object: of a generator's arrays, which cannot come again, few are held.
class Lendings {
   public:
    // Empty: nothing is known of that memory.
    LeaseRef find(const Memory& memory) const noexcept;
    // `holder` is the object that the lease, which must hold one reference to it, keeps the memory by.
    // Throws std::bad_alloc.
    void add(const Memory& memory, PyObject* holder, const LeaseRef& lease);
    void clear() noexcept;

   private:
    struct Entry {
        Memory memory;
        PyObject* holder;  // borrowed from the lease
        LeaseRef lease;

        bool may_come_again() const noexcept { return lease->holders() > 1 || Py_REFCNT(holder) > 1; }
    };
    using Entries = std::list<Entry>;
    struct Hash {
        std::size_t operator()(const Memory& memory) const noexcept;
    };

    Entries entries_;  // those that were looked at last come last
    std::unordered_map<Memory, Entries::iterator, Hash> by_memory_;
};

// What a task is submitted with; nullptr: none, for None. Throws PythonError: neither.
Lendings* lendings_of(ModuleState& state, PyObject* object);

bool add_lendings_type(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
