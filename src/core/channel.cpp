#include "channel.hpp"

#include <algorithm>

#include "registry.hpp"

namespace memchannel {

Channel::Channel(std::uint64_t id, ChannelTraits traits, Handle<Channel> source)
    : id_(id),
      traits_(std::move(traits)),
      generation_(registry().generation),
      source_(std::move(source)),
      unqueued_(source_ || traits_.capacity == 0),
      mutex_(source_ ? source_->own_mutex_ : own_mutex_) {}

Handle<Channel> Channel::make(ChannelTraits traits) {
    ChannelTable& table = registry().channels;
    auto channel = Handle<Channel>::adopt(new Channel(table.next_id(), std::move(traits), {}));
    table.add(*channel);
    return channel;
}

Status Channel::subscribe(OwnerId who, Handle<Channel>& subscription) {
    if (source_) return source_->subscribe(who, subscription);
    ChannelTable& table = registry().channels;
    auto made = Handle<Channel>::adopt(new Channel(table.next_id(), traits_, Handle<Channel>::share(this)));
    {
        Guard guard(mutex_);
        if (poisoned_) return Status::poisoned;
        if (receiving_.over() || receiving_.closed_by(who)) return Status::closed;
        const bool fresh = queue_.empty() && receiving_.vacant();
        if (traits_.capacity == 0 || (!broadcast_ && !fresh)) return Status::misused;
        subscriptions_.push_back(made.get());
        broadcast_ = true;
        made->subscribed_ = true;
        receiving_.packed();
    }
    table.add(*made);
    subscription = std::move(made);
    return Status::ok;
}

bool Channel::of_this_process() const noexcept { return generation_ == registry().generation; }

void Channel::last_drop() noexcept {
    if (!of_this_process())
        return;  // a parent's lock may be held for ever in its forked child: leave it all alone
    registry().channels.remove(*this);
    if (source_) {
        Guard guard(mutex_);
        source_->unsubscribe(*this);
    }
    delete this;
}

// A thread of an interpreter that has ended may still come by: it must not keep the side alive.
[[gnu::hot]] Status Channel::join(Side side, OwnerId who) {
    Association& members = association(side);
    if (members.joined(who)) return Status::ok;
    if (registry().channels.has_ended(who)) return Status::ending;
    return members.join(who) ? Status::ok : Status::closed;
}

[[gnu::hot]] Status Channel::admit(Side side, OwnerId who) {
    if (source().poisoned_) return Status::poisoned;
    if (side == Side::recv ? broadcast_ : is_subscription()) return Status::misused;
    const Status joined = join(side, who);
    if (joined != Status::ok) return joined;
    return side == Side::send && receiving_.over() ? Status::broken : Status::ok;
}

// Decides the caller's own call before it does something; false: another of its entries was decided first.
bool Channel::claim(Entry* self) noexcept { return !self || self->waiter->settle(Status::ok, self->index); }

bool Channel::room() const noexcept {
    if (!broadcast_) return queue_.size() < traits_.capacity;
    return std::ranges::all_of(subscriptions_,
                               [&](const Channel* one) { return one->queued() < traits_.capacity; });
}

[[gnu::hot]] Status Channel::put(Message& message, Entry* self) noexcept {
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
        if (!room() || senders_.first_other(own)) return Status::full;
        if (!claim(self)) return Status::parked;
        store(message);
    }
    ++sent_;
    return Status::ok;
}

// A broadcast that nobody listens to stays where it is: it must end outside the lock.
[[gnu::hot]] void Channel::store(Message& message) noexcept {
    if (!broadcast_) {
        queue_.push(std::move(message));
        grant();
    } else if (!subscriptions_.empty()) {
        const Publication publication(std::move(message), subscriptions_.size());
        for (Channel* one : subscriptions_) {
            publication.deliver(one->backlog_);
            one->grant();
        }
    }
}

Message Channel::pop() noexcept { return queue_.empty() ? backlog_.pop() : queue_.pop(); }

