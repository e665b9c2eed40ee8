// Docstrings of locks and their like, in numpydoc's sections. What they do is what threading's classes do.
#pragma once

namespace memchannel::docs {

inline constexpr char lock[] = R"(Lock()
--

A `threading.Lock` that interpreters share.

Sent through a `Channel`, or in a task or with `memchannel.interpreters.run`, it arrives as the same lock. One
thread of one interpreter holds it at a time, and any thread may release it. Who waits is served in order, except
that a running thread may take a free lock before one that has yet to wake up: nobody is passed over for long.

If the interpreter that took it ends without a release, the lock is free, and the next `acquire`, in whatever
interpreter, raises AbandonedLockError instead of taking it.

Examples
--------
>>> import memchannel
>>> lock = memchannel.Lock()
>>> with lock:
...     lock.locked()
True
)";

inline constexpr char lock_acquire[] = R"(acquire($self, blocking=True, timeout=-1)
--

Take the lock, waiting for it.

Parameters
----------
blocking : bool, optional
    False does not wait.
timeout : float, optional
    Seconds to wait at most; -1 waits for ever.

Returns
-------
bool
    Whether the lock was taken.

Raises
------
AbandonedLockError
    The interpreter that held it ended; the lock is free now, and not taken.
ValueError, OverflowError
    `timeout` is negative or nan, given without `blocking`, or too large.
)";

inline constexpr char lock_release[] = R"(release($self)
--

Let the lock go; any thread of any interpreter may.

Raises
------
RuntimeError
    Nobody holds the lock.
)";

inline constexpr char lock_locked[] = R"(locked($self)
--

Tell whether somebody holds the lock.
)";

inline constexpr char recursive_lock[] = R"(RLock()
--

A `threading.RLock` that interpreters share: the thread that holds it may take it again.

What counts is the thread, also where it goes from one interpreter into another. Otherwise as `Lock`.

Examples
--------
>>> import memchannel
>>> lock = memchannel.RLock()
>>> with lock, lock:
...     pass
)";

inline constexpr char recursive_lock_acquire[] = R"(acquire($self, blocking=True, timeout=-1)
--

Take the lock, waiting for it, or once more if this thread holds it.

As `Lock.acquire`.
)";

inline constexpr char recursive_lock_release[] = R"(release($self)
--

Undo one `acquire`; after the last one the lock is free.

Raises
------
RuntimeError
    This thread does not hold the lock.
)";

inline constexpr char semaphore[] = R"(Semaphore(value=1)
--

A `threading.Semaphore` that interpreters share.

Nobody in particular has a permit: what an interpreter took and did not give back before it ended is gone.

Parameters
----------
value : int, optional
    Permits at the beginning.

Raises
------
ValueError
    `value` is negative.

Examples
--------
>>> import memchannel
>>> places = memchannel.Semaphore(2)
>>> places.acquire(), places.acquire(), places.acquire(blocking=False)
(True, True, False)
)";

inline constexpr char bounded_semaphore[] = R"(BoundedSemaphore(value=1)
--

A `Semaphore` that never has more permits than at the beginning.

Parameters
----------
value : int, optional
    Permits at the beginning, and at most.

Raises
------
ValueError
    `value` is negative.
)";

inline constexpr char semaphore_acquire[] = R"(acquire($self, blocking=True, timeout=None)
--

Take a permit, waiting for one.

Parameters
----------
blocking : bool, optional
    False does not wait.
timeout : float, optional
    Seconds to wait at most; None waits for ever, and what is negative does not wait.

Returns
-------
bool
    Whether a permit was taken.

Raises
------
ValueError, OverflowError
    `timeout` is nan, given without `blocking`, or too large.
)";

inline constexpr char semaphore_release[] = R"(release($self, n=1)
--

Give permits back, or add some.

Parameters
----------
n : int, optional
    How many.

Raises
------
ValueError
    `n` is less than one, or the semaphore would have more than it may.
)";

inline constexpr char event[] = R"(Event()
--

A `threading.Event` that interpreters share: a flag to wait for.

Examples
--------
>>> import memchannel
>>> done = memchannel.Event()
>>> done.set()
>>> done.wait()
True
)";

inline constexpr char event_is_set[] = R"(is_set($self)
--

Tell whether the flag is set.
)";

inline constexpr char event_set[] = R"(set($self)
--

Set the flag and wake all who wait for it.
)";

inline constexpr char event_clear[] = R"(clear($self)
--

Take the flag back. Those whom the last `set` woke go on.
)";

inline constexpr char event_wait[] = R"(wait($self, timeout=None)
--

Wait until the flag is set.

