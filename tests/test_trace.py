"""memchannel.trace: what is recorded of real channels, interpreters and pools, and how it is kept."""

from __future__ import annotations

import json
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

import memchannel
import pool_tasks
from channel_support import HANG, Neighbour, Task, run_script, wait_until, waiting
from memchannel import _activity, _trace, interpreters
from memchannel._trace import Trace, TraceEvent


def of_kind(trace: Trace, *kinds: str) -> list[TraceEvent]:
    return [event for event in trace.events if event.kind in kinds]


def over(trace: Trace, channel: Any, *kinds: str) -> list[TraceEvent]:
    return [event for event in of_kind(trace, *kinds) if event.channel == channel.id]


# ---- what is recorded


def test_a_message_is_sent_and_received(neighbour: Neighbour) -> None:
    channel = memchannel.MemChannel()
    with memchannel.trace() as trace:
        channel.send(bytearray(1000))
        neighbour.do("channel.recv().release()", channel=channel)
    send, recv = over(trace, channel, "send", "recv")
    assert (send.kind, send.interpreter, send.messages) == ("send", 0, 1)
    assert (recv.kind, recv.interpreter, recv.messages) == ("recv", neighbour.id, 1)
    assert send.id == recv.id != 0
    assert send.nbytes == recv.nbytes > 1000
    assert 0 <= send.begin <= send.end <= recv.end <= trace.seconds * 1e9
    assert send.thread == threading.get_native_id() != recv.thread


def test_lent_memory_is_followed_through_a_switch_to_its_owner(neighbour: Neighbour) -> None:
    channel = memchannel.MemChannel()
    with memchannel.trace() as trace:
        neighbour.do("channel.send(bytearray(5000))", channel=channel)
        channel.recv().release()
    lent, returned = over(trace, channel, "lent", "returned")
    (switch,) = (event for event in of_kind(trace, "switch") if event.owner == lent.interpreter)
    assert (lent.nbytes, lent.owner, lent.interpreter) == (5000, lent.interpreter, lent.interpreter)
    assert (returned.nbytes, returned.owner, returned.interpreter) == (5000, lent.interpreter, 0)
    assert lent.id == returned.id != 0
    assert switch.interpreter == 0
    assert switch.begin <= returned.begin <= switch.end
    assert 0 <= switch.entry + switch.back <= switch.end - switch.begin


def test_a_wait_lies_in_the_call_that_waited() -> None:
    channel = memchannel.MemChannel()
    with memchannel.trace() as trace:
        task = Task(lambda: channel.recv(HANG).release())
        wait_until(lambda: waiting(channel) == (1, 0))
        channel.send(b"spam")
        task.result()
    (wait,) = (event for event in of_kind(trace, "wait") if event.channel == channel.id)
    (recv,) = over(trace, channel, "recv")
    assert (wait.name, wait.side, wait.ok, wait.primitive) == ("recv", "recv", True, None)
    assert wait.thread == recv.thread
    assert recv.begin <= wait.begin <= wait.end <= recv.end


def test_a_wait_that_gives_up_is_told_and_no_message() -> None:
    channel = memchannel.MemChannel()
    with memchannel.trace() as trace, pytest.raises(TimeoutError):
        channel.recv(timeout=0.001)
    assert [(event.kind, event.ok) for event in over(trace, channel, "wait", "recv")] == [("wait", False)]


def test_a_wait_that_is_not_over_is_known_up_to_the_end() -> None:
    channel = memchannel.Channel()
    task = Task(channel.recv, HANG)
    wait_until(lambda: any(wait.channel == channel.id for wait in memchannel.dump_waits()))
    with memchannel.trace() as trace:
        pass
    channel.send(1)
    assert task.result() == 1
    (wait,) = over(trace, channel, "wait")
    assert (wait.begin, wait.end, wait.name, wait.side) == (0, round(trace.seconds * 1e9), "recv", "recv")


