"""A trace as a picture: one row for each interpreter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from memchannel._activity import Activity, Flow, Span, activities, concurrency, flows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from memchannel._trace import Trace, TraceEvent

__all__ = ["Bar", "Row", "plot", "rows", "short_time"]


class Bar(NamedTuple):
    """A stretch of one row."""

    kind: str
    """``"task"``, ``"busy"``, ``"waiting"`` or ``"for owner"``."""
    begin: int
    end: int
    text: str


class Row(NamedTuple):
    """One interpreter: its bars, those drawn first coming first."""

    interpreter: int
    bars: list[Bar]


LABELS = {
    "task": "task of a pool",
    "busy": "runs other code",
    "waiting": "waits",
    "for owner": "waits for an owner",
}
COLORS = {"task": "#2a6f97", "busy": "#a9c6d8", "waiting": "#f2cc8f", "for owner": "#c1121f"}
OTHER_TASK = "#52a3cf"  # every other one, so that tasks that follow each other are told apart
MOST_BARS = 5_000
"""So many of a kind are drawn in one row; beyond that, neighbours are drawn as one."""
MOST_ARROWS = 200


def short_time(ns: float) -> str:
    """Write a time with three digits and its unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.0f} ns"


def _merged(bars: list[Bar], gap: int) -> list[Bar]:
    """Draw neighbours as one, if there is less than a gap between them."""
    merged: list[Bar] = []
    for bar in bars:
        if merged and bar.begin - merged[-1].end <= gap and merged[-1].end - merged[-1].begin <= 8 * gap:
            merged[-1] = merged[-1]._replace(end=max(bar.end, merged[-1].end), text=f"several: {bar.kind}")
        else:
            merged.append(bar)
    return merged


def _few(bars: list[Bar], duration: int, most: int) -> list[Bar]:
    gap = duration // 4096
    while len(bars) > most:
        bars = _merged(bars, gap)
        gap = 2 * gap + 1
    return bars


def _plain(kind: str, spans: Iterable[Span]) -> list[Bar]:
    return [
        Bar(kind, begin, end, f"{LABELS[kind]}: {short_time(end - begin)}, from {short_time(begin)}")
        for begin, end in spans
    ]


def _task_bar(task: TraceEvent) -> Bar:
    failed = "" if task.ok else ", failed"
    text = (
        f"{task.name or 'task'}{failed}: {short_time(task.end - task.begin)}, from {short_time(task.begin)}"
    )
    return Bar("task", task.begin, task.end, text)


def rows(trace: Trace, found: dict[int, Activity], most: int) -> list[Row]:
    """Tell what is to be drawn, with so many bars of a kind in one row at most."""
    duration = round(trace.seconds * 1e9)
    made = []
    for interpreter, one in found.items():
        groups = (
            _plain("busy", one.busy),
            _plain("waiting", one.waiting),
            [_task_bar(task) for task in one.tasks],
            _plain("for owner", one.for_owners),
        )
        made.append(Row(interpreter, [bar for group in groups for bar in _few(group, duration, most)]))
    return made


def arrows(trace: Trace) -> list[Flow]:
    """Give the messages that went from one interpreter to another; none if they would hide the rest."""
    between = [flow for flow in flows(trace) if flow.send.interpreter != flow.recv.interpreter]
    return between if len(between) <= MOST_ARROWS else []


def row_name(interpreter: int) -> str:
    """Name a row."""
    return f"interpreter {interpreter}" + (" (main)" if interpreter == 0 else "")


def plot(trace: Trace, ax: Axes | None = None) -> Axes:
    """See `Trace.plot`."""
    try:
        import matplotlib  # noqa: F401 - before anything is drawn
    except ImportError as exc:
        raise ImportError("plot() needs matplotlib: pip install matplotlib; save() does not") from exc
    found = activities(trace)
    drawn = rows(trace, found, MOST_BARS)
    if ax is None:
        ax = _new_axes(trace, found, len(drawn))
    _draw_rows(ax, drawn)
    _draw_arrows(ax, trace, [row.interpreter for row in drawn])
    ax.set_yticks(range(len(drawn)), [row_name(row.interpreter) for row in drawn])
    ax.set_ylim(len(drawn) - 0.4, -0.6)
    ax.set_xlim(0, trace.seconds or 1)
    ax.set_xlabel("seconds since the trace was started")
    if trace.dropped:
        text = f"{trace.dropped} events after the limit of {trace.limit} are missing"
        ax.annotate(text, (0.5, 0.5), xycoords="axes fraction", ha="center", color=COLORS["for owner"])
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, fontsize="small", borderaxespad=0
    )
    return ax


def _new_axes(trace: Trace, found: dict[int, Activity], count: int) -> Axes:
    import matplotlib.pyplot as plt

    _, (above, ax) = plt.subplots(
        2,
        1,
        sharex=True,
        figsize=(10, 2 + 0.5 * count),
        height_ratios=[1, max(1.5, 0.6 * count)],
        layout="constrained",
    )
    steps = concurrency(one.busy for one in found.values())
    times = [at / 1e9 for at, _ in steps] + [trace.seconds]
    counts = [number for _, number in steps] + [steps[-1][1]]
    above.fill_between(times, counts, step="post", color=COLORS["task"], alpha=0.7, linewidth=0)
    above.set_ylim(0, max(2, *counts) + 0.2)
    above.set_ylabel("busy\nat a time")
    above.yaxis.get_major_locator().set_params(integer=True)
    axes: Axes = ax
    return axes


def _draw_rows(ax: Axes, drawn: list[Row]) -> None:
    labelled: set[str] = set()
    heights = {"busy": 0.8, "waiting": 0.8, "task": 0.8, "for owner": 0.4}
    for position, row in enumerate(drawn):
        for kind, height in heights.items():
            bars = [bar for bar in row.bars if bar.kind == kind]
            if not bars:
                continue
            colors = [
                OTHER_TASK if kind == "task" and number % 2 else COLORS[kind] for number in range(len(bars))
            ]
            ax.broken_barh(
                [(bar.begin / 1e9, (bar.end - bar.begin) / 1e9) for bar in bars],
                (position - height / 2, height),
                facecolors=colors,
                edgecolors="white" if kind == "task" else "none",
                linewidth=0.3,
                label="_" if kind in labelled else LABELS[kind],
                gid=f"{kind} {row.interpreter}",
            )
            labelled.add(kind)


def _draw_arrows(ax: Axes, trace: Trace, interpreters: list[int]) -> None:
    at = {interpreter: position for position, interpreter in enumerate(interpreters)}
    lines = [
        [
            (send.begin / 1e9, at[send.interpreter]),
            (max(send.begin, recv.end) / 1e9, at[recv.interpreter]),
        ]
        for send, recv in arrows(trace)
    ]
    if lines:
        from matplotlib.collections import LineCollection

        label = "message"
        ax.add_collection(
            LineCollection(lines, colors="#444444", linewidths=0.5, alpha=0.6, label=label, gid="messages")
        )
