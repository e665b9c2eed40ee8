"""The command line in unusual surroundings: results that cannot be written, functions that leave."""

from __future__ import annotations

import io
import itertools
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cli_support import child_environment, fails, files, run_command
from memchannel.cli import main

FUNCTIONS = """
import sys

class Own(BaseException):
    pass

def double(block):
    return 2 * block

def total(block):
    return block.sum()

def length(block):
    return len(block)

def exits(block):
    sys.exit(0)

def system_exit(block):
    raise SystemExit("enough")

def interrupts(block):
    raise KeyboardInterrupt

def closes(block):
    raise GeneratorExit("closed")

def stops(block):
    raise StopIteration(5)

def stops_late(block):
    return next(iter(())) if block[0, 0] > 500 else block

def own(block):
    raise Own("mine")
"""

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"edges_{os.getpid()}_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    np.save(tmp_path / "data.npy", np.arange(1200.0).reshape(100, 12))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


# ---- functions that raise what is no Exception


LEAVING = {
    "exits": "block 0:25 of axis 0 failed: SystemExit: 0",
    "system_exit": "block 0:25 of axis 0 failed: SystemExit: enough",
    "interrupts": "block 0:25 of axis 0 failed: KeyboardInterrupt$",
    "closes": "block 0:25 of axis 0 failed: GeneratorExit: closed",
    "stops": "block 0:25 of axis 0 failed: StopIteration: 5",
    "stops_late": "block 50:75 of axis 0 failed: StopIteration$",
    "own": "block 0:25 of axis 0 failed: Own: mine",
}


@pytest.mark.parametrize("output", [[], ["-o", "out.npy"]], ids=["printed", "written"])
@pytest.mark.parametrize("function", LEAVING)
def test_a_function_that_leaves(
    module: str, capsys: pytest.CaptureFixture[str], function: str, output: list[str]
) -> None:
    arguments = ["map", "data.npy", f"{module}:{function}", "--blocks", "4", "-j", "2", *output]
    fails(capsys, arguments, 1, f"{module}:{function} on the {LEAVING[function]}")


def test_the_status_of_the_process(module: str) -> None:
    done = run_command("map", "data.npy", f"{module}:exits", "-j", "1", "-o", "out.npy")
    assert done.returncode == 1
    assert done.stdout == ""
    assert files() == {"data.npy", f"{module}.py"}


@pytest.mark.parametrize("what", ["GeneratorExit", "SystemExit(0)", "StopIteration"])
def test_a_module_that_leaves(module: str, capsys: pytest.CaptureFixture[str], what: str) -> None:
    Path(f"{module}_leaves.py").write_text(f"raise {what}\n")
    fails(capsys, ["map", "data.npy", f"{module}_leaves:f"], 1, f"failed: {what.partition('(')[0]}")


# ---- where the result goes


def mapped(module: str, output: str) -> list[str]:
    return ["map", "data.npy", f"{module}:double", "-j", "1", "-o", output]


def refused(module: str, capsys: pytest.CaptureFixture[str], output: str, message: str) -> None:
    """Both commands that write a file refuse this one, before they begin."""
    fails(capsys, mapped(module, output), 2, f"cannot write {re.escape(repr(output))}: {message}")
    fails(capsys, ["demo", "-o", output], 2, f"cannot write {re.escape(repr(output))}: {message}")


