"""What workers of a pool print: where it comes out, when, and in which pieces."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

import memchannel
from channel_support import wait_until
from interpreter_support import run_program
from memchannel import BrokenInterpreterPool, InterpreterPool

pytestmark = pytest.mark.usefixtures("level_leases")


@pytest.fixture(scope="module")
def pool() -> Iterator[InterpreterPool]:
    with InterpreterPool(1, packages=None) as made:
        yield made


def say(text: str, stream: str = "stdout") -> None:
    print(text, file=getattr(sys, stream))


def warn_in_three_ways() -> None:
    logging.getLogger("worker").warning("logged")
    warnings.warn("warned", stacklevel=1)
    print("printed", file=sys.stderr)


def test_the_text_is_there_before_the_result(
    pool: InterpreterPool, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(20):
        pool.submit(say, f"line {i}").result()
        assert capsys.readouterr().out == f"line {i}\n"
    future = pool.submit(say, "to the other", "stderr")
    assert future.exception() is None
    assert capsys.readouterr().err == "to the other\n"


def test_in_order_also_when_others_wait(pool: InterpreterPool, capsys: pytest.CaptureFixture[str]) -> None:
    done = threading.Event()
    futures = [pool.submit(say, str(i)) for i in range(200)]
    futures[-1].add_done_callback(lambda _: done.set())
    assert done.wait(60)
    assert capsys.readouterr().out.split() == [str(i) for i in range(200)]


def test_while_the_task_runs(pool: InterpreterPool) -> None:
    gate = memchannel.Channel()
    text = io.StringIO()

    def work() -> object:
        print("one line\nhalf of", end="")
        print(" the next", end="", flush=True)
        return gate.recv()

    with contextlib.redirect_stdout(text):
        future = pool.submit(work)
        wait_until(lambda: text.getvalue() == "one line\nhalf of the next")
        gate.send(1)
        assert future.result(timeout=60) == 1


def test_logging_and_warnings(pool: InterpreterPool, capsys: pytest.CaptureFixture[str]) -> None:
    pool.submit(warn_in_three_ways).result()
    logged, *warned, printed = capsys.readouterr().err.splitlines()
    assert (logged, printed) == ("logged", "printed")
    assert "UserWarning: warned" in warned[0]


def test_a_handler_outlives_the_pool(capsys: pytest.CaptureFixture[str]) -> None:
    def log(text: str) -> None:
        logger = logging.getLogger("handler of a worker")
        if not logger.handlers:
            logger.addHandler(logging.StreamHandler())
        logger.error(text)

    for text in ("first", "second"):
        with InterpreterPool(1, packages=None) as own:
            own.submit(log, text).result()
        assert capsys.readouterr().err == f"{text}\n"


def test_each_line_begins_with_the_workers_name_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def work(_: int) -> None:
        print("one\ntwo")
        print("three", file=sys.stderr)

    with InterpreterPool(2, packages=None, name="crew", prefix_output=True) as own:
        list(own.map(work, range(20)))
    out, err = capsys.readouterr()
    assert set(out.splitlines()) <= {f"[crew_{n}] {text}" for n in (0, 1) for text in ("one", "two")}
    assert set(err.splitlines()) <= {f"[crew_{n}] three" for n in (0, 1)}
    assert (len(out.splitlines()), len(err.splitlines())) == (40, 20)


def test_prefixed_lines_that_come_in_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    pieces = memchannel.Channel()

    def write() -> None:
        for text in iter(pieces.recv, None):
            print(text, end="", flush=True)
            done.send(text)

    done = memchannel.Channel()
    with InterpreterPool(1, packages=None, name="crew", prefix_output=True) as own:
        future = own.submit(write)
        for text in ("a", "b", "\n", "c\nd"):
            pieces.send(text)
            done.recv(60)
        pieces.send(None)
        future.result(timeout=60)
    assert capsys.readouterr().out == "[crew_0] ab\n[crew_0] c\n[crew_0] d"


def test_a_line_that_another_worker_cut_is_ended_once(capsys: pytest.CaptureFixture[str]) -> None:
    turns = [memchannel.Channel(), memchannel.Channel()]
    done = memchannel.Channel()

    def write(turn: int) -> None:
        for text in iter(turns[turn].recv, None):
            print(text, end="", flush=True)
            done.send(text)

    with InterpreterPool(2, packages=None, name="crew", prefix_output=True) as own:
        futures = [own.submit(write, turn) for turn in (0, 1)]
        for turn, text in ((0, "a"), (1, "b"), (0, "\n"), (1, "\n"), (0, "c"), (1, "d\n"), (0, "e\nf\n")):
            turns[turn].send(text)
            done.recv(60)
        for turn in turns:
            turn.send(None)
        for future in futures:
            future.result(timeout=60)
    lines = capsys.readouterr().out.splitlines()
    assert [line[-1] for line in lines] == ["a", "b", "c", "d", "e", "f"]
    assert {line[: len("[crew_0] ")] for line in lines} == {"[crew_0] ", "[crew_1] "}
    assert all(len(line) == len("[crew_0] a") for line in lines)


def test_initializers_print_too(capsys: pytest.CaptureFixture[str]) -> None:
    def start() -> None:
        print("started", end="")
        raise LookupError

    with InterpreterPool(1, packages=None, initializer=start) as own, pytest.raises(BrokenInterpreterPool):
        own.submit(pow, 2, 2).result()
    assert capsys.readouterr().out == "started"


def test_nothing_is_lost_at_the_end_of_a_worker(capsys: pytest.CaptureFixture[str]) -> None:
    with InterpreterPool(1, packages=None, max_tasks_per_interpreter=2) as own:
        for i in range(6):
            own.submit(print, i, end=",")
    assert capsys.readouterr().out == "0,1,2,3,4,5,"


def test_workers_after_others_that_ended_print_too(capsys: pytest.CaptureFixture[str]) -> None:
    with InterpreterPool(1, packages=None, max_tasks_per_interpreter=1, reuse=False) as own:
        for number in range(3):
            own.submit(print, number).result()
            assert capsys.readouterr().out == f"{number}\n"


def test_more_than_fits_on_the_way(pool: InterpreterPool, capsys: pytest.CaptureFixture[str]) -> None:
    from memchannel._output import MOST_WAITING

    count = MOST_WAITING + 5_000

    def work() -> None:
        for i in range(count):
            print(i)

    pool.submit(work).result(timeout=120)
    assert capsys.readouterr().out == "".join(f"{i}\n" for i in range(count))


def test_bytes_and_what_a_stream_can_tell(pool: InterpreterPool, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> tuple[object, ...]:
        sys.stdout.buffer.write("é😀\n".encode())
        print("é😀")
        return sys.stdout.encoding.lower(), sys.stdout.errors, sys.stdout.isatty(), sys.stdout.fileno()

    assert pool.submit(work).result() == ("utf-8", "strict", False, 1)
    assert capsys.readouterr().out == "é😀\n" * 2


def test_what_the_stream_cannot_show() -> None:
    """The task's own print() raises, as it would here; text for another stream is escaped."""
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    with contextlib.redirect_stdout(narrow), InterpreterPool(1, packages=None) as own:
        with pytest.raises(UnicodeEncodeError):
            own.submit(print, "é").result()
        own.submit(print, "fine").result()
    assert raw.getvalue().endswith(b"fine\n")
    raw.truncate(0)
    raw.seek(0)
    with InterpreterPool(1, packages=None) as own:
        own.submit(print, "").result()  # a worker that was told of another stream
        with contextlib.redirect_stdout(narrow):
            own.submit(print, "é").result()
    assert raw.getvalue() == b"\\xe9\n"


