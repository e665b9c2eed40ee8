"""The results of a run: as JSON, as tables in a Markdown page, and back."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from memchannel.bench import NAMES
from memchannel.bench._goals import GOALS, Goal, goal_figures
from memchannel.bench._harness import UNDECIDED, Figure, shown

__all__ = ["Results", "fill", "places", "row", "summary"]

COMMAND = "memchannel bench"


@dataclass
class Results:
    """What a run of benchmarks gave.

    Attributes
    ----------
    form : str
    machine : dict
    figures : list of Figure
    absent : dict
        Why a side was not measured, by "SCENARIO: SIDE".
    seconds : dict
        How long each benchmark took.
    """

    form: str
    machine: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    date: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).date().isoformat())

    def to_json(self) -> str:
        """Write the results, with what follows from the samples."""
        figures = [
            {
                **dataclasses.asdict(one),
                "minimum": one.minimum,
                "median": one.median,
                "spread": one.spread,
                "reached": one.reached,
            }
            for one in self.figures
        ]
        return json.dumps({**vars(self), "figures": figures}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            The text is something else.
        """
        try:
            read = json.loads(text)
            known = {one.name for one in dataclasses.fields(Figure)}
            read["figures"] = [
                Figure(**{key: value for key, value in one.items() if key in known})
                for one in read["figures"]
            ]
            results = cls(**read)
            # Whatever shows results can do so.
            _ = results.origin(), results.to_json(), summary(results)
            return results
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"these are no results of {COMMAND}: {error!r}") from error

    def origin(self) -> str:
        """Say in a sentence where and with what it was measured."""
        about = self.machine
        known = {"processor", "cores", "memory", "load", "system", "python", "debug", "memchannel", "commit"}
        others = ", ".join(f"{name} {about[name]}" for name in about if name not in known)
        debug = " (debug build)" if about["debug"] else ""
        return (
            f"Measured on {self.date} with memchannel {about['memchannel']} ({about['commit']}), "
            f"CPython {about['python']}{debug}, {others}; {about['processor']}, {about['cores']} cores, "
            f"{about['memory']}, {about['system']}; load before the run {about['load']}; "
            f"{self.form} form, {sum(self.seconds.values()) / 60:.0f} minutes." + self._caution()
        )

    def _caution(self) -> str:
        """Say what forbids to take the figures as they are."""
        cautions = []
        if self.form == "quick":
            cautions.append("The quick form takes one sample of each: it shows that all runs, not how fast.")
        if self.machine["load"] > 0.5 * self.machine["cores"]:
            cautions.append("The machine had other work to do: only a quiet one shows what is reached.")
        return "".join(f" **{one}**" for one in cautions)


def _outcome(figures: list[Figure], undecided: int) -> str:
    if not figures:
        return "not measured"
    short = sum(not one.reached for one in figures)
    outcome = f"**{short} of {len(figures)} not reached**" if len(figures) > 1 else "**not reached**"
    return (outcome if short else "reached") + (f", {undecided} not measured" if undecided else "")


def _measured(figures: list[Figure]) -> str:
    values = [
        f"{one.ratio:.3g}x" if one.against and one.ratio is not None else shown(one.median, one.unit)
        for one in figures
    ]
    return values[0] if len(values) == 1 else f"{len(values)} figures: {', '.join(values)}" if values else ""


def summary(results: Results) -> list[tuple[Goal, str, str]]:
    """Give each goal with what was measured and whether it was reached; those not measured say so."""
    told = []
    for goal in GOALS:
        figures = goal_figures(goal, results.figures)
        undecided = sum(
            key.partition(":")[0] in goal.scenarios and why == UNDECIDED
            for key, why in results.absent.items()
        )
        told.append((goal, _measured(figures), _outcome(figures, undecided)))
    return told


def row(cells: Iterable[object]) -> str:
    """Write a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def _goals_table(results: Results) -> list[str]:
    rows = [(goal.what, goal.reach, measured, outcome) for goal, measured, outcome in summary(results)]
    return [row(("", "to reach", "measured", "")), "|---|---|---|---|", *map(row, rows)]


def _figures_table(results: Results, benchmark: str) -> list[str]:
    head = ("", "side", "minimum", "median", "spread", "ratio", "goal")
    rows = []
    for one in results.figures:
        if one.scenario.partition(".")[0] == benchmark:
            single = len(one.samples) == 1
            rows.append(
                (
                    one.label,
                    one.side,
                    "" if single else shown(one.minimum, one.unit),
                    shown(one.median, one.unit),
                    "" if single else f"{one.spread:.0%}",
                    "" if one.ratio is None else f"{one.ratio:.3g}x",
                    one.goal,
                )
            )
    lines = [row(head), "|" + "---|" * len(head), *map(row, rows)]
    absent = [(key, why) for key, why in results.absent.items() if key.startswith(f"{benchmark}.")]
    if absent:
        lines += ["", "Not measured:", "", *(f"- {key.partition('.')[2]}: {why}" for key, why in absent)]
    return lines


def _section(results: Results, what: str) -> list[str]:
    if what == "origin":
        return [results.origin()]
    if what == "goals":
        return _goals_table(results)
    if what == "model":
        from memchannel.bench._model import table

        return table(results)
    return _figures_table(results, what)


MARKED = re.compile(r"(<!-- figures: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def places(page: str) -> list[str]:
    """List what a page has places for.

    Raises
    ------
    ValueError
        There are no such figures.
    """
    found = [match[2] for match in MARKED.finditer(page)]
    known = ("origin", "goals", "model", *NAMES)
    for what in found:
        if what not in known:
            raise ValueError(f"asks for figures of {what!r}; there are: {', '.join(known)}")
    return found


def fill(page: str, results: Results) -> str:
    """Write the figures of a run between the marks of a Markdown page.

    A mark is ``<!-- figures: WHAT -->``, and ends at ``<!-- end -->``; WHAT is "origin", "goals", "model", or
    the name of a benchmark.
    """

    def replaced(match: re.Match[str]) -> str:
        return "\n".join([match[1], *_section(results, match[2]), "", match[4]])

    return MARKED.sub(replaced, page)