[[gnu::hot]] Status Channel::take(Message& message, Entry* self, bool granted) noexcept {
    const Waiter* own = self && !granted ? self->waiter : nullptr;
    if (granted ? queued() != 0 : queued() > granted_.size()) {
        if (!granted && !claim(self)) return Status::parked;
        message = pop();
    } else {
        if (traits_.capacity != 0 || granted || !senders_.first_other(own)) return Status::empty;
        if (!claim(self)) return Status::parked;
        if (!draw(message)) return Status::retry;
        if (!queue_.empty()) {  // sent before, granted to somebody who has yet to come: first in, first out
            queue_.push(std::move(message));
            message = queue_.pop();
        }
    }
    ++received_;
    source().refill();
    if (ended()) receivers_.settle_all(Status::ended);
    return Status::ok;
}

void Channel::take_more(std::vector<Message>& messages, std::size_t count) noexcept {
    try {
        while (messages.size() < count) {
            messages.emplace_back();
            if (take(messages.back(), nullptr, false) == Status::ok) continue;
            messages.pop_back();
            return;
        }
    } catch (const std::bad_alloc&) {
        // Harmless, fewer than there might be: what was not taken is still queued.
    }
}

// One message of the first sender in line, which is settled by its last one.
bool Channel::draw(Message& message) noexcept {
    while (Entry* const entry = senders_.front()) {
        auto& sender = static_cast<SendEntry&>(*entry);
        const bool last = sender.rest.empty();
        if (last ? !sender.waiter->settle(Status::ok, sender.index) : sender.waiter->settled()) {
            senders_.remove(sender);
            continue;
        }
        message = std::move(sender.message);
        if (last) senders_.remove(sender);
        else sender.message = sender.rest.pop();
        ++sent_;
        return true;
    }
    return false;
}

[[gnu::hot]] void Channel::grant() noexcept {
    while (!receivers_.empty() && queued() > granted_.size()) {
        Entry* receiver = receivers_.settle_first(Status::ok);
        if (!receiver) return;
        granted_.push_back(*receiver);
    }
}

[[gnu::hot]] void Channel::refill() noexcept {
    if (senders_.empty() && receivers_.empty()) return;
    Message message;
    while (traits_.capacity != 0 && !senders_.empty() && room() && draw(message)) store(message);
    if (!broadcast_) grant();
}

[[gnu::hot]] Status Channel::try_send(OwnerId who, Message& message) {
    MessageSpan span;
    span.begin_send(message);
    recv_spin_.touch();
    Guard guard(mutex_);
    Status status = admit(Side::send, who);
    if (status == Status::ok && broadcast_ && message.exclusive()) status = Status::misused;
    if (status == Status::ok) status = put(message, nullptr);
    guard.unlock();
    if (status == Status::ok) span.sent(who, id_);
    return status;
}

Status Channel::try_send_many(OwnerId who, MessageQueue& messages) {
    MessageSpan span;
    span.begin_send(messages);
    const Status status = send_many(who, messages);
    span.sent(who, id_, {}, messages);
    return status;
}

Status Channel::send_many(OwnerId who, MessageQueue& messages) {
    recv_spin_.touch();
    Leftovers unheard;
    Guard guard(mutex_);
    const Status admitted = admit(Side::send, who);
    if (admitted != Status::ok) return admitted;
    if (broadcast_ && messages.exclusive()) return Status::misused;
    while (!messages.empty()) {
        Message message = messages.pop();
        const Status status = put(message, nullptr);
        if (status == Status::ok) {
            if (message) unheard.queue.push(std::move(message));
            continue;
        }
        messages.push_front(std::move(message));
        if (status != Status::retry) return status;
    }
    return Status::ok;
}

[[gnu::hot]] Status Channel::try_recv(OwnerId who, Message& message) {
    MessageSpan span;
    span.begin_recv();
    source().send_spin_.touch();
    Guard guard(mutex_);
    Status status = admit(Side::recv, who);
    if (status == Status::ok) status = take(message, nullptr, false);
    if (status == Status::retry) status = Status::empty;
    if (status == Status::empty && ended()) status = Status::ended;
    guard.unlock();
    if (status == Status::ok) span.received(who, id_, message);
    return status;
}

