#include "message.hpp"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

namespace memchannel {

Message Message::make(std::uint8_t kind, std::size_t header_size, std::size_t lease_count) {
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    if (header_size > most || lease_count > most / sizeof(Lease*)) throw std::bad_alloc();
    void* memory = std::malloc(sizeof(Body) + lease_count * sizeof(Lease*) + header_size);
    if (!memory) throw std::bad_alloc();
    Message message(new (memory) Body{nullptr, nullptr, static_cast<std::uint32_t>(header_size),
                                      static_cast<std::uint32_t>(lease_count), kind});
    for (Lease*& lease : message.leases()) lease = nullptr;
    return message;
}

void Message::destroy(Body* body) noexcept {
    if (!body) return;
    Message view(body);
    delete body->riders;
    for (Lease* lease : view.leases()) {
        if (lease) lease->drop();
    }
    view.body_ = nullptr;
    std::free(body);
}

std::span<Lease*> Message::leases() const noexcept {
    return {reinterpret_cast<Lease**>(body_ + 1), body_->lease_count};
}

std::span<std::byte> Message::header() const noexcept {
    return {reinterpret_cast<std::byte*>(body_ + 1) + body_->lease_count * sizeof(Lease*),
            body_->header_size};
}

LeaseRef Message::take_lease(std::size_t index) const noexcept {
    return LeaseRef::adopt(std::exchange(leases()[index], nullptr));
}

std::span<const Rider> Message::riders() const noexcept {
    return body_->riders ? std::span<const Rider>(*body_->riders) : std::span<const Rider>();
}

void Message::add_rider(Handle<Transferable> object, Side side) {
    if (!body_->riders) body_->riders = new std::vector<Rider>();
    body_->riders->emplace_back(std::move(object), side);
}

Message Message::clone() const {
    Message copy = make(body_->kind, body_->header_size, body_->lease_count);
    std::memcpy(copy.header().data(), header().data(), body_->header_size);
    for (std::size_t i = 0; i < body_->lease_count; ++i) {
        Lease* const lease = leases()[i];
        if (lease) lease->retain();
        copy.leases()[i] = lease;
    }
    if (body_->riders) copy.body_->riders = new std::vector<Rider>(*body_->riders);
    return copy;
}

void MessageQueue::push(Message&& message) noexcept {
    Message::Body* const body = std::exchange(message.body_, nullptr);
    body->next = nullptr;
    (tail_ ? tail_->next : head_) = body;
    tail_ = body;
    ++size_;
}

Message MessageQueue::pop() noexcept {
    Message::Body* const body = head_;
    head_ = body->next;
    if (!head_) tail_ = nullptr;
    body->next = nullptr;
    --size_;
    return Message(body);
}

void MessageQueue::swap(MessageQueue& other) noexcept {
    std::swap(head_, other.head_);
    std::swap(tail_, other.tail_);
    std::swap(size_, other.size_);
}

}  // namespace memchannel
