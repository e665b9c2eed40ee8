"""Wheel, sdist and editable install, built from a copy of the checkout that is littered with leftovers."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest

import memchannel
import memchannel._core

CHECKOUT = Path(__file__).parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
VERSION: str = PYPROJECT["project"]["version"]

SOURCES = [
    "CMakeLists.txt",
    "CMakePresets.json",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "dev",
    ".gitignore",
]
SOURCE_FOLDERS = ["src", "python", "tests"]

# What developing leaves lying about; none of it may get into an artefact.
LEFTOVERS = [
    ".coverage.so",
    ".mypy_cache/3.13/cache.json",
    ".pytest_cache/README.md",
    ".venv/pyvenv.cfg",
    "build/dev/CMakeCache.txt",
    "dist/memchannel-0.0.1.tar.gz",
    "python/memchannel/__pycache__/stale.cpython-399.pyc",
    "python/memchannel/_core.cpython-399-x86_64-linux-gnu.so",
    "tests/__pycache__/stale.cpython-399.pyc",
]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program away from the checkout's own environment; its output, or a failure that shows it."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, cwd=cwd, env=inherited, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)  # fmt: skip
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout}"
    return result.stdout


def package_files(folder: Path) -> set[str]:
    """Names, relative to `folder`, of the files that the import package consists of in a tidy checkout."""
    return {
        path.relative_to(folder).as_posix()
        for path in (folder / "memchannel").rglob("*")
        if path.is_file() and path.suffix not in {".so", ".pyc"}
    }


@pytest.fixture(scope="module")
def littered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout's sources and leave files in them that do not belong to the project."""
    copy = tmp_path_factory.mktemp("littered")
    for name in SOURCES:
        shutil.copy2(CHECKOUT / name, copy / name)
    for name in SOURCE_FOLDERS:
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in LEFTOVERS:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(b"left over")
    return copy


@pytest.fixture(scope="module")
def sdist(littered: Path) -> Path:
    """Build the source distribution."""
    run(
        sys.executable,
        "-c",
        "from scikit_build_core.build import build_sdist; build_sdist('dist-new')",
        cwd=littered,
    )
    (path,) = (littered / "dist-new").iterdir()
    return path


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the source distribution, as whoever builds from it does."""
    target = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(target, filter="data")
    (folder,) = target.iterdir()
    return folder


@pytest.fixture(scope="module")
def build_options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Let the wheel and the editable install share one compilation."""
    return ["--no-build-isolation", "-C", f"build-dir={tmp_path_factory.mktemp('build')}"]


