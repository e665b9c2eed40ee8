"""The joblib backend: joblib's own tests on it, and what only it can do."""

from __future__ import annotations

import importlib.metadata
import itertools
import multiprocessing
import os
import pickle
import re
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

import memchannel
import memchannel.integrations.joblib
from blas_task import blas_threads
from cpython_suite import check_suite_is_there
from memchannel.integrations._require import require
from shipped_tests import edited, outcomes

pytestmark = pytest.mark.usefixtures("level_leases")

# ---- joblib/test/test_parallel.py

MAPPED = "it wants arrays in files that processes map; here they are lent"
DIFFERENT = {
    "test_auto_memmap_on_arrays_from_generator[memchannel]": MAPPED,
    "test_memmapping_leaks[memchannel]": MAPPED,
}
EDITS = {
    r'PROCESS_BACKENDS = \["multiprocessing", "loky"\]': 'PROCESS_BACKENDS = ["memchannel"]',
    r"^from joblib import Parallel": "import memchannel.integrations.joblib\nfrom joblib import Parallel",
    r"^import joblib$": "import joblib\nimport memchannel.integrations.joblib",
}
MORE_EDITS = {
    # A busy machine takes longer to start the programs of these tests.
    r"timeout=1[05],": "timeout=120,",
    r"^from \.(\w+) import": r"from joblib.test.\1 import",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_joblibs_own_tests(tmp_path: Path) -> None:
    """Those that joblib has for each backend, with this one as a third that runs in other processes."""
    source = Path(joblib.__file__).parent / "test" / "test_parallel.py"
    check_suite_is_there(source.exists())
    edited(source, EDITS, MORE_EDITS, tmp_path / source.name)
    # CPython's own warning about fork() in processes with threads belongs to their use of multiprocessing.
    passed, failed, report = outcomes(tmp_path, "-k", "memchannel", source.name)
    assert failed == DIFFERENT.keys(), report[-20000:]
    assert len(passed) > 80


# ---- what is lent and what is not


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def look(array: np.ndarray, k: int) -> tuple[int, bool, float]:
    return address(array), array.flags.writeable, float(array[k])


def test_arrays_are_lent_to_the_workers() -> None:
    array = np.arange(100_000.0)
    copied = memchannel.stats().bytes_copied
    with parallel_config("memchannel", n_jobs=2):
        found = Parallel()(delayed(look)(array, k) for k in range(6))
    assert found == [(address(array), False, float(k)) for k in range(6)]
    assert memchannel.stats().bytes_copied - copied < array.nbytes


def test_arrays_in_results_are_lent_back() -> None:
    with parallel_config("memchannel", n_jobs=2):
        found = Parallel()(delayed(np.full)(50_000, k) for k in range(4))
    assert [int(array[-1]) for array in found] == [0, 1, 2, 3]
    assert not any(array.flags.writeable for array in found)


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_every_way_to_return(return_as: str) -> None:
    with parallel_config("memchannel", n_jobs=2):
        assert sorted(Parallel(return_as=return_as)(delayed(pow)(k, 2) for k in range(20))) == [
            k * k for k in range(20)
        ]


def test_many_small_tasks_are_batched() -> None:
    with Parallel(2, backend="memchannel") as parallel:
        assert parallel(delayed(abs)(-k) for k in range(3000)) == list(range(3000))
        assert parallel._backend.compute_batch_size() > 1


def test_functions_of_this_very_place() -> None:
    base = 10
    assert Parallel(2, backend="memchannel")(delayed(lambda x: x + base)(k) for k in range(5)) == [
        10,
        11,
        12,
        13,
        14,
    ]


def nested(k: int) -> list[int]:
    return Parallel(4)(delayed(pow)(k, e) for e in range(3))  # type: ignore[no-any-return]


def calls_of_all_kinds(k: int) -> tuple[list[list[int]], list[str]]:
    """Two jobs at once where threads are asked for, one where processes are."""
    barrier = threading.Barrier(2)

    def meet(i: int) -> int:
        barrier.wait(60)
        return i

    threaded = [
        Parallel(2)(delayed(meet)(i) for i in range(2)),
        Parallel(2, backend="threading")(delayed(meet)(i) for i in range(2)),
        Parallel(2, require="sharedmem")(delayed(meet)(i) for i in range(2)),
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        processes = [
            Parallel(2, backend=backend)(delayed(abs)(-i) for i in range(2))
            for backend in ("loky", "multiprocessing")
        ]
    return threaded + processes, [str(one.message) for one in caught]


def test_threads_and_processes_inside_a_worker() -> None:
    ((found, said), _) = Parallel(2, backend="memchannel")(delayed(calls_of_all_kinds)(k) for k in range(2))
    assert found == [[0, 1]] * 5
    assert len(said) == 2
    assert all("no processes inside an interpreter" in one for one in said)


def calls_of_a_thread(k: int) -> list[list[int]]:
    """A thread of the task's own, which joblib's configuration does not reach, gets joblib's threads, too."""
    barrier = threading.Barrier(2)

    def meet(i: int) -> int:
        barrier.wait(60)
        return i

    def call(**options: str) -> list[int]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return Parallel(2, **options)(delayed(meet)(i) for i in range(2))  # type: ignore[no-any-return]

    with ThreadPoolExecutor(1) as thread:
        return [
            thread.submit(call, **options).result()
            for options in ({"prefer": "threads"}, {"require": "sharedmem"})
        ]


def test_threads_that_a_thread_of_a_worker_asks_for() -> None:
    assert (
        Parallel(2, backend="memchannel")(delayed(calls_of_a_thread)(k) for k in range(2))
        == [[[0, 1]] * 2] * 2
    )


def test_an_error_in_a_thread_of_a_worker() -> None:
    def fail(k: int) -> Any:
        return Parallel(2)(delayed(divmod)(1, i) for i in range(3))

    with pytest.raises(ZeroDivisionError):
        Parallel(2, backend="memchannel")(delayed(fail)(k) for k in range(2))


def mark(barrier: Any) -> None:
    barrier.wait(60)  # one task for each worker
    sys.modules["__main__"].mark = True  # type: ignore[attr-defined]


def marked(barrier: Any) -> tuple[bool, str | None]:
    barrier.wait(60)
    return hasattr(sys.modules["__main__"], "mark"), os.environ.get("MEMCHANNEL_MARK")


def test_workers_are_kept_for_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are, unless they have to be other ones: names of __main__ end with a worker."""
    barrier = memchannel.Barrier(2)

    def call(function: Any, **options: Any) -> Any:
        return Parallel(2, backend="memchannel", batch_size=1, **options)(
            delayed(function)(barrier) for _ in range(2)
        )

    call(mark)
    assert call(marked) == [(True, None)] * 2
    monkeypatch.setenv("MEMCHANNEL_MARK", "1")
    assert call(marked) == [(False, "1")] * 2
    call(mark)
    assert call(marked, initializer=abs, initargs=(1,)) == [(False, "1")] * 2


def test_calls_of_several_threads_at_once() -> None:
    def call(_: int) -> Any:
        return Parallel(2, backend="memchannel")(delayed(pow)(k, 2) for k in range(50))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(call, range(8))) == [[k * k for k in range(50)]] * 8


def test_calls_inside_a_worker_run_there() -> None:
    assert Parallel(2, backend="memchannel")(delayed(nested)(k) for k in (2, 3)) == [[1, 2, 4], [1, 3, 9]]


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_of_blas(threads: int) -> None:
    if threads > (os.process_cpu_count() or 1):
        pytest.skip("OpenBLAS takes no more threads than processors")
    with parallel_config("memchannel", n_jobs=2, inner_max_num_threads=threads):
        assert list(Parallel()(delayed(blas_threads)() for _ in range(4))) == [[threads]] * 4


def started(channel: Any) -> None:
    channel.send(os.getpid())


@pytest.mark.parametrize("packages", ["numpy", ("numpy", "joblib"), ("numpy", "scipy"), None, ()])
def test_packages(packages: Any) -> None:
    """Whichever are named, joblib itself is there."""
    with parallel_config("memchannel", n_jobs=2, packages=packages):
        assert Parallel()(delayed(abs)(-k) for k in range(4)) == [0, 1, 2, 3]


def test_initializer() -> None:
    channel = memchannel.Channel()
    with parallel_config("memchannel", n_jobs=2, initializer=started, initargs=(channel,)):
        Parallel()(delayed(abs)(k) for k in range(4))
    assert channel.recv(60) == os.getpid()


# ---- what goes wrong


def test_an_exception_has_the_workers_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught, parallel_config("memchannel", n_jobs=2):
        Parallel()(delayed(divmod)(1, k) for k in range(3))
    assert "in call" in str(caught.value.__cause__)


class Unsendable:
    def __reduce__(self) -> Any:
        raise TypeError("stays at home")


def make_unsendable(_: int) -> Unsendable:
    return Unsendable()


def test_what_cannot_be_pickled() -> None:
    with pytest.raises(pickle.PicklingError, match="stays at home"), parallel_config("memchannel", n_jobs=2):
        Parallel()(delayed(id)(Unsendable()) for _ in range(3))
    with pytest.raises(pickle.PicklingError, match="result.*stays"), parallel_config("memchannel", n_jobs=2):
        Parallel()(delayed(make_unsendable)(k) for k in range(3))


class OnGpu:
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": (3,), "typestr": "<f8", "data": (4096, False), "version": 3}


def test_arrays_of_gpus() -> None:
    with pytest.raises(pickle.PicklingError, match="OnGpu lies in the memory of a GPU.*cupy.asnumpy"):
        Parallel(2, backend="memchannel")(delayed(id)(OnGpu()) for _ in range(2))


def fork(_: int) -> int:
    return os.fork()


def pool_of_forks(_: int) -> Any:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map(abs, [-1])


@pytest.mark.parametrize("function", [fork, pool_of_forks])
def test_functions_that_fork(function: Any) -> None:
    with pytest.raises(RuntimeError, match="fork not supported for isolated subinterpreters"):
        Parallel(2, backend="memchannel")(delayed(function)(k) for k in range(2))


def wait_for_ever(channel: Any) -> None:
    channel.recv()


def test_timeout_interrupts_what_runs() -> None:
    never = memchannel.Channel()
    with (
        pytest.raises(multiprocessing.TimeoutError),
        Parallel(2, backend="memchannel", timeout=0.2) as parallel,
    ):
        parallel(delayed(wait_for_ever)(never) for _ in range(2))
    assert Parallel(2, backend="memchannel")(delayed(abs)(k) for k in (-1, -2)) == [1, 2]


def test_the_rest_is_given_up_after_an_error() -> None:
    array = np.ones(100_000)
    tasks = itertools.chain([delayed(divmod)(1, 0)], (delayed(look)(array, k) for k in range(200)))
    # Another Parallel afterwards: joblib's own keeps batches of a call that failed for the next one.
    with pytest.raises(ZeroDivisionError), Parallel(2, backend="memchannel", batch_size=1) as parallel:
        parallel(tasks)
    assert Parallel(2, backend="memchannel")(delayed(abs)(k) for k in (-1, -2)) == [1, 2]


def test_options() -> None:
    with pytest.raises(TypeError, match="no option colour; it takes packages, initializer, initargs"):
        Parallel(2, backend="memchannel", colour="blue")(delayed(abs)(k) for k in range(2))
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Parallel(0, backend="memchannel")(delayed(abs)(k) for k in range(2))
    with (
        pytest.raises(TypeError, match="packages must be names"),
        parallel_config("memchannel", n_jobs=2, packages=3),
    ):
        Parallel()(delayed(abs)(k) for k in range(2))
    missing = pytest.raises(memchannel.BrokenInterpreterPool, match="No module named 'no_such_package'")
    with missing, parallel_config("memchannel", n_jobs=2, packages=("no_such_package",)):
        Parallel()(delayed(abs)(k) for k in range(2))
    with pytest.raises(ValueError, match="'memchannel'"):  # joblib lists the names
        Parallel(2, backend="memchanel")


def test_one_job_needs_no_worker() -> None:
    assert Parallel(1, backend="memchannel")(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2


def test_terminated() -> None:
    backend = memchannel.integrations.joblib.MemchannelBackend(packages=None)
    with pytest.raises(RuntimeError, match="configure"):
        backend.submit(abs)


@pytest.mark.parametrize(("version", "text"), [("1.4.2", "1.4.2 is installed"), (None, "not installed")])
def test_a_library_that_will_not_do(monkeypatch: pytest.MonkeyPatch, version: str | None, text: str) -> None:
    def found(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", found)
    with pytest.raises(ImportError, match=rf"joblib 1\.5 or newer.*{re.escape(text)}.*memchannel\[joblib\]"):
        require("joblib", (1, 5), extra="joblib")
