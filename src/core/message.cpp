#include "message.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

namespace memchannel {

namespace {

std::atomic<std::ptrdiff_t> with_riders{0};

}  // namespace

std::ptrdiff_t queued_with_riders() noexcept { return with_riders.load(std::memory_order_relaxed); }

void Message::count_queued(const Body& body, int change) noexcept {
    if (body.riders) with_riders.fetch_add(change, std::memory_order_relaxed);
}

[[gnu::hot]] Message Message::make(std::uint8_t kind, std::size_t header_size, std::size_t lease_count) {
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    if (header_size > most || lease_count > most / sizeof(Lease*)) throw std::bad_alloc();
    void* memory = std::malloc(sizeof(Body) + lease_count * sizeof(Lease*) + header_size);
    if (!memory) throw std::bad_alloc();
    Message message(new (memory) Body{nullptr, nullptr, static_cast<std::uint32_t>(header_size),
                                      static_cast<std::uint32_t>(lease_count), 1, kind, 0});
    for (Lease*& lease : message.leases()) lease = nullptr;
    return message;
}

[[gnu::hot]] void Message::destroy(Body* body) noexcept {
    if (!body) return;
    // The only holder needs no read-modify-write: nobody else is left who could share it.
    if (body->holders.load(std::memory_order_acquire) != 1 &&
        body->holders.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    for (Lease* lease : leases(body)) {
        if (lease) lease->drop();
    }
    end(body->riders);  // last: whoever waits for them finds the leases gone, too
    std::free(body);
}

// A rider may be the last reference on a channel whose queued messages have riders, and so on, thousands
// deep: those met on the way wait until the stack is down again.
void Message::end(Riders* riders) noexcept {
    struct Pending {
        bool running = false;
        Riders* first = nullptr;
    };
    static thread_local Pending pending;
    if (!riders) return;
    riders->next = std::exchange(pending.first, riders);
    if (pending.running) return;
    pending.running = true;
    while (Riders* const one = pending.first) {
        pending.first = one->next;
        delete one;
    }
    pending.running = false;
}

std::span<std::byte> Message::header() const noexcept {
    return {reinterpret_cast<std::byte*>(body_ + 1) + body_->lease_count * sizeof(Lease*),
            body_->header_size};
}

[[gnu::hot]] LeaseRef Message::take_lease(std::size_t index) const noexcept {
    Lease*& lease = leases()[index];
    return shared() ? LeaseRef::share(lease) : LeaseRef::adopt(std::exchange(lease, nullptr));
}

bool Message::exclusive(Body* body) noexcept {
    return std::ranges::any_of(leases(body), [](const Lease* lease) { return lease && lease->exclusive(); });
}

std::size_t Message::nbytes(Body* body) noexcept {
    std::size_t all = body->header_size;
    for (const Lease* lease : leases(body)) all += lease ? lease->nbytes() : 0;
    return all;
}

std::span<const Rider> Message::riders() const noexcept {
    return body_->riders ? std::span<const Rider>(body_->riders->list) : std::span<const Rider>();
}

void Message::add_rider(Handle<Transferable> object, Side side) {
    if (!body_->riders) body_->riders = new Riders;
    body_->riders->list.emplace_back(std::move(object), side);
}

Message Message::share() const noexcept {
    body_->holders.fetch_add(1, std::memory_order_relaxed);
    return Message(body_);
}

Message Message::clone() const {
    Message copy = make(body_->kind, body_->header_size, body_->lease_count);
    std::memcpy(copy.header().data(), header().data(), body_->header_size);
    for (std::size_t i = 0; i < body_->lease_count; ++i) {
        Lease* const lease = leases()[i];
        if (lease) lease->retain();
        copy.leases()[i] = lease;
    }
    copy.body_->trace_id = body_->trace_id;
    if (body_->riders) copy.body_->riders = new Riders{body_->riders->list};
    return copy;
}

bool MessageQueue::exclusive() const noexcept {
    for (Message::Body* body = head_; body; body = body->next) {
        if (Message::exclusive(body)) return true;
    }
    return false;
}

std::size_t MessageQueue::nbytes() const noexcept {
    std::size_t all = 0;
    for (Message::Body* body = head_; body; body = body->next) all += Message::nbytes(body);
    return all;
}

void MessageQueue::set_trace_ids(std::uint64_t first) noexcept {
    for (Message::Body* body = head_; body; body = body->next) body->trace_id = first++;
}

void MessageQueue::count(const Message::Body& body, int change) noexcept {
    size_.store(size() + static_cast<std::size_t>(change), std::memory_order_relaxed);
    if (!body.riders) return;
    with_riders_ += static_cast<std::size_t>(change);
    Message::count_queued(body, change);
}

[[gnu::hot]] void MessageQueue::push(Message&& message) noexcept {
    Message::Body* const body = std::exchange(message.body_, nullptr);
    body->next = nullptr;
    (tail_ ? tail_->next : head_) = body;
    tail_ = body;
    count(*body, 1);
}

void MessageQueue::push_front(Message&& message) noexcept {
    Message::Body* const body = std::exchange(message.body_, nullptr);
    body->next = head_;
    head_ = body;
    if (!tail_) tail_ = body;
    count(*body, 1);
}

[[gnu::hot]] Message MessageQueue::pop() noexcept {
    Message::Body* const body = head_;
    head_ = body->next;
    if (!head_) tail_ = nullptr;
    body->next = nullptr;
    count(*body, -1);
    return Message(body);
}

void MessageQueue::swap(MessageQueue& other) noexcept {
    std::swap(head_, other.head_);
    std::swap(tail_, other.tail_);
    const std::size_t mine = size();
    size_.store(other.size(), std::memory_order_relaxed);
    other.size_.store(mine, std::memory_order_relaxed);
    std::swap(with_riders_, other.with_riders_);
}

}  // namespace memchannel
