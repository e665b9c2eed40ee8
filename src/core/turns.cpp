#include "turns.hpp"

namespace memchannel {

void TurnQueue::enlist(TurnEntry& entry, std::size_t free) noexcept {
    if (entry.since_ns == 0) entry.since_ns = monotonic_ns();
    entry.yields = free != 0;
    if (entry.overdue) waiting_.push_front(entry);
    else waiting_.push_back(entry);
}

void TurnQueue::pass_on(std::size_t free) noexcept {
    while (awake_.size() - on_their_way_ < free) {
        Entry* const entry = waiting_.settle_first(Status::ok);
        if (!entry) return;
        awake_.push_back(*entry);
        auto& turn = static_cast<TurnEntry&>(*entry);
        turn.reserved = turn.overdue && reserved_ < free;
        if (turn.reserved) ++reserved_;
    }
}

void TurnQueue::woken(TurnEntry& entry, std::size_t free) noexcept {
    if (entry.queue != &awake_ || entry.on_its_way) return;
    entry.on_its_way = true;
    ++on_their_way_;
    pass_on(free);
}

void TurnQueue::forget_reservation(TurnEntry& entry) noexcept {
    if (entry.reserved) --reserved_;
    entry.reserved = false;
}

void TurnQueue::leave(TurnEntry& entry) noexcept {
    if (entry.queue) entry.queue->remove(entry);
    if (entry.on_its_way) --on_their_way_;
    entry.on_its_way = false;
    forget_reservation(entry);
}

bool TurnQueue::come(TurnEntry& entry, std::size_t free) noexcept {
    const bool turn = entry.queue == &awake_;
    const bool waited_out = entry.queue == &waiting_ && entry.yields && !entry.waiter->settled();
    leave(entry);
    if (turn && may_take(free)) return true;
    if (waited_out && free != 0) {
        for (Entry* late = awake_.front(); late; late = late->next)
            forget_reservation(static_cast<TurnEntry&>(*late));
        return true;
    }
    entry.overdue = monotonic_ns() - entry.since_ns >= patience_ns;
    return false;
}

void TurnQueue::withdraw(TurnEntry& entry, std::size_t free) noexcept {
    leave(entry);
    pass_on(free);
}

void TurnQueue::end_interpreter(OwnerId who, std::size_t free) noexcept {
    waiting_.settle_all_of(who, Status::ending);
    for (Entry* entry = awake_.front(); entry;) {
        Entry* const next = entry->next;
        if (entry->waiter->interpreter() == who) leave(static_cast<TurnEntry&>(*entry));
        entry = next;
    }
    pass_on(free);
}

}  // namespace memchannel
