#include "event.hpp"

namespace memchannel {

void Event::set() noexcept {
    Guard guard(mutex_);
    set_ = true;
    if (waiting_.empty()) return;
    spin_.touch();
    waiting_.settle_all(Status::ok);
}

void Event::clear() noexcept {
    Guard guard(mutex_);
    set_ = false;
}

bool Event::is_set() const noexcept {
    Guard guard(mutex_);
    return set_;
}

Status Event::enlist(Entry& entry) noexcept {
    Guard guard(mutex_);
    if (set_) return Status::ok;
    waiting_.push_back(entry);
    return Status::parked;
}

Status Event::finish(Entry& entry) noexcept {
    Guard guard(mutex_);
    waiting_.remove(entry);
    const Status status = entry.waiter->settlement().status;
    return status == Status::parked ? Status::timeout : status;
}

void Event::end_interpreter(OwnerId who) noexcept {
    Guard guard(mutex_);
    waiting_.settle_all_of(who, Status::ending);
}

}  // namespace memchannel
