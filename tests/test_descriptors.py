"""Open files through a Channel: a duplicated descriptor, and everything that the object around it knew."""

# ruff: noqa: SIM115 - who closes a file is what these tests are about

from __future__ import annotations

import errno
import gzip
import io
import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import memchannel
from channel_support import Neighbour, Task, run_script, waiting
from descriptor_support import descriptors_of, none_left
from memchannel import BrokenChannelError, Channel, ClosedChannelError, InterpreterPool, PoisonedChannelError

LINES = "".join(f"line {number} of the file, äöü\n" for number in range(2000))


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A file of some tens of kilobytes, closed everywhere at the end."""
    made = tmp_path / "a file"
    made.write_text(LINES, encoding="utf-8")
    with none_left(made):
        yield made


def sent(file: Any, **options: Any) -> Any:
    """Send through a channel of this interpreter."""
    channel: Channel[Any] = Channel()
    channel.send(file, **options)
    return channel.recv()


# ---- what arrives


@pytest.mark.parametrize("mode", ["rb", "r+b", "wb", "w+b", "ab", "a+b"])
@pytest.mark.parametrize("buffering", [0, 100, -1])
def test_files_of_bytes_arrive_as_they_were(path: Path, mode: str, buffering: int) -> None:
    with open(path, mode, buffering) as file, sent(file) as got:
        assert type(got) is type(file)
        assert (got.mode, got.name) == (file.mode, str(path))
        assert (got.readable(), got.writable(), got.seekable()) == (
            file.readable(),
            file.writable(),
            file.seekable(),
        )
        assert got.tell() == file.tell()
        assert got.fileno() != file.fileno()
        assert not os.get_inheritable(got.fileno())
        if buffering:
            assert got.__sizeof__() == file.__sizeof__()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "utf-8-sig", "utf-7"])
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("mode", ["r", "w", "a", "r+", "w+", "x"])
def test_files_of_text_arrive_as_they_were(
    tmp_path: Path, mode: str, newline: str | None, encoding: str
) -> None:
    path = tmp_path / "text"
    content = "first\nsecond\r\nthird\rfourth\n"
    if mode != "x":
        path.write_bytes(content.encode(encoding))
    with open(path, mode, encoding=encoding, newline=newline, errors="replace") as file:
        if file.readable():
            file.readline()
        with sent(file) as got:
            assert type(got) is io.TextIOWrapper
            for name in ("mode", "name", "encoding", "errors", "line_buffering", "write_through"):
                assert getattr(got, name) == getattr(file, name)
            assert type(got.buffer) is type(file.buffer)
            assert got.buffer.mode == file.buffer.mode
            if file.readable():
                there = got.tell()
                assert there == file.tell()
                expected = file.read()
                got.seek(there)
                assert got.read() == expected
            if file.writable():
                got.write("A\nB")
                got.flush()
    if mode != "r":
        written = {None: "A\nB", "": "A\nB"}.get(newline, f"A{newline}B")
        decoded = path.read_bytes().decode(encoding)
        assert decoded.endswith(written), "the newline, or a second byte order mark"


@pytest.mark.parametrize("newline", [None, ""])
@pytest.mark.parametrize("read", ["all", "nothing", "a line", "beyond the end"])
def test_both_universal_newlines_are_told_apart(tmp_path: Path, newline: str | None, read: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"1\r\n2\r\n")
    with open(path, newline=newline) as file:
        if read == "a line":
            file.readline()
        elif read != "nothing":
            file.read()
            if read == "beyond the end":
                assert file.read() == ""
        with sent(file) as got:
            got.seek(0)
            assert got.read() == ("1\n2\n" if newline is None else "1\r\n2\r\n")


@pytest.mark.parametrize("mode", ["r", "rb"])
@pytest.mark.parametrize("lines", [0, 1, 700, 1999, 2000])
def test_reading_goes_on_where_the_sender_was(
    path: Path, neighbour: Neighbour, mode: str, lines: int
) -> None:
    """And not where the sender had read ahead to."""
    with open(path, mode, encoding="utf-8" if mode == "r" else None) as file:
        expected = [file.readline() for _ in range(2000)][lines:]
        file.seek(0)
        for _ in range(lines):
            file.readline()
        got = neighbour.do("[file.tell(), file.readlines(), file.close()]", file=file)
        assert got[1] == expected


def test_what_was_buffered_is_written_first(path: Path, neighbour: Neighbour) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write("mine ")
        neighbour.do("file.write('yours '); file.close()", file=file)
        file.write("mine again")
    assert path.read_text() == "mine yours mine again"


def test_both_sides_share_the_position(path: Path, neighbour: Neighbour) -> None:
    with open(path, "r+b") as file:
        file.seek(10)
        neighbour.do("file.seek(30); file.write(b'there'); file.flush()", file=file)
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 35
        neighbour.do("file.close()")


def test_an_appending_file_appends(path: Path, neighbour: Neighbour) -> None:
    with open(path, "a+b") as file:
        file.seek(4)
        assert neighbour.do("(file.tell(), file.read(1))", file=file) == (4, b" ")
        neighbour.do("file.write(b'the end'); file.close()")
    assert path.read_bytes() == LINES.encode() + b"the end"


def test_line_buffering_and_write_through_are_kept(path: Path) -> None:
    with open(path, "w", buffering=1) as file, sent(file) as got:
        assert got.line_buffering
        got.write("seen\n")
        assert path.read_text() == "seen\n"
    with open(path, "wb", 0) as raw, io.TextIOWrapper(raw, write_through=True) as file, sent(file) as got:
        assert got.write_through
        assert type(got.buffer) is io.FileIO
        got.write("seen")
        assert path.read_text() == "seen"
        assert not hasattr(got, "mode")


def test_a_file_opened_by_number_has_its_own_number_for_a_name(path: Path) -> None:
    with open(os.open(path, os.O_RDONLY), "rb") as file, sent(file) as got:
        assert got.name == got.fileno()


def test_files_in_objects_and_the_same_file_twice(path: Path) -> None:
    with open(path, "rb") as file:
        got = sent({"pair": [file, file], "number": file.fileno()})
        with got["pair"][0] as first:
            assert got["pair"][1] is first
        assert got["number"] == file.fileno(), "a bare number is a number"


def test_a_file_from_another_interpreter_outlives_it(path: Path, interp: Any) -> None:
    recv, send = memchannel.create_channel(Channel)
    source = "file = open(path, 'rb'); file.read(5); send.send(file, move=True); assert file.closed"
    memchannel.interpreters.run(interp, source, path=str(path), send=send).check()
    memchannel.interpreters.close(interp, timeout=20)
    with recv.recv() as file:
        assert file.read(8) == LINES.encode()[5:13]


def test_pool_tasks_take_and_give_files(path: Path) -> None:
    def shout(file: Any, target: str) -> Any:
        out = open(target, "w+")
        out.write(file.readline().upper())
        return out

    target = path.with_name("result")
    with InterpreterPool(1, packages=None) as pool, open(path, encoding="utf-8") as file, none_left(target):
        file.readline()
        with pool.submit(shout, file, str(target)).result() as out:
            out.seek(0)
            assert out.read() == "LINE 1 OF THE FILE, ÄÖÜ\n"
        del file


def test_a_running_task_alone_has_its_files_open(path: Path) -> None:
    opened, go = memchannel.Event(), memchannel.Event()

    def work(file: Any, opened: memchannel.Event, go: memchannel.Event) -> None:
        file.close()
        opened.set()
        go.wait()

    with InterpreterPool(1, packages=None) as pool:
        with open(path) as file:
            task = pool.submit(work, file, opened, go)
            del file
        try:
            assert opened.wait(20)
            assert descriptors_of(path) == 0
        finally:
            go.set()
        task.result()


def test_where_a_task_prints_is_the_workers_business(capfd: pytest.CaptureFixture[str]) -> None:
    """What a function by value refers to as sys.stdout is the other side's, which the pool shows."""
    script = """
import sys
from memchannel import InterpreterPool
out = sys.stdout
def say():
    print("printed", file=out, flush=True)
    return type(out).__name__
with InterpreterPool(1, packages=None, prefix_output=True) as pool:
    pool.submit(say).result()
"""
    assert "] printed" in run_script(script) or "printed" in run_script(script)


