// A channel: a FIFO of messages with many senders and many receivers, in any number of interpreters.
//
// The non-blocking calls hold all the rules. A blocking call tries the same under the same lock and, where it
// would have to wait, enlists an entry; enlist_*() and finish_*() are the two halves, with a wait between
// them.
//
// A receiver that waited is *granted* the message, not given it: it takes it once it is attached to its
// interpreter again. A thread that never comes back (CPython parks threads of finalizing interpreters for
// ever) then loses nothing: its grant is revoked when its interpreter ends. Nobody else may take a granted
// message, so those who wait are served first.
//
// A broadcast channel has subscriptions instead of a queue: channels of their own, of which only the
// receiving side is used, with the source's lock, sending side and poison.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "association.hpp"
#include "broadcast.hpp"
#include "message.hpp"
#include "message_span.hpp"
#include "mutex.hpp"
#include "spin.hpp"
#include "waiter.hpp"

namespace memchannel {

inline constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

struct ChannelTraits {
    std::uint8_t codec = 0;            // the bindings' business
    std::size_t capacity = unlimited;  // 0: rendezvous
    bool deferred = false;             // how leases sent here go back
    bool sticky = false;               // the receiver that came last is served first: it is still awake
    std::string name;
};

struct ChannelStatistics {
    std::size_t queued = 0;  // of a broadcast channel: for the slowest subscriber
    std::size_t waiting_receivers = 0;
    std::size_t looking_receivers = 0;  // for a moment, before they get in line
    std::size_t waiting_senders = 0;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::vector<OwnerId> receivers;
    std::vector<OwnerId> senders;
    std::size_t receivers_on_the_way = 0;  // ends in messages that nobody received yet
    std::size_t senders_on_the_way = 0;
    std::vector<std::pair<std::uint64_t, std::size_t>> subscribers;  // id, messages it has yet to read
    bool broadcast = false;
    bool recv_over = false;
    bool send_over = false;
    bool poisoned = false;
};

struct RecvEntry : Entry {
    std::size_t limit = 1;      // messages wanted at most
    std::vector<Message> more;  // those after the first
    MessageSpan span;
};
struct SendEntry : Entry {
    Message message;    // moved out when sent; otherwise still the caller's
    MessageQueue rest;  // to be sent after it; the call is settled by the last one
    MessageSpan span;
};

class Channel final : public Transferable {
   public:
    static Handle<Channel> make(ChannelTraits traits);
    // A new receiver of everything that is sent from now on. The first one makes this a broadcast channel;
    // misused: it has messages or plain receivers, or is a rendezvous channel.
    Status subscribe(OwnerId who, Handle<Channel>& subscription);

    std::uint64_t id() const noexcept { return id_; }
    const ChannelTraits& traits() const noexcept { return traits_; }
    bool of_this_process() const noexcept;  // false in a forked child
    // The channel that this is a subscription to; itself otherwise.
    Channel& source() noexcept { return source_ ? *source_ : *this; }
    const Channel& source() const noexcept { return source_ ? *source_ : *this; }
    bool is_subscription() const noexcept { return static_cast<bool>(source_); }

    Status try_send(OwnerId who, Message& message);
    Status try_recv(OwnerId who, Message& message);
    // As many as possible under one lock. ok: all were sent; otherwise the unsent stay in `messages`.
    Status try_send_many(OwnerId who, MessageQueue& messages);
    // ok: at least one, and not more than `limit`.
    Status try_recv_many(OwnerId who, std::size_t limit, std::vector<Message>& messages);
    // Received in vain: back to the front of the queue, oldest first. What is left in them afterwards has no
    // receiver any more.
    void put_back(std::span<Message> messages);

    // ok: done; parked: enlisted, wait for the entry's waiter and finish; retry: finish and begin again.
    Status enlist_send(SendEntry& entry);
    Status enlist_recv(RecvEntry& entry, Message& message);
    // For calls that are detached, and therefore must take nothing yet, where shows_messages(): looks for a
    // message for a moment, if that is worth it, then gets in line. parked: enlisted; retry: enlist_recv()
    // has an answer.
    Status look_and_line_up(RecvEntry& entry) noexcept;
    // The outcome of the call, or `timeout` if it was not settled; the entry stands in no queue afterwards.
    Status finish_send(SendEntry& entry) noexcept;
    Status finish_recv(RecvEntry& entry, Message& message) noexcept;
    // Gives the entry's place up, a grant included: the call was decided elsewhere, or raises.
    void withdraw(Entry& entry) noexcept;

