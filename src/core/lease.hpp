// A lease: a counted claim on lent memory. Everything that can reach the memory (a view, an array, a queued
// message) holds one count; when the last one ends, the memory goes back to where it came from.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "object.hpp"

namespace memchannel {

using OwnerId = std::int64_t;            // an interpreter's id
inline constexpr OwnerId no_owner = -1;  // memory that belongs to no interpreter
inline constexpr std::uint64_t no_channel = 0;

class Owner;

class Lease {
   public:
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    void retain() noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
    // Each drop happens before what the last one does: the holder's reads are over when memory goes back. The
    // only holder needs no read-modify-write: nobody else is left who could retain it.
    void drop() noexcept {
        if (count_.load(std::memory_order_acquire) == 1 ||
            count_.fetch_sub(1, std::memory_order_acq_rel) == 1)
            ended();
    }
    long holders() const noexcept { return count_.load(std::memory_order_acquire); }

    virtual OwnerId owner_id() const noexcept = 0;
    // Of the memory, as far as it is known.
    virtual std::size_t nbytes() const noexcept { return 0; }
    // Must have one holder at a time: not for broadcasts.
    virtual bool exclusive() const noexcept { return false; }

   protected:
    Lease() noexcept = default;
    virtual ~Lease() = default;
    virtual void ended() noexcept = 0;

   private:
    std::atomic<long> count_{1};
};

using LeaseRef = Handle<Lease>;

// Memory that an interpreter lends. Accounted by OwnerTable, which also finds the way back into the owner.
class OwnedLease : public Lease {
   public:
    OwnedLease(Owner& owner, std::size_t nbytes, std::uint64_t channel, bool deferred) noexcept
        : owner_(&owner), nbytes_(nbytes), channel_(channel), deferred_(deferred) {}

    // Runs attached to the owner, exactly once, unless the lease is abandoned. Must not throw.
    virtual void give_back() noexcept = 0;

    Owner& owner() const noexcept { return *owner_; }
    OwnerId owner_id() const noexcept override;
    std::size_t nbytes() const noexcept override { return nbytes_; }
    std::uint64_t channel() const noexcept { return channel_; }
    bool deferred() const noexcept { return deferred_; }

   protected:
    ~OwnedLease() override = default;
    void ended() noexcept override;

   private:
    friend class OwnerTable;
    Owner* const owner_;
    const std::size_t nbytes_;
    const std::uint64_t channel_;  // over which it was lent first
    const bool deferred_;
    std::uint64_t trace_id_ = 0;  // written before it is lent
    OwnedLease* prev_ = nullptr;  // OwnerTable's mutex: the owner's list of live leases
    OwnedLease* next_ = nullptr;
    OwnedLease* pending_next_ = nullptr;  // OwnerTable's mutex: waiting to be given back
    bool abandoned_ = false;              // OwnerTable's mutex: the owner ended while this was out
};

}  // namespace memchannel