# ---- giving up one's own


def test_moving_closes_the_senders_own(path: Path, neighbour: Neighbour) -> None:
    channel: Channel[Any] = Channel()
    text, raw = open(path), open(path, "rb", 0)
    channel.send([text, {"raw": raw}], move=True)
    assert text.closed
    assert raw.closed
    assert descriptors_of(path) == 2
    got = channel.recv()
    assert got[0].readline() == "line 0 of the file, äöü\n"
    got[0].close()
    got[1]["raw"].close()


def test_a_move_that_is_not_sent_keeps_it(path: Path) -> None:
    channel: Channel[Any] = Channel(1)
    channel.send(None)
    with open(path, "rb") as file:
        with pytest.raises(TimeoutError):
            channel.send(file, 0, move=True)
        with pytest.raises(pickle.PicklingError):
            channel.send([file, memoryview(b"")], move=True)
        channel.ends[0].close()
        with pytest.raises((BrokenChannelError, ClosedChannelError)):
            channel.ends[1].send(file, move=True)
        assert not file.closed
        assert descriptors_of(path) == 1


def test_moving_what_has_no_descriptor_sends_it(path: Path) -> None:
    assert sent([1, "two"], move=True) == [1, "two"]


@pytest.mark.parametrize("kind", [memchannel.MemChannel, memchannel.ArrayChannel])
def test_other_channels_move_nothing(kind: type[Any]) -> None:
    channel = kind()
    with pytest.raises(TypeError, match=r"move=True is for a Channel"):
        channel.send(b"", move=True)
    assert len(channel) == 0


