// Docstrings of channels and their ends, in numpydoc's sections.
#pragma once

namespace memchannel::docs {

inline constexpr char recv[] = R"(recv($self, timeout=None, *, copy=False, as_view=False)
--

Receive the next message, waiting for one.

Messages come in the order in which they were sent, each to one receiver; those who wait are served in the
order in which they came. The wait obeys Ctrl-C on the main thread, and leaves the message in the channel
then.

Parameters
----------
timeout : float, optional
    Seconds to wait at most; 0 does not wait, None waits for ever.
copy : bool, optional
    ArrayChannel only: give a writable array of one's own instead of a read-only one over the sender's memory.
as_view : bool, optional
    ArrayChannel only: give an ArrayView, which needs no NumPy.

Returns
-------
object
    A CrossInterpreterView (MemChannel), an ndarray (ArrayChannel) or an equal object (Channel).

Raises
------
TimeoutError
    Nothing came in time.
EndOfChannel
    Everything was received and every sender left.
ClosedChannelError
    This interpreter closed the receiving end.
PoisonedChannelError
    Somebody called `poison`.
ValueError, OverflowError
    `timeout` is negative or nan, or too large.
Exception
    Whatever making the object raises, for instance because its class cannot be imported here. The message is
    gone then. It goes back into the channel if what was raised is no `Exception`, as KeyboardInterrupt.

See Also
--------
recv_nowait, recv_many, recv_async
)";

inline constexpr char recv_nowait[] = R"(recv_nowait($self, default=None, *, copy=False, as_view=False)
--

Receive a message if there is one now, else return `default`.

Parameters
----------
default : object, optional
    What to return when the channel is empty.
copy, as_view : bool, optional
    As for `recv`.

Returns
-------
object
    The message or `default`.

Raises
------
EndOfChannel, ClosedChannelError, PoisonedChannelError
    As for `recv`.
)";

inline constexpr char recv_many[] = R"(recv_many($self, limit, timeout=None, *, copy=False, as_view=False)
--

Receive what is there, at most `limit` messages, waiting for the first one only.

The channel is locked once and the caller woken once, which makes it the fastest way to empty a channel.

Parameters
----------
limit : int
    Messages wanted at most, 1 or more.
timeout : float, optional
    Seconds to wait at most for the first message; None waits for ever.
copy, as_view : bool, optional
    As for `recv`.

Returns
-------
list
    From 1 to `limit` objects, in the order in which they were sent.

Raises
------
TimeoutError, EndOfChannel, ClosedChannelError, PoisonedChannelError
    As for `recv`.
Exception
    What making the first object raised. Its message is gone, the others are back in the channel. If a later
    one cannot be made, the objects before it are returned, and it is again the first in the channel.
)";

inline constexpr char recv_async[] = R"(recv_async($self, *, copy=False, as_view=False)
--

Receive the next message in a coroutine of asyncio.

A message that is there already is returned without a turn of the event loop. Otherwise the loop watches an
event descriptor, one for all channels; no thread waits and nothing polls. Cancelling takes the call out of
the line, and a message that was meant for it goes to the next receiver.

Parameters
----------
copy, as_view : bool, optional
    As for `recv`.

Returns
-------
coroutine
    Its result is what `recv` returns; it raises what `recv` raises.
)";

inline constexpr char send[] = R"(send($self, obj, timeout=None, *, move=False, by_value=False)
--

Send an object, waiting for room.

An unbounded channel always has room. One with ``maxsize=n`` has none while n messages wait in it; a broadcast
channel, while they wait for its slowest receiver; with ``rendezvous=True``, until a receiver takes the message.

Parameters
----------
obj : object
    MemChannel: anything with a buffer, or a str; ArrayChannel: an array; Channel: anything picklable. Memory is
    lent, not copied: it stays in use until the receivers have dropped their views.
timeout : float, optional
    Seconds to wait at most; 0 does not wait, None waits for ever.
move : bool, optional
    Of a Channel: close the open files and sockets in `obj` here once it was sent. Otherwise both sides have
    them open.
by_value : bool, optional
    Channel only: functions and classes of ``__main__``, lambdas, closures and whatever else the receiver cannot
    import travel themselves (cloudpickle), not as names.

