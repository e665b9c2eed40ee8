#include "lock.hpp"

#include <utility>

namespace memchannel {

// The lock is free and may be taken.
Status Lock::take(const Caller& who) noexcept {
    if (std::exchange(abandoned_, false)) {
        turns_.pass_on(free());
        return Status::abandoned;
    }
    holder_ = {who.owner.id(), who.thread};
    depth_ = 1;
    return Status::ok;
}

Status Lock::admit(const Caller& who) noexcept {
    if (recursive_ && is_holder(who)) {
        ++depth_;
        return Status::ok;
    }
    if (!who.owner.takes()) return Status::ending;
    return turns_.may_take(free()) ? take(who) : Status::full;
}

Status Lock::try_acquire(const Caller& who) noexcept {
    Guard guard(mutex_);
    return admit(who);
}

Status Lock::enlist(TurnEntry& entry, const Caller& who) noexcept {
    Guard guard(mutex_);
    const Status status = admit(who);
    if (status != Status::full) return status;
    turns_.enlist(entry, free());
    return Status::parked;
}

void Lock::woken(TurnEntry& entry) noexcept {
    Guard guard(mutex_);
    turns_.woken(entry, free());
}

Status Lock::finish(TurnEntry& entry, const Caller& who) noexcept {
    Guard guard(mutex_);
    if (turns_.come(entry, free())) {
        if (who.owner.takes()) return take(who);
        turns_.pass_on(free());
        return Status::ending;
    }
    const Status status = entry.waiter->settlement().status;
    return status == Status::parked ? Status::timeout : status == Status::ok ? Status::retry : status;
}

void Lock::withdraw(TurnEntry& entry) noexcept {
    Guard guard(mutex_);
    turns_.withdraw(entry, free());
}

void Lock::free_up() noexcept {
    depth_ = 0;
    if (turns_.waiting() == 0) return;
    spin_.touch();
    turns_.pass_on(free());
}

Status Lock::release(const Caller& who) noexcept {
    Guard guard(mutex_);
    if (depth_ == 0 || (recursive_ && !is_holder(who))) return Status::misused;
    if (depth_ > 1) --depth_;
    else free_up();
    return Status::ok;
}

Status Lock::release_all(const Caller& who, std::size_t& depth) noexcept {
    Guard guard(mutex_);
    if (depth_ == 0 || (recursive_ && !is_holder(who))) return Status::misused;
    depth = depth_;
    free_up();
    return Status::ok;
}

void Lock::restore(std::size_t depth) noexcept {
    Guard guard(mutex_);
    depth_ = depth;
}

bool Lock::held() const noexcept {
    Guard guard(mutex_);
    return depth_ != 0;
}

bool Lock::held_by(const Caller& who) const noexcept {
    Guard guard(mutex_);
    return is_holder(who);
}

Holder Lock::holder() const noexcept {
    Guard guard(mutex_);
    return depth_ != 0 ? holder_ : Holder();
}

OwnerId Lock::abandoned_by() const noexcept {
    Guard guard(mutex_);
    return abandoned_by_;
}

std::size_t Lock::depth() const noexcept {
    Guard guard(mutex_);
    return depth_;
}

void Lock::end_interpreter(OwnerId who) noexcept {
    Guard guard(mutex_);
    if (depth_ != 0 && holder_.interpreter == who) {
        abandoned_ = true;
        abandoned_by_ = who;
        depth_ = 0;
    }
    turns_.end_interpreter(who, free());
}

}  // namespace memchannel
