#include "barrier.hpp"

namespace memchannel {

// Everybody who waits learns that the meeting failed.
void Barrier::break_all() noexcept {
    ++meeting_;
    acting_ = no_owner;
    waiting_.settle_all(Status::broken);
    early_.settle_all(broken_ ? Status::broken : Status::retry);
}

void Barrier::let_go() noexcept {
    ++meeting_;
    acting_ = no_owner;
    std::uint32_t place = 0;
    for (Entry* entry = waiting_.front(); entry; entry = entry->next) entry->index = place++;
    if (place != 0) spin_.touch();
    waiting_.settle_all(Status::ok);
    early_.settle_all(Status::retry);
}

Barrier::Arrival Barrier::arrive(Entry& entry, OwnerId who) noexcept {
    Guard guard(mutex_);
    if (broken_) return {Status::broken, false, meeting_};
    if (acting_ != no_owner) {
        early_.push_back(entry);
        return {Status::parked, false, meeting_};
    }
    if (waiting_.size() + 1 < parties_) {
        waiting_.push_back(entry);
        return {Status::parked, false, meeting_};
    }
    const Arrival last{Status::ok, has_action_, meeting_};
    if (has_action_) acting_ = who;
    else let_go();
    return last;
}

bool Barrier::end_action(std::uint64_t meeting, bool succeeded) noexcept {
    Guard guard(mutex_);
    if (meeting != meeting_) return false;
    broken_ = !succeeded;
    if (succeeded) let_go();
    else break_all();
    return true;
}

Status Barrier::finish(Entry& entry) noexcept {
    Guard guard(mutex_);
    const Status status = entry.waiter->settlement().status;
    const bool of_meeting = entry.queue == &waiting_;
    if (entry.queue) entry.queue->remove(entry);
    if (status != Status::parked && status != Status::ending) return status;
    if (status == Status::parked || of_meeting) {
        broken_ = true;
        break_all();
    }
    return status == Status::parked ? Status::timeout : status;
}

void Barrier::withdraw(Entry& entry) noexcept {
    Guard guard(mutex_);
    if (entry.queue) entry.queue->remove(entry);
}

void Barrier::abort() noexcept {
    Guard guard(mutex_);
    broken_ = true;
    break_all();
}

void Barrier::reset() noexcept {
    Guard guard(mutex_);
    broken_ = false;
    break_all();
}

std::size_t Barrier::waiting() const noexcept {
    Guard guard(mutex_);
    return waiting_.size();
}

std::vector<std::byte> Barrier::action() const {
    Guard guard(mutex_);
    return action_;
}

void Barrier::set_action(std::vector<std::byte> action) noexcept {
    Guard guard(mutex_);
    action_ = std::move(action);
}

bool Barrier::broken() const noexcept {
    Guard guard(mutex_);
    return broken_;
}

void Barrier::end_interpreter(OwnerId who) noexcept {
    Guard guard(mutex_);
    bool party = acting_ == who;
    for (Entry* entry = waiting_.front(); entry; entry = entry->next)
        party = party || entry->waiter->interpreter() == who;
    // A party that was told of its interpreter's end already counts, too: it will not go on.
    waiting_.settle_all_of(who, Status::ending);
    early_.settle_all_of(who, Status::ending);
    if (party) {
        broken_ = true;
        break_all();
    }
}

}  // namespace memchannel