Raises
------
TimeoutError
    There was no room in time; `obj` was not sent.
TypeError, ValueError, BufferError
    `obj` cannot be sent over this kind of channel; `pickle.PicklingError` and other errors of objects that
    cannot be pickled pass through. Nothing was sent and nothing is lent.
BrokenChannelError
    Nobody is left who could receive.
ClosedChannelError
    This interpreter closed the sending end.
PoisonedChannelError
    Somebody called `poison`.
)";

inline constexpr char send_nowait[] = R"(send_nowait($self, obj, *, by_value=False)
--

Send an object if there is room now.

Parameters
----------
obj : object
    What is sent, as for `send`.
by_value : bool, optional
    As for `send`.

Returns
-------
bool
    Whether it was sent.

Raises
------
TypeError, BrokenChannelError, ClosedChannelError, PoisonedChannelError
    As for `send`.
)";

inline constexpr char send_many[] = R"(send_many($self, iterable, timeout=None, *, by_value=False)
--

Send the objects of an iterable in order, as far as there is room under one lock and with one wake-up.

All of them are prepared before the first is sent: if one cannot be sent over this kind of channel, or the
iterable raises, nothing was sent and nothing is lent. Where room is missing the call waits in line like one
sender: messages of others come before or after its own, or between them once it had to wait.

Parameters
----------
iterable : iterable
    Objects as for `send`.
timeout : float, optional
    Seconds for the whole; None waits for ever.
by_value : bool, optional
    As for `send`.

Raises
------
TimeoutError, BrokenChannelError, ClosedChannelError, PoisonedChannelError
    As for `send`. The exception, KeyboardInterrupt included, has an attribute ``sent``: how many messages
    went out before it.
TypeError, ValueError, BufferError
    An object cannot be sent; none was.
)";

inline constexpr char send_async[] = R"(send_async($self, obj, *, by_value=False)
--

Send an object in a coroutine of asyncio, waiting for room in its event loop.

Cancelling takes the call out of the line. If the message went out before the cancellation arrived, it is out.

Parameters
----------
obj : object
    What is sent, as for `send`.
by_value : bool, optional
    As for `send`.

Returns
-------
coroutine
    It raises what `send` raises.
)";

inline constexpr char close[] = R"(close($self, /)
--

Leave this end, for the whole interpreter.

Calls of this interpreter that wait on it raise ClosedChannelError, and so do later ones. When nobody is left
on the sending side, receivers get what is queued and then EndOfChannel; when nobody is left on the receiving
side, senders get BrokenChannelError and what is queued is dropped. On a channel it leaves both ends.

Returns
-------
bool
    Whether the interpreter was associated with the end.
)";

inline constexpr char poison[] = R"(poison($self, exc=None)
--

Make every present and future operation on the channel fail, in every interpreter.

What is queued is dropped. Only the first call counts.

Parameters
----------
exc : BaseException, optional
    Why: a copy of it becomes the ``__cause__`` of each PoisonedChannelError.
)";

inline constexpr char broadcast[] = R"(broadcast($self, /)
--

Open a new receiving end that gets every message sent from now on.

The first call makes the channel a broadcast channel for good: it is received from only through such ends, and
each of them gets every message. One lease serves all; the memory goes back after the slowest.
``statistics().subscribers`` tells how far each is behind, and ``maxsize`` bounds the slowest. Who has no use
for its end any more closes or drops it. A message that nobody subscribed to is dropped.

Returns
-------
RecvChannel
    With an id of its own.

Raises
------
ValueError
    The channel has messages or plain receivers, or is a rendezvous channel.
ClosedChannelError
    This interpreter closed the receiving end, or all receivers are gone.
PoisonedChannelError
    Somebody called `poison`.
)";

inline constexpr char statistics[] = R"(statistics($self, /)
--

Return a snapshot of the channel, a `memchannel.statistics.ChannelStatistics`.

It costs no association and works on closed ends.
)";

inline constexpr char select[] = R"(select(*cases, timeout=None)
--

Do the first of several receives and sends that can be done, and only that one.

If several can be done at once one of them is chosen at random, as in Go. A message is taken by exactly one
call, whoever else waits for it. The same channel may occur several times.

