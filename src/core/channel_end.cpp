// How channels end: closed sides, interpreters that go, poison, subscriptions that are given up.
#include <algorithm>

#include "channel.hpp"

namespace memchannel {

bool Channel::close(Side side, OwnerId who) {
    if (side == Side::send && source_) return source_->close(side, who);
    Leftovers leftovers;
    Guard guard(mutex_);
    const bool was_associated = association(side).close(who);
    if (side == Side::recv) {
        receivers_.settle_all_of(who, Status::closed);
        revoke(who);
    } else {
        senders_.settle_all_of(who, Status::closed);
    }
    settle_sides(leftovers);
    guard.unlock();
    return was_associated;
}

bool Channel::closed_by(Side side, OwnerId who) const noexcept {
    Guard guard(mutex_);
    return (side == Side::recv ? receiving_ : source().sending_).closed_by(who);
}

// Takes the grants of an interpreter back; its calls find out when they finish.
void Channel::revoke(OwnerId who) noexcept {
    for (Entry* entry = granted_.front(); entry;) {
        Entry* const next = entry->next;
        if (entry->waiter->interpreter() == who) granted_.remove(*entry);
        entry = next;
    }
    grant();
}

void Channel::forget_grants() noexcept {
    while (Entry* const entry = granted_.front()) granted_.remove(*entry);
}

void Channel::discard(Leftovers& leftovers) noexcept {
    queue_.swap(leftovers.queue);
    backlog_.swap(leftovers.backlog);
    forget_grants();
}

// What follows from a side being over.
void Channel::settle_sides(Leftovers& leftovers) noexcept {
    if (receiving_.over()) {
        discard(leftovers);
        senders_.settle_all(Status::broken);
        receivers_.settle_all(Status::closed);
        if (source_) source_->unsubscribe(*this);
    }
    settle_ended();
    for (Channel* one : subscriptions_) one->settle_ended();
}

void Channel::settle_ended() noexcept {
    if (ended()) receivers_.settle_all(Status::ended);
}

// Called by a subscription that is over or about to go, under the lock that both share.
void Channel::unsubscribe(Channel& subscription) noexcept {
    if (!subscription.subscribed_) return;
    subscription.subscribed_ = false;
    std::erase(subscriptions_, &subscription);
    if (subscription.receiving_.over()) receiving_.left();
    receiving_.unpacked();
    if (receiving_.over()) {
        senders_.settle_all(Status::broken);
    } else if (subscriptions_.empty()) {
        // Nobody listens: sent for all that can be told. The messages end with the calls.
        while (Entry* const entry = senders_.settle_first(Status::ok)) {
            sent_ += 1 + static_cast<SendEntry*>(entry)->rest.size();
        }
    } else {
        refill();  // it may have been the slowest
    }
}

void Channel::poison(std::vector<std::byte> reason) {
    if (source_) return source_->poison(std::move(reason));
    std::vector<Handle<Channel>> subscriptions;
    Leftovers leftovers;
    Guard guard(mutex_);
    if (poisoned_) return;
    subscriptions.reserve(subscriptions_.size());
    poisoned_ = true;
    poison_ = std::move(reason);
    discard(leftovers);
    receivers_.settle_all(Status::poisoned);
    senders_.settle_all(Status::poisoned);
    for (Channel* one : subscriptions_) {
        one->receivers_.settle_all(Status::poisoned);
        one->forget_grants();
        if (one->try_retain()) subscriptions.push_back(Handle<Channel>::adopt(one));
    }
    guard.unlock();
    for (const Handle<Channel>& one : subscriptions) {
        Leftovers unread;
        Guard again(mutex_);
        one->discard(unread);
        again.unlock();
    }
}

std::vector<std::byte> Channel::poison_reason() const {
    Guard guard(mutex_);
    return source().poison_;
}

void Channel::end_interpreter(OwnerId who) noexcept {
    Leftovers leftovers;
    MessageQueue unsent;
    Guard guard(mutex_);
    receivers_.settle_all_of(who, Status::ending);
    for (Entry* entry = senders_.front(); entry;) {
        Entry* const next = entry->next;
        if (entry->waiter->interpreter() == who) {
            // Its thread may never run again: what it wanted to send ends here.
            auto& sender = static_cast<SendEntry&>(*entry);
            senders_.remove(sender);
            sender.waiter->settle(Status::ending, sender.index);
            if (sender.message) unsent.push(std::move(sender.message));
            while (!sender.rest.empty()) unsent.push(sender.rest.pop());
        }
        entry = next;
    }
    revoke(who);
    receiving_.end(who);
    sending_.end(who);
    settle_sides(leftovers);
    guard.unlock();
}

}  // namespace memchannel
