// One blocked call, parked on its own semaphore and settled exactly once.
//
// A call may wait in several queues at a time (select); it has one Entry in each. Whoever can complete it
// calls settle(), one compare-exchange: wake, time-out, close and interrupt cannot all win (the technique of
// crossbeam's Context). Rule for the waiter's lifetime: settle() is called only under a lock that the waiting
// call takes once more before it returns, so the Waiter outlives the post on its semaphore.
#pragma once

#include <semaphore.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <unordered_set>
#include <vector>

#include "deadline.hpp"
#include "lease.hpp"
#include "side.hpp"
#include "spin.hpp"
#include "status.hpp"

namespace memchannel {

struct Settlement {
    Status status = Status::parked;
    std::uint32_t index = 0;  // which entry of the call
};

// What a call waits for: one side of a channel, or a primitive (no side).
struct Target {
    std::uint64_t object = 0;
    Side side = Side::none;
};

// What dump_waits() tells of a parked call.
struct Waiting {
    OwnerId interpreter = no_owner;
    pid_t thread = 0;
    const char* verb = "";  // "recv", "send", "select", ...
    std::vector<Target> targets;
    std::int64_t since_ns = 0;  // monotonic clock
    bool timed = false;         // ends by itself
};

class Notifier;

class Waiter {
   public:
    Waiter(OwnerId interpreter, const char* verb, std::uint64_t object, Side side = Side::none);
    ~Waiter();
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

    // Decides the call. True for exactly one caller.
    bool settle(Status status, std::uint32_t index) noexcept;
    bool settled() const noexcept { return phase(state_.load(std::memory_order_acquire)) == done; }
    Settlement settlement() const noexcept;

    // Detached. ok: settled; timeout, interrupted: not (yet), and the call is still enlisted.
    Status wait(Deadline deadline, Spin* spin) noexcept;
    // Detached. Only the short spin that wait() begins with, when it is worth it; true: settled.
    bool look(Spin& spin) noexcept;
    // Instead of wait(): the settlement is announced to the notifier. False: settled already. `tag` is the
    // caller's, and valid as long as the waiter.
    bool leave_to(Notifier& notifier, void* tag) noexcept;
    // Forget the settlement, to go through the queues again. Only by the waiting thread, while in no queue.
    void begin_again() noexcept;

    // For dump_waits(); before the wait. The targets are the caller's, and valid as long as the waiter.
    void aim(std::span<const Target> targets) noexcept { targets_ = targets; }
    void limit(Deadline deadline) noexcept { timed_ = !deadline.is_never(); }

    OwnerId interpreter() const noexcept { return interpreter_; }
    const char* verb() const noexcept { return verb_; }
    const Target& target() const noexcept { return target_; }
    void* tag() const noexcept { return tag_; }

   private:
    friend class WaiterList;
    friend class Notifier;
    static constexpr std::uint64_t pending = 0, parked = 1, done = 2;
    static constexpr std::uint64_t phase(std::uint64_t state) noexcept { return state & 3; }

    Status park(Deadline deadline) noexcept;
    void enlist() noexcept;
    Waiting about() const;

    bool nudge() noexcept;

    std::atomic<std::uint64_t> state_{pending};  // phase | status << 8 | index << 32
    std::atomic<bool> nudged_{false};            // to be looked at once more before, or instead of, parking
    sem_t semaphore_;
    // All below but the links: the waiting thread, before it is listed.
    const OwnerId interpreter_;
    const char* const verb_;
    const Target target_;
    std::span<const Target> targets_;
    std::int64_t since_ns_ = 0;
    pid_t thread_ = 0;
    bool timed_ = false;
    bool listed_ = false;
    Notifier* notifier_ = nullptr;  // who is told; otherwise the semaphore is posted
    void* tag_ = nullptr;
    Waiter* prev_ = nullptr;  // WaiterList's mutex
    Waiter* next_ = nullptr;
    Waiter* told_prev_ = nullptr;  // the notifier's mutex
    Waiter* told_next_ = nullptr;
    bool told_ = false;
};

// Every parked call of the process: to show them, and to wake those of an interpreter that ends.
class WaiterList {
   public:
    void add(Waiter& waiter) noexcept;
    void remove(Waiter& waiter) noexcept;
    // Present and future calls of this interpreter are settled with Status::ending.
    void end(OwnerId interpreter);
    // Settles the call that this thread is parked in, if any, with Status::interrupted.
    bool interrupt(OwnerId interpreter, pid_t thread) noexcept;
    // Lets one parked call of the interpreter look around as after a signal, undecided as it is. One that is
    // about to park does so before: add() looks whether callbacks are queued.
    void nudge(OwnerId interpreter) noexcept;
    std::size_t size() const noexcept;
    std::vector<Waiting> snapshot() const;

   private:
    mutable std::mutex mutex_;
    Waiter* head_ = nullptr;
    std::size_t size_ = 0;
    std::unordered_set<OwnerId> ended_;  // interpreter ids are never reused
};

class EntryQueue;

// A call's place in one queue. Guarded by the lock of the queue's object.
struct Entry {
    Waiter* waiter = nullptr;
    std::uint32_t index = 0;
    Entry* prev = nullptr;
    Entry* next = nullptr;
    EntryQueue* queue = nullptr;  // the one it stands in
};

// First come, first served.
class EntryQueue {
   public:
    EntryQueue() = default;
    EntryQueue(const EntryQueue&) = delete;
    EntryQueue& operator=(const EntryQueue&) = delete;

    bool empty() const noexcept { return head_ == nullptr; }
    std::size_t size() const noexcept { return size_.load(std::memory_order_relaxed); }  // any thread may ask
    Entry* front() const noexcept { return head_; }
    void push_back(Entry& entry) noexcept;
    void push_front(Entry& entry) noexcept;
    void remove(Entry& entry) noexcept;
    // The first entry that is still undecided and not one of this call's own.
    Entry* first_other(const Waiter* self) const noexcept;
    // Settles the first entry that is still undecided and takes it out, with those found decided on the way.
    Entry* settle_first(Status status) noexcept;
    void settle_all(Status status) noexcept {
        while (!empty() && settle_first(status)) {
        }
    }
    void settle_all_of(OwnerId interpreter, Status status) noexcept;

   private:
    void count(int change) noexcept {
        size_.store(size() + static_cast<std::size_t>(change), std::memory_order_relaxed);
    }

    Entry* head_ = nullptr;
    Entry* tail_ = nullptr;
    std::atomic<std::size_t> size_ = 0;  // written under the lock only, so that a plain store does
};

}  // namespace memchannel
