// How an event loop learns that calls which wait in it were settled: an event descriptor that it watches with
// its other ones, so that a waiting call needs no thread and no poll. The descriptor is written only when the
// loop has seen it all before (armed), so a burst of settlements costs one write and one wake-up.
#pragma once

#include <mutex>

#include "waiter.hpp"

namespace memchannel {

class Notifier {
   public:
    // See fd(): -1, with errno set, when the process has no descriptor left.
    Notifier() noexcept;
    ~Notifier();
    Notifier(const Notifier&) = delete;
    Notifier& operator=(const Notifier&) = delete;

    int fd() const noexcept { return fd_; }
    // Called once the descriptor is readable: the next settled waiter, or nullptr when all were told, and the
    // descriptor is armed again.
    Waiter* next() noexcept;

   private:
    friend class Waiter;
    void tell(Waiter& waiter) noexcept;
    void forget(Waiter& waiter) noexcept;
    void unlink(Waiter& waiter) noexcept;

    const int fd_;
    std::mutex mutex_;
    // All below: mutex_.
    Waiter* first_ = nullptr;
    Waiter* last_ = nullptr;
    bool armed_ = true;
};

}  // namespace memchannel