def test_locks_are_waited_for() -> None:
    lock = memchannel.Lock()
    with memchannel.trace() as trace:
        lock.acquire()
        task = Task(lambda: lock.acquire(timeout=HANG) and lock.release())
        wait_until(lambda: any(wait.primitive == lock.id for wait in memchannel.dump_waits()))
        lock.release()
        task.result()
    (wait,) = (event for event in of_kind(trace, "wait") if event.primitive == lock.id)
    assert (wait.name, wait.channel) == ("Lock.acquire", None)


def test_one_call_with_many_messages_is_one_event() -> None:
    channel = memchannel.Channel()
    with memchannel.trace() as trace:
        channel.send_many(range(10))
        channel.recv()
        assert channel.recv_many(100) == list(range(1, 10))
    send, *received = over(trace, channel, "send", "recv")
    assert send.messages == 10
    assert [(event.messages, event.id - send.id) for event in received] == [(1, 0), (9, 1)]
    assert [flow.send for flow in _activity.flows(trace)] == [send, send]


def test_select_and_broadcasts_are_recorded() -> None:
    first, second = memchannel.Channel(), memchannel.Channel()
    ends = [second.broadcast(), second.broadcast()]
    with memchannel.trace() as trace:
        first.send("a")
        assert memchannel.select(first, *ends)[1] == "a"
        second.send("b")
        assert [end.recv() for end in ends] == ["b", "b"]
    events = over(trace, first, "send", "recv")
    assert [event.kind for event in events] == ["send", "recv"]
    (sent,) = over(trace, second, "send")
    assert len([flow for flow in _activity.flows(trace) if flow.send == sent]) == 2


def test_event_loops_do_not_overlap_other_calls() -> None:
    import asyncio

    channel = memchannel.Channel(1)

    async def talk() -> None:
        async def receive() -> list[Any]:
            return [await channel.recv_async() for _ in range(5)]

        task = asyncio.create_task(receive())
        for number in range(5):
            await channel.send_async(number)
        assert await task == list(range(5))

    with memchannel.trace() as trace:
        asyncio.run(talk())
    assert sum(event.messages for event in over(trace, channel, "send")) == 5
    assert len(_activity.flows(trace)) == 5
    assert_nested(trace)


def test_pool_tasks_are_told_with_their_functions_and_workers() -> None:
    with memchannel.trace() as trace, memchannel.InterpreterPool(2, packages=None, name="crew") as pool:
        futures = [
            pool.submit(pool_tasks.same, 1),
            pool.submit(lambda: 2),
            pool.submit(pool_tasks.fail, "some text"),
        ]
        assert [futures[0].result(), futures[1].result()] == [1, 2]
        with pytest.raises(KeyError):
            futures[2].result()
        assert list(pool.map(pool_tasks.same, range(4), chunksize=2)) == [0, 1, 2, 3]
    submitted = {event.id: event for event in of_kind(trace, "submit")}
    tasks = of_kind(trace, "task")
    lambdas = "test_pool_tasks_are_told_with_their_functions_and_workers.<locals>.<lambda>"
    assert sorted(task.name for task in tasks) == ["fail", "same", "same", "same", lambdas]
    assert [task.name for task in tasks if not task.ok] == ["fail"]
    assert {task.id for task in tasks} == submitted.keys()
    for task in tasks:
        assert submitted[task.id].interpreter == 0 != task.interpreter
        assert submitted[task.id].begin <= task.begin <= task.end
        assert submitted[task.id].name == task.name
        assert trace.threads[task.thread] in ("crew_0", "crew_1")
    assert_nested(trace)


def test_a_task_that_was_cancelled_has_no_name() -> None:
    go: memchannel.Channel[None] = memchannel.Channel()
    with memchannel.trace() as trace, memchannel.InterpreterPool(1, packages=None) as pool:
        first = pool.submit(pool_tasks.wait_then_return, go, 1)
        second = pool.submit(pool_tasks.same, 2)
        wait_until(first.running)
        assert second.cancel()
        go.send(None)
        assert first.result() == 1
    assert [event.name for event in of_kind(trace, "submit")] == ["wait_then_return", ""]


