"""`memchannel.images.probe`: packages that work, do not, crash, hang."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from image_support import extension, run_child
from memchannel import images
from memchannel.images._packages import PACKAGES


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of `sys.path`."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_numpy_works_and_its_costs_are_told() -> None:
    result = images.probe("numpy")
    assert result.ok, result
    assert result.reason == ""
    assert result.checked
    assert result.version == sys.modules["numpy"].__version__ if "numpy" in sys.modules else result.version
    assert result.plain_seconds is not None
    assert result.plain_seconds > 0
    assert result.second_seconds is not None
    assert result.second_seconds > 0
    assert result.private_bytes is not None
    assert 1e6 < result.private_bytes < 1e8
    assert result.mappings is not None
    assert 0 < result.mappings < 1000
    assert "numpy._core._multiarray_umath" in result.images
    assert result.private_libraries == ()


def test_package_of_pure_python() -> None:
    result = images.probe("json")
    assert result.ok, result
    assert not result.checked
    assert result.images == ()


def test_package_that_nobody_knows(folder: Path) -> None:
    extension(folder, "unheard_of", single_phase=True)
    result = images.probe("unheard_of")
    assert result.ok, result
    assert result.images == ("unheard_of",)


def test_package_that_is_not_installed() -> None:
    result = images.probe("not_installed_at_all")
    assert not result.ok
    assert result.reason == (
        "'not_installed_at_all' is not installed where this Python looks for packages; "
        "python -m pip install not_installed_at_all"
    )
    assert result.output == ""


def test_what_to_install_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert images.probe("skimage").reason.endswith("python -m pip install scikit-image")


@pytest.mark.parametrize("name", ["scikit-image", "numpy.linalg", "", "all"])
def test_what_is_no_import_name(name: str) -> None:
    result = images.probe(name)
    assert not result.ok
    assert f"{name!r} is not the import name of a package" in result.reason
    assert ("imported as 'skimage'" in result.reason) == (name == "scikit-image")


def test_package_that_is_refused() -> None:
    result = images.probe("uvloop")
    assert not result.ok
    assert result.reason == PACKAGES["uvloop"].refused


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
def test_package_that_crashes_in_its_second_interpreter(folder: Path, number: signal.Signals) -> None:
    (folder / "crashing.py").write_text(
        "import _interpreters, os, signal\n"
        "if _interpreters.get_current()[0] > 1:\n"
        f"    signal.raise_signal({int(number)}) if {int(number)} != 9 else os.kill(os.getpid(), 9)\n"
    )
    result = images.probe("crashing")
    assert not result.ok
    assert (
        result.reason
        == f"importing crashing in the second interpreter: the process crashed with {number.name}"
    )
    assert result.first_seconds is not None
    assert result.second_seconds is None
    if number != signal.SIGKILL:
        assert "crashing.py" in result.output, "the traceback of the crash"


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "signal 40"])
def test_package_that_crashes_everywhere(folder: Path, name: str) -> None:
    number = getattr(signal, name, 40)
    (folder / "crashing.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    result = images.probe("crashing")
    assert result.reason == f"importing crashing in a main interpreter: the process crashed with {name}"
    if name.startswith("SIG"):
        assert "crashing.py" in result.output, "the traceback of the crash"


@pytest.mark.parametrize("status", [1, 3])
def test_package_that_exits_everywhere(folder: Path, status: int) -> None:
    (folder / "exiting.py").write_text(f"import os\nos._exit({status})\n")
    result = images.probe("exiting")
    assert result.reason == f"importing exiting in a main interpreter: the process ended with status {status}"


@pytest.mark.parametrize("room", range(6))
def test_no_descriptors_left_for_the_child(room: int) -> None:
    """Whatever number is missing, the child says so, or works; nothing stays open."""
    output = run_child(
        """
        import os, resource, sys
        from memchannel import images
        import memchannel.images._probe, subprocess, _posixsubprocess
        subprocess.run([sys.executable, "-c", ""], capture_output=True)  # imports what it needs
        before = sorted(os.listdir("/proc/self/fd"))
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) - 1 + int(sys.argv[1]), most))
        result = images.probe("json")
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        assert sorted(os.listdir("/proc/self/fd")) == before
        print(result.reason or "ok")
        """,
        str(room),
    )
    if room < 4:
        assert "could not be started: [Errno 24] Too many open files" in output
    else:
        assert output.strip() == "ok" or "Too many open files" in output


def test_package_that_exits(folder: Path) -> None:
    (folder / "exiting.py").write_text(
        "import _interpreters, os\nif _interpreters.get_current()[0]:\n    os._exit(3)\n"
    )
    result = images.probe("exiting")
    assert result.reason == "importing exiting in the first interpreter: the process ended with status 3"


def test_package_that_hangs(folder: Path) -> None:
    (folder / "hanging.py").write_text(
        "import _interpreters, time\nif _interpreters.get_current()[0]:\n    time.sleep(1000)\n"
    )
    result = images.probe("hanging", timeout=5)
    assert result.reason == "importing hanging in the first interpreter: no end within 5 seconds"


def test_package_that_raises_only_in_other_interpreters(folder: Path) -> None:
    (folder / "raising.py").write_text(
        "import _interpreters\nif _interpreters.get_current()[0]:\n    raise OSError('not the main one')\n"
    )
    result = images.probe("raising")
    assert result.reason == "importing raising in the first interpreter: OSError: not the main one"
    assert "raising.py" in result.output


def test_package_that_floods_its_output(folder: Path) -> None:
    (folder / "noisy.py").write_text(
        "import os, sys\nfor number in (1, 2):\n    os.write(number, b'a line\\n' * 200_000)\n"
    )
    result = images.probe("noisy")
    assert result.ok, result
    assert result.output.count("a line") <= 100


def test_the_childs_path_is_this_ones(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "here.py").write_text("VALUE = 1\n")
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "json.py").write_text("raise AssertionError('taken from the current folder')\n")
    monkeypatch.chdir(elsewhere)
    assert images.probe("here").ok
