// The outcome of a task: written once by whoever runs it, awaited by whoever asked for it.
//
// The task's message carries it as a rider. When nobody is left who could run the task (the message was
// dropped, the worker ended), it is broken, so that no waiter is left behind.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "channel.hpp"
#include "message.hpp"
#include "mutex.hpp"
#include "waiter.hpp"

namespace memchannel {

class Completion final : public Transferable {
   public:
    enum class State : std::uint8_t { pending, running, succeeded, failed, cancelled, broken };

    static Handle<Completion> make();

    State state() const noexcept { return state_.load(std::memory_order_acquire); }
    bool done() const noexcept { return state() > State::running; }
    bool of_this_process() const noexcept;

    // The runner's side. start() is false if the task was cancelled.
    bool start() noexcept;
    void finish(Message result, bool succeeded) noexcept;

    // The asker's side.
    bool cancel() noexcept;
    // ok: so it is already; parked: enlisted.
    Status await(Entry& entry) noexcept;
    // Nobody who may run the task holds it, or any of its arguments.
    Status await_dropped(Entry& entry) noexcept;
    bool dropped() const noexcept;
    void withdraw(Entry& entry) noexcept;
    // A copy of the result message; empty if there is none (any more). Throws std::bad_alloc.
    Message result() const;
    void forget_result() noexcept;
    // The note is sent to the channel when the task is done, at once if it is already.
    void subscribe(Handle<Channel> channel, OwnerId subscriber, Message note);

    // Somebody who may run the task holds it.
    void packed(Side) noexcept override;
    void unpacked(Side) noexcept override;

   private:
    Completion() noexcept;
    bool settle(State state, Message result) noexcept;

    const unsigned generation_;
    std::atomic<State> state_{State::pending};  // written under mutex_
    mutable BriefMutex mutex_;
    // All below: mutex_.
    std::size_t runners_ = 0;
    EntryQueue waiters_;       // for the outcome
    EntryQueue drop_waiters_;  // for runners_ to become 0
    Message result_;
    Handle<Channel> subscription_;
    OwnerId subscriber_ = no_owner;
    Message note_;
};

// A runner's hold on a completion; letting go of the last one without finish() breaks it.
class Runner {
   public:
    explicit Runner(Handle<Completion> completion) noexcept : completion_(std::move(completion)) {
        completion_->packed(Side::none);
    }
    Runner(const Runner&) = delete;
    Runner& operator=(const Runner&) = delete;
    ~Runner() { completion_->unpacked(Side::none); }
    Completion* operator->() const noexcept { return completion_.get(); }

   private:
    const Handle<Completion> completion_;
};

}  // namespace memchannel
