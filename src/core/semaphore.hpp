// A counter of permits. Nobody in particular has them: what an interpreter took and did not give back before
// its end is gone, as with the end of a thread.
#pragma once

#include "primitive.hpp"
#include "spin.hpp"
#include "turns.hpp"

namespace memchannel {

class Semaphore final : public Primitive {
   public:
    static constexpr std::size_t most = static_cast<std::size_t>(INT64_MAX);

    Semaphore(std::size_t value, bool bounded)
        : Primitive(bounded ? PrimitiveKind::bounded_semaphore : PrimitiveKind::semaphore),
          bound_(bounded ? value : most),
          value_(value) {}

    // ok; full: no permit is left; ending.
    Status try_acquire(const Caller& who) noexcept;
    Status enlist(TurnEntry& entry, const Caller& who) noexcept;  // the same, or parked instead of full
    void woken(TurnEntry& entry) noexcept;
    // ok; retry: begin again; timeout: not settled; ending.
    Status finish(TurnEntry& entry, const Caller& who) noexcept;
    void withdraw(TurnEntry& entry) noexcept;
    // misused: more than the bound.
    Status release(std::size_t count) noexcept;

    std::size_t value() const noexcept;
    std::size_t bound() const noexcept { return bound_; }
    Spin& spin() noexcept { return spin_; }

    void end_interpreter(OwnerId who) noexcept override;

   private:
    Status admit(const Caller& who) noexcept;

    const std::size_t bound_;
    Spin spin_;
    // All below: mutex_.
    std::size_t value_;
    TurnQueue turns_;
};

}  // namespace memchannel
