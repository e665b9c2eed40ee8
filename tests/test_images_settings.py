"""NumPy's settings in isolated interpreters: each has its own; and imports that run out of memory."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest

from image_support import Isolated, run_child


def test_warnings_filters_are_each_interpreters_own() -> None:
    with Isolated() as first, Isolated() as second:
        first.run("import warnings, numpy as np; warnings.simplefilter('error', RuntimeWarning)")
        assert "RuntimeWarning: divide by zero" in first.error("np.ones(1) / 0")
        second.run(
            """
            import warnings, numpy as np
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                np.ones(1) / 0
            """
        )
        assert second.value("[str(entry.message) for entry in caught]") == [
            "divide by zero encountered in divide"
        ]
        assert "RuntimeWarning" in first.error("np.ones(1) / 0"), "not changed by the other one"
    with warnings.catch_warnings(record=True) as here:
        warnings.simplefilter("always")
        np.divide(1.0, np.zeros(1))
    assert len(here) == 1


def test_a_warning_turned_into_an_error_in_a_thread() -> None:
    # The machinery takes the interpreter's GIL from within a ufunc's loop, which runs without it.
    with Isolated() as isolated:
        isolated.run(
            """
            import threading, warnings, numpy as np
            warnings.simplefilter("error", RuntimeWarning)
            raised = []
            def work():
                for _ in range(200):
                    try:
                        np.arange(20_000.0) / 0
                    except RuntimeWarning as warning:
                        raised.append(str(warning))
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            """
        )
        assert isolated.value("len(raised)") == 600


def test_error_callbacks_in_interpreters_at_once() -> None:
    source = """
        import numpy as np
        class Log:
            def __init__(self):
                self.count = 0
            def write(self, text):
                self.count += 1
        log, calls = Log(), []
        old = np.seterrcall(lambda kind, flag: calls.append((kind, flag)))
        a = np.arange(1.0, 30_000.0)
        for _ in range(300):
            with np.errstate(divide="call"):
                a / 0
            with np.errstate(divide="log", call=log):
                a / 0
            with np.errstate(all="raise"):
                try:
                    a / 0
                except FloatingPointError:
                    log.count += 1
        """
    with Isolated() as first, Isolated() as second:
        threads = [threading.Thread(target=one.run, args=(source,)) for one in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one in (first, second):
            assert one.value("(len(calls), set(calls), log.count)") == (300, {("divide by zero", 1)}, 600)


def test_buffer_size_and_string_functions_are_each_interpreters_own() -> None:
    with Isolated() as isolated:
        # Both are context variables of NumPy's, which begin anew with each run.
        isolated.run(
            """
            import numpy as np
            np.set_printoptions(override_repr=lambda a: "mine")
            np.setbufsize(4096)
            found = repr(np.ones(1)), np.getbufsize()
            """
        )
        assert isolated.value("found") == ("mine", 4096)
    assert repr(np.ones(1)) == "array([1.])"
    assert np.getbufsize() == 8192


def test_seeds_are_each_interpreters_own() -> None:
    with Isolated() as isolated:
        isolated.run("import numpy as np; np.random.seed(3)")
        np.random.seed(4)
        drawn = isolated.value("np.random.random()")
    assert drawn == np.random.RandomState(3).random_sample()
    assert np.random.random() == np.random.RandomState(4).random_sample()


def test_numpys_environment_variables_count_at_each_import() -> None:
    output = run_child(
        """
        import os
        from image_support import Isolated
        os.environ["NPY_PROMOTION_STATE"] = "weak"
        os.environ["NPY_DISABLE_CPU_FEATURES"] = ""
        import numpy
        for level in ("0", "1"):
            os.environ["NPY_RELAXED_STRIDES_DEBUG"] = level
            with Isolated() as isolated:
                print(isolated.value("__import__('os').environ['NPY_RELAXED_STRIDES_DEBUG']"),
                      isolated.value("__import__('numpy').ones(2).sum().item()"))
        """
    )
    assert output.split() == ["0", "2.0", "1", "2.0"]


# MiB. With some more the dynamic linker is served, and plain CPython itself ends in SystemError or worse.
@pytest.mark.parametrize("room", [4, 8])
def test_import_that_runs_out_of_memory(room: int) -> None:
    output = run_child(
        """
        import resource, sys, numpy
        from image_support import ErrorInInterpreterError, Isolated
        from pathlib import Path

        def limit(more):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            size = resource.RLIM_INFINITY if more is None else pages * resource.getpagesize() + more
            resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))

        isolated = Isolated("numpy")
        limit(int(sys.argv[1]) << 20)
        try:
            isolated.run("import numpy")
        except ErrorInInterpreterError as error:
            outcome = error.text
        else:
            outcome = "no error"
        limit(None)
        isolated.destroy()
        with Isolated("numpy") as other:
            other.run("import numpy as np; assert np.linalg.det(np.eye(3)) == 1")
        print(outcome)
        """,
        str(room),
    )
    assert "MemoryError" in output or "is memory used up" in output or (room > 12 and "no error" in output), (
        output
    )
