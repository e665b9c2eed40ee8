// One message for many readers: published messages are linked once, and each reader keeps its own stretch of
// that list. A message has one holder for each reader that has yet to read it, so that it ends after the
// slowest. Not thread-safe: one lock guards all backlogs of a channel, until one is taken out for good.
#pragma once

#include <cstddef>

#include "message.hpp"

namespace memchannel {

// What one reader has yet to read.
class Backlog {
   public:
    Backlog() noexcept = default;
    Backlog(const Backlog&) = delete;
    Backlog& operator=(const Backlog&) = delete;
    ~Backlog() {
        while (size_) pop();
    }
    std::size_t size() const noexcept { return size_; }
    bool carries_riders() const noexcept { return with_riders_ != 0; }
    Message pop() noexcept;
    void swap(Backlog& other) noexcept;
    // visit(message, number of its holders, rider); the address of a message tells it from others.
    template <class Visitor>
    void for_each_rider(Visitor visit) const {
        if (with_riders_ == 0) return;
        const Message::Body* body = first_;
        for (std::size_t left = size_; left; --left) {
            if (body->riders) {
                for (const Rider& rider : body->riders->list) visit(body, body->holders.load(), rider);
            }
            if (left > 1) body = body->next;
        }
    }

   private:
    friend class Publication;
    Message::Body* first_ = nullptr;
    Message::Body* last_ = nullptr;
    std::size_t size_ = 0;
    std::size_t with_riders_ = 0;
};

// A message on its way to a number of readers, each of which must get it.
class Publication {
   public:
    Publication(Message&& message, std::size_t readers) noexcept;
    void deliver(Backlog& backlog) const noexcept;

   private:
    Message::Body* const body_;
};

}  // namespace memchannel
