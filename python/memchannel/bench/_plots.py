"""The plots: each shows how something grows, from the figures that stand on a curve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memchannel.bench._results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PLOTS", "Plot", "draw"]


@dataclass(frozen=True)
class Plot:
    """A picture.

    Attributes
    ----------
    file : str
        Without a suffix.
    scenario : str
    title, x, y : str
    unit : str
        Only figures of this unit.
    factor : float
        What values are multiplied by.
    log_y : bool
    inverse : bool
        Show what there is in a second, not how long one takes.
    """

    file: str
    scenario: str
    title: str
    x: str
    y: str
    unit: str = "s"
    factor: float = 1.0
    log_y: bool = False
    inverse: bool = False


PLOTS = (
    Plot("latency", "arrays.sizes", "Handing over an array", "bytes", "microseconds", factor=1e6, log_y=True),
    Plot("speed", "main_job.workers", "The main job", "workers", "times as fast as serial", unit="x"),
    Plot("memory", "startup.workers", "Private memory of a pool", "workers", "MB", unit="MB"),
    Plot("startup", "startup.workers", "Start of a pool, NumPy imported", "workers", "seconds"),
    Plot(
        "throughput",
        "ends.more_ends",
        "Messages through one queue",
        "ends, half of them producers",
        "messages a second",
        inverse=True,
        log_y=True,
    ),
    Plot(
        "queued", "growth.curve", "One more", "those that are there", "microseconds", factor=1e6, log_y=True
    ),
)


def curves(plot: Plot, results: Results) -> dict[str, list[tuple[float, float]]]:
    """Find the points of each side, from left to right."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in results.figures:
        if one.scenario == plot.scenario and one.at is not None and one.unit == plot.unit:
            value = 1 / one.median if plot.inverse else one.median * plot.factor
            found.setdefault(one.side, []).append((one.at, value))
    return {side: sorted(points) for side, points in found.items()}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write a picture for each plot that the results have figures for.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = []
    for plot in PLOTS:
        points = curves(plot, results)
        if not points:
            continue
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure.add_subplot(), plot, points)
        written.append(folder / f"{plot.file}.png")
        # Without the program's version in it, so that the same figures give the same file.
        figure.savefig(written[-1], dpi=90, metadata={"Software": None})
    return written


def _draw(axes: Axes, plot: Plot, points: dict[str, list[tuple[float, float]]]) -> None:
    every = sorted({at for curve in points.values() for at, _ in curve})
    peers = any(not side.startswith("memchannel") for side in points)
    for side, curve in points.items():
        ours = peers and side.startswith("memchannel")
        style: dict[str, Any] = {"linewidth": 2.5, "zorder": 3, "color": "C3"} if ours else {"linewidth": 1.2}
        axes.plot(*zip(*curve, strict=True), marker="o", markersize=4, label=side, **style)
    if every[-1] > 8 * every[0]:
        axes.set_xscale("log", base=2 if every[-1] < 1000 else 10)
    if every[-1] < 1000:
        axes.set_xticks(every, [f"{at:g}" for at in every])
        axes.minorticks_off()
    if plot.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
