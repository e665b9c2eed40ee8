"""A pool in other hands: event loops, tasks that make pools, data larger than memory, process's settings."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import decimal
import functools
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from channel_support import run_script
from memchannel import Channel, InterpreterPool, stats
from pool_tasks import SETTING, change_setting, pointer, pointer_and_flag, precision, setting

pytestmark = pytest.mark.usefixtures("level_leases")

LARGE = 1 << 15  # elements of 8 bytes: lent


@pytest.fixture(scope="module")
def pool() -> Iterator[InterpreterPool]:
    with InterpreterPool(2) as made:
        yield made


# ---- event loops


def test_an_event_loop_awaits_tasks(pool: InterpreterPool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(pool, pow, i, 2) for i in range(50)]
        assert await asyncio.gather(*calls) == [i * i for i in range(50)]
        array = np.arange(LARGE, dtype="f8")
        assert await loop.run_in_executor(pool, pointer_and_flag, array) == (pointer(array), False)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(pool, divmod, 1, 0)
        assert await asyncio.wrap_future(pool.submit(pow, 2, 3)) == 8

    asyncio.run(main())


def test_cancelling_an_awaited_task_cancels_what_is_queued() -> None:
    async def main(own: InterpreterPool) -> Future[int]:
        gate: Channel[int] = Channel()
        running, queued = own.submit(gate.recv), own.submit(pow, 2, 3)
        awaited = asyncio.wrap_future(queued)
        awaited.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaited
        gate.send(1)
        assert await asyncio.wrap_future(running) == 1
        return queued

    with InterpreterPool(1, packages=None) as own:
        assert asyncio.run(main(own)).cancelled()


# ---- tasks and pools


def test_a_pool_and_a_future_stay_where_they_are(pool: InterpreterPool) -> None:
    with pytest.raises(pickle.PicklingError, match=r"argument 0 .* belongs to the interpreter that made it"):
        pool.submit(len, pool)
    with pytest.raises(pickle.PicklingError, match="closure variable 'pool': pool .* belongs"):
        pool.submit(lambda: pool.submit(pow, 2, 2).result())
    with pytest.raises(pickle.PicklingError, match=r"argument 0 .*: send its result\(\) instead"):
        pool.submit(len, pool.submit(pow, 2, 2))


def test_a_task_may_use_a_pool_of_its_own(pool: InterpreterPool) -> None:
    def sum_of_squares(n: int) -> int:
        from memchannel import InterpreterPool

        with InterpreterPool(2, packages=None) as inner:
            return sum(inner.map(pow, range(n), [2] * n))

    assert [future.result() for future in [pool.submit(sum_of_squares, n) for n in (3, 4)]] == [5, 14]


@dataclasses.dataclass
class Pair:
    first: np.ndarray
    second: list[np.ndarray]


def test_arrays_inside_dataclasses_travel_both_ways(pool: InterpreterPool) -> None:
    array = np.arange(LARGE, dtype="f8")

    def work(pair: Pair) -> Pair:
        assert pair.first is pair.second[0]
        return Pair(pair.first + 1, [pair.first])

    back = pool.submit(work, Pair(array, [array])).result()
    assert pointer(back.second[0]) == pointer(array)  # nothing was copied on either way
    assert not back.first.flags.writeable
    assert (back.first == array + 1).all()


def test_an_array_in_a_function_is_lent_once_for_all_its_calls(pool: InterpreterPool) -> None:
    array = np.arange(LARGE, dtype="f8")

    def with_closure(i: int) -> tuple[int, float]:
        return pointer(array), float(array[i])

    def of_block(block: Any) -> tuple[int, float]:
        return with_closure(int(block[0]))

    before = stats().lent
    expected = [(pointer(array), float(i)) for i in range(20)]
    assert list(pool.map(with_closure, range(20))) == expected
    assert list(pool.map(with_closure, range(20), chunksize=3)) == expected
    assert stats().lent - before == 2
    assert list(pool.map_blocks(of_block, np.arange(20), blocks=20)) == expected
    assert stats().lent - before == 4  # the blocks' array as well


def test_generators_that_fail_midway(pool: InterpreterPool) -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(pool.map(abs, numbers()))
    results = pool.map(abs, numbers(), buffersize=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LookupError, match="no more"):
        list(results)


def test_groups_notes_and_causes(pool: InterpreterPool) -> None:
    def work() -> None:
        error = ExceptionGroup("two", [ValueError(1), KeyError("k")])
        error.add_note("noted")
        raise error from OSError("the cause")

    error = pool.submit(work).exception()
    assert isinstance(error, ExceptionGroup)
    assert [type(one) for one in error.exceptions] == [ValueError, KeyError]
    assert error.__notes__ == ["noted"]
    assert "OSError: the cause" in str(error.__cause__)


# ---- the process


def test_settings_of_the_process_are_those_of_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Path, arguments and environment are copied when a worker starts; the directory is the process's."""

    def settings() -> tuple[Any, ...]:
        return os.environ.get("SETTING"), str(tmp_path) in sys.path, sys.argv[-1], os.getcwd()

    monkeypatch.setenv("SETTING", "before")
    monkeypatch.setattr(sys, "argv", ["program", "argument"])
    with InterpreterPool(1, packages=None) as own:
        there = os.getcwd()
        assert own.submit(settings).result() == ("before", False, "argument", there)
        monkeypatch.setenv("SETTING", "after")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert own.submit(settings).result() == ("before", False, "argument", str(tmp_path))
    with InterpreterPool(1, packages=None) as own:
        assert own.submit(settings).result() == ("after", True, "argument", str(tmp_path))