def test_an_error_of_the_close_is_told_and_the_message_is_sent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append(args.exc_type))
    first, second = open(path, "rb"), open(path, "rb")

    def fail() -> None:
        raise OSError(errno.EIO, "on purpose")

    first.close = fail  # type: ignore[method-assign]
    got = sent([first, second], move=True)
    assert raised == [OSError]
    assert second.closed
    assert not first.closed
    del first.close
    for file in [first, *got]:
        file.close()


def test_an_interrupt_of_the_close_passes(path: Path) -> None:
    channel: Channel[Any] = Channel()
    first, second = open(path, "rb"), open(path, "rb")

    def interrupt() -> None:
        raise KeyboardInterrupt

    first.close = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        channel.send([first, second], move=True)
    assert second.closed
    del first.close
    for file in [first, *channel.recv()]:
        file.close()


# ---- nobody receives


@pytest.mark.parametrize("end", ["dropped", "receivers closed", "poisoned", "not sent", "kept by nobody"])
def test_what_nobody_receives_is_closed(path: Path, end: str) -> None:
    before = memchannel.stats().descriptors
    channel: Channel[Any] = Channel(2)
    file = open(path, "rb")
    channel.send(file, move=True)
    assert memchannel.stats().descriptors == before + 1
    assert descriptors_of(path) == 1
    match end:
        case "receivers closed":
            channel.ends[0].close()
        case "poisoned":
            channel.poison()
            with pytest.raises(PoisonedChannelError):
                channel.recv()
        case "not sent":
            channel.send(None)
            with open(path) as other, pytest.raises(TimeoutError):
                channel.send(other, 0)
            assert descriptors_of(path) == 1
        case "kept by nobody":
            channel.send(channel)
    del channel
    assert memchannel.stats().descriptors == before
    assert descriptors_of(path) == 0


def test_what_an_ended_interpreter_did_not_receive_is_closed(path: Path, interp: Any) -> None:
    recv, send = memchannel.create_channel(Channel)
    memchannel.interpreters.run(interp, "kept = recv", recv=recv).check()
    del recv
    with open(path) as file:
        send.send(file)
        assert descriptors_of(path) == 2
        memchannel.interpreters.close(interp, timeout=20)
        assert descriptors_of(path) == 1
        with pytest.raises(BrokenChannelError):
            send.send(file)


