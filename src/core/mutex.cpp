#include "mutex.hpp"

#include "spin.hpp"

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace memchannel {

namespace {

constexpr int looks = 12;

}  // namespace

void BriefMutex::lock_taken() noexcept {
    for (int i = 0; i < looks; ++i) {
        detail::cpu_relax();
        if (state_.load(std::memory_order_relaxed) == unlocked && try_lock()) return;
    }
    // Whoever has slept cannot know whether others still do: it takes the lock as awaited.
    while (state_.exchange(awaited, std::memory_order_acquire) != unlocked) sleep();
}

// Both leave errno as it is: destructors of CPython's callers come by here.
#ifdef __linux__

// The kernel looks at the state once more: no wake-up is lost in between (futex(2)). It may also return for
// no reason.
void BriefMutex::sleep() noexcept {
    static_assert(sizeof state_ == sizeof(int) && std::atomic<int>::is_always_lock_free);
    const int error = errno;
    syscall(SYS_futex, &state_, FUTEX_WAIT_PRIVATE, awaited, nullptr);
    errno = error;
}

// The mutex may be gone by now, with whoever took it next: then nobody sleeps there, and at worst somebody
// who sleeps on what has its place is woken for no reason.
void BriefMutex::wake_one() noexcept {
    const int error = errno;
    syscall(SYS_futex, &state_, FUTEX_WAKE_PRIVATE, 1);
    errno = error;
}

#else

void BriefMutex::sleep() noexcept { state_.wait(awaited); }
void BriefMutex::wake_one() noexcept { state_.notify_one(); }

#endif

}  // namespace memchannel
