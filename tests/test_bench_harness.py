"""What all benchmarks share: sides and figures, goals, and the model of many cores."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import memchannel
from memchannel.bench import _harness, _machine, _model, _results, scaling
from memchannel.bench._harness import Benchmark, Figure
from memchannel.bench._peers import PEERS, Peer, missing, peer_of

# ---- sides and figures


def test_figures_on_a_curve_tell_where_they_stand() -> None:
    made, lines = benchmark()
    for at in (1, 1_000_000):
        made.compare("a message beside others", {"memchannel": lambda: 1.0}, at=at)
        made.compare("2 ends", {"memchannel": lambda: 1.0}, at=2)
    labels = ["a message beside others, at 1", "2 ends", "a message beside others, at 1,000,000", "2 ends"]
    assert [one.label for one in made.figures] == labels
    assert all(line.startswith(label) for line, label in zip(lines, labels, strict=True))


def benchmark() -> tuple[Benchmark, list[str]]:
    lines: list[str] = []
    made = Benchmark("sums", "Sums of numbers.\n\nMore.")
    made.say = lines.append
    made.repeats = 3
    return made, lines


def test_sides_are_interleaved_and_ratios_those_of_medians() -> None:
    made, lines = benchmark()
    calls: list[str] = []

    def side(name: str, values: list[float]) -> _harness.Side:
        rest = iter(values)

        def call() -> float:
            calls.append(name)
            return next(rest)

        return call

    @made.scenario
    def small() -> None:
        """Small ones."""
        ours, theirs = side("memchannel", [1.0, 9.0, 2.0]), side("threads", [4.0, 4.0, 5.0])
        made.compare("add", {"memchannel": ours, "threads": theirs}, against="threads", reach=0.4)

    made.run()
    assert [set(calls[at : at + 2]) for at in (0, 2, 4)] == [{"memchannel", "threads"}] * 3
    ours, theirs = made.figures
    assert (ours.median, ours.minimum, ours.ratio, ours.spread) == (2.0, 1.0, 0.5, 4.0)
    assert (ours.scenario, ours.reached, theirs.reached) == ("sums.small", False, None)
    assert re.search(r"add +memchannel +1 s +2 s +400% +0\.5x +<= 0\.4x: not reached$", lines[1])


@pytest.mark.parametrize(
    ("value", "reach", "least", "reached"),
    [(1.0, 1.0, False, True), (1.1, 1.0, False, False), (1.0, 1.0, True, True), (0.9, 1.0, True, False)],
)
def test_goals_are_limits_that_count_as_reached(
    value: float, reach: float, least: bool, reached: bool
) -> None:
    assert Figure("a.b", "n", "memchannel", [value], reach=reach, least=least).reached is reached


def test_a_peer_that_is_not_here_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    # What `missing` says of a module that nobody has.
    monkeypatch.setitem(PEERS, "ray", Peer("nobody's", "no_such_module", "nobody[all]"))
    missing.cache_clear()
    made, lines = benchmark()

    @made.scenario
    def one() -> None:
        """One."""
        made.compare("x", {"memchannel": float, "ray, put": float})

    try:
        made.run()
    finally:
        missing.cache_clear()
    assert list(made.absent.values()) == ["not installed: pip install 'nobody[all]'"]
    assert [one.side for one in made.figures] == ["memchannel"]
    assert any("ray, put" in line and "nobody[all]" in line for line in lines)


def test_only_the_chosen_peers_are_measured_and_what_is_divided_by() -> None:
    made, _ = benchmark()
    made.peers = ["processes"]
    sides = {"memchannel": float, "threads": float, "processes, spawn": float, "pickle": float}
    assert set(made.compare("x", sides, against="threads")) == {"memchannel", "threads", "processes, spawn"}


def test_a_peer_that_does_not_start_does_not_end_the_others() -> None:
    @contextlib.contextmanager
    def failing() -> Iterator[_harness.Side]:
        if made.figures == []:
            raise RuntimeError("Traceback:\nOSError: no room\nbye")
        yield float

    made, _ = benchmark()
    sides: dict[str, _harness.Side] = {}
    with contextlib.ExitStack() as stack:
        made.enter(stack, sides, "threads", failing)
    assert sides == {}
    assert list(made.absent.values()) == ["does not work here: OSError: no room"]
    # Ours has to: without it, a peer would come first, and be held to our goal.
    with contextlib.ExitStack() as stack, pytest.raises(RuntimeError, match="no room"):
        made.enter(stack, sides, "memchannel", failing)


def test_a_peer_that_fails_amid_its_samples_does_not_end_the_others() -> None:
    made, _ = benchmark()
    rest = iter([1.0])

    def failing() -> float:
        if (value := next(rest, None)) is None:
            raise RuntimeError("the pipe gave another number")
        return value

    figures = made.compare("x", {"memchannel": lambda: 1.0, "threads": failing}, against="threads", reach=1.0)
    assert set(figures) == {"memchannel"}
    assert [len(one.samples) for one in made.figures] == [3]
    assert (figures["memchannel"].against, figures["memchannel"].reached) == (None, None)
    assert list(made.absent.values()) == ["does not work here: x: the pipe gave another number"]
    with pytest.raises(RuntimeError, match="another number"):
        made.compare("x", {"memchannel": failing, "threads": lambda: 1.0})


def test_a_core_that_cannot_be_built_is_told_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_machine, "checkout", lambda: tmp_path)  # with nothing to build
    for path, why in (
        (os.environ["PATH"], "CMake Error"),
        (str(tmp_path), "there is no cmake: pip install cmake"),
    ):
        monkeypatch.setenv("PATH", path)
        for function in (_machine.core_program, _machine.core_problem):
            function.cache_clear()
        try:
            told = _machine.core_problem()
        finally:
            for function in (_machine.core_program, _machine.core_problem):
                function.cache_clear()
        assert told is not None
        assert told.startswith("cannot be built: ")
        assert why in told


def test_every_peer_is_told_by_the_beginning_of_its_sides() -> None:
    assert [peer_of(one) for one in ("threads", "ray, put and get", "memchannel", "memchannel, parked")] == [
        "threads",
        "ray",
        None,
        None,
    ]


def test_a_goal_says_which_peers_were_not_there() -> None:
    made, _ = benchmark()
    made.name = "round_trips"

    @made.scenario
    def view() -> None:
        """Views."""
        figures = made.compare("view", {"memchannel": lambda: 1.0, "pickle": lambda: 1.0})
        made.record_share("view", figures, "memchannel", "pickle", 1.0)
        made.record_share("view", figures, "memchannel", "interpreters, Queue", 0.3)
        made.record_share("view", figures, "memchannel", "ray")

    made.run()
    absent = {f"{scenario}: {side}": why for (scenario, side), why in made.absent.items()}
    results = _results.Results("full", {}, made.figures, absent)
    assert list(absent) == ["round_trips.view: view: share of interpreters, Queue"]
    outcomes = {
        outcome for goal, _, outcome in _results.summary(results) if "round_trips.view" in goal.scenarios
    }
    assert outcomes == {"reached, 1 not measured"}
    made.figures[-1].ratio, made.figures[-1].reach = None, 0.5
    outcomes = {
        outcome for goal, _, outcome in _results.summary(results) if "round_trips.view" in goal.scenarios
    }
    assert outcomes == {"**not reached**, 1 not measured"}


# ---- the model


def test_the_model_counts_what_a_block_does() -> None:
    """The task crosses one channel, and the blocks of an array share its lease."""
    lent, array = memchannel.stats().lent, np.zeros((8, 16_384))
    with memchannel.InterpreterPool(2) as pool:
        assert list(pool.map_blocks(len, array, blocks=8)) == [1] * 8
        assert pool._crew.channel.statistics().sent == 8 * _model.CROSSINGS
    assert memchannel.stats().lent == lent + 1


def model_constants(**more: float) -> _results.Results:
    values = {"queued": 2e-7, "counted": 1e-8, "allocated": 1e-8, "mapped": 1e-5} | more
    figures = [
        Figure("scaling.shared", scaling.SHARED[what], "core", [value], at=2)
        for what, value in values.items()
    ]
    figures.append(Figure("scaling.owner", "a block lent, done and answered", "memchannel", [1e-5]))
    figures.append(Figure("scaling.pages", "pages of one interpreter", "memchannel", [2000], "pages"))
    return _results.Results("full", {}, figures)


def test_the_models_table_has_a_row_for_each_place() -> None:
    old, new = (_model.table(model_constants(**more)) for more in ({}, {"lent": 1e-7}))
    rows = [line.split("|")[1].strip() for line in new[2:]]
    places = ["owner's GIL", "channel lock", "lease counts", "accounts of leases", "allocator"]
    assert rows == [*places, "all of them", "all, in batches of ten", "page tables, once for each worker"]
    assert [line.split("|")[1].strip() for line in old[2:]] == [row for row in rows if row != places[3]]
    assert "| 100 ns |" in new[5]
    assert _model.table(_results.Results("full", {})) == [
        "The constants of the model were not measured in this run."
    ]


def test_the_model_keeps_to_what_is_known_of_queues() -> None:
    # Nothing in common: as fast as there are workers. One worker: the work's share of the time.
    assert _model.speed(1.0, {"a": 0.0}, 64) == pytest.approx(64)
    assert _model.speed(1.0, {"a": 0.25, "b": 0.75}, 1) == pytest.approx(0.5)
    # Many: what the slowest place lets through, and never more.
    assert _model.speed(1.0, {"a": 0.1, "b": 0.01}, 1024) == pytest.approx(10)
    # Two exponential customers at one server with think time: the textbook's birth and death process.
    work, service = 2.0, 1.0
    rho = service / work
    states = [1, 2 * rho, 2 * rho * rho]
    busy = 1 - states[0] / sum(states)
    assert _model.speed(work, {"a": service}, 2) == pytest.approx(busy / service * work)
    least = _model.least_work({"a": 1e-6}, 64)
    assert _model.speed(least, {"a": 1e-6}, 64) == pytest.approx(0.9 * 64, rel=1e-3)