@pytest.mark.parametrize("broken", ["closed", "absent", "faulty"])
def test_a_stream_that_takes_nothing_harms_no_task(broken: str) -> None:
    class Faulty(io.StringIO):
        def write(self, text: str, /) -> int:
            raise RuntimeError("no room")

    stream: io.StringIO | None = (
        None if broken == "absent" else Faulty() if broken == "faulty" else io.StringIO()
    )
    if stream is not None and broken == "closed":
        stream.close()
    with contextlib.redirect_stdout(stream), InterpreterPool(1, packages=None) as own:
        assert [own.submit(print, i).result() for i in range(3)] == [None] * 3
        assert own.submit(pow, 2, 2).result() == 4


def test_a_stream_that_exits_ends_no_pool() -> None:
    class Exits(io.StringIO):
        def write(self, text: str, /) -> int:
            raise SystemExit(text)

    with contextlib.redirect_stdout(Exits()), InterpreterPool(1, packages=None) as own:
        futures = [own.submit(print, i) for i in range(5)]
        wait_until(lambda: all(future.done() for future in futures))
    assert [future.result() for future in futures] == [None] * 5


def test_a_task_that_closes_its_stream(capsys: pytest.CaptureFixture[str]) -> None:
    with InterpreterPool(1, packages=None) as own:
        own.submit(lambda: sys.stdout.close()).result()
    with InterpreterPool(1, packages=None) as own:
        own.submit(print, "again").result()
    assert capsys.readouterr().out == "again\n"


def wrap_anew(how: str) -> None:
    under = sys.stdout.detach() if how == "detach" else sys.stdout.buffer  # type: ignore[attr-defined]
    sys.stdout = io.TextIOWrapper(under, encoding="utf-8")
    print(how)


