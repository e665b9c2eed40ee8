"""What notebooks and rich show of channels, views, pools and counters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from memchannel import _core

if TYPE_CHECKING:
    import rich.table

__all__ = ["Table", "fields", "html_of", "rich_table_of"]


class Table(NamedTuple):
    """Rows of text, drawn where they are shown: plain, as HTML in a notebook, or by rich."""

    title: str
    columns: tuple[str, ...]
    """Their headings; none for pairs of names and values."""
    rows: list[tuple[str, ...]]

    def __repr__(self) -> str:
        lines = [self.columns, *self.rows] if self.columns else self.rows
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([self.title, *shown] if self.title else shown)

    def _repr_html_(self) -> str:
        from html import escape

        heading = _html_row(self.columns, "th") if self.columns else ""
        rows = "".join(_html_row(row, "td", first="td" if self.columns else "th") for row in self.rows)
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}{heading}{rows}</table>"

    def __rich__(self) -> rich.table.Table:
        from rich.table import Table as RichTable
        from rich.text import Text

        # As Text: brackets in a name are no markup.
        drawn = RichTable(title=Text(self.title), show_header=bool(self.columns), title_justify="left")
        for heading in self.columns or [""] * len(self.rows[0]):
            drawn.add_column(Text(heading), overflow="fold")
        for row in self.rows:
            drawn.add_row(*map(Text, row))
        return drawn


def _html_row(cells: Iterable[str], tag: str, first: str = "") -> str:
    from html import escape

    kinds = itertools.chain([first or tag], itertools.repeat(tag))
    shown = [
        f"<{kind} style='text-align:left'>{escape(cell)}</{kind}>"
        for kind, cell in zip(kinds, cells, strict=False)
    ]
    return f"<tr>{''.join(shown)}</tr>"


# ---- what there is to know


def _end_fields(end: _core._End) -> Iterator[tuple[str, Any]]:
    now = end.statistics()
    yield "id", end.id
    if end.name is not None:
        yield "name", end.name
    yield "state", end._state
    yield "queued", now.queued
    yield "maxsize", "unbounded" if now.maxsize is None else "rendezvous" if now.maxsize == 0 else now.maxsize
    yield "sent", now.sent
    yield "received", now.received
    yield "receivers", now.receivers
    yield "senders", now.senders
    if now.waiting_receivers:
        yield "waiting_receivers", now.waiting_receivers
    if now.waiting_senders:
        yield "waiting_senders", now.waiting_senders
    if now.broadcast:
        yield "subscribers", now.subscribers


def _owner(interpreter: int | None) -> int | str:
    return "none: shared memory" if interpreter is None else interpreter


def _released(view: Any) -> bool:
    try:
        len(view)
    except ValueError:
        return True
    except TypeError:  # of no dimensions
        return False
    return False


def _view_fields(view: _core.CrossInterpreterView) -> Iterator[tuple[str, Any]]:
    if _released(view):
        yield "state", "released"
        return
    yield "format", view.format
    yield "shape", view.shape
    yield "strides", view.strides
    yield "nbytes", view.nbytes
    yield "readonly", view.readonly
    yield "owner", _owner(view.interpreter)


def _text_fields(text: _core.StringView) -> Iterator[tuple[str, Any]]:
    if _released(text):
        yield "state", "released"
        return
    yield "length", len(text)
    yield "itemsize", text.itemsize
    yield "nbytes", text.nbytes
    yield "owner", _owner(text.interpreter)


def _array_fields(view: Any) -> Iterator[tuple[str, Any]]:
    yield "shape", view.shape
    yield "dtype", view.dtype
    yield "strides", view.strides
    yield "nbytes", view.nbytes
    yield "owner", _owner(view.interpreter)


def _buffer_fields(buffer: _core.SharedBuffer) -> Iterator[tuple[str, Any]]:
    yield "nbytes", len(buffer)
    yield "owner", _owner(None)


def _pool_fields(pool: Any) -> Iterator[tuple[str, Any]]:
    crew = pool._crew
    terms, now = crew.terms, crew.channel.statistics()
    yield "name", terms.name
    yield "state", crew.state
    yield "workers", terms.max_workers
    yield "started", crew.started
    yield "waiting for a task", now.waiting_receivers + now.looking_receivers
    yield "tasks queued", now.queued
    yield "tasks taken", now.received
    yield "packages", ", ".join(terms.packages or ()) or "none"


def _record_fields(record: Any) -> Iterator[tuple[str, Any]]:
    yield from record._asdict().items()


def _fields_function(subject: object) -> Callable[[Any], Iterator[tuple[str, Any]]]:
    if isinstance(subject, _core._End):
        return _end_fields
    if isinstance(subject, _core.CrossInterpreterView):
        return _view_fields
    if isinstance(subject, _core.StringView):
        return _text_fields
    if isinstance(subject, _core.SharedBuffer):
        return _buffer_fields
    if hasattr(subject, "_asdict"):
        return _record_fields
    return _array_fields if hasattr(subject, "shape") else _pool_fields


def fields(subject: object) -> Iterator[tuple[str, Any]]:
    """Yield name and value of what there is to know of an end, a view, a pool or counters, for rich."""
    return _fields_function(subject)(subject)


# ---- how it is shown


def _table_of(subject: object) -> Table:
    # Counters have no repr of their own that would say more than the rows do.
    title = type(subject).__name__ if hasattr(subject, "_asdict") else repr(subject)
    rows: list[tuple[str, ...]] = [(name.replace("_", " "), str(value)) for name, value in fields(subject)]
    return Table(title, (), rows)


def html_of(subject: object) -> str:
    """Return a table of `fields`."""
    return _table_of(subject)._repr_html_()


def rich_table_of(subject: object) -> rich.table.Table:
    """Return a table of `fields`, drawn by rich."""
    return _table_of(subject).__rich__()
