"""memchannel.testing: it finds a planted leak of each kind, names it, and leaves the innocent alone."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import memchannel
from channel_support import HANG
from memchannel import _core, interpreters, testing

# One leak of each kind, in what the failure must name; more may be named, since most things take memory too.
LEAKS = {
    "leases": "ch.send(b'spam' * 9); kept.append(ch.recv())",
    "abandoned leases": """
        made = interpreters.create(packages=None)
        interpreters.run(made, "ch.send(b'spam')", ch=ch).check()
        made.close()
        ch.recv().release()
        """,
    "channels": "kept.append(memchannel.Channel())",
    "parked calls": """
        before = quiet.statistics().waiting_receivers
        threading.Thread(target=quiet.recv, daemon=True).start()
        while quiet.statistics().waiting_receivers == before:
            pass
        """,
    "shared buffers": "kept.append(memchannel.SharedBuffer(64))",
    "interpreters": "kept.append(interpreters.create(packages=None))",
    "threads": "threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "descriptors": "kept.append(os.dup(0))",
    "mappings": "kept.append(mmap.mmap(fd, 100, access=mmap.ACCESS_READ))",
    "memory blocks": "kept.append(object())",
    "traced memory": "kept.append(bytearray(1000))",
}
if hasattr(sys, "gettotalrefcount"):
    LEAKS["references"] = "kept.append(None); kept.append(object())"

HEAD = """
import mmap, os, sys, threading, warnings
import pytest
import memchannel
from memchannel import interpreters
kept = []
ch = memchannel.MemChannel()
quiet = memchannel.MemChannel()
fd = os.open(__file__, os.O_RDONLY)
pytestmark = pytest.mark.filterwarnings("ignore")
"""


def run_pytest(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a process of their own, with nothing but the plugin."""
    (folder / "test_planted.py").write_text(HEAD + source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "memchannel.testing", "--strict-markers", "-q", "-rA"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def planted(name: str, source: str) -> str:
    """Write the test that leaks."""
    options = "repeat=3, warmup=2" + (", trace=True" if name == "traced memory" else "")
    body = textwrap.indent(textwrap.dedent(source).strip(), "    ")
    title = name.replace(" ", "_")
    return f"@pytest.mark.no_leaks({options})\ndef test_{title}():\n{body}\n"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of all the planted leaks."""
    source = "".join(planted(name, leak) for name, leak in LEAKS.items())
    result = run_pytest(tmp_path_factory.mktemp("planted"), source)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("name", sorted(LEAKS))
def test_a_planted_leak_is_found(name: str, found: str) -> None:
    title = name.replace(" ", "_")
    (line,) = [line for line in found.splitlines() if line.startswith(f"test_{title} leaks in every run: ")]
    assert re.search(rf"[:;] {name} grew by [0-9]+(, [0-9]+){{2}}(;|$)", line), line


def test_every_kind_that_is_counted_is_planted() -> None:
    assert set(LEAKS) | {"references"} == set(testing.COUNTED)


def test_the_innocent_pass_and_run_as_often_as_asked(tmp_path: Path) -> None:
    source = """
runs = {"marker": 0, "fixture": 0, "asked": 0, "none": 0}

@pytest.mark.no_leaks(ignore=["memory blocks", "references"])  # an interpreter may leave one or two
def test_marker():
    runs["marker"] += 1
    ch.send(bytearray(99))
    ch.recv().release()
    made = interpreters.create(packages=None)
    interpreters.close(made)
    thread = threading.Thread(target=len, args=("",))
    thread.start()
    thread.join()
    os.close(os.dup(0))

def test_fixture(no_leaks, tmp_path):
    assert tmp_path.exists()
    runs["fixture"] += 1

@pytest.mark.no_leaks(repeat=2, warmup=1, ignore=["memory blocks", "references"])
@pytest.mark.parametrize("value", [1, 2])
def test_asked(value):
    runs["asked"] += value

def test_none():
    runs["none"] += 1

@pytest.mark.no_leaks
def test_a_cache_that_grows_now_and_then():
    runs["cache"] = runs.get("cache", 0) + 1
    if runs["cache"] % 2:
        kept.append(object())

@pytest.mark.no_leaks(ignore=["descriptors", "memory blocks", "references"])
def test_ignored():
    kept.append(os.dup(0))

def test_counts():
    assert runs == {"marker": 8, "fixture": 8, "asked": 9, "none": 1, "cache": 8}
"""
    result = run_pytest(tmp_path, source)
    assert result.returncode == 0, result.stdout + result.stderr


def test_failures_and_coroutines(tmp_path: Path) -> None:
    source = """
@pytest.mark.no_leaks
def test_fails():
    assert 1 == 2

@pytest.mark.no_leaks
async def test_coroutine():
    pass
"""
    result = run_pytest(tmp_path, source)
    assert "assert 1 == 2" in result.stdout
    assert "call asyncio.run() in the test" in result.stdout
    assert result.returncode == 1


def test_growth_tells_how_much() -> None:
    count = 0

    def use() -> None:
        nonlocal count
        count += 2

    assert testing.growth(use, repeat=3, counters={"count": lambda: count})["count"] == [2, 2, 2]
    with pytest.raises(testing.LeakError, match="leaks in every run: count grew by 2, 2"):
        testing.assert_no_leaks(use, repeat=2, ignore=testing.COUNTED, counters={"count": lambda: count})


def test_collecting_in_other_interpreters_fills_no_caches() -> None:
    """CPython's method cache keeps each name that is not interned, wherever that lies: 10 in 30 rounds."""
    made = [interpreters.create(packages=None) for _ in range(3)]
    count = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)
    try:
        counts = [0] * 31
        for round_ in range(31):
            assert all(_core._collect_garbage(one.id) for one in made)
            counts[round_] = count() - round_  # without the number itself
        assert counts[30] - counts[0] < 10, counts
    finally:
        for one in made:
            interpreters.close(one, timeout=HANG)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        testing.growth(lambda: None, repeat=0)
    with pytest.raises(ValueError, match="'refs'"):
        testing.growth(lambda: None, ignore=["refs"])


# Memory blocks are counted for the whole process, in which other tests have left threads and interpreters.
@pytest.mark.no_leaks(ignore=["memory blocks"])
def test_lending_leaks_nothing() -> None:
    ch = memchannel.MemChannel()
    ch.send(bytearray(100))
    with ch.recv() as view:
        assert view.nbytes == 100