def test_blocks_of_an_array_and_a_worker_that_began_before() -> None:
    np = pytest.importorskip("numpy")  # left out only by a minimal environment
    data = np.arange(40_000.0).reshape(-1, 4)
    with memchannel.InterpreterPool(1) as pool:
        assert list(pool.map_blocks(pool_tasks.same, data[:1], blocks=1))
        with memchannel.trace() as trace:
            list(pool.map_blocks(pool_tasks.pointer, data, blocks=4))
    tasks = of_kind(trace, "task")
    assert [task.name for task in tasks] == ["pointer"] * 4
    # Its run goes on after the trace: only the tasks are known.
    number = tasks[0].interpreter
    assert [event for event in of_kind(trace, "run") if event.interpreter == number] == []
    (row,) = (one for one in trace.summary().interpreters if one.interpreter == number)
    # Less what they waited for, to give blocks back.
    assert 0 < row.busy <= sum(task.end - task.begin for task in tasks) / 1e9 + 1e-9


def test_functions_with_arrays_and_callables_have_names_too() -> None:
    import functools

    from memchannel._worker import label

    class Doubling:
        def __call__(self, number: int) -> int:
            return 2 * number

    assert label(functools.partial(functools.partial(pow, 2), 3)) == "pow"
    assert label(Doubling()) == "Doubling"
    assert label(Doubling().__call__).endswith("Doubling.__call__")


def test_runs_are_recorded_in_the_interpreter_that_runs(interp: interpreters.Interpreter) -> None:
    with memchannel.trace() as trace:
        interpreters.run(interp, "sum(range(10_000))").check()
    outer, inner = (event for event in of_kind(trace, "run") if event.interpreter in (0, interp.id))
    assert (outer.interpreter, outer.name, outer.begin) == (0, "trace", 0)
    assert (inner.interpreter, inner.name) == (interp.id, "run")
    assert inner.thread == outer.thread
    main, other = (one for one in trace.summary().interpreters if one.interpreter in (0, interp.id))
    assert main.interpreter == 0
    # While it runs the other one, it waits; so that exactly one is busy.
    assert main.waiting == pytest.approx((inner.end - inner.begin) / 1e9)
    assert main.busy + other.busy == pytest.approx(trace.seconds)
    assert main.idle == pytest.approx(0)


def assert_nested(trace: Trace) -> None:
    """Slices of one thread of one interpreter lie within each other, or apart."""
    tracks: dict[tuple[int, int], list[TraceEvent]] = {}
    for event in trace.events:
        tracks.setdefault((event.interpreter, event.thread), []).append(event)
    for events in tracks.values():
        open_ends: list[int] = []
        for event in events:  # by their beginning, longer ones first
            while open_ends and open_ends[-1] <= event.begin:
                open_ends.pop()
            assert not open_ends or event.end <= open_ends[-1], event
            open_ends.append(event.end)


# ---- who records, and how long


def test_one_trace_at_a_time_for_the_whole_process(interp: interpreters.Interpreter) -> None:
    start = "import memchannel; memchannel.trace().start()"
    with memchannel.trace():
        with pytest.raises(RuntimeError, match="interpreter 0 started is recording already.*stop that one"):
            memchannel.trace().start()
        result = interpreters.run(interp, start)
        assert "interpreter 0 started" in str(result.exception)
    with memchannel.trace() as trace:
        pass
    assert of_kind(trace, "run")[0].name == "trace"