    bool close(Side side, OwnerId who);
    bool closed_by(Side side, OwnerId who) const noexcept;
    void associate(Side side, OwnerId who);
    void poison(std::vector<std::byte> reason);
    std::vector<std::byte> poison_reason() const;
    void end_interpreter(OwnerId who) noexcept;
    // Everything queued, taken out at once. Granted receivers find out when they finish.
    MessageQueue drain() noexcept;
    // Those queued that the test is true for, taken out; the others stay, in their order. The test runs under
    // the channel's lock.
    template <class Test>
    MessageQueue extract(Test test) noexcept {
        MessageQueue all, taken, kept;
        Guard guard(mutex_);
        queue_.swap(all);
        while (!all.empty()) {
            Message message = all.pop();
            (test(message) ? taken : kept).push(std::move(message));
        }
        queue_.swap(kept);
        settle_queue();
        return taken;
    }

    std::size_t size() const noexcept;
    // A look without the lock: false if no message is queued now. Others may be waiting to send one.
    bool may_have_message() const noexcept { return unqueued_ || has_queued(); }
    // Whether it is worth while to look for a message before getting in line: it would be seen, and not be
    // granted to somebody who stands there.
    bool shows_messages() const noexcept { return !unqueued_ && receivers_.size() == 0; }
    // For calls that may wait, where none may be there: whether one comes in the next microsecond.
    bool glance() noexcept {
        return shows_messages() && recv_spin_.glance([this] { return has_queued(); });
    }
    ChannelStatistics statistics() const;
    Spin& spin(Side waiting) noexcept {
        return waiting == Side::recv ? source().recv_spin_ : source().send_spin_;
    }

    void packed(Side side) noexcept override;
    void unpacked(Side side) noexcept override;

   private:
    friend class ChannelTable;
    friend class Tracer;
    using Guard = BriefLock;
    // What must end outside the lock, because leases switch interpreters: declare it before the guard.
    struct Leftovers {
        MessageQueue queue;
        Backlog backlog;
    };

    Channel(std::uint64_t id, ChannelTraits traits, Handle<Channel> source);
    void last_drop() noexcept override;

    Association& association(Side side) noexcept {
        return side == Side::recv ? receiving_ : source().sending_;
    }
    bool has_queued() const noexcept { return queue_.size() != 0; }  // any thread may ask
    std::size_t queued() const noexcept { return queue_.size() + backlog_.size(); }
    bool room() const noexcept;
    bool ended() const noexcept { return queued() == 0 && source().sending_.over(); }
    Status join(Side side, OwnerId who);
    Status admit(Side side, OwnerId who);
    bool claim(Entry* self) noexcept;
    Status put(Message& message, Entry* self) noexcept;
    Status send_many(OwnerId who, MessageQueue& messages);
    void store(Message& message) noexcept;
    Status take(Message& message, Entry* self, bool granted) noexcept;
    bool may_line_up(OwnerId who) noexcept;
    void line_up(RecvEntry& entry) noexcept;
    void take_more(std::vector<Message>& messages, std::size_t count) noexcept;
    Message pop() noexcept;
    bool draw(Message& message) noexcept;
    void grant() noexcept;
    void refill() noexcept;
    void revoke(OwnerId who) noexcept;
    void forget_grants() noexcept;
    void settle_queue() noexcept;
    void discard(Leftovers& leftovers) noexcept;
    void settle_sides(Leftovers& leftovers) noexcept;
    void settle_ended() noexcept;
    void unsubscribe(Channel& subscription) noexcept;

    const std::uint64_t id_;
    const ChannelTraits traits_;
    const unsigned generation_;
    const Handle<Channel> source_;  // of a subscription
    const bool unqueued_;           // messages may come from elsewhere than the queue
    Spin recv_spin_;                // receivers wait, senders touch
    Spin send_spin_;

    // What each message changes fills two cache lines, and stands apart from what is only looked at.
    alignas(64) mutable BriefMutex own_mutex_;
    BriefMutex& mutex_;  // a subscription uses its source's
    // All below but the sizes of the queues: mutex_.
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
    MessageQueue queue_;                   // of a subscription: what was put back
    std::atomic<std::size_t> looking_{0};  // receivers that are not in line yet; counted without mutex_
    Association receiving_;
    Association sending_;
    EntryQueue receivers_;                 // RecvEntry, undecided
    EntryQueue granted_;                   // RecvEntry, each entitled to one message of the queue
    EntryQueue senders_;                   // SendEntry, undecided
    Backlog backlog_;                      // subscriptions only
    std::vector<Channel*> subscriptions_;  // each takes itself out before it goes
    bool subscribed_ = false;              // a subscription that its source serves
    bool broadcast_ = false;
    bool poisoned_ = false;
    std::vector<std::byte> poison_;
};

}  // namespace memchannel
