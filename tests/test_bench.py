"""`memchannel bench`: that each benchmark runs and what it tells; never how fast anything is."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cli_support import child_environment, fails
from memchannel import bench
from memchannel.bench import _plots, _results
from memchannel.bench._goals import GOALS, goal_figures
from memchannel.bench._peers import PEERS, missing
from memchannel.cli import main

CHECKOUT = Path(__file__).parent.parent
PAGE = CHECKOUT / "docs" / "performance.md"
REPORT = CHECKOUT / "docs" / "reports" / "benchmarks.json"
REPORT_NEXT = CHECKOUT / "docs" / "reports" / "benchmarks-3.14.json"

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


def test_our_sides_are_not_taken_for_a_peer(tmp_path: Path) -> None:
    output = run_bench("primitives", "--quick", "--only", "contended", "--against", "serial", folder=tmp_path)
    assert len(re.findall(r"^\d takers of one Lock +memchannel ", output, re.MULTILINE)) == 3


# ---- the report


@pytest.fixture(scope="module")
def report() -> _results.Results:
    return _results.Results.from_json(REPORT.read_text())


def test_the_page_shows_the_report(report: _results.Results) -> None:
    page = PAGE.read_text()
    marks = re.findall(r"<!-- figures: (\w+) -->", page)
    assert set(marks) == {"origin", "goals", "model", *bench.NAMES}
    assert _results.fill(page, report) == page, "run: memchannel bench --from FILE --page docs/performance.md"


def test_the_page_of_python_3_14_shows_its_report() -> None:
    report = _results.Results.from_json(REPORT_NEXT.read_text())
    assert report.machine["python"].startswith("3.14.")
    page = REPORT_NEXT.with_suffix(".md").read_text()
    ran = {one.scenario.partition(".")[0] for one in report.figures}
    assert set(re.findall(r"<!-- figures: (\w+) -->", page)) == {"origin", "goals", *ran}
    assert _results.fill(page, report) == page, "run: memchannel bench --from FILE --page docs/reports/..."
    # What 3.13 has no peer for is measured here.
    shares = {one.name.partition(": share of ")[::2] for one in report.figures}
    assert ("view", "interpreters, Queue") in shares
    for load in ("one_by_one", "burst", "mapped", "completed", "after_pause"):
        assert (load, "InterpreterPoolExecutor") in shares


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
