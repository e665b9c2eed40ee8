// The outcome of every core operation that can end in more than one way.
#pragma once

namespace memchannel {

enum class Status {
    ok,
    empty,        // nothing to receive now
    full,         // no room to send now; held, or used up
    parked,       // the call was enlisted; wait for its settlement
    retry,        // the grant vanished (poison, close); begin again
    closed,       // the calling interpreter closed this end
    ended,        // sending side over and drained
    broken,       // receiving side over; the barrier is broken
    poisoned,     // the channel was poisoned
    timeout,      // deadline passed
    interrupted,  // a signal arrived while parked, or another thread interrupts the call
    ending,       // the calling interpreter is ending
    misused,      // a plain operation on a broadcast channel, or the reverse; a release by who may not
    abandoned,    // the lock's holder ended: told once, to who would have taken it
};

}  // namespace memchannel
