#include "interrupt.hpp"

#include <algorithm>

namespace memchannel {

void InterruptTable::arm(const ArmedThread& thread) {
    std::lock_guard lock(mutex_);
    armed_.push_back(thread);
}

void InterruptTable::disarm(std::uint64_t token) noexcept {
    std::lock_guard lock(mutex_);
    std::erase_if(armed_, [token](const ArmedThread& one) { return one.token == token; });
}

void InterruptTable::mask(pid_t native_thread, bool masked) noexcept {
    std::lock_guard lock(mutex_);
    for (ArmedThread& one : armed_) {
        if (one.native_thread == native_thread) one.masked = masked;
    }
}

std::optional<ArmedThread> InterruptTable::find(std::uint64_t token) const noexcept {
    std::lock_guard lock(mutex_);
    const auto found = std::find_if(armed_.begin(), armed_.end(), [token](const ArmedThread& one) {
        return one.token == token && !one.masked;
    });
    if (found == armed_.end()) return std::nullopt;
    return *found;
}

}  // namespace memchannel
