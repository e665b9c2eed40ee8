#include "callbacks.hpp"

#include <utility>

namespace memchannel {

void CallbackTable::push(OwnerId interpreter, Message&& call) {
    std::lock_guard lock(mutex_);
    queues_[interpreter].push(std::move(call));
    total_.fetch_add(1, std::memory_order_release);
}

Message CallbackTable::pop(OwnerId interpreter) noexcept {
    if (total_.load(std::memory_order_acquire) == 0) return {};
    std::lock_guard lock(mutex_);
    const auto found = queues_.find(interpreter);
    if (found == queues_.end()) return {};
    Message call = found->second.pop();
    total_.fetch_sub(1, std::memory_order_relaxed);
    if (found->second.empty()) queues_.erase(found);
    return call;
}

bool CallbackTable::any(OwnerId interpreter) const noexcept {
    if (total_.load(std::memory_order_acquire) == 0) return false;
    std::lock_guard lock(mutex_);
    return queues_.contains(interpreter);
}

void CallbackTable::clear(OwnerId interpreter) noexcept {
    while (pop(interpreter)) {
    }
}

}  // namespace memchannel
