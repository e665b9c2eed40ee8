"""The figures to reach: one row for each question, and the scenarios that answer it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memchannel.bench._harness import Figure

__all__ = ["GOALS", "Goal", "goal_figures"]


@dataclass(frozen=True)
class Goal:
    """A row of the table.

    Attributes
    ----------
    what : str
    reach : str
        In words; the numbers stand in the scenarios.
    scenarios : tuple of str
        "BENCHMARK.SCENARIO"; reached if every figure of theirs that has a goal has reached it.
    name : str
        Only figures whose name begins with this.
    """

    what: str
    reach: str
    scenarios: tuple[str, ...]
    name: str = ""


GOALS = (
    Goal(
        "main job: Python-heavy `map_blocks`, 2 workers",
        "1.9x the serial run; not slower than processes with shared memory, or joblib",
        ("main_job.heavy",),
    ),
    Goal("the same, light function over 0.5 GB", "within 1.15x of threads", ("main_job.light",)),
    Goal("memory of the main job", "peak within 5 %, nothing copied", ("main_job.memory",)),
    Goal(
        "round trip of two that wait, cores free",
        "0.1x SimpleQueue of threads; 2x the core without Python; 0.0001x the standard library's queue",
        ("round_trips.free",),
    ),
    Goal(
        "the same, one core busy",
        "1x SimpleQueue of threads, at the 99th percentile, too",
        ("round_trips.busy", "round_trips.tail"),
    ),
    Goal("waiting", "a parked wait uses no CPU: at most 0.1 %", ("waiting.parked",)),
    Goal(
        "waiting in an event loop",
        "0.2x a step of the loop if a message is there; 4x for half a round trip",
        ("waiting.event_loop",),
    ),
    Goal("Ctrl-C to its exception", "at most 0.1 s", ("waiting.interrupts",)),
    Goal(
        "a view: send, receive, release, nobody waits",
        "4x a bare memoryview; 0.3x the standard library's queue",
        ("round_trips.view",),
    ),
    Goal(
        "the same with an array",
        "2.5x np.asarray(memoryview), flat from 1 KB to 8 GB; at most shared_memory opened by name",
        ("arrays.sizes", "arrays.shared_memory_and_rebuild"),
    ),
    Goal(
        "small objects",
        "0.5x the standard library's queue; 100,000 a second",
        ("objects.small_objects", "objects.to_another_interpreter"),
    ),
    Goal(
        "objects around 1 GB",
        "at most 50 us, the way to another interpreter and back, too",
        ("objects.objects_around_arrays", "objects.array_to_another_interpreter"),
    ),
    Goal("release to an idle owner", "at most 2 us in a burst, on every thread", ("releases.idle",)),
    Goal(
        "release to a busy owner",
        "at once: one switch interval, 1.1 with the wake-up; deferred: at most 2 us",
        ("releases.busy",),
    ),
    Goal(
        "4 producers, 4 consumers",
        "3x the messages of multiprocessing.Queue and the standard library's queue",
        ("ends.four_by_four",),
    ),
    Goal("up to 64 ends", "a message costs at most 1.5x of that with 8", ("ends.more_ends",)),
    Goal(
        "1,000,000 messages; 10,000 channels; 1,000 leases on one array",
        "time and memory of each within 1.3x of the first",
        ("growth.many_messages", "growth.many_channels", "growth.many_leases"),
    ),
    Goal(
        "a pool's overhead: submit and wait, bursts, map, after a pause",
        "1x ThreadPoolExecutor; a third of process pools and InterpreterPoolExecutor",
        ("executors.submit_and_wait", "executors.bursts", "executors.maps", "executors.pauses"),
    ),
    Goal(
        "the same with `as_completed`",
        "1.5x ThreadPoolExecutor; a third of process pools and InterpreterPoolExecutor",
        ("executors.completion_order",),
    ),
    Goal(
        "`import numpy` in a second interpreter",
        "1.2x a plain one",
        ("images.imports",),
        "import numpy, ",
    ),
    Goal(
        "the same with `numpy.linalg`, `numpy.random` and `numpy.fft`",
        "1.2x a plain one",
        ("images.imports",),
        "import numpy with its parts, ",
    ),
    Goal(
        "an interpreter with NumPy",
        "1.5x faster than a spawned process, with less private memory; a parked one in 1 ms",
        ("startup.one",),
    ),
    Goal("100 interpreters with NumPy", "2.5 GB", ("images.many",)),
    Goal("start of a pool", "2 workers cost 1.3x of one", ("startup.pool",)),
    Goal("500 pools, one after the other", "the second half adds 2 % at most", ("many_pools.many_pools",)),
    Goal(
        "select over 64 channels, one ready",
        "3x a receive; wake-ups do not grow with those who wait",
        ("selects.one_ready", "selects.one_wakes", "selects.many_selects"),
    ),
    Goal(
        "locks",
        "2x threading.Lock alone; a hand-over at most 2x the core without Python",
        ("primitives.uncontended", "primitives.handoff"),
    ),
    Goal("tracing", "1.05x the main job without", ("trace.job", "trace.off")),
    Goal(
        "joblib: scikit-learn's `GridSearchCV` on its digits",
        "1x joblib's processes, warmed up; for an estimator in Python 1x its threads",
        ("integrations.grid_search",),
    ),
    Goal(
        "Dask: an array job of seconds with a Python-heavy function",
        "1.8x as fast as Dask's threads, by its threaded scheduler and on one worker",
        ("integrations.array_job",),
    ),
    Goal("Dask: between the tasks of one worker", "nothing copied", ("integrations.bytes_copied",)),
)


def goal_figures(goal: Goal, figures: Iterable[Figure]) -> list[Figure]:
    """Choose the figures that decide about a goal."""
    return [
        one
        for one in figures
        if one.scenario in goal.scenarios and one.name.startswith(goal.name) and one.reached is not None
    ]