def test_a_trace_can_be_started_anywhere(interp: interpreters.Interpreter) -> None:
    channel = memchannel.Channel()
    interpreters.run(
        interp, "import memchannel; trace = memchannel.trace().start(); here = channel", channel=channel
    ).check()
    channel.send(1)
    with pytest.raises(RuntimeError, match=f"interpreter {interp.id} started"):
        memchannel.trace().start()
    result = interpreters.run(
        interp,
        """
        trace.stop()
        channel.send([(e.kind, e.interpreter) for e in trace.events if e.channel == here.id][0])
        """,
        channel=channel,
    )
    result.check()
    assert channel.recv_many(2) == [1, ("send", 0)]


def test_a_trace_ends_with_the_interpreter_that_started_it() -> None:
    starter = interpreters.create(packages=None)
    interpreters.run(starter, "import memchannel; trace = memchannel.trace().start()").check()
    interpreters.close(starter, timeout=HANG)
    with memchannel.trace() as trace:
        pass
    assert trace.seconds >= 0


def test_a_trace_that_nobody_holds_ends() -> None:
    memchannel.trace().start()
    with memchannel.trace() as trace:
        pass
    assert trace.dropped == 0


def test_an_interpreter_that_ends_stays_in_the_trace() -> None:
    channel = memchannel.MemChannel()
    with memchannel.trace() as trace:
        ending = interpreters.create(packages=None)
        number = ending.id
        interpreters.run(ending, "channel.send(bytearray(3000))", channel=channel).check()
        channel.recv().release()
        interpreters.close(ending, timeout=HANG)
    assert number in trace.interpreters
    assert [event.interpreter for event in over(trace, channel, "lent", "returned")] == [number, 0]
    assert len(_activity.flows(trace)) >= 1


def test_memory_of_an_interpreter_closed_by_force_is_abandoned() -> None:
    channel = memchannel.MemChannel()
    owner = interpreters.create(packages=None)
    interpreters.run(owner, "channel.send(bytearray(3000))", channel=channel).check()
    view = channel.recv()
    with memchannel.trace() as trace:
        owner.close()
        with pytest.warns(ResourceWarning, match="1 of its buffers"):
            view.release()
    (event,) = of_kind(trace, "abandoned")
    assert (event.nbytes, event.id) == (3000, 0)  # lent before the trace


def test_an_exception_stops_the_trace_and_passes() -> None:
    trace = memchannel.trace()
    with pytest.raises(KeyError), trace:
        raise KeyError("some text")
    assert trace.seconds >= 0
    with memchannel.trace():
        pass


def test_a_trace_is_used_once_and_in_order() -> None:
    trace = memchannel.trace()
    with pytest.raises(RuntimeError, match="not started: call start"):
        trace.stop()
    with pytest.raises(RuntimeError, match="not started: there is nothing"):
        print(trace.events)
    assert repr(trace) == "<Trace, not started, limit=1000000>"
    trace.start()
    assert "recording" in repr(trace)
    assert trace._repr_html_() is None
    with pytest.raises(RuntimeError, match=r"still recording: stop\(\) it"):
        print(trace.events)
    trace.stop()
    trace.stop()
    assert "events" in repr(trace)
    with pytest.raises(RuntimeError, match="started before: make a new one"):
        trace.start()
    with pytest.raises(TypeError, match="belongs to the interpreter"):
        pickle.dumps(trace)


@pytest.mark.parametrize("limit", [0, -1, 2**50])
def test_limits_out_of_range_are_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"not {limit}"):
        memchannel.trace(limit)


def test_limits_that_are_no_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="integer, not '9'"):
        memchannel.trace("9")  # type: ignore[arg-type]


def test_what_comes_after_the_limit_is_counted() -> None:
    channel = memchannel.Channel()
    with memchannel.trace(limit=100) as trace:
        for number in range(80):
            channel.send(number)
            channel.recv()
    assert len(over(trace, channel, "send", "recv")) == 100
    assert trace.dropped == 60
    assert trace.limit == 100
    assert trace.summary().dropped == 60
    assert "60 events came after the limit" in str(trace.summary())
    assert "60 dropped" in repr(trace)


