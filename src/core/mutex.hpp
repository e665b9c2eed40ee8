// A mutex for what is held for a few dozen instructions. Who finds it taken looks for a moment before it
// sleeps: a hand-over brings both sides to the same lock at the same time, and a sleep costs twenty of them.
//
// For less than a microsecond: who is woken under the lock by a thread of its own core waits for one that
// goes on only when it sleeps. glibc's adaptive mutex looks for several then, each time.
#pragma once

#include <mutex>

#include "spin.hpp"

namespace memchannel {

class BriefMutex {
   public:
    void lock() noexcept {
        for (int i = 0; i < looks; ++i) {
            if (mutex_.try_lock()) return;
            detail::cpu_relax();
        }
        mutex_.lock();  // does not fail: no thread takes it twice (POSIX)
    }
    bool try_lock() noexcept { return mutex_.try_lock(); }
    void unlock() noexcept { mutex_.unlock(); }

   private:
    static constexpr int looks = 12;

    std::mutex mutex_;
};

}  // namespace memchannel