def test_an_object_that_cannot_be_made_closes_its_files(path: Path, neighbour: Neighbour) -> None:
    channel: Channel[Any] = Channel()
    broken = Broken()
    with open(path) as file:
        channel.send([file, broken])
        with pytest.raises(ZeroDivisionError):
            channel.recv()
        assert len(channel) == 0
        channel.send("the next")
        assert channel.recv() == "the next"


class Broken:
    """Unpickles with an error."""

    def __reduce__(self) -> Any:
        return divmod, (1, 0)


def test_a_broadcast_gives_each_receiver_its_own(path: Path) -> None:
    channel: Channel[Any] = Channel()
    ends = [channel.broadcast() for _ in range(3)]
    with open(path, "rb") as file:
        file.read(3)
        channel.send(file)
        for end in ends[:2]:
            with end.recv() as got:
                assert got.read(4) == b"e 0 "
        assert descriptors_of(path) == 2
        ends.clear()
        assert descriptors_of(path) == 1


def test_a_forked_child_holds_none_of_them() -> None:
    out = run_script(
        """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import memchannel
channel = memchannel.Channel()
reader, writer = os.pipe()
channel.send(open(writer, "wb", 0), move=True)
ready, go = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(go)
    assert memchannel.stats().descriptors == 0
    os.read(ready, 1)  # until the parent has seen the end of the pipe
    os._exit(5)
del channel
print(os.read(reader, 1), memchannel.stats().descriptors)
os.close(go)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os.close(reader), os.close(ready)
"""
    )
    assert out == "b'' 0\n5\n"


# ---- what is refused


def closed_file(path: Path) -> Any:
    file = open(path)
    file.close()
    return file


def detached(path: Path) -> Any:
    file = open(path)
    file.detach().close()
    return file


@pytest.mark.parametrize("make", [closed_file, detached])
def test_closed_files_are_refused(path: Path, make: Any) -> None:
    channel: Channel[Any] = Channel()
    with pytest.raises(ValueError, match="closed file|detached"):
        channel.send(make(path))
    assert len(channel) == 0


class MyFile(io.FileIO):
    """A class of its own."""


class Reopened(io.FileIO):
    """One that says how it is pickled."""

    def __reduce_ex__(self, protocol: object) -> Any:
        return open, (self.name, "rb", 0)


def test_subclasses_are_refused_unless_they_say_how(path: Path) -> None:
    channel: Channel[Any] = Channel()
    with MyFile(path) as file, pytest.raises(pickle.PicklingError, match=r"MyFile is more than a file"):
        channel.send(file)
    with Reopened(str(path)) as file, sent(file) as got:
        assert type(got) is io.FileIO
    assert len(channel) == 0


def test_what_is_more_than_a_descriptor_is_refused(path: Path) -> None:
    channel: Channel[Any] = Channel()
    with gzip.open(path, "wb") as packed, pytest.raises(pickle.PicklingError, match="GzipFile is more than"):
        channel.send(packed)
    with gzip.open(path, "wt") as packed, pytest.raises(pickle.PicklingError, match="what is under it"):
        channel.send([packed])
    with (
        tempfile.NamedTemporaryFile() as temporary,
        pytest.raises(pickle.PicklingError, match="removed when it is closed"),
    ):
        channel.send(temporary)
    with tempfile.NamedTemporaryFile() as temporary, sent(temporary.file) as got:
        assert got.name == temporary.name
    with tempfile.SpooledTemporaryFile() as spooled, pytest.raises(pickle.PicklingError, match="Spooled"):
        channel.send(spooled)
    pair = io.BufferedRWPair(io.BytesIO(), io.BytesIO())  # type: ignore[arg-type]
    with pytest.raises(pickle.PicklingError, match="BufferedRWPair"):
        channel.send(pair)
    with io.TextIOWrapper(io.BytesIO(b"text")) as text, pytest.raises(pickle.PicklingError, match="BytesIO"):
        channel.send(text)
    assert len(channel) == 0