Status Channel::try_recv_many(OwnerId who, std::size_t limit, std::vector<Message>& messages) {
    MessageSpan span;
    span.begin_recv();
    source().send_spin_.touch();
    Guard guard(mutex_);
    const Status status = admit(Side::recv, who);
    if (status != Status::ok) return status;
    take_more(messages, limit);
    if (messages.empty()) return ended() ? Status::ended : Status::empty;
    guard.unlock();
    span.received(who, id_, {}, messages);
    return Status::ok;
}

void Channel::put_back(std::span<Message> messages) {
    for (Message& message : messages) {
        // The links of a published message belong to all its readers.
        if (message.shared()) message = message.clone();
    }
    Guard guard(mutex_);
    if (source().poisoned_ || receiving_.over()) return;
    received_ -= messages.size();
    for (auto message = messages.rbegin(); message != messages.rend(); ++message)
        queue_.push_front(std::move(*message));
    grant();
}

Status Channel::enlist_send(SendEntry& entry) {
    entry.span.begin_send(entry.message, entry.rest);
    Leftovers unheard;
    Guard guard(mutex_);
    Status status = admit(Side::send, entry.waiter->interpreter());
    if (status == Status::ok && broadcast_ && (entry.message.exclusive() || entry.rest.exclusive()))
        status = Status::misused;
    if (status != Status::ok) return claim(&entry) ? status : Status::parked;
    while (!entry.rest.empty()) {  // nobody else can decide this call: it is no select
        status = put(entry.message, nullptr);
        if (status == Status::retry) continue;
        if (status == Status::full) break;
        if (entry.message) unheard.queue.push(std::move(entry.message));
        entry.message = entry.rest.pop();
    }
    if (entry.rest.empty()) status = put(entry.message, &entry);
    if (status == Status::full) {
        senders_.push_back(entry);
        return Status::parked;
    }
    guard.unlock();
    if (status == Status::ok) entry.span.sent(entry.waiter->interpreter(), id_);
    return status;
}

Status Channel::enlist_recv(RecvEntry& entry, Message& message) {
    entry.span.begin_recv();
    Guard guard(mutex_);
    Status status = admit(Side::recv, entry.waiter->interpreter());
    if (status == Status::ok) status = take(message, &entry, false);
    else if (!claim(&entry)) return Status::parked;
    if (status == Status::ok) {
        take_more(entry.more, entry.limit - 1);
        guard.unlock();
        entry.span.received(entry.waiter->interpreter(), id_, message, entry.more);
    }
    if (status != Status::empty) return status;
    if (ended()) return claim(&entry) ? Status::ended : Status::parked;
    line_up(entry);
    return Status::parked;
}

void Channel::line_up(RecvEntry& entry) noexcept {
    if (traits_.sticky) receivers_.push_front(entry);
    else receivers_.push_back(entry);
}

// Whatever is not a plain wait is left to enlist_recv().
Status Channel::look_and_line_up(RecvEntry& entry) noexcept {
    looking_.fetch_add(1, std::memory_order_relaxed);
    const bool seen = recv_spin_.until([this] { return has_queued(); });
    Guard guard(mutex_, std::defer_lock);
    if (!seen) guard.lock();  // before it counts no longer as looking: it does so, or is in line
    looking_.fetch_sub(1, std::memory_order_relaxed);
    if (seen || !may_line_up(entry.waiter->interpreter())) return Status::retry;
    line_up(entry);
    return Status::parked;
}

bool Channel::may_line_up(OwnerId who) noexcept {
    try {
        if (admit(Side::recv, who) != Status::ok) return false;
    } catch (const std::bad_alloc&) {
        return false;
    }
    return queue_.size() <= granted_.size() && senders_.empty() && !ended();
}

