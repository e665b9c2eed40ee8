"""What the main job computes, and how peers reach the array: importable in every worker."""

from __future__ import annotations

import functools
import math
from multiprocessing import shared_memory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def roughness(block: NDArray[Any]) -> list[float]:
    """Sum over each row of the square roots of its steps, in pure Python: one float for each row."""
    sums = []
    for row in block:
        total = previous = 0.0
        for value in row.tolist():
            total += math.sqrt(abs(value - previous))
            previous = value
        sums.append(total)
    return sums


def row_sums(block: NDArray[Any]) -> NDArray[Any]:
    """Sum the rows, in NumPy, which reads memory and lets go of the GIL."""
    import numpy as np

    sums: NDArray[Any] = np.add.reduce(block, axis=1)
    return sums


def address(block: NDArray[Any]) -> int:
    """Tell where the block's memory is."""
    return int(block.ctypes.data)


@functools.cache
def _attached(name: str) -> shared_memory.SharedMemory:
    return shared_memory.SharedMemory(name)


def of_shared_memory(function: Any, name: str, shape: tuple[int, ...], start: int, stop: int) -> Any:
    """Apply a function to rows of an array of float64 in a shared memory block."""
    import numpy as np

    return function(np.ndarray(shape, "f8", _attached(name).buf)[start:stop])


def of_rows(array: NDArray[Any], function: Any, start: int, stop: int) -> Any:
    """Apply a function to rows of an array."""
    return function(array[start:stop])
