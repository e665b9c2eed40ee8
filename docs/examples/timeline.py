"""The timeline of docs/trace.md: serial work, blocks of unequal cost, and a wait for an owner.

``python docs/examples/timeline.py PATH.png`` draws it.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import memchannel

if TYPE_CHECKING:
    from memchannel._trace import Trace
    from memchannel._trace_summary import TraceSummary


def prepare(rows: int) -> Any:
    """Make the data: pure Python, in the main interpreter alone."""
    import numpy as np

    return np.array([[x * y % 17 for x in range(64)] for y in range(rows)], dtype="f8")


def uneven(block: Any) -> float:
    """Cost more where the values are larger."""
    return sum(math.sqrt(x) for row in block.tolist() for x in row for _ in range(1 + int(x) // 4))


def give_back(channel: Any) -> None:
    """Receive views of another interpreter's memory, and give each back at once."""
    for view in channel:
        view.release()


def record(rows: int = 4_000) -> Trace:
    """Record the three phases."""
    import numpy as np

    with memchannel.InterpreterPool(2) as pool:
        list(pool.map(np.sqrt, [1.0, 2.0]))  # workers that have NumPy already
        with memchannel.trace() as trace:
            data = np.sort(prepare(rows), axis=None).reshape(rows, 64)
            list(pool.map_blocks(uneven, data, blocks=5))
            channel = memchannel.MemChannel()
            done = pool.submit(give_back, channel.ends[0])
            for _ in range(8):
                channel.send(bytearray(1_000_000))  # lent: it comes back to this interpreter
                prepare(rows // 20)  # which is busy, and keeps its lock
            channel.ends[1].close()
            done.result()
    return trace


def draw(path: Path, rows: int = 4_000) -> TraceSummary:
    """Record the three phases and draw them."""
    import matplotlib.pyplot as plt

    trace = record(rows)
    trace.plot()
    figure = plt.gcf()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return trace.summary()


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))
