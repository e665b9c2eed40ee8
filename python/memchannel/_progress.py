"""A bar that shows how many blocks are done, in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["load_bar", "with_progress"]


def load_bar() -> Any:
    """Import what draws the bar.

    Raises
    ------
    ImportError
        tqdm is not installed.
    """
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]
    except ImportError as exc:
        raise ImportError("progress=True needs tqdm: pip install memchannel[progress]") from exc
    bar: Any = tqdm
    bar.get_lock()  # which imports multiprocessing, once
    return bar


def with_progress(results: Iterator[Any], total: int) -> Iterator[Any]:
    """Give the results, and show a bar meanwhile; see `load_bar`."""
    tqdm = load_bar()

    def shown() -> Iterator[Any]:
        with tqdm(total=total, unit="block") as bar:
            for result in results:
                bar.update()
                if bar.n == total:
                    bar.refresh()  # whoever counts the blocks does not ask for more
                yield result

    return shown()
