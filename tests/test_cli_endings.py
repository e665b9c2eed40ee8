"""How commands end on signals, and what they print where: colours, reports, help."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cli_support import child_environment, files, run_command
from memchannel.cli import _colours, _signals, main
from memchannel.cli._doctor import cpython_faults

FUNCTIONS = """
import pathlib

def double(block):
    return 2 * block

def loop(block):
    pathlib.Path("started").touch()
    while True:
        pass

def half(block):
    "The first blocks come back and are written, the last one does not end."
    if block[0, 0] > 500:
        loop(block)
    return block
"""

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"endings_{os.getpid()}_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    np.save(tmp_path / "data.npy", np.arange(1200.0).reshape(100, 12))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


# ---- signals


def ended_by(number: int, command: Sequence[str]) -> tuple[int, str]:
    """Start the command, send the signal when its function runs, and give its status and what it said."""
    # Debug builds say when an import that was interrupted leaves a file to the garbage collector.
    quiet = ["-W", "ignore::ResourceWarning"]
    child = subprocess.Popen(
        [sys.executable, *quiet, "-m", "memchannel", *command],
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    try:
        deadline = time.monotonic() + 60
        while not Path("started").exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    return child.returncode, err


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "the terminal is gone"),
    ],
)
@pytest.mark.parametrize("function", ["loop", "half"])
def test_a_signal_leaves_what_was_there(
    module: str, number: int, status: int, said: str, function: str
) -> None:
    Path("out.npy").write_bytes(b"earlier")
    command = ["map", "data.npy", f"{module}:{function}", "--blocks", "4", "-j", "2", "-o", "out.npy"]
    assert ended_by(number, command) == (status, f"memchannel map: {said}\n")
    assert Path("out.npy").read_bytes() == b"earlier"
    assert files() == {"data.npy", "out.npy", "started", f"{module}.py"}


def test_signals_of_others_stay_theirs(module: str) -> None:
    """In a program that handles SIGTERM or ignores SIGHUP, the command changes neither."""

    def handler(number: int, frame: object) -> None:
        raise AssertionError("nobody sends one")

    former = signal.signal(signal.SIGTERM, handler), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _signals.raised():
            assert signal.getsignal(signal.SIGTERM) is handler
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert main(["map", "data.npy", f"{module}:double", "-j", "1"]) == 0
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, former[0])
        signal.signal(signal.SIGHUP, former[1])


def test_the_second_signal_ends_at_once() -> None:
    """Where cleaning up takes long, whoever insists is obeyed: by then the default action holds again."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(_signals.EndedBySignal) as caught, _signals.raised():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert caught.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


# ---- colours

ESCAPE = "\033["


@pytest.mark.parametrize(
    ("settings", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),  # https://no-color.org: "when present and not an empty string"
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ({"PYTHON_COLORS": "1", "NO_COLOR": "1"}, False, True),
        ({"PYTHON_COLORS": "0", "FORCE_COLOR": "1"}, True, False),
    ],
)
def test_when_colours_are_wanted(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], terminal: bool, expected: bool
) -> None:
    for name in ("PYTHON_COLORS", "NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    reader, writer = pty.openpty()
    with open(reader, "rb"), open(writer, "w") as tty, open(os.devnull, "w") as nowhere:
        stream = tty if terminal else nowhere
        assert _colours.wanted(stream) is expected
        assert (ESCAPE in _colours.painted("text", "bad", stream)) is expected


def without_settings(**settings: str) -> dict[str, str]:
    names = ("PYTHON_COLORS", "NO_COLOR", "FORCE_COLOR", "TERM")
    return {name: value for name, value in child_environment().items() if name not in names} | settings


def test_errors_are_coloured_where_asked_for(module: str) -> None:
    command = [sys.executable, "-m", "memchannel", "map", "nowhere.npy", f"{module}:double"]

    def said(**settings: str) -> str:
        return subprocess.run(
            command, env=without_settings(**settings), stderr=subprocess.PIPE, text=True, check=False
        ).stderr

    plain = said()
    assert plain.startswith("memchannel map: error: cannot read 'nowhere.npy'")
    coloured = said(FORCE_COLOR="1")
    assert ESCAPE in coloured
    assert re.sub(r"\033\[[0-9;]*m", "", coloured) == plain


@pytest.mark.parametrize("closed", ["1", "2"])
def test_closed_standard_streams(module: str, closed: str) -> None:
    """Nothing that belongs to one stream goes to the other, and the status is the same."""
    command = f'"$@" {closed}>&-'

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        shell = ["sh", "-c", command, "sh", sys.executable, "-m", "memchannel", *arguments]
        return subprocess.run(shell, env=without_settings(), capture_output=True, text=True, check=False)

    done = run("map", "nowhere.npy", f"{module}:double")
    assert done.returncode == 2
    assert done.stdout == ""
    assert ("nowhere.npy" in done.stderr) == (closed == "1")
    done = run("map", "data.npy", f"{module}:double", "-j", "1", "-o", "out.npy")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("in out.npy" in done.stdout) == (closed == "2")
    assert run("doctor").returncode == 0


# ---- reports for others


def test_doctor_for_a_bug_report(tmp_path: Path) -> None:
    """What is told is told without colours and without the user's name, and names what is installed."""
    settings = {"HOME": str(Path(sys.executable).parent), "OMP_NUM_THREADS": "3", "SECRET_TOKEN": "hidden"}
    done = subprocess.run(
        [sys.executable, "-m", "memchannel", "doctor"],
        env=without_settings(**settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ESCAPE not in done.stdout
    assert "hidden" not in done.stdout
    assert re.search(r"^environment +.*(\n +.*)*OMP_NUM_THREADS=3$", done.stdout, re.MULTILINE)
    assert f"numpy {np.__version__}" in done.stdout
    assert f" ~/{Path(sys.executable).name}\n" in done.stdout


def test_doctor_names_the_faults_of_each_python() -> None:
    old, new = cpython_faults((3, 13)), cpython_faults((3, 14))
    assert set(new) < set(old)
    assert any("sys._current_frames()" in fault for fault in set(old) - set(new))
    done = run_command("doctor")
    for fault in cpython_faults(sys.version_info[:2]):
        assert fault in done.stdout


def test_doctor_as_json() -> None:
    done = run_command("doctor", "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 0
    parts = {"platform", "memchannel", "requirements", "environment", "packages"}
    assert set(facts) == parts | {"python", "cpython_faults"}
    assert facts["cpython_faults"] == cpython_faults(sys.version_info[:2])
    assert facts["requirements"]["numpy"] == np.__version__
    assert ("backports.interpreters" in facts["requirements"]) == (sys.version_info < (3, 14))
    assert facts["platform"]["memory"] > 0
    missing = run_command("doctor", "--json", "no_such_package_at_all")
    assert missing.returncode == 1
    assert json.loads(missing.stdout)["packages"]["no_such_package_at_all"]["ok"] is False


@pytest.mark.parametrize("command", [[], ["map"], ["demo"], ["doctor"]])
def test_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    text = re.sub(r"\033\[[0-9;]*m", "", capsys.readouterr().out)  # Python 3.14 colours help on terminals
    examples = text.partition("examples:\n")[2].split("\n\n")[0].splitlines()
    assert len(examples) >= 2
    assert all(line.startswith(f"  {' '.join(['memchannel', *command])} ") for line in examples)
