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

std::optional<ArmedThread> InterruptTable::find(std::uint64_t token) const noexcept {
    std::lock_guard lock(mutex_);
    const auto found = std::find_if(armed_.begin(), armed_.end(),
                                    [token](const ArmedThread& one) { return one.token == token; });
    if (found == armed_.end()) return std::nullopt;
    return *found;
}

}  // namespace memchannel
