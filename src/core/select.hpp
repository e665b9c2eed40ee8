// Go's select: the first of several sends and receives that can happen does, and only that one.
#pragma once

#include <deque>
#include <span>

#include "channel.hpp"

namespace memchannel {

class Select {
   public:
    // For a send the message is the one to send; for a receive it is where the received one goes.
    struct Case {
        Handle<Channel> channel;
        Side side;
        Message message;
    };

    Select(OwnerId who, std::span<Case> cases, std::uint64_t seed);
    ~Select();

    Waiter& waiter() noexcept { return waiter_; }
    // Tries all without waiting, in random order. empty: none is ready.
    Status try_now(std::uint32_t& chosen);
    // ok and errors: decided, see chosen; parked: wait, then finish().
    Status enlist(std::uint32_t& chosen);
    // retry: begin again; timeout: nothing was decided.
    Status finish(std::uint32_t& chosen) noexcept;
    // The call raises: gives up what it was granted. True if a send was already done, see chosen.
    bool give_up(std::uint32_t& chosen) noexcept;
    void begin_again() noexcept { waiter_.begin_again(); }

    // Whether trying settles the call.
    static bool decided(Status status) noexcept {
        return status != Status::empty && status != Status::full && status != Status::retry;
    }

   private:
    void prepare();
    std::uint32_t draw_case(std::size_t drawn) noexcept;
    void withdraw_all_but(std::uint32_t index) noexcept;

    const OwnerId who_;
    const std::span<Case> cases_;
    bool prepared_ = false;  // targets and entries are only made when no case is ready at once
    std::vector<Target> targets_;
    Waiter waiter_;
    std::deque<RecvEntry> recv_entries_;  // by case; unused ones stay idle
    std::deque<SendEntry> send_entries_;
    // Fair among the ready ones whichever they are: an order that only begins anywhere would favour those
    // that stand behind cases that are not ready.
    std::vector<std::uint32_t> order_;
    std::uint64_t random_;
};

}  // namespace memchannel
