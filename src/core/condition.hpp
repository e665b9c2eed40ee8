// Calls that let a lock go and wait to be told, oldest first. A notification that its call cannot use any
// more goes to the next one.
#pragma once

#include "lock.hpp"

namespace memchannel {

class Condition final : public Primitive {
   public:
    explicit Condition(Handle<Lock> lock) : Primitive(PrimitiveKind::condition), lock_(std::move(lock)) {}

    Lock& lock() const noexcept { return *lock_; }

    // To be called with the lock held, which is let go only after that.
    void enlist(Entry& entry) noexcept;
    // ok: notified; timeout: not settled; ending. The lock has to be acquired again, whatever came of it.
    Status finish(Entry& entry) noexcept;
    void withdraw(Entry& entry) noexcept;
    void notify(std::size_t count) noexcept;
    std::size_t waiting() const noexcept;
    Spin& spin() noexcept { return spin_; }

    void end_interpreter(OwnerId who) noexcept override;

   private:
    void wake(std::size_t count) noexcept;

    const Handle<Lock> lock_;
    Spin spin_;
    // All below: mutex_.
    EntryQueue waiting_;   // undecided
    EntryQueue notified_;  // not yet come
};

}  // namespace memchannel
