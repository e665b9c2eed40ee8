// Threads that may be interrupted from elsewhere: who runs what, so that a Ctrl-C of the main thread reaches
// the thread that works for it in another interpreter.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "lease.hpp"

namespace memchannel {

struct ArmedThread {
    std::uint64_t token = 0;  // chosen by those who may interrupt; one for each piece of work
    OwnerId interpreter = no_owner;
    unsigned long thread = 0;  // as the host's own interruption wants it
    pid_t native_thread = 0;   // as a Waiter knows it
    bool masked = false;
};

// Arming and disarming is done attached to the thread's interpreter, and so is interrupting: a thread that is
// found armed by somebody attached there stays armed for as long as that one stays attached.
class InterruptTable {
   public:
    void arm(const ArmedThread& thread);
    void disarm(std::uint64_t token) noexcept;
    // Masked threads are not found.
    void mask(pid_t native_thread, bool masked) noexcept;
    std::optional<ArmedThread> find(std::uint64_t token) const noexcept;

   private:
    mutable std::mutex mutex_;
    std::vector<ArmedThread> armed_;
};

}  // namespace memchannel
