#include "notifier.hpp"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace memchannel {

Notifier::Notifier() noexcept : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

Notifier::~Notifier() {
    if (fd_ >= 0) close(fd_);
}

void Notifier::tell(Waiter& waiter) noexcept {
    std::lock_guard lock(mutex_);
    waiter.told_ = true;
    waiter.told_prev_ = last_;
    waiter.told_next_ = nullptr;
    (last_ ? last_->told_next_ : first_) = &waiter;
    last_ = &waiter;
    if (!armed_) return;
    armed_ = false;
    // Cannot fail for want of room: the counter is 0 while armed.
    const std::uint64_t one = 1;
    while (write(fd_, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

Waiter* Notifier::next() noexcept {
    std::lock_guard lock(mutex_);
    Waiter* const waiter = first_;
    if (waiter) {
        unlink(*waiter);
    } else if (!armed_) {
        armed_ = true;
        std::uint64_t count;
        // It never blocks (EFD_NONBLOCK). NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection)
        while (read(fd_, &count, sizeof count) < 0 && errno == EINTR) {
        }
    }
    return waiter;
}

void Notifier::forget(Waiter& waiter) noexcept {
    std::lock_guard lock(mutex_);
    if (waiter.told_) unlink(waiter);
}

void Notifier::unlink(Waiter& waiter) noexcept {
    waiter.told_ = false;
    (waiter.told_prev_ ? waiter.told_prev_->told_next_ : first_) = waiter.told_next_;
    (waiter.told_next_ ? waiter.told_next_->told_prev_ : last_) = waiter.told_prev_;
}

}  // namespace memchannel
