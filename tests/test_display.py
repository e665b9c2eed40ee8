"""What notebooks and rich show of ends, views, pools and counters."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import rich.console
import rich.pretty

import memchannel
from channel_support import Neighbour, wait_until, waiting
from memchannel import ArrayChannel, Channel, InterpreterPool, MemChannel, SharedBuffer
from memchannel._display import Table


def cells(html: str) -> list[str]:
    """The texts of a table, and that it is one."""
    assert re.fullmatch(
        r"<table>(<caption>[^<>]*</caption>)?(<tr>(<t[hd] [^<>]*>[^<>]*</t[hd]>)+</tr>)+</table>", html
    )
    return re.findall(r"<t[hd] [^<>]*>([^<>]*)<", html)


def shown(subject: Any) -> dict[str, str]:
    """Names and values that a notebook shows, which are those that rich shows."""
    texts = cells(subject._repr_html_())
    return dict(zip(texts[::2], texts[1::2], strict=True))


def drawn(subject: Any) -> str:
    """What rich prints."""
    console = rich.console.Console(file=io.StringIO(), width=200)
    console.print(subject if hasattr(subject, "__rich__") else rich.pretty.Pretty(subject))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_ends_say_who_waits(neighbour: Neighbour) -> None:
    channel: Channel[int] = Channel(maxsize=5, name="<b>[red]")
    recv, send = channel.ends
    neighbour.start(f"memchannel.RecvChannel({channel.id}).recv()")
    wait_until(lambda: waiting(recv) == (1, 0))
    now = shown(recv)
    assert now["waiting receivers"] == "1"
    assert now["receivers"] == f"[{neighbour.id}]"
    assert now["name"] == "&lt;b&gt;[red]"
    assert now["maxsize"] == "5"
    assert "waiting_receivers=1" in drawn(recv)
    assert "name='<b>[red]'" in drawn(send)
    assert recv.interpreters == [neighbour.id]  # looking is no use of an end
    assert send.interpreters == []
    send.send(7)
    assert neighbour.result() == 7
    assert shown(channel)["received"] == "1"


def test_a_broken_or_closed_end_is_shown() -> None:
    channel: Channel[int] = Channel()
    channel.ends[0].close()
    assert shown(channel.ends[0])["state"] == "closed here"
    assert shown(channel.ends[1])["state"] == "receiving side over"
    channel.poison(ValueError("spoiled"))
    assert shown(channel)["state"] == "poisoned"
    assert "state='poisoned'" in drawn(channel)


def test_views() -> None:
    channel = MemChannel()
    channel.send(np.arange(6, dtype="<i4").reshape(2, 3)[:, ::-1])
    with channel.recv() as view:
        expected = {
            "format": "i",
            "shape": "(2, 3)",
            "strides": "(12, -4)",
            "nbytes": "24",
            "readonly": "True",
            "owner": "0",
        }
        assert shown(view) == expected
        assert "strides=(12, -4)" in drawn(view)
        text = cells(view._repr_html_())
    assert shown(view) == {"state": "released"}
    assert "released" in drawn(view)
    assert text  # nothing that was shown kept the memory


def test_shared_memory_has_no_owner() -> None:
    buffer = SharedBuffer(48)
    assert shown(buffer) == {"nbytes": "48", "owner": "none: shared memory"}
    assert "nbytes=48" in drawn(buffer)
    channel = MemChannel()
    channel.send(buffer)
    with channel.recv() as view:
        assert shown(view)["owner"] == "none: shared memory"


def test_arrays_and_text_of_a_neighbour(neighbour: Neighbour) -> None:
    arrays, texts = ArrayChannel(), MemChannel()
    neighbour.do("arrays.send(memoryview(bytes(24)).cast('d', (3, 1)))", arrays=arrays.ends[1])
    view = arrays.recv(as_view=True)
    assert shown(view) == {
        "shape": "(3, 1)",
        "dtype": "&lt;f8",
        "strides": "(8, 8)",
        "nbytes": "24",
        "owner": str(neighbour.id),
    }
    assert "dtype='<f8'" in drawn(view)
    neighbour.do("texts.send('ä' * 100_000)", texts=texts.ends[1])
    text: Any = texts.recv()
    assert shown(text) == {
        "length": "100000",
        "itemsize": "1",
        "nbytes": "100000",
        "owner": str(neighbour.id),
    }
    assert "length=100000" in drawn(text)
    text.release()
    assert shown(text) == {"state": "released"}


def test_a_view_of_no_dimensions() -> None:
    channel = ArrayChannel()
    channel.send(np.array(3.5))
    assert shown(channel.recv(as_view=True))["shape"] == "()"
    memory = MemChannel()
    memory.send(np.array(3.5))
    with memory.recv() as view:
        assert shown(view)["shape"] == "()"


def test_pools() -> None:
    with InterpreterPool(2, packages=None, name="<pool>") as pool:
        fresh = shown(pool)
        assert (fresh["name"], fresh["state"], fresh["workers"], fresh["started"], fresh["packages"]) == (
            *("&lt;pool&gt;", "open", "2", "0", "none"),
        )
        assert pool.submit(pow, 2, 5).result() == 32
        used = shown(pool)
        assert (used["started"], used["tasks taken"], used["tasks queued"]) == ("1", "1", "0")
        assert "state='open'" in drawn(pool)
        assert "<pool>" in pool._repr_html_().replace("&lt;", "<").replace("&gt;", ">")
        assert repr(pool) == "<InterpreterPool '<pool>', 2 workers>"
    assert shown(pool)["state"] == "shut down"
    assert repr(pool) == "<InterpreterPool '<pool>', 2 workers, shut down>"


def test_a_broken_pool_says_why() -> None:
    pool = InterpreterPool(1, packages=None, initializer=int, initargs=("<x>",))
    with pytest.raises(memchannel.BrokenInterpreterPool):
        pool.submit(pow, 2, 5).result()
    state = shown(pool)["state"]
    assert state.startswith("broken: worker 0")
    assert "invalid literal" in state
    assert repr(pool).endswith(", 1 workers, broken>")
    pool.shutdown()


def test_counters() -> None:
    counters = memchannel.stats()
    now = shown(counters)
    assert now["bytes lent"] == str(counters.bytes_lent)
    assert len(now) == len(counters)
    assert "bytes lent" in drawn(counters)
    of_channel = Channel[int](maxsize=3).statistics()
    assert shown(of_channel)["maxsize"] == "3"
    assert "waiting receivers" in drawn(of_channel)


def test_what_a_trace_adds_up_to() -> None:
    with memchannel.trace(limit=2) as trace:
        channel = Channel[int]()
        channel.send_many(range(3))
        for _ in range(3):
            channel.recv()
    summary = trace.summary()
    texts = cells(summary._repr_html_())
    columns = len(texts) // (1 + len(summary.interpreters))
    first = dict(zip(texts[:columns], texts[columns:], strict=False))
    assert (first["interpreter"], first["sent"], first["received"]) == ("0", "3", "1")
    for text in (summary._repr_html_(), drawn(summary), str(summary)):
        assert "2 events came after the limit" in " ".join(text.split())
        assert "busy at a time" in text


def test_tables_draw_text_as_it_is() -> None:
    table = Table("<title>", ("name", "what"), [("a", "[bold]&"), ("longer", "")])
    assert repr(table) == "<title>\nname    what\na       [bold]&\nlonger"
    assert cells(table._repr_html_()) == ["name", "what", "a", "[bold]&amp;", "longer", ""]
    assert "[bold]&" in drawn(table)
    assert "<title>" in drawn(table)


def test_showing_in_a_notebook_imports_no_rich() -> None:
    source = (
        "import sys, memchannel\n"
        "memchannel.Channel()._repr_html_(); memchannel.stats()._repr_html_()\n"
        "list(memchannel.Channel().__rich_repr__())\n"
        "assert 'rich' not in sys.modules\n"
        "memchannel.stats().__rich__()\n"
        "assert 'rich' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
