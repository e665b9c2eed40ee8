#include "condition.hpp"

namespace memchannel {

void Condition::enlist(Entry& entry) noexcept {
    Guard guard(mutex_);
    waiting_.push_back(entry);
}

void Condition::wake(std::size_t count) noexcept {
    while (count-- > 0) {
        Entry* const entry = waiting_.settle_first(Status::ok);
        if (!entry) return;
        notified_.push_back(*entry);
    }
}

void Condition::notify(std::size_t count) noexcept {
    Guard guard(mutex_);
    if (!waiting_.empty()) spin_.touch();
    wake(count);
}

Status Condition::finish(Entry& entry) noexcept {
    Guard guard(mutex_);
    if (entry.queue == &notified_) {
        notified_.remove(entry);
        return Status::ok;
    }
    waiting_.remove(entry);
    const Status status = entry.waiter->settlement().status;
    return status == Status::parked ? Status::timeout : status == Status::ok ? Status::ending : status;
}

void Condition::withdraw(Entry& entry) noexcept {
    Guard guard(mutex_);
    if (entry.queue == &notified_) {
        notified_.remove(entry);
        wake(1);
    } else {
        waiting_.remove(entry);
    }
}

std::size_t Condition::waiting() const noexcept {
    Guard guard(mutex_);
    return waiting_.size();
}

void Condition::end_interpreter(OwnerId who) noexcept {
    Guard guard(mutex_);
    waiting_.settle_all_of(who, Status::ending);
    for (Entry* entry = notified_.front(); entry;) {
        Entry* const next = entry->next;
        if (entry->waiter->interpreter() == who) {
            notified_.remove(*entry);  // its call finds that its interpreter is ending
            wake(1);
        }
        entry = next;
    }
}

}  // namespace memchannel