def test_files_in_memory_are_pickled() -> None:
    memory = io.BytesIO(b"content")
    memory.seek(3)
    assert sent(memory).read() == b"tent"
    assert sent(io.StringIO("text")).read() == "text"


def test_a_position_that_cannot_be_told_is_refused(path: Path) -> None:
    channel: Channel[Any] = Channel()
    with open(path, encoding="utf-8") as file:
        for line in file:
            with pytest.raises(io.UnsupportedOperation, match="position cannot be told"):
                channel.send(file)
            assert line == "line 0 of the file, äöü\n"
            break
        assert next(file) == "line 1 of the file, äöü\n"


def test_a_failing_flush_loses_nothing() -> None:
    channel: Channel[Any] = Channel()
    with open("/dev/full", "wb") as file:
        file.write(b"content")
        with pytest.raises(OSError, match="No space left"):
            channel.send(file, move=True)
        assert not file.closed
        assert len(channel) == 0
        file.raw.close()
        with pytest.raises(ValueError, match="closed"):
            file.flush()


def test_paths_and_numbers_are_no_descriptors(tmp_path: Path) -> None:
    number = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        before = descriptors_of(tmp_path)
        assert sent([tmp_path, number]) == [tmp_path, number]
        assert descriptors_of(tmp_path) == before
    finally:
        os.close(number)


# ---- pipes, terminals, standard streams


def pipe() -> tuple[Any, Any]:
    """Return both ends of a pipe as unbuffered files."""
    reader, writer = os.pipe()
    return open(reader, "rb", 0), open(writer, "wb", 0)


def test_the_ends_of_a_pipe(neighbour: Neighbour) -> None:
    recv, send = pipe()
    channel: Channel[Any] = Channel()
    channel.send(send, move=True)
    neighbour.do("end = channel.recv(); end.write(b'through'); end.close()", channel=channel)
    with recv:
        assert recv.read() == b"through", "all copies of the writing end are closed"


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_what_was_read_ahead_of_a_pipe_is_refused(mode: str) -> None:
    channel: Channel[Any] = Channel()
    recv, send = pipe()
    with recv, send, open(os.dup(recv.fileno()), mode) as file:
        channel.send(file)  # nothing was read
        with channel.recv() as got:
            send.write(b"1\n23\n")
            assert got.readline() in ("1\n", b"1\n")
            with pytest.raises(io.UnsupportedOperation, match="read ahead"):
                channel.send(got)
            assert got.readline() in ("23\n", b"23\n"), "nothing is lost"
            if mode == "rb":
                sent(got, move=True).close()  # the buffer is empty again
    assert len(channel) == 0


def test_a_byte_order_mark_that_may_be_written_twice_is_refused() -> None:
    channel: Channel[Any] = Channel()
    recv, send = pipe()
    with recv, send:
        with (
            open(os.dup(send.fileno()), "w", encoding="utf-16") as file,
            pytest.raises(io.UnsupportedOperation, match="byte order mark"),
        ):
            channel.send(file)
        with open(os.dup(send.fileno()), "w", encoding="utf-16-le") as file, sent(file) as got:
            got.write("x")
        assert recv.read(2) == "x".encode("utf-16-le")


def test_a_nonblocking_pipe_stays_so() -> None:
    recv, send = pipe()
    with recv, send:
        os.set_blocking(recv.fileno(), False)
        with sent(recv) as got:
            assert not os.get_blocking(got.fileno())
            assert got.read(1) is None


def test_a_full_nonblocking_pipe_keeps_what_is_buffered() -> None:
    channel: Channel[Any] = Channel()
    recv, send = pipe()
    with recv, send, open(os.dup(send.fileno()), "wb") as file:
        os.set_blocking(send.fileno(), False)
        filled = 0
        while (count := send.write(bytes(4096))) is not None:
            filled += count
        file.write(b"later")
        with pytest.raises(BlockingIOError):
            channel.send(file)
        got = b""
        while len(got) < filled:
            got += recv.read(filled - len(got))
        file.flush()
        assert recv.read(5) == b"later"