Parameters
----------
*cases : RecvChannel or (SendChannel, object)
    What to wait for: an end to receive from, or a pair to send.
timeout : float, optional
    Seconds to wait at most; 0 does not wait, None waits for ever.

Returns
-------
end : RecvChannel or SendChannel
    The end of the case that was done, the object that was given.
value : object
    What was received, None for a send.

Raises
------
TimeoutError
    None could be done in time. What was to be sent was not.
ValueError
    There are no cases.
TypeError
    Something is neither an end nor a pair, or cannot be sent.
EndOfChannel, BrokenChannelError, ClosedChannelError, PoisonedChannelError
    One of the cases ended in this way, which counts as done; ``channel`` of the error is the id of its end.

Examples
--------
>>> import memchannel
>>> numbers, words = memchannel.Channel(), memchannel.Channel()
>>> words.send("one")
>>> end, value = memchannel.select(numbers, words)
>>> end is words, value
(True, 'one')
)";

inline constexpr char id[] = "The channel's number in this process.";
inline constexpr char name[] = "The name given at creation, or None.";
inline constexpr char closed[] = "Whether this interpreter closed the end; of a channel: both of them.";
inline constexpr char interpreters[] =
    "Ids of the interpreters associated with the end; of a channel: with one of them.";
inline constexpr char ends[] = "The pair (RecvChannel, SendChannel), as PEP 554 has it.";

#define MEMCHANNEL_CHANNEL_SIGNATURE "(maxsize=0, *, rendezvous=False, release='eager', name=None)\n--\n\n"
#define MEMCHANNEL_CHANNEL_PARAMETERS                                                                        \
    "\n\nAny number of interpreters and threads may send and receive. The object has the methods of both\n"  \
    "ends and goes wherever an end goes: through channels, to ``run`` and ``Interpreter.call``, by pickle\n" \
    "inside the process, and by ``id``.\n\n"                                                                 \
    "Parameters\n----------\n"                                                                               \
    "maxsize : int, optional\n    Messages it holds at most; 0 means any number.\n"                          \
    "rendezvous : bool, optional\n"                                                                          \
    "    Hold none: a send waits for its receiver (Hoare, Communicating Sequential Processes, 1978).\n"      \
    "release : {'eager', 'deferred'}, optional\n"                                                            \
    "    How lent memory goes back: at once, waiting for the owner's GIL, or soon, in batches, without\n"    \
    "    waiting.\n"                                                                                         \
    "name : str, optional\n    Shown in ``repr`` and statistics.\n\n"                                        \
    "Raises\n------\nTypeError, ValueError\n    An argument is of the wrong type, negative or "              \
    "contradictory.\n"

inline constexpr char mem_channel[] = "MemChannel" MEMCHANNEL_CHANNEL_SIGNATURE
                                      "A channel for memory: anything with a buffer arrives as a read-only "
                                      "view of the same memory." MEMCHANNEL_CHANNEL_PARAMETERS;
inline constexpr char array_channel[] = "ArrayChannel" MEMCHANNEL_CHANNEL_SIGNATURE
                                        "A channel for arrays: they arrive read-only over the same memory, "
                                        "with dtype, shape and strides." MEMCHANNEL_CHANNEL_PARAMETERS;
inline constexpr char object_channel[] = "Channel" MEMCHANNEL_CHANNEL_SIGNATURE
                                         "A channel for picklable objects; the arrays and buffers inside "
                                         "them travel without a copy." MEMCHANNEL_CHANNEL_PARAMETERS;
inline constexpr char recv_channel[] = R"(RecvChannel(id)
--

The receiving end of the channel with this id.

Opening it does not associate the interpreter with the channel; receiving does.

Parameters
----------
id : int
    The ``id`` of a channel of this process.

Raises
------
ValueError
    There is no such channel, or nobody holds an end of it any more.
)";
inline constexpr char send_channel[] = R"(SendChannel(id)
--

The sending end of the channel with this id.

Opening it does not associate the interpreter with the channel; sending does.

Parameters
----------
id : int
    The ``id`` of a channel of this process.

Raises
------
ValueError
    There is no such channel, nobody holds an end of it any more, or it is an end made by ``broadcast()``.
)";

}  // namespace memchannel::docs
