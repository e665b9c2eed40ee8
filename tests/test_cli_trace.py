"""``memchannel map --trace FILE.json``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cli_support import fails, files
from memchannel.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with an array."""
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", np.arange(400.0).reshape(100, 4))


def test_the_run_is_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["map", "data.npy", "numpy:sum", "--packages", "numpy", "-j", "2", "--trace", "run.json"]
    assert main(command) == 0
    told = capsys.readouterr().out
    saved = json.loads(Path("run.json").read_text())
    events = [event for event in saved["traceEvents"] if event["ph"] in "Xi"]
    assert f"{len(events)} events, in run.json" in told
    assert len([event for event in events if event["cat"] == "task" and event["name"] == "sum"]) == 8
    assert files() == {"data.npy", "run.json"}


def test_a_run_that_fails_leaves_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.json").write_text("an earlier one")
    command = ["map", "data.npy", "operator:not_", "--packages", "numpy", "-j", "1", "--trace", "run.json"]
    fails(capsys, command, 1, "operator:not_ on the block")
    assert Path("run.json").read_text() == "an earlier one"


@pytest.mark.parametrize(
    ("trace", "output", "message"),
    [
        ("nowhere/run.json", "out.npy", "there is no directory 'nowhere'"),
        ("out.npy", "out.npy", "--trace and --output are both 'out.npy'"),
        (".", "out.npy", "it is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], trace: str, output: str, message: str
) -> None:
    fails(capsys, ["map", "data.npy", "numpy:sum", "-o", output, "--trace", trace], 2, message)


def test_the_data_are_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other-name.npy").hardlink_to("data.npy")
    for trace in ("data.npy", "./data.npy", "other-name.npy"):
        fails(capsys, ["map", "data.npy", "numpy:sum", "--trace", trace], 2, "would overwrite the data")
    assert np.load("data.npy").shape == (100, 4)


@pytest.mark.parametrize("output", [[], ["-o", "out.npy"]])
def test_a_trace_that_cannot_be_written_takes_no_result_along(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, output: list[str]
) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    Path("traces").mkdir()
    Path("tidying.py").write_text(
        "import os\n\ndef total(block):\n"
        "    if os.path.isdir('traces'):\n        os.rmdir('traces')\n    return block.sum()\n"
    )
    command = ["map", "data.npy", "tidying:total", "-j", "1", "--blocks", "2", "--trace", "traces/run.json"]
    assert main([*command, *output]) == 1
    told, errors = capsys.readouterr()
    assert errors == "memchannel map: error: cannot write 'traces/run.json': No such file or directory\n"
    if output:
        assert np.load("out.npy").tolist() == [19900.0, 59900.0]
    else:
        assert told.endswith("[19900. 59900.]\n")
    assert "trace" not in told
