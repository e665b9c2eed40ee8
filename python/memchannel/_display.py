"""What notebooks and rich show of channels."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from memchannel import _core


def _state(end: _core._End) -> str:
    now = end.statistics()
    if now.poisoned:
        return "poisoned"
    if end.closed:
        return "closed here"
    over = [
        text
        for text, is_over in (
            ("receiving side over", now.receiving_over),
            ("sending side over", now.sending_over),
        )
        if is_over
    ]
    return ", ".join(over) or "open"


def end_fields(end: _core._End) -> Iterator[tuple[str, Any]]:
    """Yield name and value of what there is to know of a channel or one of its ends."""
    now = end.statistics()
    yield "id", end.id
    if end.name is not None:
        yield "name", end.name
    yield "state", _state(end)
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


def end_html(end: _core._End) -> str:
    """Return a table of `end_fields`."""
    title = html.escape(repr(end))
    rows = "".join(
        f"<tr><th style='text-align:left'>{name.replace('_', ' ')}</th>"
        f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
        for name, value in end_fields(end)
    )
    return f"<table><caption>{title}</caption>{rows}</table>"
