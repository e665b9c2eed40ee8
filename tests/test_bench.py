"""`memchannel bench`: that each benchmark runs and what it tells; never how fast anything is."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from cli_support import child_environment, fails
from memchannel import bench
from memchannel.bench import _harness, _machine, _model, _plots, _results, scaling
from memchannel.bench._goals import GOALS, goal_figures
from memchannel.bench._harness import Benchmark, Figure
from memchannel.bench._peers import PEERS, Peer, missing, peer_of
from memchannel.cli import main

CHECKOUT = Path(__file__).parent.parent
PAGE = CHECKOUT / "docs" / "performance.md"
REPORT = CHECKOUT / "docs" / "reports" / "benchmarks.json"

# Those that need nothing but this project: the others take long to start.
LIGHT = "serial,memoryview,pickle,asyncio,threads,processes,interpreters,core"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the command from limiting OpenBLAS in this process, whose other tests count its threads."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", str(os.cpu_count() or 1))
    monkeypatch.setenv("DASK_DISTRIBUTED__LOGGING__DISTRIBUTED", "error")


def run_bench(*arguments: str | Path, folder: Path, limit: int = 280) -> str:
    """Run the command in a process of its own, with warnings as errors; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "memchannel", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        env=child_environment(),
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "scenario",
    ["primitives.handoff", "primitives.fairness", "selects.many_selects", "waiting.parked", "releases.busy"],
)
def test_ctrl_c_ends_a_benchmark_whose_other_sides_wait(scenario: str, tmp_path: Path) -> None:
    name, _, only = scenario.partition(".")
    command = [sys.executable, "-m", "memchannel", "bench", name, "--only", only, "--repeats", "10000"]
    with subprocess.Popen(
        [*command, "--against", "serial"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(f"== {name}"):
                break
        time.sleep(1)  # most likely amid the scenario; anywhere else it ends as well
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "memchannel bench: interrupted\n")


def without(text: str, *names: str) -> str:
    """Leave names out of a list with commas."""
    return ",".join(one for one in text.split(",") if one not in names)


def loads(name: str) -> bool:
    """Tell whether a benchmark's packages are here; scikit-learn and Dask may not be."""
    try:
        bench.load(name)
    except ModuleNotFoundError as error:
        if (error.name or "memchannel").startswith("memchannel"):
            raise
        return False
    return True


LOADED = [name for name in bench.NAMES if loads(name)]


@pytest.mark.parametrize("name", LOADED)
def test_quick_form(name: str, tmp_path: Path) -> None:
    """Every scenario gives figures, and no peer that is here fails."""
    file = tmp_path / "figures.json"
    # The core without Python would be built for this.
    output = run_bench(name, "--quick", "--against", without(LIGHT, "core"), "--json", file, folder=tmp_path)
    results = _results.Results.from_json(file.read_text())
    scenarios = bench.load(name).scenarios
    given = {one.scenario for one in results.figures}
    # The core, and programs that are not here: said to be missing.
    given |= {"scaling.shared", *(key.partition(":")[0] for key in results.absent)}
    assert given >= {f"{name}.{scenario}" for scenario in scenarios}
    for one in results.figures:
        assert one.samples
        assert f"{one.name:.44}" in output
        if one.unit == "s" and "CPU time" not in one.name:
            assert one.minimum > 0, one
    failed = {side: why for side, why in results.absent.items() if "does not work here" in why}
    assert failed == {}
    # Each goal of these scenarios was decided.
    for goal in GOALS:
        asked = [one for one in goal.scenarios if one.startswith(f"{name}.")]
        if asked and set(asked) == set(goal.scenarios) and goal.what != "100 interpreters with NumPy":
            assert goal_figures(goal, results.figures), goal.what
            assert goal.what[:60] in output


def test_every_goal_names_scenarios_that_exist() -> None:
    known = {f"{name}.{scenario}" for name in LOADED for scenario in bench.load(name).scenarios}
    asked = {one for goal in GOALS for one in goal.scenarios}
    assert {one.partition(".")[0] for one in asked} <= set(bench.NAMES)
    assert {one for one in asked if one.partition(".")[0] in LOADED} <= known
    assert {plot.scenario for plot in _plots.PLOTS} <= known


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    output = capsys.readouterr().out
    for name in LOADED:
        assert re.search(rf"^{name} .*\w", output, re.MULTILINE)
    for name in PEERS:
        why = missing(name)
        assert re.search(rf"^  {name} .*{re.escape(f'[{why}]') if why else ''}$", output, re.MULTILINE)


def test_every_limit_belongs_to_a_goal(report: _results.Results) -> None:
    """No figure may fall short without the table of goals telling so."""
    decided = {(one.scenario, one.name, one.side) for one in report.figures if one.reached is not None}
    told = {
        (one.scenario, one.name, one.side) for goal in GOALS for one in goal_figures(goal, report.figures)
    }
    assert decided == told


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


def test_results_of_other_executors_are_refused() -> None:
    executors = bench.load("executors")
    loads = sys.modules[executors.scenarios["maps"].__module__].LOADS
    with concurrent.futures.ThreadPoolExecutor(2) as right, _Wrong() as wrong:
        for load in loads.values():
            assert load(right, 3) > 0
            with pytest.raises(RuntimeError, match="something else"):
                load(wrong, 3)


class _Wrong(concurrent.futures.ThreadPoolExecutor):
    """Gives something else than asked for."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit another task."""
        return super().submit(lambda: 17)


def test_unknown_names_are_refused_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(capsys, ["bench", "nosuch"], 2, r"there is no benchmark 'nosuch'; there are: main_job, .*scaling")
    fails(capsys, ["bench", "--against", "ray,nosuch"], 2, r"there is no peer 'nosuch'; there are: threads, ")
    only = r"no scenario has 'nosuch' in its name; there are: heavy, light, workers"
    fails(capsys, ["bench", "main_job", "--only", "nosuch"], 2, only)
    fails(capsys, ["bench", "--plots", "nosuch"], 2, r"there is no directory 'nosuch' for the plots")
    fails(capsys, ["bench", "--page", "nosuch.md"], 2, r"there is no page 'nosuch.md' to fill")
    fails(capsys, ["bench", "--json", "nosuch/x.json"], 2, r"there is no directory 'nosuch'")
    fails(capsys, ["bench", "--from", "nosuch.json"], 2, r"cannot read 'nosuch.json': .*No such file")
    for text in (
        "{}",
        '{"form": "full", "machine": {}, "figures": []}',
        '{"form": "full", "machine": {"cores": 2}, "figures": [{"scenario": "a.b"}]}',
        "[]",
    ):
        Path("other.json").write_text(text)
        fails(capsys, ["bench", "--from", "other.json"], 2, r"cannot read 'other.json': these are no results")
    for figure in ({"samples": []}, {"samples": ["x"]}, {"samples": 1}):
        report = json.loads(REPORT.read_text())
        report["figures"][0] |= figure
        Path("other.json").write_text(json.dumps(report))
        fails(capsys, ["bench", "--from", "other.json"], 2, r"cannot read 'other.json': these are no results")
    for option in (["arrays"], ["--quick"], ["--against", "ray"], ["--only", "x"], ["--repeats", "2"]):
        measuring = r"--from measures nothing: leave out " + option[0]
        fails(capsys, ["bench", "--from", str(REPORT), *option], 2, measuring)


def test_pages_that_cannot_be_filled_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.md").write_text("# Nothing\n")
    Path("binary.md").write_bytes(b"\xff\xfe")
    Path("unknown.md").write_text("<!-- figures: nosuch -->\n<!-- end -->\n")
    for arguments in ([], ["--from", str(REPORT)]):
        fails(capsys, ["bench", *arguments, "--page", "plain.md"], 2, r"no place for figures in 'plain.md'")
        fails(capsys, ["bench", *arguments, "--page", "binary.md"], 2, r"cannot read 'binary.md': 'utf-8'")
        unknown = r"'unknown.md' asks for figures of 'nosuch'; there are: origin, goals, model, main_job, "
        fails(capsys, ["bench", *arguments, "--page", "unknown.md"], 2, unknown)


def test_a_benchmark_named_twice_runs_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    arguments = ["waiting", "waiting", "--quick", "--only", "loop", "--repeats", "1", "--json", str(file)]
    for _ in range(2):  # nor do figures of an earlier run in this process count again
        assert main(["bench", *arguments]) == 0
        figures = _results.Results.from_json(file.read_text()).figures
        assert len({(one.name, one.side) for one in figures}) == len(figures) > 0
    assert capsys.readouterr().out.count("== waiting") == 2


# ---- the harness


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


def test_our_sides_are_not_taken_for_a_peer(tmp_path: Path) -> None:
    output = run_bench("primitives", "--quick", "--only", "contended", "--against", "serial", folder=tmp_path)
    assert len(re.findall(r"^\d takers of one Lock +memchannel ", output, re.MULTILINE)) == 3


def test_every_peer_is_told_by_the_beginning_of_its_sides() -> None:
    assert [peer_of(one) for one in ("threads", "ray, put and get", "memchannel", "memchannel, parked")] == [
        "threads",
        "ray",
        None,
        None,
    ]


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


# ---- the report


@pytest.fixture(scope="module")
def report() -> _results.Results:
    return _results.Results.from_json(REPORT.read_text())


def test_the_page_shows_the_report(report: _results.Results) -> None:
    page = PAGE.read_text()
    marks = re.findall(r"<!-- figures: (\w+) -->", page)
    assert set(marks) == {"origin", "goals", "model", *bench.NAMES}
    assert _results.fill(page, report) == page, "run: memchannel bench --from FILE --page docs/performance.md"


def test_the_report_answers_every_goal(report: _results.Results) -> None:
    undecided = {goal.what for goal, _, outcome in _results.summary(report) if outcome == "not measured"}
    ran = {one.scenario.partition(".")[0] for one in report.figures}
    # Benchmarks that were not there when it was made, and what the quick form makes five of.
    expected = {
        goal.what for goal in GOALS if ran.isdisjoint(one.partition(".")[0] for one in goal.scenarios)
    }
    if report.form == "quick":
        expected.add("100 interpreters with NumPy")
    assert undecided == expected
    assert report.to_json() == REPORT.read_text()


def test_the_pictures_of_the_page_can_be_drawn_from_the_report(
    report: _results.Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = set(re.findall(r"\(images/(\w+\.png)\)", PAGE.read_text()))
    assert named == {f"{plot.file}.png" for plot in _plots.PLOTS}
    assert main(["bench", "--from", str(REPORT), "--plots", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == named
    for name in named:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (PAGE.parent / "images" / name).stat().st_size < 100_000
    assert "== goals" in capsys.readouterr().out


def test_results_are_read_as_they_were_written(report: _results.Results) -> None:
    text = report.to_json()
    assert _results.Results.from_json(text).to_json() == text
    assert json.loads(text)["machine"]["python"]
