// A lock that one thread holds at a time; recursive or not. The interpreter that took it is on record: when
// it ends, the lock is free, and the next taker is told instead of getting it.
#pragma once

#include "primitive.hpp"
#include "spin.hpp"
#include "turns.hpp"

namespace memchannel {

struct Holder {
    OwnerId interpreter = no_owner;
    ThreadId thread;
};

class Lock final : public Primitive {
   public:
    explicit Lock(bool recursive)
        : Primitive(recursive ? PrimitiveKind::recursive_lock : PrimitiveKind::lock), recursive_(recursive) {}

    // ok; full: held by another; abandoned; ending.
    Status try_acquire(const Caller& who) noexcept;
    // The same, or parked instead of full.
    Status enlist(TurnEntry& entry, const Caller& who) noexcept;
    void woken(TurnEntry& entry) noexcept;
    // ok; retry: begin again; timeout: not settled; abandoned; ending.
    Status finish(TurnEntry& entry, const Caller& who) noexcept;
    void withdraw(TurnEntry& entry) noexcept;
    // misused: not held, or, if recursive, held by another.
    Status release(const Caller& who) noexcept;

    // For conditions: lets go whatever the depth, which restore() puts back once the lock was acquired.
    Status release_all(const Caller& who, std::size_t& depth) noexcept;
    void restore(std::size_t depth) noexcept;

    bool recursive() const noexcept { return recursive_; }
    bool held() const noexcept;
    bool held_by(const Caller& who) const noexcept;
    Holder holder() const noexcept;
    OwnerId abandoned_by() const noexcept;  // the last that was
    std::size_t depth() const noexcept;
    Spin& spin() noexcept { return spin_; }

    void end_interpreter(OwnerId who) noexcept override;

   private:
    bool is_holder(const Caller& who) const noexcept {
        return depth_ != 0 && holder_.thread.number == who.thread.number;
    }
    std::size_t free() const noexcept { return depth_ == 0; }
    Status take(const Caller& who) noexcept;
    Status admit(const Caller& who) noexcept;
    void free_up() noexcept;

    const bool recursive_;
    Spin spin_;
    // All below: mutex_.
    Holder holder_;  // if the depth is not 0
    std::size_t depth_ = 0;
    bool abandoned_ = false;
    OwnerId abandoned_by_ = no_owner;
    TurnQueue turns_;
};

}  // namespace memchannel