def test_standard_streams() -> None:
    out = run_script(
        """
import sys, memchannel
from memchannel import Channel, interpreters
channel = Channel()
channel.send([sys.stdin, sys.stdout])
other = interpreters.create(packages=None)
interpreters.run(other, '''
inp, out = channel.recv()
for one in (inp, out):
    print(one.name, one.mode, one.encoding, one.errors, one.line_buffering, file=out, end=" ")
print(file=out)
inp.close(), out.close()
''', channel=channel).check()
for one in (sys.stdin, sys.stdout):
    print(one.name, one.mode, one.encoding, one.errors, one.line_buffering, end=" ")
print()
"""
    )
    first, second = out.splitlines()
    assert first == second


def test_a_terminal(neighbour: Neighbour) -> None:
    controller, terminal = os.openpty()
    with open(controller, "rb", 0) as screen, open(terminal, "w") as file:
        neighbour.do("kept = file.isatty(); print('shown', file=file); file.close()", file=file)
        assert neighbour.do("kept")
        assert screen.read(5) == b"shown"


# ---- no descriptors left

LIMITED = """
import errno, os, resource, sys
import memchannel
from memchannel import Channel, InterpreterPool

channel = Channel()
file = open(sys.executable, "rb")
start = file.read(4)
before = os.listdir("/proc/self/fd")

def without_room(call):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        return call()
    except OSError as exc:
        return errno.errorcode[exc.errno]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
"""


def test_without_room_nothing_is_sent_and_nothing_lost() -> None:
    out = run_script(
        LIMITED
        + """
print(without_room(lambda: channel.send(["x", file], move=True)), len(channel), file.closed)
channel.send(file)
channel.send("next")
print(without_room(channel.recv), without_room(lambda: channel.recv_many(2)), len(channel))
got = channel.recv()
print(got.tell() == 4, channel.recv(), memchannel.stats().descriptors)
got.close()
print(os.listdir("/proc/self/fd") == before)
file.close()
"""
    )
    assert out == "EMFILE 0 False\nEMFILE EMFILE 2\nTrue next 0\nTrue\n"


def test_tasks_and_results_without_room() -> None:
    out = run_script(
        LIMITED
        + """
def give():
    return open(sys.executable, "rb")
def touch(file):
    return file.tell(), file.close()
with InterpreterPool(1, packages=None) as pool:
    pool.submit(touch, file).result()  # the worker has all modules that it takes
    hold = memchannel.Event()
    waiting = pool.submit(lambda hold: hold.wait(), hold)
    late = pool.submit(touch, file)
    def starved():
        hold.set()
        return late.result()
    print(without_room(starved))  # it gets the one that is in the message
    task = pool.submit(give)
    while not task.done():
        pass
    print(without_room(task.result))
    with task.result() as got:
        print(got.mode)
    print(pool.submit(pow, 2, 3).result(), memchannel.stats().descriptors)
file.close()
"""
    )
    assert out == "(4, None)\nEMFILE\nrb\n8 0\n"


# ---- many at once


def test_many_threads_send_files_to_many_interpreters(path: Path, neighbours: list[Neighbour]) -> None:
    channel: Channel[Any] = Channel()
    each, senders = 60, 3

    def send() -> None:
        for _ in range(each):
            with open(path, "rb") as file:
                file.read(5)
                channel.send(file, move=True)

    for one in neighbours:
        one.start(
            f"""
count = 0
for _ in range({each * senders // len(neighbours)}):
    with channel.recv(20) as file:
        count += file.read(2) == b"0 "
""",
            channel=channel,
        )
    tasks = [Task(send) for _ in range(senders)]
    for task in tasks:
        task.result()
    for one in neighbours:
        one.result()
    assert sum(one.do("count") for one in neighbours) == each * senders


def test_a_waiting_receiver_gets_a_file(path: Path) -> None:
    channel: Channel[Any] = Channel(rendezvous=True)
    task = Task(channel.recv)
    while waiting(channel) != (1, 0):
        threading.Event().wait(0.001)
    with open(path) as file:
        channel.send(file, move=True)
    with task.result() as got:
        assert got.read() == LINES
