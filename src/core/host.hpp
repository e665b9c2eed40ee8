// What the core asks of the runtime it is embedded in. The bindings implement it with thread states, the
// core's own tests with plain threads.
#pragma once

#include <cstdint>
#include <vector>

#include "lease.hpp"

namespace memchannel {

// A thread's stay in another interpreter: what to go back to, and what was entered.
struct Visit {
    void* home = nullptr;
    void* entered = nullptr;
};

class Host {
   public:
    // The interpreter that the calling thread is attached to, or no_owner.
    virtual OwnerId current() const noexcept = 0;
    // Leaves where the thread is and attaches it to the owner; false: not possible now (no memory).
    virtual bool enter(Owner& owner, Visit& visit) noexcept = 0;
    // Leaves the owner; the thread is attached to nothing afterwards.
    virtual void leave(Visit& visit) noexcept = 0;
    // Back to where enter() found the thread. May never return when that interpreter is finalizing.
    virtual void resume(Visit& visit) noexcept = 0;
    // One reference on the interpreter itself, so that it does not go away by itself. drop() may end it.
    virtual void hold(Owner& owner) noexcept = 0;
    virtual void drop(Owner& owner) noexcept = 0;
    // From now on the interpreter ends with the last reference, of which there is one.
    virtual void end_with_references(Owner& owner) noexcept = 0;
    // Let go of the calling thread's interpreter for the length of a wait, and come back.
    virtual void* detach() noexcept = 0;
    virtual void reattach(void* token) noexcept = 0;
    // A view of an interpreter that ended by force was dropped: told once per owner, attached somewhere.
    virtual void warn_abandoned(OwnerId owner, std::size_t leases,
                                const std::vector<std::uint64_t>& channels) noexcept = 0;

   protected:
    ~Host() = default;
};

}  // namespace memchannel
