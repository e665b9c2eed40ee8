#include "broadcast.hpp"

#include <utility>

namespace memchannel {

Message Backlog::pop() noexcept {
    Message::Body* const body = first_;
    // The link of the last one is not ours to read: it may be about to be published to others.
    first_ = --size_ ? body->next : nullptr;
    if (!first_) last_ = nullptr;
    if (body->riders) --with_riders_;
    Message::count_queued(*body, -1);
    return Message(body);
}

void Backlog::swap(Backlog& other) noexcept {
    std::swap(first_, other.first_);
    std::swap(last_, other.last_);
    std::swap(size_, other.size_);
    std::swap(with_riders_, other.with_riders_);
}

Publication::Publication(Message&& message, std::size_t readers) noexcept
    : body_(std::exchange(message.body_, nullptr)) {
    body_->next = nullptr;
    body_->holders.store(static_cast<std::uint32_t>(readers), std::memory_order_relaxed);
}

void Publication::deliver(Backlog& backlog) const noexcept {
    // All backlogs that are not empty end with the same message, which is alive as long as one of them is.
    (backlog.size_ ? backlog.last_->next : backlog.first_) = body_;
    backlog.last_ = body_;
    ++backlog.size_;
    if (body_->riders) ++backlog.with_riders_;
    Message::count_queued(*body_, 1);
}

}  // namespace memchannel
