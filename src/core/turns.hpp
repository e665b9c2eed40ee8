// Whose turn it is: the line before a lock or a semaphore. Not thread-safe: the primitive's mutex guards it.
//
// What is given back is free for everybody, and the first in line is woken to come for it. It comes attached
// to its interpreter, so nothing is held while it waits for a GIL; whoever is there sooner takes what is
// free, which is far cheaper than a hand-over for each turn. Who came too late and has waited for long is
// *overdue*: the next that becomes free is reserved for it (the idea of Go's sync.Mutex and of WebKit's
// ParkingLot: fair in the end). A reservation binds the others for a moment only, in case that the
// interpreter it was made for is busy. For the same reason each one that wakes up passes the word on while
// there is still something free: nobody waits for another interpreter's GIL.
#pragma once

#include "waiter.hpp"

namespace memchannel {

struct TurnEntry : Entry {
    std::int64_t since_ns = 0;  // of the whole call
    bool overdue = false;
    bool reserved = false;
    bool on_its_way = false;
    bool yields = false;  // something is free but reserved: wait no longer than TurnQueue::courtesy_ns
};

class TurnQueue {
   public:
    static constexpr std::int64_t patience_ns = 1'000'000;
    static constexpr std::int64_t courtesy_ns = 10'000'000;  // two of CPython's switch intervals

    // Whether a caller that does not stand in line may take one.
    bool may_take(std::size_t free) const noexcept { return free > reserved_; }
    void enlist(TurnEntry& entry, std::size_t free) noexcept;
    // Something became free: wakes as many as there is something for.
    void pass_on(std::size_t free) noexcept;
    // One that was woken, before it waits for its GIL.
    void woken(TurnEntry& entry, std::size_t free) noexcept;
    // Comes for its turn, or is done with waiting; in no line afterwards. True: take one.
    bool come(TurnEntry& entry, std::size_t free) noexcept;
    void withdraw(TurnEntry& entry, std::size_t free) noexcept;
    void end_interpreter(OwnerId who, std::size_t free) noexcept;
    std::size_t waiting() const noexcept { return waiting_.size() + awake_.size(); }

   private:
    void leave(TurnEntry& entry) noexcept;
    void forget_reservation(TurnEntry& entry) noexcept;

    EntryQueue waiting_;            // TurnEntry, undecided
    EntryQueue awake_;              // TurnEntry, settled, not yet come
    std::size_t on_their_way_ = 0;  // of the awake ones: those that passed the word on
    std::size_t reserved_ = 0;
};

}  // namespace memchannel