@pytest.mark.parametrize("how", ["detach", "wrap"])
def test_a_task_that_puts_another_stream_over_its_own(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # in the same interpreter
        with InterpreterPool(1, packages=None) as own:
            own.submit(wrap_anew, how).result()
        with InterpreterPool(1, packages=None) as own:
            own.submit(print, "again").result()
    assert capsys.readouterr().out == f"{how}\nagain\n" * 2


def test_a_task_that_deletes_its_stream(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with InterpreterPool(1, packages=None) as own:
            own.submit(exec, "import sys; del sys.stdout").result()
            own.submit(print, "lost").exception()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("encoding", "errors"), [("no-such-one", "strict"), ("utf-8", "no-such-one"), (5, 6)]
)
def test_streams_of_a_kind_that_workers_do_not_know(encoding: object, errors: object) -> None:
    class Strange(io.StringIO):
        def __getattribute__(self, name: str) -> object:
            return {"encoding": encoding, "errors": errors}.get(name) or super().__getattribute__(name)

    with contextlib.redirect_stdout(Strange()) as text, InterpreterPool(1, packages=None) as own:
        own.submit(print, "é").result()
    assert text.getvalue() == "é\n"


def test_a_stream_that_waits_for_a_task_itself(pool: InterpreterPool) -> None:
    class Waits(io.StringIO):
        def write(self, text: str, /) -> int:
            return super().write(str(pool.submit(len, text).result(timeout=60)))

    stream = Waits()
    with contextlib.redirect_stdout(stream):
        pool.submit(print, "four").result(timeout=60)
    assert stream.getvalue() == "5"


def test_pools_in_workers_print_through_them(capsys: pytest.CaptureFixture[str]) -> None:
    def outer() -> None:
        with InterpreterPool(1, packages=None, name="inner", prefix_output=True) as inner:
            inner.submit(print, "hello").result()

    with InterpreterPool(1, packages=None, name="outer", prefix_output=True) as own:
        own.submit(outer).result()
    assert capsys.readouterr().out == "[outer_0] [inner_0] hello\n"


def test_to_a_pipe_nothing_is_lost_at_exit() -> None:
    code = (
        "import sys\n"
        "from memchannel import InterpreterPool\n"
        "pool = InterpreterPool(2, packages=None)\n"
        "print('main')\n"
        "pool.submit(print, 'worker')\n"
        "pool.submit(print, 'other stream', file=None)\n"
        "pool.submit(lambda: print('errors', file=sys.stderr))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert sorted(done.stdout.split("\n")) == ["", "main", "other stream", "worker"]
    assert done.stderr == "errors\n"


def test_no_thread_and_no_channel_stays() -> None:
    before = {thread.name for thread in threading.enumerate()}
    with InterpreterPool(2, packages=None) as own:
        list(own.map(print, [""] * 4))
    assert {thread.name for thread in threading.enumerate()} <= before


def test_a_forked_child_leaves_the_output_to_the_parent() -> None:
    code = (
        "import os, warnings\n"
        "from memchannel import InterpreterPool\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # of threads beside fork()\n"
        "pool = InterpreterPool(1, packages=None)\n"
        "future = pool.submit(print, 'once', flush=True)\n"
        "future.result()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    print(future.done(), flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    assert run_program(code) == "once\nTrue\n"


def test_parent_descriptors_are_left_alone(pool: InterpreterPool) -> None:
    """What goes past Python's streams goes to the process's descriptors, as in any thread."""
    code = (
        "import os\n"
        "from memchannel import InterpreterPool\n"
        "with InterpreterPool(1, packages=None) as pool:\n"
        "    pool.submit(os.write, 1, b'raw').result()\n"
    )
    assert run_program(code) == "raw"


NOTEBOOK = """
import json
import nbclient, nbformat

cells = [
    "from memchannel import InterpreterPool\\npool = InterpreterPool(1, packages=None)\\nfactor = 3",
    "def work(x):\\n    print('from a worker')\\n    print(x * factor, flush=True)\\n    return x * factor",
    "pool.submit(work, 2).result()",
    "import logging\\npool.submit(logging.warning, 'logged').result()\\npool.shutdown()",
]
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
nbclient.NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
for cell in notebook.cells:
    shown = {}
    for output in cell.outputs:
        name = output.get("name", output.output_type)
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        shown[name] = shown.get(name, "") + text
    print(json.dumps(shown))
"""


@pytest.mark.slow
def test_in_a_notebook_it_is_the_cells_output() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    *definitions, task, log = map(json.loads, done.stdout.splitlines())
    assert definitions == [{}, {}]
    assert task == {"stdout": "from a worker\n6\n", "execute_result": "6"}
    assert log == {"stderr": "WARNING:root:logged\n"}