def test_many_threads_and_interpreters_at_once(neighbours: list[Neighbour]) -> None:
    channel = memchannel.Channel(4)
    with memchannel.trace() as trace:
        for one in neighbours:
            one.start("for number in range(300): channel.send(number)", channel=channel)
        received = [channel.recv(HANG) for _ in range(900)]
        for one in neighbours:
            one.result()
    assert sorted(received) == sorted([*range(300)] * 3)
    assert sum(event.messages for event in over(trace, channel, "send")) == 900
    assert (
        sum(flow.recv.messages for flow in _activity.flows(trace) if flow.recv.channel == channel.id) == 900
    )
    assert trace.dropped == 0
    assert_nested(trace)


def test_a_forked_child_is_not_recorded() -> None:
    out = run_script(
        """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import memchannel

channel = memchannel.Channel()
with memchannel.trace() as trace:
    channel.send(1)
    pid = os.fork()
    if pid == 0:
        memchannel.Channel().send(2)
        trace.stop()
        try:
            trace.events
        except RuntimeError as exc:
            print(exc)
        print(repr(trace), trace._repr_html_())
        with memchannel.trace() as own:
            memchannel.Channel().send(3)
        print([event.kind for event in own.events], flush=True)
        del trace
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
    channel.recv()
print([event.kind for event in trace.events])
"""
    )
    assert out.splitlines() == [
        "this trace belongs to the parent process: it does not survive os.fork()",
        "<Trace of the parent process> None",
        "['run', 'send']",
        "0",
        "['run', 'send', 'recv']",
    ]


@pytest.mark.no_leaks
def test_nothing_is_left_of_a_trace() -> None:
    channel = memchannel.MemChannel()
    with memchannel.trace() as trace:
        for _ in range(100):
            channel.send(bytearray(10))
            channel.recv().release()
    assert len(of_kind(trace, "send")) == 100
    assert trace.summary().events > 300


@pytest.mark.no_leaks
def test_nothing_is_left_of_a_trace_that_nobody_reads() -> None:
    channel = memchannel.Channel()
    with memchannel.trace():
        channel.send(1)
        channel.recv()


# ---- the file


def recorded_pool() -> Trace:
    """Record two workers, messages between interpreters, and memory that is lent."""
    channel = memchannel.MemChannel()
    with memchannel.trace() as trace:
        with memchannel.InterpreterPool(2, packages=None) as pool:
            assert list(pool.map(pool_tasks.same, range(6))) == list(range(6))
        channel.send(bytearray(100))
        channel.recv().release()
    return trace


REQUIRED = {
    "M": {"ph", "name", "pid", "tid", "args"},
    "X": {"ph", "name", "cat", "ts", "dur", "pid", "tid", "args"},
    "i": {"ph", "name", "cat", "ts", "pid", "tid", "s", "args"},
    "s": {"ph", "name", "cat", "ts", "pid", "tid", "id"},
    "f": {"ph", "name", "cat", "ts", "pid", "tid", "id", "bp"},
}


def test_the_file_is_in_chromes_trace_event_format(tmp_path: Path) -> None:
    trace = recorded_pool()
    trace.save(tmp_path / "run.json")
    saved = json.loads((tmp_path / "run.json").read_text())
    assert saved["displayTimeUnit"] == "ms"
    assert saved["otherData"] == {"seconds": trace.seconds, "dropped": 0, "limit": 1_000_000}
    events = saved["traceEvents"]
    for event in events:
        assert event.keys() == REQUIRED[event["ph"]], event
        assert all(isinstance(event[name], int) and event[name] >= 0 for name in ("pid", "tid"))
        if event["ph"] != "M":
            assert 0 <= event["ts"] <= trace.seconds * 1e6
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert event["ts"] + event["dur"] <= trace.seconds * 1e6 + 0.01
    assert len([event for event in events if event["ph"] in "Xi"]) == len(trace.events)
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert list(names.values()) == [
        "interpreter 0 (main)",
        *(f"interpreter {number}" for number in trace.interpreters[1:]),
    ]
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert threads.keys() == {(e["pid"], e["tid"]) for e in events if e["ph"] in "Xi"}
    assert any(name.startswith("MainThread (") for name in threads.values())


