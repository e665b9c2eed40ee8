#include "channel.hpp"

#include <algorithm>
#include <unordered_map>

#include "registry.hpp"

namespace memchannel {

Channel::Channel(std::uint64_t id, ChannelTraits traits)
    : id_(id), traits_(std::move(traits)), generation_(registry().generation) {}

Handle<Channel> Channel::make(ChannelTraits traits) {
    ChannelTable& table = registry().channels;
    auto channel = Handle<Channel>::adopt(new Channel(table.next_id(), std::move(traits)));
    table.add(*channel);
    return channel;
}

bool Channel::of_this_process() const noexcept { return generation_ == registry().generation; }

void Channel::last_drop() noexcept {
    if (!of_this_process())
        return;  // a parent's lock may be held for ever in its forked child: leave it all alone
    registry().channels.remove(*this);
    delete this;
}

Status Channel::admit(Side side, OwnerId who) {
    if (poisoned_) return Status::poisoned;
    if (!association(side).join(who)) return Status::closed;
    return side == Side::send && receiving_.over() ? Status::broken : Status::ok;
}

// Decides the caller's own call before it does something; false: another of its entries was decided first.
bool Channel::claim(Entry* self) noexcept { return !self || self->waiter->settle(Status::ok, self->index); }

Status Channel::put(Message& message, Entry* self) noexcept {
    const Waiter* own = self ? self->waiter : nullptr;
    if (traits_.capacity == 0) {
        if (!receivers_.first_other(own)) return Status::full;
        if (!claim(self)) return Status::parked;
        Entry* receiver;
        do {
            receiver = receivers_.settle_first(Status::ok);
            if (!receiver) return Status::retry;
        } while (receiver->waiter == own);
        granted_.push_back(*receiver);
        queue_.push(std::move(message));
    } else {
        if (queue_.size() >= traits_.capacity || senders_.first_other(own)) return Status::full;
        if (!claim(self)) return Status::parked;
        queue_.push(std::move(message));
        grant();
    }
    ++sent_;
    return Status::ok;
}

Status Channel::take(Message& message, Entry* self, bool granted) noexcept {
    const Waiter* own = self && !granted ? self->waiter : nullptr;
    if (granted ? !queue_.empty() : queue_.size() > granted_.size()) {
        if (!granted && !claim(self)) return Status::parked;
        message = queue_.pop();
    } else {
        if (traits_.capacity != 0 || granted || !senders_.first_other(own)) return Status::empty;
        if (!claim(self)) return Status::parked;
        auto* sender = static_cast<SendEntry*>(senders_.settle_first(Status::ok));
        if (!sender) return Status::retry;
        message = std::move(sender->message);
        ++sent_;
    }
    ++received_;
    refill();
    if (queue_.empty() && sending_.over()) receivers_.settle_all(Status::ended);
    return Status::ok;
}

void Channel::grant() noexcept {
    while (queue_.size() > granted_.size()) {
        Entry* receiver = receivers_.settle_first(Status::ok);
        if (!receiver) return;
        granted_.push_back(*receiver);
    }
}

void Channel::refill() noexcept {
    while (traits_.capacity != 0 && queue_.size() < traits_.capacity) {
        auto* sender = static_cast<SendEntry*>(senders_.settle_first(Status::ok));
        if (!sender) break;
        queue_.push(std::move(sender->message));
        ++sent_;
    }
    grant();
}

Status Channel::try_send(OwnerId who, Message& message) {
    recv_spin_.touch();
    Guard guard(mutex_);
    const Status status = admit(Side::send, who);
    return status == Status::ok ? put(message, nullptr) : status;
}

Status Channel::try_recv(OwnerId who, Message& message) {
    send_spin_.touch();
    Guard guard(mutex_);
    Status status = admit(Side::recv, who);
    if (status == Status::ok) status = take(message, nullptr, false);
    if (status == Status::retry) status = Status::empty;
    return status == Status::empty && queue_.empty() && sending_.over() ? Status::ended : status;
}

Status Channel::enlist_send(SendEntry& entry) {
    Guard guard(mutex_);
    Status status = admit(Side::send, entry.waiter->interpreter());
    if (status != Status::ok) return claim(&entry) ? status : Status::parked;
    status = put(entry.message, &entry);
    if (status != Status::full) return status;
    senders_.push_back(entry);
    return Status::parked;
}

Status Channel::enlist_recv(RecvEntry& entry, Message& message) {
    Guard guard(mutex_);
    Status status = admit(Side::recv, entry.waiter->interpreter());
    if (status == Status::ok) status = take(message, &entry, false);
    else if (!claim(&entry)) return Status::parked;
    if (status != Status::empty) return status;
    if (queue_.empty() && sending_.over()) return claim(&entry) ? Status::ended : Status::parked;
    if (traits_.sticky) {
        receivers_.push_front(entry);
    } else {
        receivers_.push_back(entry);
    }
    return Status::parked;
}

Status Channel::finish_send(SendEntry& entry) noexcept {
    Guard guard(mutex_);
    senders_.remove(entry);
    const Settlement settlement = entry.waiter->settlement();
    return settlement.status == Status::parked ? Status::timeout : settlement.status;
}

Status Channel::finish_recv(RecvEntry& entry, Message& message) noexcept {
    Guard guard(mutex_);
    const bool granted = entry.queue == &granted_;
    if (entry.queue) entry.queue->remove(entry);
    const Settlement settlement = entry.waiter->settlement();
    if (granted) {
        const Status status = take(message, &entry, true);
        return status == Status::ok ? status : Status::retry;
    }
    if (settlement.status == Status::parked) return Status::timeout;
    return settlement.status == Status::ok ? Status::retry : settlement.status;
}

void Channel::withdraw(Entry& entry) noexcept {
    Guard guard(mutex_);
    if (entry.queue) entry.queue->remove(entry);
    grant();  // a grant that is not taken up goes to the next in line
}

bool Channel::close(Side side, OwnerId who) {
    MessageQueue dropped;
    Guard guard(mutex_);
    const bool was_associated = association(side).close(who);
    if (side == Side::recv) {
        receivers_.settle_all_of(who, Status::closed);
        revoke(granted_, who);
    } else {
        senders_.settle_all_of(who, Status::closed);
    }
    settle_sides(dropped);
    guard.unlock();
    return was_associated;
}

// Takes the grants of an interpreter back; its calls find out when they finish.
void Channel::revoke(EntryQueue& granted, OwnerId who) noexcept {
    for (Entry* entry = granted.front(); entry;) {
        Entry* const next = entry->next;
        if (entry->waiter->interpreter() == who) granted.remove(*entry);
        entry = next;
    }
    grant();
}

// What follows from a side being over. The dropped messages end outside the lock: leases switch interpreters.
void Channel::settle_sides(MessageQueue& dropped) noexcept {
    if (receiving_.over()) {
        queue_.swap(dropped);
        while (Entry* entry = granted_.front()) granted_.remove(*entry);
        senders_.settle_all(Status::broken);
        receivers_.settle_all(Status::closed);
    }
    if (sending_.over() && queue_.empty()) receivers_.settle_all(Status::ended);
}

bool Channel::closed_by(Side side, OwnerId who) const noexcept {
    Guard guard(mutex_);
    return (side == Side::recv ? receiving_ : sending_).closed_by(who);
}

void Channel::associate(Side side, OwnerId who) {
    Guard guard(mutex_);
    association(side).join(who);
}

void Channel::poison(std::vector<std::byte> reason) {
    MessageQueue dropped;
    Guard guard(mutex_);
    if (poisoned_) return;
    poisoned_ = true;
    poison_ = std::move(reason);
    queue_.swap(dropped);
    while (Entry* entry = granted_.front()) granted_.remove(*entry);
    receivers_.settle_all(Status::poisoned);
    senders_.settle_all(Status::poisoned);
    guard.unlock();
}

std::vector<std::byte> Channel::poison_reason() const {
    Guard guard(mutex_);
    return poison_;
}

void Channel::end_interpreter(OwnerId who) noexcept {
    MessageQueue dropped;
    Guard guard(mutex_);
    receivers_.settle_all_of(who, Status::ending);
    for (Entry* entry = senders_.front(); entry;) {
        Entry* const next = entry->next;
        if (entry->waiter->interpreter() == who) {
            // Its thread may never run again: what it wanted to send ends here.
            senders_.remove(*entry);
            entry->waiter->settle(Status::ending, entry->index);
            if (auto& message = static_cast<SendEntry*>(entry)->message) dropped.push(std::move(message));
        }
        entry = next;
    }
    revoke(granted_, who);
    receiving_.end(who);
    sending_.end(who);
    MessageQueue drained;
    settle_sides(drained);
    guard.unlock();
}

MessageQueue Channel::drain() noexcept {
    MessageQueue drained;
    Guard guard(mutex_);
    queue_.swap(drained);
    while (Entry* entry = granted_.front()) granted_.remove(*entry);
    refill();
    if (queue_.empty() && sending_.over()) receivers_.settle_all(Status::ended);
    return drained;
}

std::size_t Channel::size() const noexcept {
    Guard guard(mutex_);
    return queue_.size();
}

ChannelStatistics Channel::statistics() const {
    Guard guard(mutex_);
    ChannelStatistics now;
    now.queued = queue_.size();
    now.waiting_receivers = receivers_.size();
    now.waiting_senders = senders_.size();
    now.sent = sent_;
    now.received = received_;
    now.receivers = receiving_.interpreters();
    now.senders = sending_.interpreters();
    now.recv_over = receiving_.over();
    now.send_over = sending_.over();
    now.poisoned = poisoned_;
    return now;
}

void Channel::packed(Side side) noexcept {
    Guard guard(mutex_);
    if (side != Side::send) receiving_.packed();
    if (side != Side::recv) sending_.packed();
}

void Channel::unpacked(Side side) noexcept {
    if (!of_this_process()) return;
    MessageQueue dropped;
    Guard guard(mutex_);
    if (side != Side::send) receiving_.unpacked();
    if (side != Side::recv) sending_.unpacked();
    settle_sides(dropped);
    guard.unlock();
}

std::uint64_t ChannelTable::next_id() noexcept {
    std::lock_guard lock(mutex_);
    return ++last_id_;
}

void ChannelTable::add(Channel& channel) {
    std::lock_guard lock(mutex_);
    const auto place = std::upper_bound(channels_.begin(), channels_.end(), channel.id(),
                                        [](std::uint64_t id, const auto& item) { return id < item.first; });
    channels_.insert(place, {channel.id(), &channel});
}

void ChannelTable::remove(Channel& channel) noexcept {
    std::lock_guard lock(mutex_);
    const auto place = std::lower_bound(channels_.begin(), channels_.end(), channel.id(),
                                        [](const auto& item, std::uint64_t id) { return item.first < id; });
    if (place != channels_.end() && place->second == &channel) channels_.erase(place);
}

Handle<Channel> ChannelTable::find(std::uint64_t id) const {
    std::lock_guard lock(mutex_);
    const auto place =
        std::lower_bound(channels_.begin(), channels_.end(), id,
                         [](const auto& item, std::uint64_t wanted) { return item.first < wanted; });
    if (place == channels_.end() || place->first != id || !place->second->try_retain()) return {};
    return Handle<Channel>::adopt(place->second);
}

std::vector<Handle<Channel>> ChannelTable::all() const {
    std::lock_guard lock(mutex_);
    std::vector<Handle<Channel>> alive;
    alive.reserve(channels_.size());
    for (const auto& [id, channel] : channels_) {
        if (channel->try_retain()) alive.push_back(Handle<Channel>::adopt(channel));
    }
    return alive;
}

std::size_t ChannelTable::size() const noexcept {
    std::lock_guard lock(mutex_);
    return channels_.size();
}

void ChannelTable::end_interpreter(OwnerId who) {
    for (const Handle<Channel>& channel : all()) channel->end_interpreter(who);
}

std::size_t ChannelTable::collect() {
    const std::vector<Handle<Channel>> channels = all();
    // No look-up by id, and no message in or out, while the references are weighed: nobody else takes two
    // channel locks at a time, so taking all of them in order cannot deadlock.
    std::unique_lock table(mutex_);
    std::vector<std::unique_lock<std::mutex>> locks;
    locks.reserve(channels.size());
    std::unordered_map<const Object*, long> queued;  // references from queued messages
    for (const auto& channel : channels) {
        locks.emplace_back(channel->mutex_);
        channel->queue_.for_each_rider([&](const Rider& rider) { ++queued[&rider.object()]; });
    }
    if (queued.empty()) return 0;
    std::unordered_map<const Object*, Channel*> unreached;
    std::vector<Channel*> reached;
    for (const auto& channel : channels) {
        const auto found = queued.find(channel.get());
        const long own_and_queued = 1 + (found == queued.end() ? 0 : found->second);
        if (channel->references() > own_and_queued) reached.push_back(channel.get());
        else unreached.emplace(channel.get(), channel.get());
    }
    while (!reached.empty()) {
        Channel* const channel = reached.back();
        reached.pop_back();
        channel->queue_.for_each_rider([&](const Rider& rider) {
            const auto found = unreached.find(&rider.object());
            if (found == unreached.end()) return;
            reached.push_back(found->second);
            unreached.erase(found);
        });
    }
    std::vector<MessageQueue> garbage(unreached.size());
    std::size_t collected = 0;
    for (const auto& [object, channel] : unreached) channel->queue_.swap(garbage[collected++]);
    locks.clear();
    table.unlock();
    return collected;  // garbage ends here, outside all locks
}

}  // namespace memchannel
