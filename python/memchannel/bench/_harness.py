"""What all benchmarks share: interleaved sides, repeats, figures and how they are shown.

    bench = Benchmark("sums", __doc__)

    @bench.scenario
    def small_sums() -> None:
        # Each side returns the seconds of one operation.
        sides = {"memchannel": time_of_sum, "threads": time_of_theirs}
        bench.compare("1,000 numbers", sides, against="threads", reach=1.0)

Machines are noisy and change while one measures. So each repeat runs every side once, in a new order, and
ratios are those of the medians of one run. `reach` is the ratio to reach; what falls short is shown as it is.
Nothing here fails because of a speed.
"""

from __future__ import annotations

import contextlib
import math
import random
import re
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from memchannel.bench._machine import core_problem
from memchannel.bench._peers import PEERS, missing, peer_of
from memchannel.cli._colours import painted

__all__ = ["Benchmark", "Figure", "Side", "per_operation", "settled", "shown"]

UNDECIDED = "to be reached, but this peer was not measured"

type Side = Callable[[], float]

SETTLE = 0.1
"""Seconds of the same before a sample: until then the scheduler may keep both sides on one core."""

REPEATS = {"quick": 1, "full": 5, "scale": 9}


@dataclass
class Figure:
    """The samples of one side of one comparison, or a single measured value.

    Attributes
    ----------
    scenario : str
        Benchmark and scenario: "arrays.sizes".
    name, side : str
        What was measured, and of whom.
    samples : list of float
    unit : str
        "s" is shown with a fitting prefix.
    against : str or None
        The side whose median this one's is divided by, which gives `ratio`.
    reach : float or None
        What the ratio, or the value where there is none, has to reach.
    least : bool
        Whether `reach` is a lower limit; it is an upper one by default.
    at : float or None
        Where this stands on the curve that the scenario's figures of one side make.
    """

    scenario: str
    name: str
    side: str
    samples: list[float]
    unit: str = "s"
    against: str | None = None
    ratio: float | None = None
    reach: float | None = None
    least: bool = False
    at: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name, and where on a curve this stands if the name has no number."""
        if self.at is None or re.search(r"\d", self.name):
            return self.name
        return f"{self.name}, at {self.at:,.0f}"

    @property
    def minimum(self) -> float:
        """The least sample."""
        return min(self.samples)

    @property
    def median(self) -> float:
        """The median sample."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """The greatest distance between samples, as a fraction of the median."""
        return (max(self.samples) - min(self.samples)) / self.median if self.median else 0.0

    @property
    def reached(self) -> bool | None:
        """Whether the ratio, or the value where there is none, is within reach; None without a goal."""
        value = self.median if self.against is None else self.ratio
        if self.reach is None or value is None:
            return None
        return value >= self.reach if self.least else value <= self.reach

    @property
    def goal(self) -> str:
        """What is to be reached, and whether it was."""
        if self.reached is None or self.reach is None:
            return ""
        sign = ">=" if self.least else "<="
        reach = f"{self.reach:.3g}x" if self.against else shown(self.reach, self.unit)
        return f"{sign} {reach}: {'reached' if self.reached else 'not reached'}"


def _reason(error: Exception) -> str:
    """Find the sentence of an error, which may be a whole traceback, that tells most."""
    text = str(error)
    if refused := re.search(r"module \S+ does not support loading in subinterpreters", text):
        return refused[0]
    lines = text.strip().splitlines() or [type(error).__name__]
    told = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return textwrap.shorten((told or lines)[-1], 160)


def _rounded(value: float) -> float:
    """Keep six digits, more than any clock gives: what is written is what was computed with."""
    return float(f"{value:.6g}")


def per_operation(operation: Callable[[], object], count: int) -> float:
    """Call an operation `count` times and return the seconds that one call took."""
    begin = time.perf_counter()
    for _ in range(count):
        operation()
    return (time.perf_counter() - begin) / count


def settled(operation: Callable[[], object], count: int) -> float:
    """Do the same for two sides that take turns, once they have been at it for a while."""
    until = time.perf_counter() + SETTLE
    while time.perf_counter() < until:
        operation()
    return per_operation(operation, count)


def shown(value: float, unit: str) -> str:
    """Print a value with its unit, seconds with a prefix that fits."""
    if unit != "s":
        digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return digits + ("" if unit == "x" else " ") * bool(unit) + unit
    for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if abs(value) * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e9:.3g} ns"


class Benchmark:
    """A named collection of scenarios.

    Parameters
    ----------
    name : str
        The module's.
    description : str or None
        The module's docstring; its first line is the help text.

    Attributes
    ----------
    form : str
        "quick" (to see that it runs), "full", or "scale" (how the cost grows). Scenarios choose their sizes
        by it.
    repeats : int
        How often each side is run.
    peers : collection of str or None
        Only these are compared with; all by default.
    figures : list of Figure
        What was measured.
    absent : dict
        Why a side was not measured, by scenario and side.
    """

    def __init__(self, name: str, description: str | None) -> None:
        self.name = name
        self.title = (description or "").split("\n", maxsplit=1)[0]
        self.form = "full"
        self.repeats = REPEATS["full"]
        self.peers: Collection[str] | None = None
        self.say: Callable[[str], object] = print
        self.figures: list[Figure] = []
        self.absent: dict[tuple[str, str], str] = {}
        self.scenarios: dict[str, Callable[[], None]] = {}
        self._scenario = ""

    @property
    def quick(self) -> bool:
        """Whether this is the quick form."""
        return self.form == "quick"

    def scaled(self, full: int, quick: int) -> int:
        """Choose between the sizes of the full and the quick form."""
        return quick if self.quick else full

    def steps(self, first: int, full: int, quick: int) -> list[int]:
        """List the powers of ten from `first` on, up to the size of the form."""
        last = self.scaled(full, quick)
        return [first * 10**power for power in range(20) if first * 10**power <= last]

    def scenario(self, function: Callable[[], None]) -> Callable[[], None]:
        """Add a scenario: a function that measures and calls `compare` or `record`."""
        self.scenarios[function.__name__] = function
        return function

    def wants(self, side: str, base: str | None = None) -> bool:
        """Tell whether a side is to be measured; one whose peer is not here is said to be missing.

        Parameters
        ----------
        side : str
            Beginning with the name of a peer, or ours, which is always measured.
        base : str, optional
            The side that others are divided by, which is measured whatever peers were chosen.
        """
        peer = peer_of(side)
        if peer is None:
            return True
        chosen = side == base or self.peers is None or peer in self.peers
        why = missing(peer)
        if why is None and chosen and peer == "core":  # which is built now, if it was not yet
            why = core_problem()
        if why is not None:
            self.leave_out(side, why)
            return False
        return chosen

    def enter(
        self,
        stack: contextlib.ExitStack,
        sides: dict[str, Side],
        side: str,
        context: Callable[[], contextlib.AbstractContextManager[Side]],
        base: str | None = None,
    ) -> None:
        """Add a side that has to be started, if it is wanted; a peer that does not start is noted as such."""
        if not self.wants(side, base):
            return
        try:
            sides[side] = stack.enter_context(context())
        except Exception as error:
            if peer_of(side) is None:
                raise
            self.leave_out(side, f"does not work here: {_reason(error)}")

    def leave_out(self, side: str, why: str) -> None:
        """Note why a side is not measured."""
        if (self._scenario, side) not in self.absent:
            self.absent[self._scenario, side] = why
            self.say(f"{self._scenario:<48.48} {side:<30.30} {why}")

    def compare(
        self,
        name: str,
        sides: Mapping[str, Side],
        *,
        against: str | None = None,
        reach: float | None = None,
        least: bool = False,
        repeats: int | None = None,
        unit: str = "s",
        at: float | None = None,
    ) -> dict[str, Figure]:
        """Run all sides, interleaved, and print a line for each.

        Parameters
        ----------
        name : str
        sides : mapping of str to callable
            Each call returns one sample, normally the seconds of one operation. The first side is ours.
        against : str, optional
            The side whose median the others' are divided by.
        reach : float, optional
            The ratio that the first side is to reach.
        least : bool, optional
            Whether it has to be at least that, not at most.
        repeats : int, optional
            Instead of the command line's.
        unit : str
            Of the samples; "s" is shown with a fitting prefix.
        at : float, optional
            Where these figures stand on a curve.

        Returns
        -------
        dict of str to Figure
            Without the peers that failed, which are noted as such.

        Raises
        ------
        Exception
            What a side of ours raises.
        """
        wanted = [side for side in sides if self.wants(side, against)]
        figures = {side: Figure(self._scenario, name, side, [], unit, against, at=at) for side in wanted}
        ours = next(iter(sides))
        for _ in range(repeats or self.repeats):
            for side in random.sample(list(figures), len(figures)):
                try:
                    figures[side].samples.append(_rounded(sides[side]()))
                except Exception as error:
                    if peer_of(side) is None or side == ours:
                        raise
                    del figures[side]
                    self.leave_out(side, f"does not work here: {name}: {_reason(error)}")
        for side, figure in figures.items():
            if against in figures:
                base = figures[against].median
                figure.ratio = _rounded(figure.median / base) if base else None
            else:
                figure.against = None
            if side == ours and (against is None or figure.against):
                figure.reach, figure.least = reach, least
            self._add(figure)
        return figures

    def record(
        self,
        name: str,
        side: str,
        value: float,
        unit: str = "s",
        *,
        reach: float | None = None,
        least: bool = False,
        at: float | None = None,
        **details: Any,
    ) -> None:
        """Note a value that was measured once; `reach` is its upper limit, or its lower one if `least`."""
        value = _rounded(value)
        if not math.isfinite(value):
            raise ValueError(f"{name}, {side}: {value} is no figure")
        figure = Figure(self._scenario, name, side, [value], unit, reach=reach, least=least, at=at)
        figure.details = details
        self._add(figure)

    def record_share(
        self, name: str, figures: Mapping[str, Figure], ours: str, peer: str, reach: float | None = None
    ) -> None:
        """Note our median over a peer's; a goal that depends on one that was not measured stays open."""
        title = f"{name}: share of {peer}"
        if ours in figures and peer in figures:
            share = figures[ours].median / figures[peer].median
            self.record(title, ours, share, "x", reach=reach)
        elif reach is not None:
            self.absent[self._scenario, title] = UNDECIDED

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)
        one = len(figure.samples) == 1
        parts = [f"{figure.label:<48.48} {figure.side:<30.30}", f"{shown(figure.minimum, figure.unit):>10}"]
        parts += [" " * 18 if one else f"{shown(figure.median, figure.unit):>10} {figure.spread:>7.0%}"]
        parts.append(f"{figure.ratio:>8.3g}x" if figure.ratio is not None else " " * 9)
        if figure.goal:
            parts.append(" " + painted(figure.goal, "good" if figure.reached else "bad", sys.stdout))
        self.say(" ".join(parts).rstrip())

    def run(self, only: str = "") -> None:
        """Run the scenarios whose names hold a text."""
        self.say(f"\n== {self.name}: {self.title}")
        for name, scenario in self.scenarios.items():
            if only in name:
                self._scenario = f"{self.name}.{name}"
                scenario()


def check_peers(names: Collection[str]) -> None:
    """Refuse names that are no peers.

    Raises
    ------
    ValueError
        One is unknown; the message names it, and those that there are.
    """
    for name in names:
        if name not in PEERS:
            raise ValueError(f"there is no peer {name!r}; there are: {', '.join(PEERS)}")