def test_arrows_lead_from_the_send_to_the_recv_of_a_message(tmp_path: Path) -> None:
    trace = recorded_pool()
    trace.save(os.fspath(tmp_path / "run.json"))
    events = json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]

    def around(arrow: dict[str, Any], name: str) -> list[str]:
        return [
            event["args"]["id"]
            for event in slices
            if event["name"] == name
            and (event["pid"], event["tid"]) == (arrow["pid"], arrow["tid"])
            and event["ts"] <= arrow["ts"] <= round(event["ts"] + event["dur"], 3)
        ]

    begins = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    assert begins.keys() == ends.keys()
    assert len(begins) == len(_activity.flows(trace)) >= 7
    for number, begin in begins.items():
        assert begin["ts"] <= ends[number]["ts"]
        assert set(around(begin, "send")) & set(around(ends[number], "recv"))


def test_events_are_there_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = memchannel.Channel[int]()
    with memchannel.trace() as trace:
        channel.send(1)
        channel.recv()

    def interrupted(events: list[TraceEvent]) -> list[TraceEvent]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_trace, "_named_submissions", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trace.summary()
    assert [event.kind for event in over(trace, channel, "send", "recv")] == ["send", "recv"]


def test_a_number_is_no_path() -> None:
    with memchannel.trace() as trace:
        pass
    descriptor = os.open(os.devnull, os.O_WRONLY)
    wrong: Any = descriptor
    with pytest.raises(TypeError, match="os.PathLike object, not int"):
        trace.save(wrong)
    os.close(descriptor)  # nobody else did


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with memchannel.trace() as trace:
        pass
    with pytest.raises(FileNotFoundError):
        trace.save(tmp_path / "nowhere" / "run.json")
    with pytest.raises(RuntimeError, match="not started"):
        memchannel.trace().save(tmp_path / "run.json")
    assert list(tmp_path.iterdir()) == []


# ---- what it adds up to


def event(kind: str, begin: int, end: int, interpreter: int = 0, thread: int = 1, **more: Any) -> TraceEvent:
    plain = TraceEvent(kind, begin, end, interpreter, thread, "", None, None, 0, 1, 0, None, 0, 0, "", True)
    return plain._replace(**more)


class Made:
    """A trace of given events, with what the summary reads of one."""

    dropped = 0

    def __init__(self, nanoseconds: int, *events: TraceEvent) -> None:
        self.seconds, self.events = nanoseconds / 1e9, sorted(events, key=lambda one: (one.begin, -one.end))


def test_times_are_shared_out_among_busy_waiting_and_idle() -> None:
    trace: Any = Made(
        100,
        event("run", 0, 100),
        event("wait", 20, 80),
        event("run", 30, 70, 1, thread=2),
        event("wait", 30, 40, 1, thread=2),
        event("task", 40, 60, 1, thread=2),
        event("task", 50, 90, 2, thread=3),
        event("switch", 90, 98, 2, thread=3, owner=0, entry=5, back=1),
    )
    found = _activity.activities(trace)
    assert found[0].busy == [(0, 20), (80, 100)]
    assert found[0].waiting == [(20, 80)]
    assert found[1].busy == [(40, 70)]
    assert found[1].waiting == [(30, 40)]
    assert found[2].busy == [(50, 90)]
    assert found[2].for_owners == [(90, 95), (97, 98)]
    assert _activity.concurrency(one.busy for one in found.values()) == [
        (0, 1),
        (20, 0),
        (40, 1),
        (50, 2),
        (70, 1),
        (80, 2),
        (90, 1),
        (100, 0),
    ]
    from memchannel._trace_summary import summarize

    summary = summarize(trace)
    assert [round(1e9 * one.idle) for one in summary.interpreters] == [0, 60, 54]
    assert summary.parallelism == pytest.approx(110 / 80)
    assert summary.serial == pytest.approx(50 / 80)
    assert summary.imbalance == pytest.approx(40 / 30 - 1)
    assert [one.imbalance for one in summary.interpreters] == [
        None,
        pytest.approx(20 / 30 - 1),
        pytest.approx(1 / 3),
    ]


