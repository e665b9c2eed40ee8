"""Private images of NumPy: computing in isolated interpreters, and the functions of `memchannel.images`."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from image_support import Isolated, run_child
from memchannel import images

CORE = importlib.import_module("numpy._core._multiarray_umath")
ORIGINAL = str(CORE.__file__)


@pytest.fixture(name="isolated", scope="module")
def fixture_isolated() -> Iterator[Isolated]:
    with Isolated("numpy") as interpreter:
        yield interpreter


def test_nothing_is_done_in_the_main_interpreter() -> None:
    images.enable("numpy")
    assert images.covered() == frozenset()
    assert images.loaded() == {}
    assert images.private_libraries() == []
    assert type(CORE.__loader__).__name__ == "ExtensionFileLoader"


@pytest.mark.parametrize(
    ("names", "error"), [((3,), TypeError), ((["numpy"],), TypeError), (("a.b",), ValueError)]
)
def test_names_are_checked_in_every_interpreter(names: tuple[str, ...], error: type[Exception]) -> None:
    with pytest.raises(error, match=str(names[0]).split(".", maxsplit=1)[0].strip("[]'")):
        images.enable(*names)
    with pytest.raises(error):
        images.bootstrap(names)


def test_bootstrap_is_the_source_that_enables(isolated: Isolated) -> None:
    assert images.bootstrap(("numpy",)) == "import memchannel.images\nmemchannel.images.enable('numpy')\n"
    isolated.run(images.bootstrap(()))
    assert isolated.value("memchannel.images.covered()") >= {"numpy"}


def test_numpy_is_the_interpreters_own_and_says_where_it_is(isolated: Isolated) -> None:
    isolated.run("import numpy as np; core = np._core._multiarray_umath")
    assert isolated.value("core.__file__") == ORIGINAL
    assert isolated.value("core.__spec__.origin") == ORIGINAL
    assert isolated.value("id(np.ndarray)") != id(np.ndarray)
    assert isolated.value("memchannel.images.loaded()['numpy._core._multiarray_umath']") == ORIGINAL


def test_enable_twice_adds_and_changes_nothing_else(isolated: Isolated) -> None:
    isolated.run("import sys; before = list(sys.meta_path); memchannel.images.enable('numpy', 'json')")
    assert isolated.value("before == sys.meta_path and {'numpy', 'json'} <= memchannel.images.covered()")


def test_the_finder_comes_first_again(isolated: Isolated) -> None:
    isolated.run(
        """
        import sys
        class Other:
            def find_spec(self, name, path=None, target=None):
                return None
        sys.meta_path.insert(0, Other())
        memchannel.images.enable()
        """
    )
    assert isolated.value("[type(finder).__name__ for finder in sys.meta_path[:2]]") == [
        "ImageFinder",
        "Other",
    ]
    isolated.run("del sys.meta_path[1]")


def test_numpys_warning_of_subinterpreters_is_left_out_and_no_other() -> None:
    with Isolated() as interpreter:
        interpreter.run(
            """
            import warnings
            warnings.simplefilter("error")
            own = list(warnings.filters)
            import numpy
            """
        )
        assert interpreter.value("all(entry in warnings.filters for entry in own)")
        left = interpreter.value("[entry[1].pattern for entry in warnings.filters if entry[1] is not None]")
        assert not any("sub-interpreter" in pattern for pattern in left)
        assert "UserWarning" in interpreter.error(
            "warnings.warn('NumPy was imported from a Python sub-interpreter')"
        )


def test_numpys_warning_of_a_reload_is_kept(isolated: Isolated) -> None:
    source = """
        import importlib, warnings
        import numpy
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            code = compile("importlib.reload(numpy)", "who reloads", "exec")
            exec(code)
        [warning] = seen
        assert warning.category is UserWarning and "NumPy was reloaded" in str(warning.message)
        assert warning.filename == "who reloads"
        """
    isolated.run(source)
    assert isolated.value("float(numpy.ones(3).sum())") == 3.0


def test_results_are_those_of_the_main_interpreter(isolated: Isolated) -> None:
    program = """
    import numpy as np
    rng = np.random.default_rng(12345)
    a = rng.normal(size=(40, 30))
    values = [
        a.sum(), np.linalg.norm(a), np.linalg.svd(a, compute_uv=False)[0], np.fft.rfft2(a).real.sum(),
        np.sort(a, axis=None)[7], np.einsum("ij,kj->ik", a, a).trace(), np.percentile(a, 17),
        np.polyfit(np.arange(40.0), a[:, 0], 3)[1], float((a @ a.T).std()),
    ]
    digest = [float(value).hex() for value in values]
    """
    here: dict[str, list[str]] = {}
    exec("\n".join(line[4:] for line in program.splitlines()), here)
    isolated.run(program)
    assert isolated.value("digest") == here["digest"]


@pytest.mark.parametrize(
    "source",
    [
        "assert np.vectorize(lambda x, y: x + y)(np.arange(3), 1).tolist() == [1, 2, 3]",
        "assert np.frompyfunc(lambda x: x * 2, 1, 1)(np.arange(3)).tolist() == [0, 2, 4]",
        "assert np.array([1, 'a', None], dtype=object)[1] == 'a'",
        "assert np.array(['a', 'bcd'], np.dtypes.StringDType())[1] == 'bcd'",
        "assert np.loadtxt(['1 2', '3 4'], converters=float).sum() == 10",
        "assert repr(np.arange(2.0)) == 'array([0., 1.])'",
        "assert np.datetime64('2020-01-01') + np.timedelta64(1, 'D') == np.datetime64('2020-01-02')",
        "import io; f = io.BytesIO(); np.save(f, np.eye(3)); f.seek(0); assert np.load(f).sum() == 3",
        "import pickle; assert (pickle.loads(pickle.dumps(np.arange(5))) == np.arange(5)).all()",
        "import ctypes as c; assert np.ones(3).ctypes.data_as(c.POINTER(c.c_double))[2] == 1.0",
        "import copy; assert copy.deepcopy({'a': np.ones(2)})['a'].sum() == 2",
        "assert memoryview(np.arange(6).reshape(2, 3))[1, 2] == 5",
        "a = np.ma.masked_greater(np.arange(4), 2); assert a.sum() == 3",
        "assert np.rec.array([(1, 2.0)], dtype=[('x', int), ('y', float)]).y[0] == 2.0",
    ],
)
def test_python_callbacks_and_objects(isolated: Isolated, source: str) -> None:
    isolated.run(f"import numpy as np; {source}")


def test_linear_algebra_errors_arrive_as_exceptions(isolated: Isolated) -> None:
    assert "LinAlgError: Singular matrix" in isolated.error(
        "import numpy as np; np.linalg.inv(np.zeros((2, 2)))"
    )


ERROR_MODES = """
import io, warnings
import numpy as np
seen = []
class Log:
    def write(self, text):
        seen.append(text)
