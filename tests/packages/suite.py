"""Runs a package's own tests in interpreters with private images, and compares with the main interpreter.

    python tests/packages/suite.py                              # a selection of NumPy's tests
    python tests/packages/suite.py numpy                        # all of them
    python tests/packages/suite.py numpy._core.tests.test_umath numpy.linalg scipy.ndimage
    python tests/packages/suite.py --at-once numpy.fft,numpy.linalg numpy.random  # two interpreters at once

Each run is a process of its own. A test that passes in the main interpreter and not in the others is a
difference; the script ends with status 1 if one of those is not listed in `EXPECTED`. With --write the
figures go into docs/packages.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import figures

import memchannel.images

SELECTION = [
    *[f"numpy._core.tests.test_{name}" for name in ("multiarray", "umath", "numeric", "ufunc", "errstate")],
    *["numpy.linalg", "numpy.fft", "numpy.random"],
]
FORK = "os.fork is refused in isolated interpreters"
BY_PATH = "it loads an extension module that it compiles itself by its path, so that no finder is asked"
# End of a test's id, or its file, and why it cannot pass in an interpreter that is not the main one.
EXPECTED = {
    "test_xerbla_override": FORK,
    "test_large_zip": FORK,
    "test_read_write_bool_array": "multiprocessing needs daemon threads, and isolated interpreters have none",
    "test_no_suboffsets": "CPython's own _testbuffer, which it needs, does not load in isolated interpreters",
    "numpy/_core/tests/test_array_interface.py": BY_PATH,
    "numpy/_core/tests/test_mem_policy.py": BY_PATH,
}
COVERED = ("all",)
_OPTIONS = [
    "-q",
    "--tb=short",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:faulthandler",
    "-W",
    "ignore::pytest.PytestWarning",
]


class Recorder:
    """A pytest plugin that keeps each test's outcome."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.texts: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: object) -> None:
        """Keep the outcome of the call, or of the phase that failed."""
        when, outcome, node = (getattr(report, name) for name in ("when", "outcome", "nodeid"))
        if when == "call" or outcome != "passed":
            expected = "x" if hasattr(report, "wasxfail") else ""
            self.outcomes[node] = expected + outcome
            if outcome == "failed":
                self.texts[node] = str(getattr(report, "longreprtext", ""))[-3000:]


def run_tests(modules: list[str], output: str) -> None:
    """Run the tests of modules in the current interpreter and write their outcomes to a file."""
    import pytest

    recorder = Recorder()
    spec = importlib.util.find_spec(modules[0].partition(".")[0])
    assert spec is not None
    assert spec.origin is not None
    root = ["--rootdir", str(Path(spec.origin).parent.parent)]  # ids are paths below it
    status = int(pytest.main([*_OPTIONS, *root, "--pyargs", *modules], plugins=[recorder]))
    Path(output).write_text(json.dumps([status, recorder.outcomes, recorder.texts]), encoding="utf-8")


def run_in_interpreters(groups: list[list[str]], outputs: list[str]) -> None:
    """Run groups of modules at the same time, each in an interpreter of its own."""
    import _interpreters

    memchannel.images.prepare_main()
    source = (
        f"import sys; sys.path[:] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        + memchannel.images.bootstrap(COVERED)
        + "import suite; suite.run_tests({}, {!r})\n"
    )
    failed = []

    def work(modules: list[str], output: str) -> None:
        interpreter = _interpreters.create("isolated", reqrefs=False)
        error = _interpreters.exec(interpreter, source.format(modules, output))
        if error is not None:
            failed.append(error.errdisplay)
        _interpreters.destroy(interpreter)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(groups, outputs, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit("\n".join(map(str, failed)))


def in_child(kind: str, groups: list[list[str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Run groups of modules in a fresh process; returns outcomes and the texts of failures."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [str(Path(folder) / str(number)) for number in range(len(groups))]
        task = json.dumps({"kind": kind, "groups": groups, "outputs": outputs})
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, "-X", "faulthandler", __file__, "--child", task]
        start = time.perf_counter()
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{kind}: the process ended with {done.returncode}\n{done.stdout[-8000:]}")
        outcomes: dict[str, str] = {}
        texts: dict[str, str] = {}
        for output in outputs:
            status, more, text = json.loads(Path(output).read_text(encoding="utf-8"))
            if status not in (0, 1):
                sys.exit(f"{kind}: pytest ended with {status}\n{done.stdout[-8000:]}")
            outcomes |= more
            texts |= text
    counts = ", ".join(
        f"{number} {outcome}" for outcome, number in sorted(Counter(outcomes.values()).items())
    )
    print(f"{kind}: {len(outcomes)} tests in {time.perf_counter() - start:.0f} s: {counts}", flush=True)
    return outcomes, texts


def write(
    arguments: argparse.Namespace,
    plain: dict[str, str],
    private: dict[str, str],
    differences: list[list[str]],
) -> None:
    """Write a row of figures, and one for each difference."""
    top = arguments.modules[0].partition(".")[0]
    version = f"{top} {importlib.metadata.version(top)}"
    what = "the selection"
    if arguments.modules != SELECTION:
        between = " and " if arguments.at_once else ", "
        what = between.join(f"`{modules.replace(',', '`, `')}`" for modules in arguments.modules)
    what = arguments.called or what + (" at once" if arguments.at_once else "")
    key = [platform.python_version(), version, what]
    passed = [sum(outcome == "passed" for outcome in outcomes.values()) for outcomes in (plain, private)]
    figures.put_rows("suite", key, [[f"{number:,}" for number in (*passed, len(differences))]])
    unique = [list(row) for row in sorted({tuple(row) for row in differences})]
    figures.put_rows("differences", key, unique)


def reason_of(node: str) -> str | None:
    """Tell why a test cannot pass; None if it should."""
    file, test = node.partition("::")[0], node.partition("[")[0]
    return next((why for part, why in EXPECTED.items() if part == file or test.endswith(part)), None)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", default=SELECTION)
    parser.add_argument(
        "--at-once", action="store_true", help="one interpreter for each argument, all at once"
    )
    parser.add_argument("--called", help="what the table calls the modules")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/packages.md")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        task = json.loads(arguments.child)
        if task["kind"] == "main interpreter":
            for modules, output in zip(task["groups"], task["outputs"], strict=True):
                run_tests(modules, output)
        else:
            run_in_interpreters(task["groups"], task["outputs"])
        return 0
    every = [module for modules in arguments.modules for module in modules.split(",")]
    groups = [modules.split(",") for modules in arguments.modules] if arguments.at_once else [every]
    plain, _ = in_child("main interpreter", [every])
    private, texts = in_child("isolated interpreters", groups)
    differences = sorted(
        node
        for node in plain.keys() | private.keys()
        if plain.get(node) != private.get(node)
        and (plain.get(node) == "passed" or private.get(node) == "failed")
    )
    unexpected = 0
    rows: list[list[str]] = []
    for node in differences:
        reason = reason_of(node)
        unexpected += reason is None
        print(f"{plain.get(node)} -> {private.get(node)}: {node}: {reason or texts.get(node, '')}")
        rows.append([f"`{node.split('[')[0]}`", reason or "not explained"])
    print(f"{len(differences)} differences, {unexpected} of them not expected")
    if arguments.write:
        write(arguments, plain, private, rows)
    return int(unexpected > 0)


if __name__ == "__main__":
    sys.exit(main())