def test_output_to_what_is_no_file(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    Path("link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        refused(module, capsys, "socket", "it is a socket; name a regular file")
    refused(module, capsys, "pipe", "it is a pipe; name a regular file")
    refused(module, capsys, "link", "it is a pipe; name a regular file")
    refused(module, capsys, os.devnull, "it is a character device; name a regular file")
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_output_below_a_file_or_in_a_circle(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("loop").symlink_to("loop")
    refused(module, capsys, "loop", "Too many levels of symbolic links")
    refused(module, capsys, "data.npy/out.npy", "Not a directory")
    refused(module, capsys, "n" * 300, "File name too long")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_to_a_standard_stream(module: str, stream: str) -> None:
    with open("redirected", "w") as file:  # a regular file, which the report is in already
        done = subprocess.run(
            [sys.executable, "-m", "memchannel", *mapped(module, f"/dev/{stream}")],
            env=child_environment(),
            timeout=120,
            check=False,
            text=True,
            stdout=file if stream == "stdout" else subprocess.PIPE,
            stderr=file if stream == "stderr" else subprocess.PIPE,
        )
    assert done.returncode == 2
    name = {"stdout": "output", "stderr": "error"}[stream]
    written = f"memchannel map: error: cannot write '/dev/{stream}': standard {name} goes there"
    assert (Path("redirected").read_text() if stream == "stderr" else done.stderr).startswith(written)


def test_output_through_a_link(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    Path("there.npy").symlink_to("folder/real.npy")
    for _ in range(2):  # a new file, and one that is there
        assert main(mapped(module, "there.npy")) == 0
        assert Path("there.npy").readlink() == Path("folder/real.npy")
        assert np.load("folder/real.npy")[-1, -1] == 2398
        assert [path.name for path in Path("folder").iterdir()] == ["real.npy"]
    capsys.readouterr()
    Path("dangling").symlink_to("nowhere/real.npy")
    refused(module, capsys, "dangling", "there is no directory")


def test_output_keeps_its_permissions(module: str) -> None:
    Path("kept.npy").touch()
    Path("kept.npy").chmod(0o640)
    assert main(mapped(module, "kept.npy")) == 0
    assert stat.S_IMODE(os.stat("kept.npy").st_mode) == 0o640
    assert main(mapped(module, "new.npy")) == 0
    Path("usual").touch()
    assert os.stat("new.npy").st_mode == os.stat("usual").st_mode


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("kept.npy", "it is read-only; make it writable, or remove it"),
        ("closed/out.npy", "no permission to make files in 'closed'"),
    ],
)
def test_output_without_permission(module: str, output: str, why: str) -> None:
    Path("kept.npy").write_bytes(b"earlier")
    Path("kept.npy").chmod(0o444)
    Path("closed").mkdir(mode=0o555)
    Path().chmod(0o777)
    # Permissions do not bind root: as somebody else, once everything is imported.
    program = (
        "import os, pathlib\n"
        "from memchannel.cli._common import CommandError, check_destination\n"
        "os.geteuid() or os.setuid(65534)\n"
        "try:\n"
        f"    check_destination(pathlib.Path({output!r}))\n"
        "except CommandError as error:\n"
        "    print(error.status, error)\n"
        "else:\n"
        "    print('accepted')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=child_environment(),
        timeout=120,
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.stdout == f"2 cannot write {output!r}: {why}\n", done
    assert Path("kept.npy").read_bytes() == b"earlier"


@pytest.mark.parametrize("length", [100, 250, 255])
def test_output_with_a_long_name(module: str, length: int) -> None:
    assert main(mapped(module, "n" * length)) == 0
    assert np.load("n" * length)[-1, -1] == 2398
    assert files() == {"data.npy", f"{module}.py", "n" * length}


def test_no_room_for_what_is_written_last(module: str) -> None:
    """Results of other lengths go into the file when all are there."""
    Path(f"{module}_full.py").write_text(
        "import resource\n\ndef twice(block):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # of the whole process\n"
        "    return block.repeat(2, axis=0)\n"
    )
    done = run_command("map", "data.npy", f"{module}_full:twice", "-j", "1", "-o", "out.npy")
    assert done.returncode == 1
    assert re.fullmatch(r"memchannel map: error: cannot write 'out\.npy': .*\n", done.stderr)
    assert files() == {"data.npy", f"{module}.py", f"{module}_full.py"}


# ---- where the text goes


COMMANDS = {
    "map": ["map", "data.npy", "MODULE:total", "-j", "1"],
    "map to a file": ["map", "data.npy", "MODULE:total", "-j", "1", "-o", "out.npy"],
    "demo": ["demo", "--quick", "-j", "1"],
    "doctor": ["doctor"],
    "doctor as JSON": ["doctor", "--json"],
    "help": ["--help"],
    "help of a command": ["map", "--help"],
    "version": ["--version"],
}


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", COMMANDS)
def test_text_that_cannot_be_written(module: str, command: str, unbuffered: str) -> None:
    arguments = [word.replace("MODULE", module) for word in COMMANDS[command]]
    name = (
        "memchannel" if command in ("version", "help", "help of a command") else f"memchannel {arguments[0]}"
    )
    environment = child_environment() | {"PYTHONUNBUFFERED": unbuffered}

    def run(stdout: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "memchannel", *arguments],
            stdout=stdout,  # type: ignore[call-overload]
            stderr=subprocess.PIPE,
            env=environment,
            timeout=120,
            check=False,
            text=True,
        )

    with open("/dev/full", "w") as full:
        done = run(full)
    assert done.returncode == 1
    assert done.stderr == f"{name}: error: cannot write to standard output: No space left on device\n"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


# ---- numbers


@pytest.mark.parametrize("count", ["100000000000000000000", "1000000000"])
def test_absurdly_many_interpreters(module: str, capsys: pytest.CaptureFixture[str], count: str) -> None:
    for arguments in (["map", "data.npy", f"{module}:total"], ["demo"]):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "-j", count])
        assert caught.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert re.search(rf"-j.*'{count}' interpreters need a thread each.*at most \d+$", err.strip())


def test_absurdly_large_cuts(module: str) -> None:
    huge = "100000000000000000000"
    arguments = ["map", "data.npy", f"{module}:length", "-j", "1", "-o", "out.npy", "--overlap", huge]
    assert main([*arguments, "--blocks", "2"]) == 0
    assert np.load("out.npy").tolist() == [100, 100]
    assert main(["map", "data.npy", f"{module}:length", "-j", "1", "-o", "out.npy", "--blocks", huge]) == 0
    assert np.load("out.npy").tolist() == [1] * 100


# ---- damaged files


def test_truncated_file_of_each_version(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    array = np.zeros(50, [("h\u00f6he \u03b6", "f8"), ("n", ">i4")])
    for version in [(1, 0), (2, 0), (3, 0)]:
        sent = array if version == (3, 0) else array["n"].astype("f4")
        content = io.BytesIO()
        np.lib.format.write_array(content, sent, version=version)
        whole = content.getvalue()
        Path("cut.npy").write_bytes(whole[:-1])
        dtype = re.escape(str(sent.dtype))
        sizes = rf"takes {len(whole)} bytes.*has {len(whole) - 1}"
        message = rf"'cut\.npy': truncated.*\(50,\) and dtype {dtype} {sizes}"
        fails(capsys, ["map", "cut.npy", f"{module}:total"], 2, message)