@pytest.mark.parametrize(
    "make", [functools.partial(InterpreterPool, packages=None), ThreadPoolExecutor], ids=["pool", "threads"]
)
def test_context_variables_are_not_carried(make: Callable[[int], Executor]) -> None:
    """Each worker has a context of its own, which its tasks share, as each of the standard threads has."""

    def in_context() -> None:
        SETTING.set("caller's")
        with decimal.localcontext(prec=3), make(1) as own:
            assert own.submit(setting).result() == "default"
            assert list(own.map(precision, range(2))) == [decimal.DefaultContext.prec] * 2
            own.submit(change_setting, "task's").result()
            assert own.submit(setting).result() == "task's"
        assert setting() == "caller's"
        with make(1) as own:
            assert own.submit(setting).result() == "default"

    contextvars.copy_context().run(in_context)


def test_logging_is_configured_by_the_initializer(capsys: pytest.CaptureFixture[str]) -> None:
    def log() -> None:
        logging.getLogger("worker").info("informed")

    options = {"initializer": logging.basicConfig, "initargs": ()}
    with InterpreterPool(1, packages=None, reuse=False, **options) as own:
        own.submit(logging.getLogger().setLevel, "INFO").result()
        own.submit(log).result()
    assert capsys.readouterr().err == "INFO:worker:informed\n"


def test_a_file_twice_the_memory_allowed(tmp_path: Path) -> None:
    """Neither the input nor all results would fit; both are read as they are asked for.

    What may be allocated is limited by the kernel. That does not count pages of the file, which it takes back
    when memory is short, so that the resident memory is measured, with those pages given up that have been
    worked off.
    """
    source = f"""
import mmap, os, resource
import numpy as np
from memchannel import InterpreterPool

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name))

shape = (256, 1 << 18)  # 512 MiB, in a file without blocks on the disk
allowed = 256 << 20
path = {str(tmp_path / "data.raw")!r}
with open(path, "wb") as file:
    file.truncate(8 * shape[0] * shape[1])
with open(path, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
data = np.frombuffer(mapped, "f8").reshape(shape)
with InterpreterPool(2) as pool:
    list(pool.map(abs, range(4)))
    limit = status("VmData") + allowed
    # Anonymous memory only, setrlimit(2).
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # VmHWM begins anew, proc(5)
    before = status("VmRSS")
    total = 0.0
    for i, block in enumerate(pool.map_blocks(lambda block: block + 1, data, blocks=shape[0])):
        total += block.sum()
        mapped.madvise(mmap.MADV_DONTNEED, i * 8 * shape[1], 8 * shape[1])
    print(total == shape[0] * shape[1], max(0, status("VmHWM") - before - allowed))
"""
    assert run_script(source) == "True 0\n"


# ---- where functions come from

PROGRAM = """
from memchannel import InterpreterPool
OFFSET = 10
class Point:
    def __init__(self, x): self.x = x

def work(p): return Point(p.x + OFFSET)

pool = InterpreterPool(1, packages=None)
print([p.x for p in pool.map(work, [Point(1), Point(2)])])
pool.shutdown()
"""


@pytest.mark.parametrize("options", [["-"], ["-i", "-q"]], ids=["piped", "interactive"])
def test_functions_of_a_program_without_a_file(options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *options], input=PROGRAM, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[11, 12]\n"
    assert set(done.stderr.split()) <= {">>>", "..."}  # prompts


def test_the_interactive_prompt_shows_lines_of_its_functions() -> None:
    program = (
        "from memchannel import InterpreterPool\n"
        "def work():\n    return 1 // 0\n\n"
        "with InterpreterPool(1, packages=None) as pool: error = pool.submit(work).exception()\n\n"
        "print('in work' in str(error.__cause__))\n"
    )
    done = subprocess.run(
        [sys.executable, "-i", "-q"], input=program, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "True\n", done.stderr
