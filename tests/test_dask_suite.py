"""Dask's own tests of its threaded scheduler and of functions over blocks, in interpreters."""

from __future__ import annotations

from pathlib import Path

import dask
import pytest

from cpython_suite import check_suite_is_there
from shipped_tests import edited, outcomes

# Run in the place of Dask's own threads wherever a test names no pool.
IN_INTERPRETERS = """
import dask
import pytest
from memchannel import InterpreterPool

@pytest.fixture(scope="session")
def pool():
    with InterpreterPool(2, packages="all") as made:
        yield made

@pytest.fixture(autouse=True)
def in_interpreters(pool):
    with dask.config.set(scheduler="threads", pool=pool):
        yield
"""
EDITS = {
    r"\[ThreadPool, ThreadPoolExecutor\]": "[InterpreterPool]",
    r"^from dask\.system import CPU_COUNT$": r"\g<0>\nfrom memchannel import InterpreterPool",
}
OF_ONE_INTERPRETER = {"test_contextvars", "test_context_aware_warnings"}
"""They give a `threading.Barrier` and context variables to their tasks."""


@pytest.mark.slow
def test_dasks_own_tests(tmp_path: Path) -> None:
    folder = Path(dask.__file__).parent
    threaded = folder / "tests" / "test_threaded.py"
    of_arrays = [folder / "array" / "tests" / f"test_{name}.py" for name in ("map_blocks", "overlap")]
    for source in (threaded, *of_arrays):
        check_suite_is_there(source.exists())
        edited(source, EDITS if source == threaded else {}, {}, tmp_path / source.name)
    (tmp_path / "conftest.py").write_text(IN_INTERPRETERS)
    passed, failed, report = outcomes(tmp_path)
    assert {name.partition("[")[0] for name in failed} == OF_ONE_INTERPRETER, report[-20000:]
    assert len(passed) > 90
