#include "channel_table.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "registry.hpp"

namespace memchannel {

void ChannelTable::end_interpreter(OwnerId who) {
    {
        // Before the walk: who is not on a channel's books now does not get there any more.
        std::lock_guard lock(ended_mutex_);
        ended_.insert(who);
    }
    for (const Handle<Channel>& channel : all()) channel->end_interpreter(who);
}

bool ChannelTable::has_ended(OwnerId who) const noexcept {
    std::lock_guard lock(ended_mutex_);
    return ended_.contains(who);
}

// Which channels can be reached from outside of queues. What counts as outside: every reference on a channel
// that is neither one of the tracer's own, nor a queued message's, nor a subscription's on its source.
class Tracer {
   public:
    explicit Tracer(ChannelTable& table);
    // Moves what the unreachable channels hold into `garbage`, which must end after the tracer.
    std::size_t run(std::vector<Channel::Leftovers>& garbage);

   private:
    struct Node {
        Channel* channel;
        long inner = 1;  // references that are no reason to live: the tracer's, queued ends, subscriptions
        bool reached = false;
    };
    struct Copies {  // of one published message, in several backlogs
        long seen = 0;
        long holders = 0;
    };

    static std::vector<Handle<Channel>> concerned(std::vector<Handle<Channel>> channels);
    void lock_all();
    void weigh();
    void weigh_backlogs();
    void reach(const Object* object);
    void spread();

    const std::vector<Handle<Channel>> channels_;  // by id
    std::unique_lock<std::mutex> table_lock_;
    std::vector<std::unique_lock<BriefMutex>> locks_;
    std::unordered_map<const Object*, Node> nodes_;
    std::vector<Channel*> fresh_;  // reached, their queues not yet looked through
};

Tracer::Tracer(ChannelTable& table)
    : channels_(concerned(table.all())), table_lock_(table.mutex_, std::defer_lock) {}

// Those that hold queued ends, or are held by them, with the sources of their subscriptions. What changes
// after this look makes the tracer see too few inner references, and keep a channel until the next time.
std::vector<Handle<Channel>> Tracer::concerned(std::vector<Handle<Channel>> channels) {
    std::unordered_set<const Object*> chosen;
    for (const auto& channel : channels) {
        const std::lock_guard lock(channel->mutex_);
        if (!channel->queue_.carries_riders() && !channel->backlog_.carries_riders()) continue;
        chosen.insert(channel.get());
        channel->queue_.for_each_rider([&](const Rider& rider) { chosen.insert(&rider.object()); });
        channel->backlog_.for_each_rider(
            [&](const void*, std::uint32_t, const Rider& rider) { chosen.insert(&rider.object()); });
    }
    for (const auto& channel : channels) {
        if (channel->is_subscription() && chosen.contains(channel.get()))
            chosen.insert(channel->source_.get());
    }
    std::erase_if(channels, [&](const auto& channel) { return !chosen.contains(channel.get()); });
    return channels;
}

// No look-up by id, and no message in or out, while the references are weighed: nobody else takes two channel
// locks at a time, so taking all of them in order cannot deadlock.
void Tracer::lock_all() {
    nodes_.reserve(channels_.size());
    locks_.reserve(channels_.size());
    for (const auto& channel : channels_) nodes_.emplace(channel.get(), Node{channel.get()});
    table_lock_.lock();
    for (const auto& channel : channels_) {
        if (!channel->is_subscription()) locks_.emplace_back(channel->own_mutex_);
    }
}

void Tracer::weigh() {
    for (const auto& channel : channels_) {
        if (channel->is_subscription()) {
            const auto source = nodes_.find(channel->source_.get());
            if (source != nodes_.end()) ++source->second.inner;
        }
        channel->queue_.for_each_rider([&](const Rider& rider) {
            const auto node = nodes_.find(&rider.object());
            if (node != nodes_.end()) ++node->second.inner;
        });
    }
    weigh_backlogs();
}

// A published message stands in several backlogs but holds its riders once. A receiver that has it in hand
// is a holder too, and will have its riders in a moment.
void Tracer::weigh_backlogs() {
    std::unordered_map<const Rider*, Copies> copies;
    for (const auto& channel : channels_) {
        channel->backlog_.for_each_rider([&](const void*, std::uint32_t holders, const Rider& rider) {
            Copies& one = copies[&rider];
            ++one.seen;
            one.holders = static_cast<long>(holders);
        });
    }
    for (const auto& [rider, one] : copies) {
        const auto node = nodes_.find(&rider->object());
        if (node != nodes_.end() && one.seen == one.holders) ++node->second.inner;
    }
}

void Tracer::reach(const Object* object) {
    const auto node = nodes_.find(object);
    if (node == nodes_.end() || node->second.reached) return;
    node->second.reached = true;
    fresh_.push_back(node->second.channel);
}

void Tracer::spread() {
    for (const auto& channel : channels_) {
        if (channel->references() > nodes_.at(channel.get()).inner) reach(channel.get());
    }
    while (!fresh_.empty()) {
        Channel* const channel = fresh_.back();
        fresh_.pop_back();
        if (channel->is_subscription()) reach(channel->source_.get());
        channel->queue_.for_each_rider([&](const Rider& rider) { reach(&rider.object()); });
        channel->backlog_.for_each_rider(
            [&](const void*, std::uint32_t, const Rider& rider) { reach(&rider.object()); });
    }
}

std::size_t Tracer::run(std::vector<Channel::Leftovers>& garbage) {
    lock_all();
    weigh();
    spread();
    std::size_t unreached = 0;
    for (const auto& [object, node] : nodes_) unreached += !node.reached;
    garbage = std::vector<Channel::Leftovers>(unreached);
    std::size_t next = 0;
    for (const auto& [object, node] : nodes_) {
        if (!node.reached) node.channel->discard(garbage[next++]);
    }
    return unreached;
}

std::size_t ChannelTable::collect() {
    if (queued_with_riders() == 0) return 0;
    std::vector<Channel::Leftovers> garbage;  // ends last, outside all locks
    return Tracer(*this).run(garbage);
}

}  // namespace memchannel
