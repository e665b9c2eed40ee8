"""Pictures of traces: matplotlib's and the page for notebooks, drawn of a real pool."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

import memchannel
import pool_tasks
from memchannel import _timeline
from memchannel._trace import Trace

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(scope="module")
def trace() -> Trace:
    """Two workers, ten tasks."""
    channel = memchannel.MemChannel()
    with memchannel.trace() as made:
        with memchannel.InterpreterPool(2, packages=None) as pool:
            assert list(pool.map(pool_tasks.same, range(10))) == list(range(10))
        channel.send(bytearray(100))
        channel.recv().release()
    return made


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


def bars(ax: Any, kind: str) -> dict[str, int]:
    """Count the bars of a kind in each row, as they are drawn."""
    counts = {}
    for collection in ax.collections:
        gid = collection.get_gid() or ""
        if gid.startswith(kind + " "):
            counts[gid.removeprefix(kind + " ")] = len(collection.get_paths())
    return counts


def test_there_is_a_row_for_each_interpreter_and_a_bar_for_each_task(trace: Trace) -> None:
    ax = trace.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "interpreter 0 (main)",
        *(f"interpreter {number}" for number in trace.interpreters[1:]),
    ]
    tasks: dict[str, int] = {}
    for event in trace.events:
        if event.kind == "task":
            tasks[str(event.interpreter)] = tasks.get(str(event.interpreter), 0) + 1
    assert sum(tasks.values()) == 10
    assert bars(ax, "task") == tasks
    assert bars(ax, "busy")["0"] >= 1
    assert bars(ax, "waiting")["0"] >= 1
    ax.figure.canvas.draw()


def test_bars_are_where_the_tasks_were(trace: Trace) -> None:
    ax = trace.plot()
    drawn = [
        (path.vertices[:, 0].min() * 1e9, path.vertices[:, 0].max() * 1e9)
        for collection in ax.collections
        if (collection.get_gid() or "").startswith("task ")
        for path in collection.get_paths()
    ]
    expected = [(event.begin, event.end) for event in trace.events if event.kind == "task"]
    for found, wanted in zip(sorted(drawn), sorted(expected), strict=True):
        assert found == pytest.approx(wanted, abs=10)  # ns, of seconds as floats
    assert ax.get_xlim() == pytest.approx((0, trace.seconds))


def test_a_new_figure_shows_how_many_were_busy(trace: Trace) -> None:
    above, below = trace.plot().figure.axes
    assert "busy" in above.get_ylabel()
    assert above.get_ylim()[1] >= 2
    assert below.get_xlabel().startswith("seconds")


def test_given_axes_are_drawn_on(trace: Trace) -> None:
    figure, ax = plt.subplots()
    assert trace.plot(ax) is ax
    assert figure.axes == [ax]
    assert {text.get_text() for text in ax.get_legend().get_texts()} >= {"task of a pool", "waits"}


def test_what_is_missing_is_said() -> None:
    channel = memchannel.Channel()
    with memchannel.trace(limit=10) as trace:
        channel.send_many(range(3))
        for _ in range(20):
            channel.send(1)
    ax = trace.plot()
    assert any("11 events after the limit of 10" in text.get_text() for text in ax.texts)
    assert "11 after the limit dropped" in str(trace._repr_html_())


def test_without_matplotlib_the_mend_is_told(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        trace.plot()


def test_an_empty_trace_can_be_drawn() -> None:
    with memchannel.trace() as trace:
        pass
    assert len(trace.plot().get_yticklabels()) == len(trace.interpreters) >= 1
    assert trace._repr_html_()


def test_thousands_of_bars_are_drawn_as_fewer() -> None:
    bars = [_timeline.Bar("task", 10 * n, 10 * n + 9, "task") for n in range(50_000)]
    few = _timeline._few(bars, 500_000, _timeline.MOST_BARS)
    assert 1 <= len(few) <= _timeline.MOST_BARS
    assert (few[0].begin, few[-1].end) == (0, 499_999)
    assert few[0].text == "several: task"
    assert _timeline._few(bars[:100], 500_000, _timeline.MOST_BARS) == bars[:100]


@pytest.mark.parametrize(
    ("ns", "text"), [(0, "0 ns"), (999, "999 ns"), (1500, "1.5 µs"), (2e6, "2 ms"), (61e9, "61 s")]
)
def test_times_are_written_with_their_unit(ns: float, text: str) -> None:
    assert _timeline.short_time(ns) == text


# ---- the page


def svg_of(page: str) -> ElementTree.Element:
    found = re.search(r"<svg.*</svg>", page, re.DOTALL)
    assert found
    return ElementTree.fromstring(found[0])


def test_the_page_draws_the_same_bars_and_needs_no_network(trace: Trace) -> None:
    page = trace._repr_html_()
    assert page is not None
    assert not re.search(r"https?:|src=|@import|url\(", page)
    svg = svg_of(page)
    titles = [str(shape.findtext("title")) for shape in svg.iter("rect") if shape.get("class") == "task"]
    assert len(titles) == 10
    assert all(title.startswith("same: ") for title in titles)
    rows = {float(shape.get("y", "")) for shape in svg.iter("rect") if shape.get("class") != "for-owner"}
    assert len(rows) == len(trace.interpreters)
    for shape in svg.iter("rect"):
        assert (
            0
            <= float(shape.get("x", ""))
            <= float(shape.get("x", "")) + float(shape.get("width", ""))
            <= 1000.01
        )


def test_two_pages_in_one_notebook_do_not_disturb_each_other(trace: Trace) -> None:
    identities = [re.findall(r'id="([^"]+)"', str(trace._repr_html_()))[0] for _ in range(2)]
    assert len(set(identities)) == 2


def test_names_of_functions_are_no_markup() -> None:
    def harmless() -> None:
        """Stand in for a function with a strange name."""

    harmless.__qualname__ = "<script>alert(1)</script>"
    with memchannel.trace() as trace, memchannel.InterpreterPool(1, packages=None) as pool:
        pool.submit(harmless).result()
    page = str(trace._repr_html_())
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_picture_of_the_docs_can_be_made(tmp_path: Path) -> None:
    import runpy

    script = Path(__file__).parent.parent / "docs" / "examples" / "timeline.py"
    made = runpy.run_path(str(script), run_name="timeline")["draw"](tmp_path / "timeline.png", rows=400)
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert made.imbalance is not None
