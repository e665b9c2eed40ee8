"""A model of many cores, from constants that were measured on few.

Workers are a closed network: each computes for a while, alone, then visits what all have in common, where one
is served at a time. Throughput follows exactly by mean value analysis (Reiser and Lavenberg, "Mean-Value
Analysis of Closed Multichain Queuing Networks", Journal of the ACM 27, 1980), for exponential times, which is
kinder to nobody than the even blocks of `map_blocks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memchannel.bench._results import Results, row

__all__ = ["Constants", "constants", "least_work", "speed", "table"]

CORES = (2, 64, 1024)
# Of each block: its task crosses the pool's one channel, its result is left where only the asker waits. The
# one lease of the array is counted up and down for the task and for the worker's view. A result that is an
# array is lent, too.
CROSSINGS, COUNTS, LEASES, MESSAGES = 1, 2, 1, 2


@dataclass(frozen=True)
class Constants:
    """What was measured, in seconds.

    Attributes
    ----------
    owner : float
        What the owner of the array does for each block, under its GIL.
    channel : float
        A message through a channel that two threads use.
    count : float
        A count up and down, which two threads share.
    lease : float or None
        A lease made and given back, while another thread does so; older results do not have it.
    allocator : float
        A message made and dropped, while another thread does so.
    page : float
        A page mapped and unmapped, while another thread does so.
    pages : float
        Those of an interpreter with NumPy.
    """

    owner: float
    channel: float
    count: float
    lease: float | None
    allocator: float
    page: float
    pages: float

    def demands(self) -> dict[str, float]:
        """Give the seconds that each block spends at each place where one is served at a time."""
        leases = {} if self.lease is None else {"accounts of leases": LEASES * self.lease}
        return {
            "owner's GIL": self.owner,
            "channel lock": CROSSINGS * self.channel,
            "lease counts": COUNTS * self.count,
            **leases,
            "allocator": MESSAGES * self.allocator,
        }


def constants(results: Results) -> Constants | None:
    """Find the constants among the figures of a run; None if they were not measured."""

    def median(name: str, at: float | None = None) -> float:
        return next(
            one.median
            for one in results.figures
            if one.scenario.startswith("scaling.") and one.name == name and one.at == at
        )

    from memchannel.bench.scaling import SHARED

    try:
        shared = {what: median(title, 2) for what, title in SHARED.items() if what != "lent"}
        owner, pages = median("a block lent, done and answered"), median("pages of one interpreter")
    except StopIteration:
        return None
    try:
        lease = median(SHARED["lent"], 2)
    except StopIteration:
        lease = None
    return Constants(
        owner, shared["queued"], shared["counted"], lease, shared["allocated"], shared["mapped"], pages
    )


def speed(work: float, demands: Mapping[str, float], workers: int) -> float:
    """Compute how many times as fast as one core alone some workers are.

    Parameters
    ----------
    work : float
        Seconds of a block's own work.
    demands : mapping of str to float
        Seconds that each block spends at each place where one is served at a time.
    workers : int

    Returns
    -------
    float
        Between 0 and `workers`.
    """
    queues = dict.fromkeys(demands, 0.0)
    throughput = 0.0
    for count in range(1, workers + 1):
        times = {place: seconds * (1 + queues[place]) for place, seconds in demands.items()}
        throughput = count / (work + sum(times.values()))
        queues = {place: throughput * spent for place, spent in times.items()}
    return throughput * work


def least_work(demands: Mapping[str, float], workers: int, efficiency: float = 0.9) -> float:
    """Find the seconds of work in a block from which on the workers are that efficient."""
    low, high = 1e-9, 1e6
    for _ in range(60):
        middle = (low * high) ** 0.5
        if speed(middle, demands, workers) < efficiency * workers:
            low = middle
        else:
            high = middle
    return high


def table(results: Results) -> list[str]:
    """Write the model's table; a sentence if its constants were not measured."""
    from memchannel.bench._harness import shown

    known = constants(results)
    if known is None:
        return ["The constants of the model were not measured in this run."]
    lines = [row(("what all have in common", "seconds a block", *(f"{cores} cores" for cores in CORES)))]
    lines.append("|---|---|" + "---|" * len(CORES))
    demands = known.demands()
    for place, seconds in demands.items():
        alone = [least_work({place: seconds}, cores) for cores in CORES]
        lines.append(row((place, shown(seconds, "s"), *(shown(one, "s") for one in alone))))
    every = [shown(least_work(demands, cores), "s") for cores in CORES]
    lines.append(row(("all of them", shown(sum(demands.values()), "s"), *every)))
    ten = {place: seconds / 10 for place, seconds in demands.items()}
    batches = [shown(least_work(ten, cores), "s") for cores in CORES]
    lines.append(row(("all, in batches of ten", shown(sum(ten.values()), "s"), *batches)))
    faults = known.page * known.pages
    starts = [shown(faults * cores, "s") for cores in CORES]
    lines.append(row(("page tables, once for each worker", shown(faults, "s"), *starts)))
    return lines
