// What travels: header bytes, leases, and riders (core objects sent along, such as channel ends).
//
// One allocation holds all of it, so that a queued message costs one malloc and a link. A message can have
// several holders (receivers of a broadcast, a receiver that may yet put it back): its content is constant
// from the moment it is sent, and the last holder ends it.
//
// Functions that every message passes are marked [[gnu::hot]], here and elsewhere: the linker puts them side
// by side, where they take the least of the instruction cache.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "lease.hpp"
#include "object.hpp"
#include "side.hpp"

namespace memchannel {

// An object that can be sent along. While a message holds it, it counts as handed over but not yet taken up.
class Transferable : public Object {
   public:
    virtual void packed(Side side) noexcept = 0;
    virtual void unpacked(Side side) noexcept = 0;
};

class Rider {
   public:
    Rider(Handle<Transferable> object, Side side) noexcept : object_(std::move(object)), side_(side) {
        object_->packed(side_);
    }
    Rider(Rider&& other) noexcept : object_(std::move(other.object_)), side_(other.side_) {}
    Rider(const Rider& other) noexcept : Rider(other.object_, other.side_) {}
    Rider& operator=(const Rider&) = delete;
    ~Rider() {
        if (object_) object_->unpacked(side_);
    }
    Transferable& object() const noexcept { return *object_; }
    Side side() const noexcept { return side_; }

   private:
    Handle<Transferable> object_;
    Side side_;
};

class Message {
   public:
    Message() noexcept = default;
    // Uninitialised header, empty leases. Throws std::bad_alloc.
    static Message make(std::uint8_t kind, std::size_t header_size, std::size_t lease_count);

    Message(Message&& other) noexcept : body_(std::exchange(other.body_, nullptr)) {}
    Message& operator=(Message&& other) noexcept {
        std::swap(body_, other.body_);
        return *this;
    }
    ~Message() { destroy(body_); }

    explicit operator bool() const noexcept { return body_ != nullptr; }
    std::uint8_t kind() const noexcept { return body_->kind; }
    // What it is called in a recording; 0: nothing. Written by its sender only.
    std::uint64_t trace_id() const noexcept { return body_->trace_id; }
    void set_trace_id(std::uint64_t id) noexcept { body_->trace_id = id; }
    std::size_t nbytes() const noexcept { return nbytes(body_); }  // header and lent memory
    std::span<std::byte> header() const noexcept;
    // Each owned by the message, or nullptr.
    std::span<Lease*> leases() const noexcept { return leases(body_); }
    // The message's own count if this is its only holder, one more count otherwise.
    LeaseRef take_lease(std::size_t index) const noexcept;
    bool exclusive() const noexcept { return exclusive(body_); }  // has a lease for one holder only
    std::span<const Rider> riders() const noexcept;
    void add_rider(Handle<Transferable> object, Side side);

    // One more holder of the same content.
    Message share() const noexcept;
    bool shared() const noexcept { return body_->holders.load(std::memory_order_acquire) != 1; }
    // Another message with the same content: one more count on each lease. Throws std::bad_alloc.
    Message clone() const;
    void reset() noexcept { *this = Message(); }

   private:
    friend class MessageQueue;
    friend class Publication;
    friend class Backlog;
    struct Riders {
        std::vector<Rider> list;
        Riders* next = nullptr;  // of those that wait for their end on this thread
    };
    struct Body {
        Body* next;  // in the queue; of a published message: for all its readers
        Riders* riders;
        std::uint32_t header_size;
        std::uint32_t lease_count;
        std::atomic<std::uint32_t> holders;
        std::uint8_t kind;
        std::uint64_t trace_id;
    };
    explicit Message(Body* body) noexcept : body_(body) {}
    static std::span<Lease*> leases(Body* body) noexcept {
        return {reinterpret_cast<Lease**>(body + 1), body->lease_count};
    }
    static bool exclusive(Body* body) noexcept;
    static std::size_t nbytes(Body* body) noexcept;
    static void destroy(Body* body) noexcept;
    static void end(Riders* riders) noexcept;
    static void count_queued(const Body& body, int change) noexcept;

    Body* body_ = nullptr;
};

// Messages with riders that stand in some queue or backlog of the process: zero means that no cycle of
// channels needs tracing.
std::ptrdiff_t queued_with_riders() noexcept;

// FIFO, linked through the messages themselves. Not thread-safe: the channel's lock guards it.
class MessageQueue {
   public:
    MessageQueue() noexcept = default;
    MessageQueue(MessageQueue&& other) noexcept { swap(other); }
    MessageQueue& operator=(MessageQueue&&) = delete;
    ~MessageQueue() {
        while (!empty()) pop();
    }
    bool empty() const noexcept { return head_ == nullptr; }
    std::size_t size() const noexcept { return size_.load(std::memory_order_relaxed); }  // any thread may ask
    bool carries_riders() const noexcept { return with_riders_ != 0; }
    bool exclusive() const noexcept;  // one of its messages is
    std::size_t nbytes() const noexcept;
    std::uint64_t trace_id() const noexcept { return head_ ? head_->trace_id : 0; }  // of the first
    void set_trace_ids(std::uint64_t first) noexcept;
    // Neither takes a message that has other holders: their reader may follow the same link.
    void push(Message&& message) noexcept;
    void push_front(Message&& message) noexcept;
    Message pop() noexcept;
    void swap(MessageQueue& other) noexcept;
    template <class Visitor>
    void for_each_rider(Visitor visit) const {
        if (with_riders_ == 0) return;
        for (const Message::Body* body = head_; body; body = body->next) {
            if (!body->riders) continue;
            for (const Rider& rider : body->riders->list) visit(rider);
        }
    }

   private:
    void count(const Message::Body& body, int change) noexcept;

    Message::Body* head_ = nullptr;
    Message::Body* tail_ = nullptr;
    std::atomic<std::size_t> size_ = 0;  // written under the lock only, so that a plain store does
    std::size_t with_riders_ = 0;
};

}  // namespace memchannel
