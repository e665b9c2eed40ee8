// Blocking calls on primitives: the core's halves with a wait between them, as the bindings put them
// together; and the halves one by one.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "blocking.hpp"
#include "core/turns.hpp"

namespace fake {

template <class T, class... Arguments>
Handle<T> make(Arguments&&... arguments) {
    static_cast<void>(host());  // starts the registry
    return make_primitive<T>(std::forward<Arguments>(arguments)...);
}

template <class Turned>
Status acquire(Turned& primitive, const Caller& who, Deadline deadline = Deadline::never()) {
    Status status = primitive.try_acquire(who);
    if (status != Status::full) return status;
    Waiter waiter(who.owner.id(), "acquire", primitive.id());
    TurnEntry entry;
    entry.waiter = &waiter;
    for (;;) {
        status = primitive.enlist(entry, who);
        if (status != Status::parked) return status;
        const Deadline until =
            entry.yields ? deadline.sooner(Deadline::after_ns(TurnQueue::courtesy_ns)) : deadline;
        status = waiter.wait(until, &primitive.spin());
        if (status == Status::ok) primitive.woken(entry);
        status = primitive.finish(entry, who);
        const bool cut_short = status == Status::timeout && !(until == deadline);
        if (status != Status::retry && !cut_short) return status;
        waiter.begin_again();
    }
}

// One call that waits for its turn, in steps.
template <class Turned>
class Turn {
   public:
    Turn(Turned& primitive, const Caller& who)
        : primitive_(primitive), who_(who), waiter_(who.owner.id(), "acquire", primitive.id()) {
        entry_.waiter = &waiter_;
    }
    Status begin() { return primitive_.enlist(entry_, who_); }
    Status finish() {
        const Status status = primitive_.finish(entry_, who_);
        if (status == Status::retry || status == Status::timeout) waiter_.begin_again();
        return status;
    }
    void quit() {
        primitive_.withdraw(entry_);
        waiter_.begin_again();
    }
    bool settled() const { return waiter_.settled(); }
    TurnEntry& entry() { return entry_; }
    bool yields() const { return entry_.yields; }
    const Caller& who() const { return who_; }

   private:
    Turned& primitive_;
    const Caller who_;
    Waiter waiter_;
    TurnEntry entry_;
};

}  // namespace fake
