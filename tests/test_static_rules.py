"""Rules about the sources themselves: layers, documentation, sizes, words."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import memchannel
from memchannel import interpreters

CHECKOUT = Path(__file__).parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"][^>"]+[>"])', re.MULTILINE)
TOO_LONG = 550
NOT_OURS = {".git", "build", "dist", "__pycache__", "node_modules"}
TEXT_SUFFIXES = {
    "",
    *[".cff", ".cpp", ".hpp", ".ipynb", ".json", ".md", ".py", ".pyi", ".sh", ".toml", ".txt", ".yml"],
}

# POSIX and Linux headers that the core may use, beside those of the C++ standard library (no dot, no slash).
SYSTEM_HEADERS = {
    f"<{name}.h>"
    for name in [
        *["errno", "fcntl", "poll", "pthread", "sched", "semaphore", "signal", "time", "unistd"],
        *["linux/futex", "sys/eventfd", "sys/mman", "sys/random", "sys/syscall", "sys/types"],
    ]
}


def own_files(folder: Path = CHECKOUT) -> Iterator[Path]:
    """Walk over the project's text files, leaving out what tools and builds have made."""
    for path in sorted(folder.iterdir()):
        if path.name in NOT_OURS:  # .git is a file in a further work tree
            continue
        if path.is_dir():
            if path.name == ".ci" or not path.name.startswith("."):
                yield from own_files(path)
        elif path.suffix in TEXT_SUFFIXES and path.name != ".git":  # a file in worktrees
            yield path


def sources(folder: str, *patterns: str) -> list[Path]:
    """Find the files below a folder of the checkout; finding none is an error."""
    found = [path for pattern in patterns for path in sorted((CHECKOUT / folder).rglob(pattern))]
    assert found, f"no {' or '.join(patterns)} below {folder}"
    return found


def includes(path: Path) -> set[str]:
    """Collect what a C++ file includes, with its brackets or quotes."""
    return set(INCLUDE.findall(path.read_text()))


def test_core_includes_only_the_standard_library_posix_and_itself() -> None:
    own = {f'"{path.name}"' for path in sources("src/core", "*.hpp")}
    for path in sources("src/core", "*.hpp", "*.cpp"):
        allowed = {name for name in includes(path) if re.fullmatch(r"<[a-z_]+>", name)} | SYSTEM_HEADERS | own
        assert includes(path) <= allowed, f"{path.name} includes {sorted(includes(path) - allowed)}"


def test_core_tests_know_only_the_core() -> None:
    for path in sources("tests/core", "*.hpp", "*.cpp"):
        strangers = {name for name in includes(path) if "Python" in name or "python/" in name}
        assert not strangers, f"{path.name} includes {sorted(strangers)}"


def test_bindings_take_no_compiled_numpy_interface() -> None:
    """NumPy's headers keep its table of functions in a static, and each interpreter has another table."""
    for path in sources("src/python", "*.hpp", "*.cpp"):
        assert not {name for name in includes(path) if "numpy/" in name}, path.name


@pytest.mark.parametrize("path", sources("src", "*.hpp"), ids=lambda path: path.name)
def test_headers_are_guarded_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert "#pragma once" in text
    assert text.startswith("//"), "the first line says what the file holds"


def test_files_stay_short() -> None:
    lengths = {
        path.relative_to(CHECKOUT).as_posix(): len(path.read_text().splitlines())
        for path in own_files()
        if path.suffix in {".cpp", ".hpp", ".py", ".pyi", ".sh"} or path.name == "dev"
    }
    # A file of tests may list twice as many cases.
    limits = {name: TOO_LONG * (2 if name.startswith("tests/") else 1) for name in lengths}
    assert {name: lines for name, lines in lengths.items() if lines > limits[name]} == {}


# What means nothing to a reader of the project: how, where and by whom it was worked on.
STRANGE_WORDS = re.compile(
    r"""
      \bissues?\s\#?\d | \bshared/(?:design|cases)\b | \b(?:spec|style|native-notes|numpy-images)\.md\b
    | \b(?:sub-?|AI\s)agents?\b | \b(?:this|last|next|previous|another)\ssession\b
    | /work/ | /root/ | /tmp/(?:infra|v313|brief) | \bdeb\.debian\.org\b | \bfiles\.pythonhosted\.org\b
    """,
    re.VERBOSE | re.IGNORECASE,
)


def test_the_project_speaks_of_itself() -> None:
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}: {match[0]!r}"
        for path in own_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in STRANGE_WORDS.finditer(line)
    ]
    assert found == []


def public_objects() -> list[tuple[str, object]]:
    """List what can have a docstring among the exported names and the public members of exported classes."""
    found: list[tuple[str, object]] = []
    for name in memchannel.__all__:
        value = getattr(memchannel, name)
        found.append((name, value))
        if inspect.isclass(value):
            found += [
                (f"{name}.{member}", getattr(value, member))
                for member in vars(value)
                if not member.startswith("_")
            ]
    return [
        (name, value)
        for name, value in found
        if callable(value) or isinstance(value, property | types.ModuleType)
    ]


@pytest.mark.parametrize(("name", "value"), public_objects(), ids=[name for name, _ in public_objects()])
def test_public_names_are_documented(name: str, value: object) -> None:
    text = inspect.getdoc(value)
    assert text, f"memchannel.{name} has no docstring"
    assert text.splitlines()[0].endswith("."), f"the docstring of memchannel.{name} begins with no sentence"


def test_python_locks_are_reentrant() -> None:
    """Signal handlers and `__del__` come amid any line, and would wait for their own thread."""
    package = Path(memchannel.__file__).parent
    plain = re.compile(r"^(?!\s*>>>).*= threading\.(Lock|Semaphore|BoundedSemaphore)\(\)", re.MULTILINE)
    found = [str(path) for path in package.rglob("*.py") if plain.search(path.read_text())]
    assert [path for path in found if "bench" not in Path(path).parts] == []


def test_importing_is_light() -> None:
    heavy = ["numpy", "cloudpickle", "threadpoolctl", "tqdm", "matplotlib", "dask", "IPython", "rich"]
    heavy += ["asyncio", "concurrent", "ctypes", "inspect", "multiprocessing", "pickle", "re", "subprocess"]
    code = f"import sys, memchannel; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_new_interpreters_import_what_they_need() -> None:
    heavy = [
        "_socket",
        "signal",
        "memchannel.statistics",
        "memchannel.pool",
        "numpy",
        "cloudpickle",
        "concurrent",
    ]
    code = f"import sys; found = [name for name in {heavy!r} if name in sys.modules]; assert not found, found"
    made = interpreters.create(packages="all")
    interpreters.run(made, code).check()
    interpreters.close(made)


def test_readme_names_commands_that_exist() -> None:
    named = set(re.findall(r"\./dev ([a-z][a-z-]*)", (CHECKOUT / "README.md").read_text()))
    usage = subprocess.run([CHECKOUT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^  ([a-z][a-z-]*) ", usage, re.MULTILINE))
    assert named >= {"demo", "test"}
    assert named <= known