Status Channel::finish_send(SendEntry& entry) noexcept {
    Guard guard(mutex_);
    senders_.remove(entry);
    const Settlement settlement = entry.waiter->settlement();
    guard.unlock();
    const OwnerId who = entry.waiter->interpreter();
    if (settlement.status == Status::ok) entry.span.sent(who, id_);  // what is left here, nobody listened to
    else entry.span.sent(who, id_, entry.message, entry.rest);
    return settlement.status == Status::parked ? Status::timeout : settlement.status;
}

Status Channel::finish_recv(RecvEntry& entry, Message& message) noexcept {
    Guard guard(mutex_);
    const bool granted = entry.queue == &granted_;
    if (entry.queue) entry.queue->remove(entry);
    const Settlement settlement = entry.waiter->settlement();
    if (granted) {
        if (take(message, &entry, true) != Status::ok) return Status::retry;
        take_more(entry.more, entry.limit - 1);
        guard.unlock();
        entry.span.received(entry.waiter->interpreter(), id_, message, entry.more);
        return Status::ok;
    }
    if (settlement.status == Status::parked) return Status::timeout;
    return settlement.status == Status::ok ? Status::retry : settlement.status;
}

void Channel::withdraw(Entry& entry) noexcept {
    Guard guard(mutex_);
    if (entry.queue) entry.queue->remove(entry);
    grant();  // a grant that is not taken up goes to the next in line
}

void Channel::associate(Side side, OwnerId who) {
    Guard guard(mutex_);
    if (side == Side::send || !broadcast_) join(side, who);
}

void Channel::packed(Side side) noexcept {
    Guard guard(mutex_);
    if (side != Side::send && !broadcast_) receiving_.packed();
    if (side != Side::recv) association(Side::send).packed();
}

void Channel::unpacked(Side side) noexcept {
    if (!of_this_process()) return;
    Leftovers leftovers;
    Guard guard(mutex_);
    if (side != Side::send && !broadcast_) receiving_.unpacked();
    if (side != Side::recv) association(Side::send).unpacked();
    settle_sides(leftovers);
    guard.unlock();
}

MessageQueue Channel::drain() noexcept {
    MessageQueue drained;
    Guard guard(mutex_);
    queue_.swap(drained);
    settle_queue();
    return drained;
}

// What follows from messages having left the queue without a receiver.
void Channel::settle_queue() noexcept {
    forget_grants();
    refill();
    settle_ended();
}

std::size_t Channel::size() const noexcept {
    Guard guard(mutex_);
    std::size_t most = queued();
    for (const Channel* one : subscriptions_) most = std::max(most, one->queued());
    return most;
}

ChannelStatistics Channel::statistics() const {
    Guard guard(mutex_);
    ChannelStatistics now;
    now.queued = queued();
    now.waiting_receivers = receivers_.size();
    now.looking_receivers = looking_.load(std::memory_order_relaxed);
    now.waiting_senders = source().senders_.size();
    now.sent = source().sent_;
    now.received = received_;
    now.receivers = receiving_.interpreters();
    now.senders = source().sending_.interpreters();
    now.receivers_on_the_way = receiving_.on_the_way() - subscriptions_.size();
    now.senders_on_the_way = source().sending_.on_the_way();
    for (const Channel* one : subscriptions_) {
        now.subscribers.emplace_back(one->id_, one->queued());
        now.queued = std::max(now.queued, one->queued());
        now.waiting_receivers += one->receivers_.size();
        now.received += one->received_;
        for (const OwnerId who : one->receiving_.interpreters()) now.receivers.push_back(who);
    }
    std::ranges::sort(now.senders);
    std::ranges::sort(now.receivers);
    const auto repeated = std::ranges::unique(now.receivers);
    now.receivers.erase(repeated.begin(), repeated.end());
    now.broadcast = source().broadcast_;
    now.recv_over = receiving_.over();
    now.send_over = source().sending_.over();
    now.poisoned = source().poisoned_;
    return now;
}

}  // namespace memchannel