one = np.ones(3)
with np.errstate(divide="ignore"):
    one / 0
with np.errstate(divide="raise"):
    try:
        one / 0
    except FloatingPointError:
        seen.append("raised")
with np.errstate(divide="call", call=lambda kind, flag: seen.append(kind)):
    one / 0
with np.errstate(divide="log", call=Log()):
    one / 0
with np.errstate(divide="warn"), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    one / 0
    seen.append(str(caught[0].message))
"""
ERRORS_SEEN = [
    "raised",
    "divide by zero",
    "Warning: divide by zero encountered in divide\n",
    "divide by zero encountered in divide",
]


def test_floating_point_errors_in_every_mode(isolated: Isolated) -> None:
    isolated.run(ERROR_MODES)
    assert isolated.value("seen") == ERRORS_SEEN


def test_floating_point_error_settings_are_each_interpreters_own(isolated: Isolated) -> None:
    # NumPy keeps them in a context variable, which belongs to one run as it does to one thread.
    reached, done = os.pipe(), os.pipe()
    with Isolated() as other:
        thread = threading.Thread(
            target=other.run,
            args=(
                f"""
                import os, numpy as np
                np.seterr(all="raise")
                os.write({reached[1]}, b".")
                os.read({done[0]}, 1)
                try:
                    np.ones(1) / 0
                except FloatingPointError:
                    raised = True
                """,
            ),
        )
        thread.start()
        os.read(reached[0], 1)
        assert isolated.value("__import__('numpy').geterr()['divide']") == "warn"
        assert np.geterr()["divide"] == "warn"
        os.write(done[1], b".")
        thread.join()
        assert other.value("raised")
    for descriptor in (*reached, *done):
        os.close(descriptor)


def test_print_options_are_each_interpreters_own(isolated: Isolated) -> None:
    isolated.run("import numpy as np; np.set_printoptions(precision=2); text = str(np.array([1 / 3]))")
    assert isolated.value("text") == "[0.33]"
    assert str(np.array([1 / 3])) == "[0.33333333]"


def test_random_streams_are_independent() -> None:
    draws = []
    for _ in range(2):
        with Isolated() as interpreter:
            interpreter.run("import numpy as np")
            draws.append(interpreter.value("(np.random.random(), np.random.default_rng().random())"))
    assert len({value for pair in draws for value in pair}) == 4


def test_threads_within_an_interpreter(isolated: Isolated) -> None:
    isolated.run(
        """
        import concurrent.futures, numpy as np
        def work(seed):
            a = np.random.default_rng(seed).normal(size=(60, 60))
            with np.errstate(divide="call", call=lambda kind, flag: calls.append(kind)):
                a / 0
            return float(np.linalg.det(a)).hex()
        calls = []
        expected = [work(seed) for seed in range(8)]
        del calls[:]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = list(pool.map(work, range(8)))
        """
    )
    assert isolated.value("found == expected and len(calls) == 8")


def test_several_interpreters_import_and_compute_at_once() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with Isolated() as interpreter:
                interpreter.run("import numpy as np, numpy.random, numpy.fft")
                interpreter.run(ERROR_MODES)
                assert interpreter.value("seen") == ERRORS_SEEN
                interpreter.run("a = np.random.default_rng(3).normal(size=(300, 300))")
                product = interpreter.value("float(np.abs(a @ np.linalg.inv(a) - np.eye(300)).max())")
                assert product < 1e-8
        except BaseException as error:
            failures.append(error)

    for _ in range(3):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_no_descriptor_stays_open() -> None:
    def descriptors() -> dict[str, str]:
        links = {number: f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")}
        return {number: os.readlink(link) for number, link in links.items() if os.path.exists(link)}

    before = descriptors()
    with Isolated() as interpreter:
        created = descriptors()
        interpreter.run("import numpy, numpy.random, numpy.fft, numpy.linalg")
        assert descriptors() == created
    assert descriptors() == before


def test_images_survive_destruction_in_any_order_and_process_exit() -> None:
    run_child(
        """
        import random
        from image_support import Isolated
        interpreters = [Isolated() for _ in range(6)]
        for interpreter in interpreters:
            interpreter.run("import numpy as np; a = np.arange(1000.0); b = np.linalg.inv(np.eye(20) * 4)")
        random.Random(1).shuffle(interpreters)
        for interpreter in interpreters[:4]:  # the others are left to the end of the process
            interpreter.destroy()
        interpreters[4].run("assert (a[::2].sum(), b[0, 0]) == (249500.0, 0.25)")
        """
    )


def test_the_main_interpreter_may_import_numpy_before_and_after() -> None:
    for early in ("numpy", "sys"):
        run_child(
            f"""
            import {early}
            from image_support import Isolated
            with Isolated() as interpreter:
                interpreter.run("import numpy; assert numpy.arange(3).sum() == 3")
                import numpy
                assert numpy.arange(4).sum() == 6
                interpreter.run("assert numpy.arange(3).sum() == 3")
            assert numpy.linalg.inv(numpy.eye(2))[0, 0] == 1
            """
        )


def test_a_second_import_in_one_interpreter_gets_a_fresh_image(isolated: Isolated) -> None:
    with Isolated() as interpreter:
        interpreter.run(
            """
            import sys, warnings, numpy
            first = numpy.ndarray
            for name in [name for name in sys.modules if name.partition(".")[0] == "numpy"]:
                del sys.modules[name]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy advises against it
                import numpy as again
            assert again.ndarray is not first and again.arange(3).sum() == 3
            """
        )


def test_a_package_that_is_not_installed_is_named_at_once(isolated: Isolated) -> None:
    text = isolated.error("memchannel.images.enable('numpy', 'not_installed_at_all')")
    assert "ModuleNotFoundError: No module named 'not_installed_at_all'" in text
    assert not isolated.value("'not_installed_at_all' in memchannel.images.covered()")


def test_a_distributions_name_gets_the_import_name(isolated: Isolated) -> None:
    text = isolated.error("memchannel.images.enable('scikit-image')")
    assert "'scikit-image' is imported as 'skimage'" in text


def test_a_package_known_not_to_work_is_refused_with_the_reason(isolated: Isolated) -> None:
    text = isolated.error("memchannel.images.enable('uvloop')")
    assert "package 'uvloop' cannot be loaded into this interpreter: its event loop handles signals" in text


def test_refused_packages_are_refused_where_they_are_imported(tmp_path: os.PathLike[str]) -> None:
    folder = os.path.join(tmp_path, "uvloop")
    os.mkdir(folder)
    with open(os.path.join(folder, "__init__.py"), "w", encoding="utf-8") as file:
        file.write("raise AssertionError('executed')")
    with Isolated("all", path=[tmp_path]) as interpreter:  # type: ignore[list-item]
        text = interpreter.error("import uvloop")
        assert "ImageError: package 'uvloop' cannot be loaded" in text
        assert interpreter.value("'uvloop' in sys.modules") is False


def test_memchannels_own_extension_is_never_an_image() -> None:
    with Isolated("all") as interpreter:
        assert interpreter.value("type(memchannel._core.__loader__).__name__") == "ExtensionFileLoader"
        assert not any(
            name.startswith("memchannel") for name in interpreter.value("memchannel.images.loaded()")
        )


def test_the_standard_library_is_left_alone() -> None:
    with Isolated("all") as interpreter:
        interpreter.run("import _ctypes, _decimal, _json, array, math, zlib, sqlite3")
        assert interpreter.value("memchannel.images.loaded()") == {}


@pytest.mark.parametrize("packages", [("faulthandler", "_tracemalloc"), ("all",)])
def test_builtin_modules_that_refuse_load_where_they_are_covered(packages: tuple[str, ...]) -> None:
    with Isolated() as interpreter:
        assert "does not support loading" in interpreter.error("import faulthandler")
        interpreter.run(images.bootstrap(packages))
        interpreter.run("import faulthandler, tracemalloc; assert not tracemalloc.is_tracing()")


def test_debuggers_see_the_original_file(isolated: Isolated) -> None:
    isolated.run("import numpy as np")
    isolated.run(
        """
        import ctypes
        class Information(ctypes.Structure):
            _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p),
                        ("symbol", ctypes.c_char_p), ("address", ctypes.c_void_p)]
        information = Information()
        image = np._core._multiarray_umath.__loader__.image
        from memchannel.images import _libc
        address = _libc.find_symbol(image.handle, "PyInit__multiarray_umath")
        assert ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(information))
        """
    )
    name = os.fsdecode(isolated.value("information.file"))
    assert os.path.samefile(name, ORIGINAL)
    assert name != ORIGINAL, "the linker would take the image for the original"
    address = isolated.value("address")
    with open("/proc/self/maps", encoding="utf-8") as maps:
        ranges = [line.split(maxsplit=5) for line in maps]
    for line in ranges:
        low, high = (int(end, 16) for end in line[0].split("-"))
        if low <= address < high:
            assert line[1] == "r-xp"
            assert line[5].strip() == ORIGINAL, "code is mapped from the original, for all images"
            break
    else:
        raise AssertionError("not mapped")


def test_the_platform_is_supported_here() -> None:
    assert images.unsupported_reason() is None
