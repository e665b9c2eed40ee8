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
#pragma once

#include <cstdint>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include "association.hpp"
#include "message.hpp"
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
    std::size_t queued = 0;
    std::size_t waiting_receivers = 0;
    std::size_t waiting_senders = 0;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::vector<OwnerId> receivers;
    std::vector<OwnerId> senders;
    bool recv_over = false;
    bool send_over = false;
    bool poisoned = false;
};

struct RecvEntry : Entry {};
struct SendEntry : Entry {
    Message message;  // moved out when sent; otherwise still the caller's
};

class Channel final : public Transferable {
   public:
    static Handle<Channel> make(ChannelTraits traits);

    std::uint64_t id() const noexcept { return id_; }
    const ChannelTraits& traits() const noexcept { return traits_; }
    bool of_this_process() const noexcept;  // false in a forked child

    Status try_send(OwnerId who, Message& message);
    Status try_recv(OwnerId who, Message& message);

    // ok: done; parked: enlisted, wait for the entry's waiter and finish; retry: finish and begin again.
    Status enlist_send(SendEntry& entry);
    Status enlist_recv(RecvEntry& entry, Message& message);
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

    std::size_t size() const noexcept;
    ChannelStatistics statistics() const;
    Spin& spin(Side waiting) noexcept { return waiting == Side::recv ? recv_spin_ : send_spin_; }

    void packed(Side side) noexcept override;
    void unpacked(Side side) noexcept override;

   private:
    friend class ChannelTable;
    using Guard = std::unique_lock<std::mutex>;

    Channel(std::uint64_t id, ChannelTraits traits);
    void last_drop() noexcept override;

    Association& association(Side side) noexcept { return side == Side::recv ? receiving_ : sending_; }
    Status admit(Side side, OwnerId who);
    bool claim(Entry* self) noexcept;
    Status put(Message& message, Entry* self) noexcept;
    Status take(Message& message, Entry* self, bool granted) noexcept;
    void grant() noexcept;
    void refill() noexcept;
    void revoke(EntryQueue& revoked, OwnerId who) noexcept;
    void settle_sides(MessageQueue& dropped) noexcept;

    const std::uint64_t id_;
    const ChannelTraits traits_;
    const unsigned generation_;
    Spin recv_spin_;  // receivers wait, senders touch
    Spin send_spin_;

    mutable std::mutex mutex_;
    // All below: mutex_.
    MessageQueue queue_;
    EntryQueue receivers_;  // RecvEntry, undecided
    EntryQueue granted_;    // RecvEntry, each entitled to one message of the queue
    EntryQueue senders_;    // SendEntry, undecided
    Association receiving_;
    Association sending_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
    bool poisoned_ = false;
    std::vector<std::byte> poison_;
};

// Process-wide: id -> channel, without keeping it alive.
class ChannelTable {
   public:
    std::uint64_t next_id() noexcept;
    void add(Channel& channel);
    void remove(Channel& channel) noexcept;
    Handle<Channel> find(std::uint64_t id) const;
    std::vector<Handle<Channel>> all() const;
    std::size_t size() const noexcept;
    void end_interpreter(OwnerId who);
    // Empties channels that only queued ends can reach (in cycles, or from such cycles), so that they go
    // away. Returns how many.
    std::size_t collect();

   private:
    mutable std::mutex mutex_;
    std::vector<std::pair<std::uint64_t, Channel*>> channels_;  // by id, rising
    std::uint64_t last_id_ = 0;
};

}  // namespace memchannel
