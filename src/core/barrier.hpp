// A meeting point of a fixed number of calls. One of those who arrive may have something to do before all go
// on; a party that gives up, or whose interpreter ends, breaks the barrier for all.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "primitive.hpp"
#include "spin.hpp"
#include "waiter.hpp"

namespace memchannel {

class Barrier final : public Primitive {
   public:
    // The time-out is for calls that give none.
    Barrier(std::size_t parties, bool has_action, std::optional<double> timeout = {})
        : Primitive(PrimitiveKind::barrier), parties_(parties), has_action_(has_action), timeout_(timeout) {}

    // What an arrival leads to: parked; broken; ok, and `place` tells the last call's (the number of parties
    // less one). With an action, the last call acts and then ends the meeting by end_action().
    struct Arrival {
        Status status;
        bool acts;
        std::uint64_t meeting;
    };
    Arrival arrive(Entry& entry, OwnerId who) noexcept;
    // False: the barrier was broken or reset meanwhile.
    bool end_action(std::uint64_t meeting, bool succeeded) noexcept;
    // ok: all have arrived, and the waiter's settlement has this call's place; retry: arrive again; broken;
    // timeout: not settled in time, which broke the barrier; ending.
    Status finish(Entry& entry) noexcept;
    // Leaves without breaking the barrier: the others go on waiting for somebody.
    void withdraw(Entry& entry) noexcept;
    void abort() noexcept;
    void reset() noexcept;

    std::size_t parties() const noexcept { return parties_; }
    std::optional<double> timeout() const noexcept { return timeout_; }
    // What the bindings know the action by where it was not made; empty until it is needed.
    std::vector<std::byte> action() const;
    void set_action(std::vector<std::byte> action) noexcept;
    std::size_t waiting() const noexcept;
    bool broken() const noexcept;
    Spin& spin() noexcept { return spin_; }

    void end_interpreter(OwnerId who) noexcept override;

   private:
    void break_all() noexcept;
    void let_go() noexcept;

    const std::size_t parties_;
    const bool has_action_;
    const std::optional<double> timeout_;  // seconds
    Spin spin_;
    // All below: mutex_.
    EntryQueue waiting_;  // of this meeting
    EntryQueue early_;    // came while the action runs: for the next meeting
    OwnerId acting_ = no_owner;
    std::uint64_t meeting_ = 0;
    bool broken_ = false;
    std::vector<std::byte> action_;
};

}  // namespace memchannel