Parameters
----------
timeout : float, optional
    Seconds to wait at most; None waits for ever, and what is negative does not wait.

Returns
-------
bool
    Whether it was set in time.
)";

inline constexpr char condition[] = R"(Condition(lock=None)
--

A `threading.Condition` that interpreters share.

A notification whose waiter cannot use it, because it is interrupted or its interpreter ends, goes to the next.

Parameters
----------
lock : Lock or RLock, optional
    What it is used with; an RLock of its own by default. Several conditions may use one lock.

Raises
------
TypeError
    `lock` is none of memchannel's.

Examples
--------
>>> import memchannel
>>> changed = memchannel.Condition()
>>> with changed:
...     changed.wait(timeout=0.001)
False
)";

inline constexpr char condition_acquire[] = R"(acquire($self, blocking=True, timeout=-1)
--

Take the lock, as its own `acquire`.
)";

inline constexpr char condition_release[] = R"(release($self)
--

Let the lock go, as its own `release`.
)";

inline constexpr char condition_wait[] = R"(wait($self, timeout=None)
--

Let the lock go, wait for a notification, and take the lock again.

Parameters
----------
timeout : float, optional
    Seconds to wait for the notification; None waits for ever. The lock is waited for without limit.

Returns
-------
bool
    Whether a notification came in time.

Raises
------
RuntimeError
    The lock is not held.
AbandonedLockError
    Another interpreter ended while it held the lock, which is not held now. A `with` around the call does not
    mind.
)";

inline constexpr char condition_wait_for[] = R"(wait_for($self, predicate, timeout=None)
--

Wait until `predicate()` is true, looking after each notification.

Parameters
----------
predicate : callable
    Called without arguments and with the lock held.
timeout : float, optional
    Seconds to wait at most, all in all.

Returns
-------
object
    The last value of `predicate()`.
)";

inline constexpr char condition_notify[] = R"(notify($self, n=1)
--

Wake some of those who wait, oldest first. They go on once they have the lock.

Parameters
----------
n : int, optional
    How many, if there are as many.

Raises
------
RuntimeError
    The lock is not held.
)";

inline constexpr char condition_notify_all[] = R"(notify_all($self)
--

Wake all who wait.

Raises
------
RuntimeError
    The lock is not held.
)";

inline constexpr char barrier[] = R"(Barrier(parties, action=None, timeout=None)
--

A `threading.Barrier` that interpreters share.

A party whose interpreter ends while it waits breaks the barrier for the others.

Parameters
----------
parties : int
    How many calls of `wait` it takes until all go on.
action : callable, optional
    Called by the last that arrives, before the others go on. Where it arrives in another interpreter than the
    barrier was made in, a copy is called, as of a pool's task.
timeout : float, optional
    Seconds, for calls of `wait` that give none.

Raises
------
ValueError
    `parties` is less than one.

Examples
--------
>>> import memchannel
>>> memchannel.Barrier(1).wait()
0
)";

inline constexpr char barrier_wait[] = R"(wait($self, timeout=None)
--

Wait until as many calls have arrived as there are parties.

Parameters
----------
timeout : float, optional
    Seconds to wait at most; a call that is not met in time breaks the barrier.

Returns
-------
int
    A number from 0 to ``parties - 1``, another one for each.

Raises
------
threading.BrokenBarrierError
    The barrier is broken, or was while this call waited, or was reset.
)";

inline constexpr char barrier_reset[] = R"(reset($self)
--

Make the barrier as new; calls that wait raise BrokenBarrierError.
)";

inline constexpr char barrier_abort[] = R"(abort($self)
--

Break the barrier: calls that wait, and all that come, raise BrokenBarrierError until `reset`.
)";

inline constexpr char counter[] = R"(Counter(value=0)
--

A whole number of 64 bits that interpreters share and change without a lock.

Parameters
----------
value : int, optional
    Where it begins.

Raises
------
OverflowError
    `value` does not fit.

Examples
--------
>>> import memchannel
>>> hits = memchannel.Counter()
>>> hits.add(2)
2
>>> hits.compare_exchange(2, 10), hits.value
(True, 10)
)";

inline constexpr char counter_add[] = R"(add($self, n=1)
--

Add a number at once.

Parameters
----------
n : int, optional
    May be negative.

Returns
-------
int
    The sum.

Raises
------
OverflowError
    The sum, or `n`, does not fit into 64 bits; nothing is added.
)";

inline constexpr char counter_exchange[] = R"(compare_exchange($self, old, new)
--

Make the number `new` if it is `old`, at once.

Returns
-------
bool
    Whether it was.
)";

}  // namespace memchannel::docs
