// A mutex for what is held for a few dozen instructions. Taking it where it is free, and leaving it where
// nobody sleeps, is one instruction each, in place. Who finds it taken looks for a moment before it sleeps: a
// hand-over brings both sides to the same lock at the same time, and a sleep costs twenty of them.
//
// For less than a microsecond: who is woken under the lock by a thread of its own core waits for one that
// goes on only when it sleeps.
#pragma once

#include <atomic>
#include <mutex>

namespace memchannel {

class BriefMutex {
   public:
    BriefMutex() noexcept = default;
    BriefMutex(const BriefMutex&) = delete;
    BriefMutex& operator=(const BriefMutex&) = delete;

    void lock() noexcept {
        if (!try_lock()) [[unlikely]]
            lock_taken();
    }
    bool try_lock() noexcept {
        int expected = unlocked;
        return state_.compare_exchange_strong(expected, locked, std::memory_order_acquire,
                                              std::memory_order_relaxed);
    }
    void unlock() noexcept {
        if (state_.exchange(unlocked, std::memory_order_release) == awaited) [[unlikely]]
            wake_one();
    }

   private:
    // awaited: locked, and somebody may sleep. Source of the three states: U. Drepper, "Futexes Are Tricky".
    static constexpr int unlocked = 0, locked = 1, awaited = 2;

    void lock_taken() noexcept;
    void sleep() noexcept;
    void wake_one() noexcept;

    std::atomic<int> state_{unlocked};
};

// Holds one for the length of a scope, or as long as it is told to: a std::unique_lock that is not moved and
// does not look for misuse, which is more than the rest of it.
class BriefLock {
   public:
    explicit BriefLock(BriefMutex& mutex) noexcept : mutex_(mutex) { lock(); }
    BriefLock(BriefMutex& mutex, std::defer_lock_t) noexcept : mutex_(mutex) {}
    BriefLock(const BriefLock&) = delete;
    BriefLock& operator=(const BriefLock&) = delete;
    ~BriefLock() {
        if (held_) mutex_.unlock();
    }
    void lock() noexcept {
        mutex_.lock();
        held_ = true;
    }
    void unlock() noexcept {
        held_ = false;
        mutex_.unlock();
    }

   private:
    BriefMutex& mutex_;
    bool held_ = false;
};

}  // namespace memchannel