@pytest.fixture(scope="module")
def wheel(unpacked: Path, build_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the source distribution."""
    target = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", *build_options, "-w", target, ".", cwd=unpacked)
    (path,) = target.iterdir()
    return path


@pytest.fixture
def fresh_python(tmp_path: Path) -> Path:
    """Make a new virtual environment that sees this one's packages behind its own."""
    venv.create(tmp_path / "env", symlinks=True, with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    purelib = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'), end='')", cwd=tmp_path
    )
    (Path(purelib) / "zz_behind.pth").write_text(sysconfig.get_path("purelib"))
    return python


def install(python: Path, *what: str | Path) -> None:
    """Install the package with pip, whatever version of it the environment sees already."""
    run(python, "-m", "pip", "install", "--no-deps", "--ignore-installed", *what, cwd=python.parent)


def test_version_is_the_same_everywhere(sdist: Path, wheel: Path) -> None:
    assert importlib.metadata.version("memchannel") == VERSION
    assert memchannel.__version__ == VERSION
    assert memchannel._core.__version__ == VERSION
    assert sdist.name == f"memchannel-{VERSION}.tar.gz"
    assert wheel.name.startswith(f"memchannel-{VERSION}-")


def test_sdist_holds_the_sources_and_no_leftovers(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert not names & set(LEFTOVERS)
    expected = set(SOURCES)
    for folder in SOURCE_FOLDERS:
        for path in (CHECKOUT / folder).rglob("*"):
            if path.is_file() and path.suffix not in {".so", ".pyc"}:
                expected.add(path.relative_to(CHECKOUT).as_posix())
    assert names == expected | {"PKG-INFO"}


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = {f"memchannel/_core{suffix}", f"memchannel/images/_capi{suffix}"}
    assert names == package_files(CHECKOUT / "python") | built
    assert "memchannel/py.typed" in names
    assert "memchannel/_core.pyi" in names


def test_wheel_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        prefix = f"memchannel-{VERSION}.dist-info"
        metadata = HeaderParser().parsestr(archive.read(f"{prefix}/METADATA").decode())
        entry_points = archive.read(f"{prefix}/entry_points.txt").decode()
        assert f"{prefix}/licenses/LICENSE" in archive.namelist()
    assert metadata["Requires-Python"] == ">=3.13"
    assert metadata["License-Expression"] == "MIT"
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {line.split(">=")[0].strip() for line in needed} == {
        "numpy", "cloudpickle", "threadpoolctl", "backports.interpreters"
    }  # fmt: skip
    extras = set(metadata.get_all("Provides-Extra", []))
    assert extras >= {"progress", "plot", "demo", "jupyter", "joblib", "dask", "zarr", "test", "bench"}
    assert "memchannel = memchannel.cli:main" in entry_points


# Imports the package in the main interpreter and in an isolated one, and prints where each found it.
WHERE = """
import _interpreters, memchannel, memchannel._core
print(memchannel.__file__, memchannel._core.__file__, sep="\\n", flush=True)
interpreter = _interpreters.create("isolated")
error = _interpreters.exec(interpreter, '''
import memchannel, memchannel._core
print(memchannel.__file__, memchannel._core.__file__, sep="\\\\n", flush=True)
''')
assert error is None, error.errdisplay
_interpreters.destroy(interpreter)
"""


def test_wheel_installs_and_imports(wheel: Path, fresh_python: Path, tmp_path: Path) -> None:
    install(fresh_python, "--no-index", wheel)
    places = run(fresh_python, "-c", WHERE, cwd=tmp_path).splitlines()
    assert len(places) == 4
    assert all(Path(place).is_relative_to(tmp_path / "env") for place in places), places
    script = fresh_python.parent / "memchannel"
    assert run(script, "--version", cwd=tmp_path).strip() == f"memchannel {VERSION}"
    assert run(fresh_python, "-m", "memchannel", "--version", cwd=tmp_path).strip() == f"memchannel {VERSION}"


def test_editable_install_follows_the_sources(
    wheel: Path, unpacked: Path, build_options: list[str], fresh_python: Path, tmp_path: Path
) -> None:
    install(fresh_python, *build_options, "-e", unpacked)
    places = run(fresh_python, "-c", WHERE, cwd=tmp_path).splitlines()
    package = str(unpacked / "python" / "memchannel" / "__init__.py")
    assert [places[0], places[2]] == [package, package]
    assert all(Path(place).is_relative_to(tmp_path / "env") for place in (places[1], places[3])), places

    (unpacked / "python" / "memchannel" / "added_later.py").write_text("NAME = 'no new install'\n")
    seen = run(fresh_python, "-c", "import memchannel.added_later as m; print(m.NAME)", cwd=tmp_path)
    assert seen == "no new install\n"


def test_an_environment_of_an_old_python_is_refused_and_kept(tmp_path: Path) -> None:
    """As it is after `python3 -m venv .venv` on a system with an older Python."""
    python = tmp_path / "old" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 1011007 too-old 3.11.7\n")  # what ./dev has a Python tell of itself
    python.chmod(0o755)
    environment = {**os.environ, "MEMCHANNEL_VENV": str(tmp_path / "old")}
    done = subprocess.run(
        [CHECKOUT / "dev", "demo"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"{python} (3.11.7) is too old: 3.13 is the oldest supported" in done.stderr
    assert f"remove it (rm -r {tmp_path / 'old'})" in done.stderr
    assert python.exists()
