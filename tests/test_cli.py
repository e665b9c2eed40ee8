"""The command line: `main([...])` in this process, and `python -m memchannel` as a user runs it."""

from __future__ import annotations

import itertools
import os
import pty
import re
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import memchannel
from cli_support import child_environment, fails, files, run_command
from memchannel.cli import main

FUNCTIONS = """
import numpy as np

calls = []

def total(block):
    return block.sum()

def python_number(block):
    return int(block[0, 0])

def double(block):
    return 2 * block

def row_sums(block):
    return block.sum(axis=1)

def column_sums(block):
    return block.sum(axis=0, keepdims=True)

def odd_rows(block):
    return block[1::2]

def above_100(block):
    return block[block[:, 0] > 100]

def halo(block):
    return len(block)

def window(block):
    "Sum of each row and its two neighbours; the array's edges count as zeros."
    padded = np.zeros((len(block) + 2, block.shape[1]))
    padded[1:-1] = block
    return padded[:-2] + padded[1:-1] + padded[2:]

def writes(block):
    block[0] = 0

def fails_late(block):
    if block[0, 0] > 500:
        raise ArithmeticError("the seventh pillar is missing")
    return block

def text(block):
    return "a string"

def objects(block):
    return block.astype(object)

def masked(block):
    return np.ma.masked_less(block, 3)

def other_dtype(block):
    return block.astype("f4") if block[0, 0] > 500 else block

def other_width(block):
    return block[:, :2] if block[0, 0] > 500 else block

def sometimes_scalar(block):
    return block.sum() if block[0, 0] > 500 else block

def structured(block):
    result = np.zeros(len(block), dtype=[("least", "f8"), ("most", ">i4")])
    result["least"], result["most"] = block.min(axis=1), block.max(axis=1)
    return result

class Holder:
    @staticmethod
    def total(block):
        return block.sum()

not_a_function = 3
"""

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module in the current directory: new for each test, as reused interpreters keep modules."""
    name = f"functions_{os.getpid()}_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    np.save(tmp_path / "data.npy", np.arange(1200.0).reshape(100, 12))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


@pytest.fixture
def data(module: str) -> NDArray[np.float64]:
    loaded: NDArray[np.float64] = np.load("data.npy")
    return loaded


class TestMap:
    def test_scalars_are_stacked(
        self, module: str, data: NDArray[np.float64], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["map", "data.npy", f"{module}:total", "--blocks", "5", "-j", "2", "-o", "out.npy"]) == 0
        np.testing.assert_array_equal(np.load("out.npy"), data.reshape(5, -1).sum(axis=1))

    def test_python_numbers_are_stacked(self, module: str) -> None:
        assert (
            main(["map", "data.npy", f"{module}:python_number", "--blocks", "4", "-j", "2", "-o", "o"]) == 0
        )
        found = np.load("o")
        assert found.dtype == np.int64
        assert found.tolist() == [0, 300, 600, 900]

    def test_report(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["map", "data.npy", f"{module}:double", "-j", "2", "-o", "out.npy"]) == 0
        out, err = capsys.readouterr()
        report = dict(line.split(maxsplit=1) for line in out.splitlines())
        assert list(report) == ["data", "workers", "time", "shared", "copied", "result"]
        assert report["data"] == "shape (100, 12), float64, 9.6 kB, mapped from data.npy"
        assert report["workers"] == "2 interpreters, 8 blocks along axis 0"
        assert re.fullmatch(r"\d+\.\d\d s", report["time"])
        assert re.fullmatch(r"9\.6 kB", report["shared"])
        assert report["result"] == "shape (100, 12), float64, 9.6 kB, in out.npy"
        assert err == ""  # no progress bar where nobody looks

    def test_result_is_printed_without_output(
        self, module: str, data: NDArray[np.float64], capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = files()
        assert main(["map", "data.npy", f"{module}:total", "--blocks", "2", "-j", "1"]) == 0
        assert capsys.readouterr().out.endswith(f"{np.array([data[:50].sum(), data[50:].sum()])}\n")
        assert files() == before

    @pytest.mark.parametrize("axis", ["0", "-2"])
    def test_blocks_of_an_array_are_put_together(
        self, module: str, data: NDArray[np.float64], axis: str
    ) -> None:
        assert main(["map", "data.npy", f"{module}:double", "--axis", axis, "-j", "2", "-o", "out.npy"]) == 0
        found = np.load("out.npy")
        assert found.dtype == data.dtype
        assert found.tobytes() == (2 * data).tobytes()

    @pytest.mark.parametrize("axis", ["1", "-1"])
    def test_along_another_axis(self, module: str, data: NDArray[np.float64], axis: str) -> None:
        arguments = ["map", "data.npy", f"{module}:column_sums", "--axis", axis, "-j", "2", "-o", "out.npy"]
        assert main(arguments) == 0
        np.testing.assert_array_equal(np.load("out.npy"), data.sum(axis=0, keepdims=True))

    def test_result_with_fewer_axes(self, module: str, data: NDArray[np.float64]) -> None:
        assert main(["map", "data.npy", f"{module}:row_sums", "-j", "2", "-o", "out.npy"]) == 0
        np.testing.assert_array_equal(np.load("out.npy"), data.sum(axis=1))

    def test_results_of_other_lengths(self, module: str, data: NDArray[np.float64]) -> None:
        assert (
            main(["map", "data.npy", f"{module}:odd_rows", "--blocks", "10", "-j", "2", "-o", "out.npy"]) == 0
        )
        np.testing.assert_array_equal(np.load("out.npy"), data[1::2])

    def test_first_results_as_long_as_their_blocks_by_chance(
        self, module: str, data: NDArray[np.float64]
    ) -> None:
        np.save("turned.npy", data[::-1])
        arguments = ["map", "turned.npy", f"{module}:above_100", "--blocks", "10", "-j", "2", "-o", "out.npy"]
        assert main(arguments) == 0
        np.testing.assert_array_equal(np.load("out.npy"), data[::-1][data[::-1, 0] > 100])
        assert files() == {"data.npy", "turned.npy", "out.npy", f"{module}.py"}

    def test_overlap_is_cut_off(self, module: str, data: NDArray[np.float64]) -> None:
        arguments = ["map", "data.npy", f"{module}:window", "--overlap", "1", "-j", "2", "-o", "out.npy"]
        assert main(arguments) == 0
        padded = np.pad(data, ((1, 1), (0, 0)))
        assert np.load("out.npy").tobytes() == (padded[:-2] + padded[1:-1] + padded[2:]).tobytes()

    def test_overlap_is_short_at_the_edges(self, module: str) -> None:
        arguments = ["map", "data.npy", f"{module}:halo", "--overlap", "3", "--blocks", "4", "-j", "2"]
        assert main([*arguments, "-o", "out.npy"]) == 0
        assert np.load("out.npy").tolist() == [28, 31, 31, 28]

    def test_more_blocks_than_rows(self, module: str) -> None:
        assert (
            main(["map", "data.npy", f"{module}:halo", "--blocks", "1000", "-j", "1", "-o", "out.npy"]) == 0
        )
        assert np.load("out.npy").tolist() == [1] * 100

    def test_structured_and_foreign_byte_order(self, module: str, data: NDArray[np.float64]) -> None:
        np.save("big.npy", data.astype(">f4"))
        assert main(["map", "big.npy", f"{module}:structured", "-j", "2", "-o", "out.npy"]) == 0
        found = np.load("out.npy")
        assert found.dtype == np.dtype([("least", "f8"), ("most", ">i4")])
        np.testing.assert_array_equal(found["most"], data.max(axis=1))

    def test_method_and_installed_module(self, module: str, data: NDArray[np.float64]) -> None:
        assert (
            main(["map", "data.npy", f"{module}:Holder.total", "--blocks", "1", "-j", "1", "-o", "o.npy"])
            == 0
        )
        assert np.load("o.npy").tolist() == [data.sum()]
        assert main(["map", "data.npy", "numpy:median", "--blocks", "1", "-j", "1", "-o", "o.npy"]) == 0
        assert np.load("o.npy").tolist() == [np.median(data)]

    def test_output_may_replace_the_input(self, module: str, data: NDArray[np.float64]) -> None:
        assert main(["map", "data.npy", f"{module}:double", "-j", "2", "-o", "data.npy"]) == 0
        np.testing.assert_array_equal(np.load("data.npy"), 2 * data)

    def test_packages_as_a_list(self, module: str, data: NDArray[np.float64]) -> None:
        arguments = ["map", "data.npy", f"{module}:total", "--packages", "numpy", "--blocks", "1", "-j", "1"]
        assert main([*arguments, "-o", "out.npy"]) == 0
        assert np.load("out.npy").tolist() == [data.sum()]

    def test_everything_lent_came_back(self, module: str) -> None:
        before = memchannel.stats().live
        assert main(["map", "data.npy", f"{module}:double", "-j", "2", "-o", "out.npy"]) == 0
        deadline = time.monotonic() + 30
        while memchannel.stats().live > before and time.monotonic() < deadline:
            time.sleep(0.01)  # deferred leases return soon, without anybody calling anything
        assert memchannel.stats().live <= before


class TestMapRefuses:
    def test_missing_file(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        fails(capsys, ["map", "nowhere.npy", f"{module}:total"], 2, r"'nowhere\.npy'.*No such file")

    def test_directory(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        fails(capsys, ["map", ".", f"{module}:total"], 2, "Is a directory")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"1,2,3\n4,5,6\n", r"not a \.npy file: it starts with b'1,2,3"),
            (b"\x93NUMPY", "damaged"),
            (b"\x93NUMPY\x09\x00", "damaged"),
        ],
    )
    def test_file_of_another_kind(
        self, module: str, capsys: pytest.CaptureFixture[str], content: bytes, message: str
    ) -> None:
        Path("bad.npy").write_bytes(content)
        fails(capsys, ["map", "bad.npy", f"{module}:total"], 2, message)

    def test_truncated_file(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        content = Path("data.npy").read_bytes()
        Path("data.npy").write_bytes(content[:-1])
        message = rf"'data\.npy': truncated.*\(100, 12\).*takes {len(content)} bytes.*has {len(content) - 1}"
        fails(capsys, ["map", "data.npy", f"{module}:total"], 2, message)

    def test_any_damage_to_the_header(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Whatever one byte of the header becomes: the array is read, or refused in one line."""
        content = Path("data.npy").read_bytes()
        for position, value in itertools.product(range(128), (0, 10, 32, 39, 40, 45, 57, 79, 125, 255)):
            Path("bad.npy").write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
            assert main(["map", "bad.npy", "no_such_module:f"]) == 2
            message = capsys.readouterr().err
            assert message.count("\n") == 1, (position, value)
            assert "bad.npy" in message or "no_such_module" in message

    def test_python_objects(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        np.save("objects.npy", np.array([1, "a", None], dtype=object))
        fails(capsys, ["map", "objects.npy", f"{module}:total"], 2, "dtype object holds Python objects")

    def test_pipe(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        os.mkfifo("pipe.npy")  # nobody writes into it
        fails(capsys, ["map", "pipe.npy", f"{module}:total"], 2, "it is a pipe, and only files can be mapped")
        fails(capsys, ["map", os.devnull, f"{module}:total"], 2, "it is a character device")

    def test_archive(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        np.savez("several.npz", a=np.zeros(3))
        fails(
            capsys, ["map", "several.npz", f"{module}:total"], 2, "archive of arrays; save the one you want"
        )

    def test_axis_out_of_range(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        message = r"--axis is 2, but 'data\.npy' has shape \(100, 12\); give one from -2 to 1"
        fails(capsys, ["map", "data.npy", f"{module}:total", "--axis", "2"], 2, message)

    def test_nothing_to_cut(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        np.save("scalar.npy", np.float64(3))
        np.save("empty.npy", np.zeros((0, 3)))
        fails(capsys, ["map", "scalar.npy", f"{module}:total"], 2, r"shape \(\)")
        fails(capsys, ["map", "empty.npy", f"{module}:total"], 2, r"shape \(0, 3\): axis 0 is empty")

    @pytest.mark.parametrize("text", ["total", "m.py:total", ":total", "m:", "m:f(3)", "dir/m:f", "a:b:c"])
    def test_no_function_name(self, module: str, capsys: pytest.CaptureFixture[str], text: str) -> None:
        fails(capsys, ["map", "data.npy", text], 2, f"{re.escape(repr(text))} names no function")

    def test_unknown_module(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        fails(capsys, ["map", "data.npy", "nowhere_at_all:f"], 2, "no module 'nowhere_at_all'")
        fails(capsys, ["map", "data.npy", "os.nowhere:f"], 2, r"no module 'os\.nowhere'")

    def test_unknown_function(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        fails(capsys, ["map", "data.npy", f"{module}:totl"], 2, "has no 'totl'; did you mean 'total'")
        fails(capsys, ["map", "data.npy", f"{module}:Holder.sum"], 2, f"{module}.Holder' has no 'sum'")
        fails(capsys, ["map", "data.npy", f"{module}:not_a_function"], 2, "is of type 'int', not a function")

    def test_module_that_fails(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        Path(f"{module}_fails.py").write_text("import no_such_helper\n")
        before = files()
        assert main(["map", "data.npy", f"{module}_fails:f"]) == 1
        err = capsys.readouterr().err
        assert f'{module}_fails.py", line 1' in err
        assert "no_such_helper" in err.splitlines()[-1]
        Path(f"{module}_exits.py").write_text("import sys; sys.exit(7)\n")
        assert main(["map", "data.npy", f"{module}_exits:f"]) == 1
        assert "SystemExit" in capsys.readouterr().err.splitlines()[-1]
        assert files() == before | {f"{module}_exits.py"}

    @pytest.mark.parametrize(
        "option",
        [
            ["-j", "0"],
            ["-j", "-1"],
            ["-j", "two"],
            ["--blocks", "0"],
            ["--overlap", "-1"],
            ["--packages", "a,,b"],
        ],
    )
    def test_bad_option(self, module: str, capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["map", "data.npy", f"{module}:total", *option])
        assert caught.value.code == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert option[0] in last
        assert repr(option[1]) in last

    def test_unknown_package(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["map", "data.npy", f"{module}:total", "--packages", "numpy,no_such_package"]
        fails(capsys, arguments, 2, "--packages: No module named 'no_such_package'")

    def test_output_in_a_missing_directory(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        fails(capsys, ["map", "data.npy", f"{module}:total", "-o", "no/out.npy"], 2, "no directory 'no'")
        fails(capsys, ["map", "data.npy", f"{module}:total", "-o", "."], 2, "it is a directory")


class TestMapFails:
    """The work itself fails: status 1, the block is named, an earlier output stays as it was."""

    def test_exception_in_the_function(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        Path("out.npy").write_bytes(b"earlier")
        arguments = ["map", "data.npy", f"{module}:fails_late", "--blocks", "4", "-j", "2", "-o", "out.npy"]
        assert main(arguments) == 1
        err = capsys.readouterr().err
        assert f'{module}.py", line ' in err  # the worker's traceback
        assert "in fails_late" in err
        message = (
            f"{module}:fails_late on the block 50:75 of axis 0 failed: ArithmeticError: the seventh pillar"
        )
        assert message in err.splitlines()[-1]
        assert Path("out.npy").read_bytes() == b"earlier"
        assert files() == {"data.npy", "out.npy", f"{module}.py"}

    def test_function_that_writes(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        fails(capsys, ["map", "data.npy", f"{module}:writes", "-j", "1"], 1, "read-only")

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            ("text", "returned a str; return a number or a NumPy array"),
            ("objects", "returned dtype object, which holds Python objects"),
            ("masked", "returned a masked array"),
            (
                "other_dtype",
                r"block 50:75 of axis 0 returned an array.*float32, but an array.*float64 for the first",
            ),
            ("other_width", r"shape \(n, 2\).*, but an array of shape \(n, 12\)"),
            ("sometimes_scalar", "returned a number, but an array"),
        ],
    )
    def test_result_of_the_wrong_kind(
        self, module: str, capsys: pytest.CaptureFixture[str], function: str, message: str
    ) -> None:
        arguments = ["map", "data.npy", f"{module}:{function}", "--blocks", "4", "-j", "2", "-o", "out.npy"]
        fails(capsys, arguments, 1, message)

    def test_result_without_the_axis(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["map", "data.npy", f"{module}:row_sums", "--axis", "1", "-j", "1"]
        fails(capsys, arguments, 1, r"shape \(100,\), which has no axis 1.*keepdims=True")


class TestProcess:
    def test_map(self, module: str, data: NDArray[np.float64]) -> None:
        done = run_command("map", "data.npy", f"{module}:double", "-j", "2", "-o", "out.npy")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert "copied" in done.stdout
        assert np.load("out.npy").tobytes() == (2 * data).tobytes()

    def test_usage_error(self, module: str) -> None:
        done = run_command("map", "nowhere.npy", f"{module}:double")
        assert done.returncode == 2
        assert done.stderr.startswith("memchannel map: error: cannot read 'nowhere.npy'")
        assert run_command().returncode == 2

    def test_help_and_version(self) -> None:
        assert run_command("--version").stdout == f"memchannel {memchannel.__version__}\n"
        for command in ("map", "demo", "doctor"):
            assert command in run_command("--help").stdout
        assert "filters:smooth" in run_command("map", "--help").stdout

    def test_help_needs_no_numpy(self) -> None:
        code = "import sys; sys.modules['numpy'] = None\nfrom memchannel.cli import main\nmain(['--help'])"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=child_environment(),
        )
        assert done.returncode == 0, done.stderr

    def test_no_room_for_the_output(self, module: str) -> None:
        """A full disk is a message, not SIGBUS at the first write into the mapped file."""
        Path(f"{module}_full.py").write_text(
            "import resource\n\ndef double(block):\n"
            "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # of the whole process\n"
            "    return 2 * block\n"
        )
        done = run_command("map", "data.npy", f"{module}_full:double", "-o", "out.npy")
        assert done.returncode == 1
        assert re.fullmatch(r"memchannel map: error: cannot write 'out\.npy': .*\n", done.stderr)
        assert files() == {"data.npy", f"{module}.py", f"{module}_full.py"}

    def test_progress_on_a_terminal(self, module: str) -> None:
        read_terminal, write_terminal = pty.openpty()
        termios.tcsetwinsize(write_terminal, (24, 80))
        child = subprocess.Popen(
            [sys.executable, "-m", "memchannel", "map", "data.npy", f"{module}:total", "--blocks", "5"],
            stdout=subprocess.DEVNULL,
            stderr=write_terminal,
            env=child_environment(),
        )
        os.close(write_terminal)
        shown = b"".join(iter(lambda: read_until_closed(read_terminal), b""))
        os.close(read_terminal)
        assert child.wait(timeout=60) == 0
        assert b"5/5" in shown


def read_until_closed(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # EIO: nobody has the other side open any more
        return b""
