// What a call that sends or receives messages records of itself. It is told when the call begins and when it
// is done, and does nothing unless something is recorded.
#pragma once

#include <span>

#include "message.hpp"
#include "trace.hpp"

namespace memchannel {

class MessageSpan {
   public:
    // Before the messages leave the caller's hands. Those that were numbered before keep their numbers.
    void begin_send(Message& message) noexcept {
        if (tracing()) [[unlikely]]
            number(&message, nullptr);
    }
    void begin_send(MessageQueue& messages) noexcept {
        if (tracing()) [[unlikely]]
            number(nullptr, &messages);
    }
    void begin_send(Message& first, MessageQueue& rest) noexcept {
        if (tracing()) [[unlikely]]
            number(&first, &rest);
    }
    void begin_recv() noexcept {
        if (tracing() && !begin_ns_) [[unlikely]]
            begin_ns_ = monotonic_ns();
    }

    // An event loop waits for it: other calls of the thread come in between.
    void leave_to_loop() noexcept { in_loop_ = true; }

    // All of them are, but those that are left here.
    void sent(OwnerId who, std::uint64_t channel, const Message& first = {},
              const MessageQueue& rest = {}) noexcept {
        if (begin_ns_) [[unlikely]]
            record_sent(who, channel, first, rest);
    }
    void received(OwnerId who, std::uint64_t channel, const Message& first,
                  std::span<const Message> more = {}) noexcept {
        if (begin_ns_) [[unlikely]]
            record_received(who, channel, first, more);
    }

   private:
    void number(Message* first, MessageQueue* rest) noexcept;
    void record_sent(OwnerId who, std::uint64_t channel, const Message& first,
                     const MessageQueue& rest) const noexcept;
    void record_received(OwnerId who, std::uint64_t channel, const Message& first,
                         std::span<const Message> more) const noexcept;

    std::int64_t begin_ns_ = 0;  // 0: not recorded
    std::uint64_t id_ = 0;
    std::size_t nbytes_ = 0;
    std::size_t count_ = 0;
    bool in_loop_ = false;
};

}  // namespace memchannel
