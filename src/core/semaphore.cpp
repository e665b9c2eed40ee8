#include "semaphore.hpp"

namespace memchannel {

Status Semaphore::admit(const Caller& who) noexcept {
    if (!who.owner.takes()) return Status::ending;
    if (!turns_.may_take(value_)) return Status::full;
    --value_;
    return Status::ok;
}

Status Semaphore::try_acquire(const Caller& who) noexcept {
    Guard guard(mutex_);
    return admit(who);
}

Status Semaphore::enlist(TurnEntry& entry, const Caller& who) noexcept {
    Guard guard(mutex_);
    const Status status = admit(who);
    if (status != Status::full) return status;
    turns_.enlist(entry, value_);
    return Status::parked;
}

void Semaphore::woken(TurnEntry& entry) noexcept {
    Guard guard(mutex_);
    turns_.woken(entry, value_);
}

Status Semaphore::finish(TurnEntry& entry, const Caller& who) noexcept {
    Guard guard(mutex_);
    if (turns_.come(entry, value_)) {
        if (who.owner.takes()) {
            --value_;
            return Status::ok;
        }
        turns_.pass_on(value_);
        return Status::ending;
    }
    const Status status = entry.waiter->settlement().status;
    return status == Status::parked ? Status::timeout : status == Status::ok ? Status::retry : status;
}

void Semaphore::withdraw(TurnEntry& entry) noexcept {
    Guard guard(mutex_);
    turns_.withdraw(entry, value_);
}

Status Semaphore::release(std::size_t count) noexcept {
    Guard guard(mutex_);
    if (count > bound_ - value_) return Status::misused;
    value_ += count;
    if (turns_.waiting() != 0) {
        spin_.touch();
        turns_.pass_on(value_);
    }
    return Status::ok;
}

std::size_t Semaphore::value() const noexcept {
    Guard guard(mutex_);
    return value_;
}

void Semaphore::end_interpreter(OwnerId who) noexcept {
    Guard guard(mutex_);
    turns_.end_interpreter(who, value_);
}

}  // namespace memchannel