def test_the_summary_counts_messages_and_bytes(neighbour: Neighbour) -> None:
    channel = memchannel.MemChannel()
    with memchannel.trace() as trace:
        neighbour.do("for _ in range(3): channel.send(bytearray(2000))", channel=channel)
        for _ in range(3):
            channel.recv().release()
    summary = trace.summary()
    main, other = (one for one in summary.interpreters if one.interpreter in (0, neighbour.id))
    assert other.bytes_lent == 6000
    assert other.sent >= 3
    assert main.received >= 3
    assert summary.imbalance is None
    table = str(summary).splitlines()
    assert table[0].split()[-5:] == ["idle", "tasks", "sent", "received", "lent"]
    assert len(table) == len(summary.interpreters) + 2


@pytest.mark.parametrize(
    ("spans", "others", "left"),
    [
        ([(0, 10)], [], [(0, 10)]),
        ([(0, 10)], [(0, 10)], []),
        ([(0, 10)], [(2, 3), (5, 7)], [(0, 2), (3, 5), (7, 10)]),
        ([(0, 4), (6, 9)], [(3, 7)], [(0, 3), (7, 9)]),
        ([(5, 6)], [(0, 1), (8, 9)], [(5, 6)]),
        ([], [(0, 1)], []),
    ],
)
def test_spans_are_cut(
    spans: list[tuple[int, int]], others: list[tuple[int, int]], left: list[tuple[int, int]]
) -> None:
    assert _activity.subtract(spans, others) == left


def test_spans_are_merged() -> None:
    assert _activity.union([(5, 7), (0, 2), (2, 3), (6, 6), (6, 9), (10, 10)]) == [(0, 3), (5, 9)]


def wait_in_a_task_whose_name_is_long(begun: memchannel.Event, go: memchannel.Event) -> None:
    begun.set()
    go.wait()


def test_a_task_that_began_in_an_earlier_trace_has_its_name() -> None:
    with memchannel.InterpreterPool(1, packages=None) as pool:
        for _ in range(20):  # memory that was given back is not used again at once
            begun, go = memchannel.Event(), memchannel.Event()
            with memchannel.trace() as earlier:
                running = pool.submit(wait_in_a_task_whose_name_is_long, begun, go)
                begun.wait()
            del earlier
            with memchannel.trace() as trace:
                go.set()
                running.result()
            (task,) = of_kind(trace, "task")
            assert task.name == "wait_in_a_task_whose_name_is_long"


class _Counting(list[tuple[int, int]]):
    """Counts what is taken out of it, one by one or as a slice."""

    taken = 0

    def __getitem__(self, which: Any) -> Any:
        found = super().__getitem__(which)
        self.taken += len(found) if isinstance(which, slice) else 1
        return found


def test_what_is_cut_out_is_looked_at_a_few_times_only() -> None:
    spans = [(10 * number, 10 * number + 8) for number in range(1000)]
    waits = _Counting((begin + 2, begin + 3) for begin, _ in spans)
    assert len(_activity.subtract(spans, waits)) == 2000
    assert waits.taken < 10 * len(spans)


def test_runs_that_were_started_from_a_run() -> None:
    thread = _activity._Thread()
    thread.runs = [(0, 100), (10, 20), (200, 300), (400, 400)]
    inside, outside = (
        [(0, 50), (12, 14), (250, 300)],
        [(90, 110), (0, 100), (150, 160), (200, 301), (399, 401)],
    )
    assert thread.runs_within(inside + outside) == inside
