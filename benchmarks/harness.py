"""What all benchmarks share: interleaved sides, repeats, a machine line, a table and JSON.

A benchmark is a script:

    bench = Benchmark("sums", __doc__)

    @bench.scenario
    def small_sums() -> None:
        sides = {"sum": time_of_sum, "numpy": time_of_numpy}  # each returns the seconds of one operation
        bench.compare("1,000 numbers", sides, against="numpy", reach=1.0)

    bench.main()

Machines are noisy and change while one measures. So each repeat runs every side once, in a new order, and
ratios are those of the medians of one run. `reach` is the ratio to reach; what falls short is printed as it
is. Nothing here fails because of a speed: the exit status tells of errors only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import memchannel

__all__ = ["Benchmark", "Figure", "in_own_process", "machine", "per_operation"]

type Side = Callable[[], float]


@dataclass
class Figure:
    """The samples of one side of one comparison, or a single measured value."""

    name: str
    side: str
    samples: list[float]
    unit: str = "s"
    against: str | None = None
    ratio: float | None = None
    reach: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

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
    def verdict(self) -> str:
        """Whether the ratio, or a recorded value, is within reach: "ok", "short", or "" if it has none."""
        value = self.median if self.against is None else self.ratio
        if self.reach is None or value is None:
            return ""
        return "ok" if value <= self.reach else "short"


def machine() -> dict[str, Any]:
    """Describe what the figures depend on.

    Returns
    -------
    dict
        Processor, usable cores, load before the run, system, Python and its build, versions of packages.
    """
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    packages = {}
    for package in ("numpy", "joblib"):
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": cpu,
        "cores": os.process_cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "debug": bool(sysconfig.get_config_var("Py_DEBUG")),
        "memchannel": memchannel.__version__,
        "commit": _commit(),
        **packages,
    }


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def per_operation(operation: Callable[[], object], count: int) -> float:
    """Call an operation `count` times and return the seconds that one call took."""
    begin = time.perf_counter()
    for _ in range(count):
        operation()
    return (time.perf_counter() - begin) / count


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module's function in a fresh process and return its result; both travel as JSON.

    For peers that fork, which is no good beside live interpreters, and for what must not inherit the state
    of the measuring process, such as peak memory.

    Raises
    ------
    RuntimeError
        The process failed; the message holds its standard error.
    """
    path = Path(function.__code__.co_filename)
    code = (
        f"import json, sys; sys.path.insert(0, {str(path.parent)!r})\n"
        f"if __name__ == '__main__':\n"
        f"    from {path.stem} import {function.__name__} as function\n"
        f"    print('\\n' + json.dumps(function(*json.loads(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{function.__name__}{arguments} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _shown(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:,.4g} {unit}"
    for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if abs(value) * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e9:.3g} ns"


class Benchmark:
    """A named collection of scenarios with one command line.

    Parameters
    ----------
    name : str
        Stands in the JSON.
    description : str or None
        The script's docstring; its first line is the help text.

    Attributes
    ----------
    form : str
        "quick" (under a minute, to see that it runs), "full", or "scale" (how the cost grows). Scenarios
        choose their sizes by it.
    repeats : int
        How often each side is run.
    """

    def __init__(self, name: str, description: str | None) -> None:
        self.name = name
        self.form = "full"
        self.repeats = 9
        self.figures: list[Figure] = []
        self._scenarios: dict[str, Callable[[], None]] = {}
        self._parser = argparse.ArgumentParser(description=(description or "").split("\n", maxsplit=1)[0])
        forms = self._parser.add_mutually_exclusive_group()
        forms.add_argument("--quick", dest="form", action="store_const", const="quick", help="under a minute")
        forms.add_argument("--scale", dest="form", action="store_const", const="scale", help="how cost grows")
        self._parser.add_argument("--only", default="", metavar="TEXT", help="scenarios whose names have it")
        self._parser.add_argument("--repeats", type=int, metavar="N", help="how often each side is run")
        self._parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
        self._parser.add_argument("--list", action="store_true", help="name the scenarios and end")

    @property
    def quick(self) -> bool:
        """Whether this is the quick form."""
        return self.form == "quick"

    def scaled(self, full: int, quick: int) -> int:
        """Choose between the sizes of the full and the quick form."""
        return quick if self.quick else full

    def scenario(self, function: Callable[[], None]) -> Callable[[], None]:
        """Add a scenario: a function that measures and calls `compare` or `record`."""
        self._scenarios[function.__name__] = function
        return function

    def compare(
        self,
        name: str,
        sides: Mapping[str, Side],
        *,
        against: str | None = None,
        reach: float | None = None,
        repeats: int | None = None,
        unit: str = "s",
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
            The ratio that the first side is to reach, at most.
        repeats : int, optional
            Instead of the command line's.
        unit : str
            Of the samples; "s" is shown with a fitting prefix.

        Returns
        -------
        dict of str to Figure
        """
        figures = {side: Figure(name, side, [], unit, against) for side in sides}
        for _ in range(repeats or self.repeats):
            for side in random.sample(list(sides), len(sides)):
                figures[side].samples.append(sides[side]())
        ours = next(iter(sides))
        for side, figure in figures.items():
            if against is not None:
                base = figures[against].median
                figure.ratio = figure.median / base if base else None
            if side == ours:
                figure.reach = reach
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
        **details: Any,
    ) -> None:
        """Note a value that was measured once; `reach` is its upper limit."""
        self._add(Figure(name, side, [float(value)], unit, reach=reach, details=details))

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)
        one = len(figure.samples) == 1
        parts = [f"{figure.name:<44.44} {figure.side:<24.24}"]
        parts += [f"{_shown(figure.median, figure.unit):>11}"]
        parts += [" " * 20 if one else f"{_shown(figure.minimum, figure.unit):>11} {figure.spread:>7.0%} "]
        if figure.ratio is not None:
            parts.append(f"{figure.ratio:>8.3g}x")
        if figure.verdict:
            parts.append(f"  reach {figure.reach:g}: {figure.verdict}")
        print(" ".join(parts).rstrip(), flush=True)

    def main(self, arguments: list[str] | None = None) -> None:
        """Run what the command line asks for."""
        options = self._parser.parse_args(arguments)
        if options.list:
            print("\n".join(self._scenarios))
            return
        self.form = options.form or "full"
        self.repeats = options.repeats or (3 if self.quick else 9)
        about = machine()
        print(f"# {self.name}, {self.form}: " + ", ".join(f"{key} {value}" for key, value in about.items()))
        header = f"{'scenario':<44} {'side':<24} {'median':>11} {'minimum':>11} {'spread':>7} {'ratio':>10}"
        print(header, flush=True)
        for name, scenario in self._scenarios.items():
            if options.only in name:
                scenario()
        if options.json is not None:
            result = {"benchmark": self.name, "form": self.form, "machine": about}
            figures = [
                {**asdict(one), "minimum": one.minimum, "median": one.median, "spread": one.spread}
                for one in self.figures
            ]
            options.json.write_text(json.dumps({**result, "figures": figures}, indent=1) + "\n")
