"""Kinds of extension modules and packages that private images must load, with modules made for it."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

import memchannel
from image_support import Isolated, compile_library, extension, run_child


def count_in_two(package: str, module: str, *path: Path) -> None:
    """Check that a module's C statics are each interpreter's own, and those of the main one untouched."""
    with Isolated(package, path=path) as first, Isolated(package, path=path) as second:
        for interpreter in (first, second):
            interpreter.run(f"import {module} as module")
        assert [first.value("module.count()") for _ in range(3)] == [1, 2, 3]
        assert second.value("module.count()") == 1
        assert first.value("module.__name__") == module
        assert first.value("module.count.__module__") == module
        assert first.value("module.__spec__.origin == module.__file__")
        assert second.value("module.__file__").startswith(str(path[0]))


@pytest.mark.parametrize("single_phase", [False, True])
def test_module_in_a_package(tmp_path: Path, single_phase: bool) -> None:
    extension(tmp_path / "lettuce", "leaf", single_phase=single_phase)
    (tmp_path / "lettuce" / "__init__.py").touch()
    count_in_two("lettuce", "lettuce.leaf", tmp_path)


@pytest.mark.parametrize("single_phase", [False, True])
def test_module_that_is_a_single_file(tmp_path: Path, single_phase: bool) -> None:
    extension(tmp_path, "lonely", single_phase=single_phase)
    count_in_two("lonely", "lonely", tmp_path)


def test_module_with_the_stable_abi(tmp_path: Path) -> None:
    extension(tmp_path, "stable", "-DPy_LIMITED_API=0x030d0000", suffix=".abi3.so")
    count_in_two("stable", "stable", tmp_path)


def test_module_with_a_name_outside_ascii(tmp_path: Path) -> None:
    # PEP 489: PyInitU_ and the punycode of the name.
    code = extension(tmp_path / "build", "replaced").parent
    target = tmp_path / f"größe{sysconfig.get_config_var('EXT_SUFFIX')}"
    suffix = "U_" + "größe".encode("punycode").decode().replace("-", "_")
    extension(code, "replaced", f"-DPyInit_replaced=PyInit{suffix}").rename(target)
    count_in_two("größe", "größe", tmp_path)


def test_namespace_package_in_several_places(tmp_path: Path) -> None:
    extension(tmp_path / "one" / "spread", "left")
    extension(tmp_path / "two" / "spread", "right", single_phase=True)
    paths = tmp_path / "one", tmp_path / "two"
    count_in_two("spread", "spread.left", *paths)
    with Isolated("spread", path=paths) as interpreter:
        interpreter.run("import spread.left, spread.right")
        assert interpreter.value("sorted(memchannel.images.loaded())") == ["spread.left", "spread.right"]


def test_the_first_entry_of_the_path_wins(tmp_path: Path) -> None:
    extension(tmp_path / "one", "twice")
    extension(tmp_path / "two", "twice")
    with Isolated("twice", path=[tmp_path / "one", tmp_path / "two"]) as interpreter:
        interpreter.run("import twice")
        assert interpreter.value("twice.__file__").startswith(str(tmp_path / "one"))


def test_editable_install_found_by_a_finder_of_its_own(tmp_path: Path) -> None:
    """As build backends do it: a finder maps names to files outside `sys.path`."""
    file = extension(tmp_path / "build-of-3", "editable")
    finder = f"""
    import importlib.machinery, importlib.util, sys
    class Redirecting:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "editable":
                loader = importlib.machinery.ExtensionFileLoader(name, {str(file)!r})
                return importlib.util.spec_from_file_location(name, {str(file)!r}, loader=loader)
    sys.meta_path.insert(0, Redirecting)
    """
    with Isolated() as first, Isolated() as second:
        for interpreter in (first, second):
            interpreter.run(finder)
            interpreter.run("memchannel.images.enable('editable'); import editable")
        assert [first.value("editable.count()") for _ in range(2)] == [1, 2]
        assert second.value("editable.count()") == 1


def test_a_finder_that_searches_the_whole_path_itself(tmp_path: Path) -> None:
    extension(tmp_path, "wrapped")
    with Isolated("wrapped", path=[tmp_path]) as interpreter:
        interpreter.run(
            """
            import importlib.util, sys
            class Wrapping:
                def find_spec(self, name, path=None, target=None):
                    for finder in sys.meta_path:
                        if finder is not self and (spec := finder.find_spec(name, path, target)):
                            return spec
            sys.meta_path.append(Wrapping())
            memchannel.images.enable()
            import wrapped
            assert wrapped.count() == 1
            """
        )
        assert "ModuleNotFoundError" in interpreter.error("import not_installed_at_all")


def test_a_declaration_of_support_is_not_trusted(tmp_path: Path) -> None:
    extension(
        tmp_path,
        "declares",
        slots="{Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},",
    )
    count_in_two("declares", "declares", tmp_path)


def test_what_a_covered_package_imports_is_covered(tmp_path: Path) -> None:
    for name in ("direct", "later", "through_importlib", "other"):
        extension(tmp_path, name)
    (tmp_path / "pure.py").write_text("import direct\n")
    package = tmp_path / "outer"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import importlib, pure\n"
        "importlib.import_module('through_importlib')\n"
        "def call():\n    import later\n    return later.count()\n"
    )
    with Isolated("outer", path=[tmp_path]) as interpreter:
        interpreter.run("import outer")
        assert interpreter.value("outer.call()") == 1
        assert interpreter.value("memchannel.images.covered()") >= {"direct", "later", "pure", "outer"}
        assert interpreter.value("sorted(memchannel.images.loaded())") == [
            "direct",
            "later",
            "through_importlib",
        ]
        text = interpreter.error("import other")
        assert (
            "ImageError: module 'other' does not support loading in an interpreter with its own GIL" in text
        )
        assert "memchannel.images.enable('other')" in text
        assert "(numpy, outer); name it where the interpreter or pool is made" in text
        assert "packages=('numpy', 'outer', 'other')" in text
        assert not interpreter.value("'other' in sys.modules")
        interpreter.run("memchannel.images.enable('other'); import other; assert other.count() == 1")


@pytest.mark.parametrize(
    "handler", ["raise ImportError('broken, please reinstall') from exc", "raise ImportError('broken')"]
)
def test_a_package_that_takes_a_refused_module_for_a_broken_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: str
) -> None:
    """As SciPy does; the reason is told last, where people look."""
    monkeypatch.syspath_prepend(tmp_path)
    extension(tmp_path / "grumbling", "part")
    (tmp_path / "grumbling" / "__init__.py").write_text(
        f"try:\n    import grumbling.part\nexcept ImportError as exc:\n    {handler}\n"
    )

    def use() -> None:
        __import__("grumbling")

    with memchannel.InterpreterPool(1) as pool:
        error = pool.submit(use).exception()
        assert isinstance(error, ImportError)
        (note,) = error.__notes__
        assert "packages=('numpy', 'grumbling')" in note
        assert str(error.__cause__).rstrip('"\n').endswith(note)
    with memchannel.InterpreterPool(1, packages=("numpy", "grumbling")) as pool:
        pool.submit(use).result()


def test_what_a_covered_distribution_requires_is_covered(tmp_path: Path) -> None:
    extension(tmp_path, "needed")
    extension(tmp_path, "optional")
    for name, requires in {
        "outer": ["Needed.Thing>=1", "optional; extra == 'more'"],
        "needed-thing": [],
    }.items():
        metadata = tmp_path / f"{name.replace('-', '_')}-1.dist-info"
        metadata.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1"]
        (metadata / "METADATA").write_text(
            "\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires), ""])
        )
    (tmp_path / "needed_thing-1.dist-info" / "top_level.txt").write_text("needed\n")
    (tmp_path / "outer.py").touch()
    with Isolated("outer", path=[tmp_path]) as interpreter:
        interpreter.run("import needed; assert needed.count() == 1")
        assert "ImageError" in interpreter.error("import optional")


def test_all_covers_everything_else(tmp_path: Path) -> None:
    extension(tmp_path, "anything", single_phase=True)
    with Isolated("all", path=[tmp_path]) as interpreter:
        interpreter.run("import anything; assert anything.count() == 1")


def test_the_check_stays_for_modules_that_are_not_covered(tmp_path: Path) -> None:
    """Also while a covered module is executed, and for code that uses the ordinary loader by itself."""
    file = extension(tmp_path / "hidden", "stranger")
    helper = f"""
import importlib.machinery, importlib.util
def load():
    loader = importlib.machinery.ExtensionFileLoader("stranger", {str(file)!r})
    spec = importlib.util.spec_from_file_location("stranger", {str(file)!r}, loader=loader)
    importlib.util.module_from_spec(spec)
try:
    load()
except ImportError as error:
    refused = str(error)
"""
    (tmp_path / "helper.py").write_text(helper)
    extension(
        tmp_path,
        "outer",
        execute='PyObject *m = PyImport_ImportModule("helper"); if (!m) return -1; Py_DECREF(m);',
    )
    with Isolated("outer", path=[tmp_path]) as interpreter:
        interpreter.run("import outer, helper")
        assert "does not support loading in subinterpreters" in interpreter.value("helper.refused")


def test_modules_made_while_a_module_is_executed(tmp_path: Path) -> None:
    extension(
        tmp_path,
        "nesting",
        before="""
        static PyModuleDef_Slot inner_slots[] = {{0}};
        static PyModuleDef inner = {PyModuleDef_HEAD_INIT, "inner", 0, 0, 0, inner_slots};
        """,
        execute="""
        PyObject *spec = PyObject_GetAttrString(module, "__spec__");
        PyObject *made = PyModule_FromDefAndSpec((PyModuleDef *)PyModuleDef_Init(&inner), spec);
        Py_DECREF(spec);
        if (made == NULL || PyModule_AddObjectRef(module, "inner", made) < 0) return -1;
        Py_DECREF(made);
        """,
    )
    with Isolated("nesting", path=[tmp_path]) as interpreter:
        interpreter.run("import nesting; nesting.inner")


@pytest.mark.skipif(sys.version_info < (3, 15), reason="PEP 793 is new in Python 3.15")
def test_module_with_an_export_hook_only(tmp_path: Path) -> None:
    compile_library(
        tmp_path / f"exported{sysconfig.get_config_var('EXT_SUFFIX')}",
        """
        #include <Python.h>
        static int execute(PyObject *module) {
            static long loads;
            return PyModule_AddIntConstant(module, "loads", ++loads);
        }
        PyABIInfo_VAR(abi_info);
        static PySlot slots[] = {
            PySlot_DATA(Py_mod_abi, &abi_info), PySlot_DATA(Py_mod_name, "exported"),
            PySlot_FUNC(Py_mod_exec, execute), PySlot_END};
        PyMODEXPORT_FUNC PyModExport_exported(void) { return slots; }
        """,
    )
    for _ in range(2):
        with Isolated("exported", path=[tmp_path]) as interpreter:
            interpreter.run("import exported")
            assert interpreter.value("exported.loads") == 1


def test_single_phase_module_finds_itself(tmp_path: Path) -> None:
    extension(
        tmp_path,
        "classic",
        single_phase=True,
        functions="static PyModuleDef definition; static PyObject *self_(PyObject *s, PyObject *a)"
        "{ return Py_NewRef(PyState_FindModule(&definition)); }",
        methods='{"self", self_, METH_NOARGS, ""},',
    )
    with Isolated("classic", path=[tmp_path]) as first, Isolated("classic", path=[tmp_path]) as second:
        for interpreter in (first, second):
            interpreter.run("import classic; assert classic.self() is classic")
            interpreter.run(
                "import pickle; assert pickle.loads(pickle.dumps(classic.count)) is classic.count"
            )


def test_failed_initialization_leaves_nothing_behind(tmp_path: Path) -> None:
    raises = 'PyErr_SetString(PyExc_OSError, "no licence"); '
    extension(tmp_path, "raises_in_init", init=raises + "return NULL;")
    extension(tmp_path, "raises_single", init=raises + "return NULL;", single_phase=True)
    extension(tmp_path, "raises_in_exec", execute=raises + "return -1;")
    extension(tmp_path, "says_nothing", init="return NULL;")
    extension(tmp_path, "is_no_module", init='return PyUnicode_FromString("x");')
    extension(tmp_path, "misnamed").rename(tmp_path / f"renamed{sysconfig.get_config_var('EXT_SUFFIX')}")
    expected = {
        "raises_in_init": "OSError: no licence",
        "raises_single": "OSError: no licence",
        "raises_in_exec": "OSError: no licence",
        "says_nothing": "initialization of says_nothing failed without raising an exception",
        "is_no_module": "initialization of is_no_module returned 'str', not a module",
        "renamed": "defines no PyInit_renamed",
    }
    with Isolated("all", path=[tmp_path]) as interpreter:
        for name, message in expected.items():
            for _ in range(2):
                assert message in interpreter.error(f"import {name}")
                assert not interpreter.value(f"{name!r} in sys.modules")
        interpreter.run("import numpy; assert numpy.arange(3).sum() == 3")


def test_package_whose_import_fails_half_way(tmp_path: Path) -> None:
    extension(tmp_path / "half", "part")
    (tmp_path / "half" / "__init__.py").write_text(
        "import numpy, os\nfrom . import part\npart.count()\nif os.path.exists(flag := __file__ + '.flag'):\n"
        "    raise RuntimeError('half-way')\n"
    )
    (flag := tmp_path / "half" / "__init__.py.flag").touch()
    with Isolated("half", path=[tmp_path]) as interpreter:
        for _ in range(3):
            assert "RuntimeError: half-way" in interpreter.error("import half")
            assert not interpreter.value("'half' in sys.modules")
        flag.unlink()
        interpreter.run("import half; assert half.part.count() > 1")


def test_numpy_failing_half_way_then_destruction() -> None:
    run_child(
        """
        from image_support import Isolated
        for stage in range(0, 160, 9):
            with Isolated() as interpreter:
                interpreter.run(f'''
                    import sys
                    class Breaking:
                        left = {stage}
                        def find_spec(self, name, path=None, target=None):
                            Breaking.left -= 1
                            if Breaking.left == 0:
                                raise MemoryError(name)
                    sys.meta_path.insert(0, Breaking())
                    try:
                        import numpy
                    except MemoryError:
                        pass
                    Breaking.left = -1
                    ''')
                assert not interpreter.value("'numpy' in sys.modules and Breaking.left == 0")
        """
    )


LIBRARY = """
long counter(void) { static long calls; return ++calls; }
"""
NEW_TAGS = ("-Wl,-rpath,$ORIGIN/../vegetable.libs", "-Wl,--enable-new-dtags")


def linked(folder: Path, library: Path, *flags: str, function: str = "counter") -> None:
    """Build an extension module `user` that calls a library's function."""
    extension(
        folder,
        "user",
        str(library),
        *(flags or NEW_TAGS),
        before=f"long {function}(void);",
        functions="static PyObject *lib(PyObject *s, PyObject *a)"
        f"{{ return PyLong_FromLong({function}()); }}",
        methods='{"lib", lib, METH_NOARGS, ""},',
    )
    (folder / "__init__.py").touch()


def library_counts(tmp_path: Path) -> list[int]:
    with Isolated("vegetable", path=[tmp_path]) as first, Isolated("vegetable", path=[tmp_path]) as second:
        for interpreter in (first, second):
            interpreter.run("from vegetable import user")
        counts = [first.value("user.lib()"), second.value("user.lib()"), first.value("user.lib()")]
        private = first.value("memchannel.images.private_libraries()")
        assert bool(private) == (counts[1] == 1)
    return counts


def test_a_needed_library_is_one_per_process(tmp_path: Path) -> None:
    library = tmp_path / "vegetable.libs" / "libplain-1.so"
    compile_library(library, LIBRARY, "-Wl,-soname,libplain-1.so", python=False)
    linked(tmp_path / "vegetable", library)
    assert library_counts(tmp_path) == [1, 2, 3]


def test_a_needed_library_that_uses_python_is_copied(tmp_path: Path) -> None:
    library = tmp_path / "vegetable.libs" / "libpythonic.so.3"
    source = "#include <Python.h>\nPyObject *kept(void) { return PyErr_Occurred(); }" + LIBRARY
    compile_library(library, source, "-Wl,-soname,libpythonic.so.3")
    linked(tmp_path / "vegetable", library)
    assert library_counts(tmp_path) == [1, 1, 2]


def test_a_needed_library_known_not_to_bear_sharing_is_copied(tmp_path: Path) -> None:
    library = tmp_path / "vegetable.libs" / "libhdf5-0123abcd.so.1"
    compile_library(library, LIBRARY, "-Wl,-soname,libhdf5-0123abcd.so.1", python=False)
    linked(tmp_path / "vegetable", library)
    assert library_counts(tmp_path) == [1, 1, 2]


def test_a_library_that_needs_a_copied_one_is_copied(tmp_path: Path) -> None:
    folder = tmp_path / "vegetable.libs"
    below = compile_library(folder / "libhdf5-x.so", LIBRARY, "-Wl,-soname,libhdf5-x.so", python=False)
    library = folder / "libabove.so"
    source = "long counter(void); long above(void) { return counter(); }"
    flags = ["-Wl,-soname,libabove.so", str(below), "-Wl,-rpath,$ORIGIN"]
    compile_library(library, source, *flags, python=False)
    linked(tmp_path / "vegetable", library, str(below), *NEW_TAGS, function="above")
    assert library_counts(tmp_path) == [1, 1, 2]


def test_libraries_found_by_the_search_path_of_their_user(tmp_path: Path) -> None:
    """DT_RPATH, unlike DT_RUNPATH, counts for what a needed library needs."""
    folder = tmp_path / "vegetable.libs"
    below = compile_library(folder / "libbelow.so", LIBRARY, "-Wl,-soname,libbelow.so", python=False)
    middle = folder / "libmiddle.so"
    source = "long counter(void); long middle(void) { return counter(); }"
    compile_library(middle, source, "-Wl,-soname,libmiddle.so", str(below), python=False)
    flags = ["-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/../vegetable.libs", f"-Wl,-rpath-link,{folder}"]
    linked(tmp_path / "vegetable", middle, *flags, function="middle")
    assert library_counts(tmp_path) == [1, 2, 3]


def test_a_needed_library_that_was_replaced_meanwhile_is_named(tmp_path: Path) -> None:
    library = tmp_path / "vegetable.libs" / "libupgraded.so"
    flags = ("-Wl,-soname,libupgraded.so",)
    compile_library(library, LIBRARY, *flags, python=False)
    linked(tmp_path / "vegetable", library)
    with Isolated("vegetable", path=[tmp_path]) as first, Isolated("vegetable", path=[tmp_path]) as second:
        first.run("import vegetable.user")
        source = LIBRARY + "long more(void) { return counter() + 1; }"
        newer = compile_library(tmp_path / "newer" / library.name, source, *flags, python=False)
        shutil.move(library, old := tmp_path / "old")
        shutil.move(newer, library)  # as installers do
        for _ in range(2):
            text = second.error("import vegetable.user")
            assert f"{library} was replaced on disk" in text
            assert "start a new process" in text
            assert second.value("[name for name in sys.modules if name.startswith('vegetable.')]") == []
        assert first.value("vegetable.user.lib()") == 1
        shutil.move(old, library)
        second.run("import vegetable.user")
        assert second.value("vegetable.user.lib()") == 2


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    library = tmp_path / "vegetable.libs" / "libgone.so"
    compile_library(library, LIBRARY, "-Wl,-soname,libgone.so", python=False)
    linked(tmp_path / "vegetable", library)
    library.unlink()
    with Isolated("vegetable", path=[tmp_path]) as interpreter:
        text = interpreter.error("import vegetable.user")
        assert "ImageError: module 'vegetable.user' of package 'vegetable'" in text
        assert "libgone.so: cannot open shared object file" in text


def test_statics_of_inline_functions_are_each_interpreters_own(tmp_path: Path) -> None:
    """Their symbols are unique in the process (STB_GNU_UNIQUE), whatever the visibility of the library."""
    compile_library(
        tmp_path / f"templated{sysconfig.get_config_var('EXT_SUFFIX')}",
        """
        #include <Python.h>
        template <typename T> struct Calls { static long number; };
        template <typename T> long Calls<T>::number = 0;
        inline long more() { static long calls = 0; return ++calls; }
        static PyObject *count(PyObject *, PyObject *) {
            return Py_BuildValue("ll", ++Calls<int>::number, more());
        }
        static PyMethodDef methods[] = {
            {"count", count, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
        static PyModuleDef_Slot slots[] = {{0, nullptr}};
        static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "templated", nullptr, 0, methods, slots};
        PyMODINIT_FUNC PyInit_templated() { return PyModuleDef_Init(&definition); }
        """,
        language="cpp",
    )
    with Isolated("templated", path=[tmp_path]) as first, Isolated("templated", path=[tmp_path]) as second:
        for interpreter in (first, second):
            interpreter.run("import templated")
        assert [first.value("templated.count()") for _ in range(2)] == [(1, 1), (2, 2)]
        assert second.value("templated.count()") == (1, 1)


FOREIGN_THREADS = """
#include <pthread.h>
static PyObject *callback;
static void *work(void *unused) {
    for (int i = 0; i < 200; i++) {
        PyGILState_STATE state = PyGILState_Ensure();
        PyGILState_STATE inner = PyGILState_Ensure();
        Py_XDECREF(PyObject_CallFunction(callback, "i", i));
        PyErr_Clear();
        Py_BEGIN_ALLOW_THREADS
        PyGILState_STATE deepest = PyGILState_Ensure();
        Py_XDECREF(PyObject_CallFunction(callback, "s", "deep"));
        PyErr_Clear();
        PyGILState_Release(deepest);
        Py_END_ALLOW_THREADS
        PyGILState_Release(inner);
        PyGILState_Release(state);
    }
    return NULL;
}
static PyObject *run(PyObject *self, PyObject *function) {
    pthread_t threads[3];
    callback = function;
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}
static int pending(void *argument) {
    Py_XDECREF(PyObject_CallNoArgs((PyObject *)argument));
    PyErr_Clear();
    Py_DECREF((PyObject *)argument);
    return 0;
}
static PyObject *later(PyObject *self, PyObject *function) {
    return PyLong_FromLong(Py_AddPendingCall(pending, Py_NewRef(function)));
}
"""


def test_threads_of_a_library_come_back_to_their_interpreter(tmp_path: Path) -> None:
    extension(
        tmp_path,
        "threaded",
        "-pthread",
        functions=FOREIGN_THREADS,
        methods='{"run", run, METH_O, ""}, {"later", later, METH_O, ""},',
    )
    run_child(
        """
        import sys, threading
        from pathlib import Path
        from image_support import Isolated
        source = '''
            import threading, _interpreters, threaded
            here, seen, where = _interpreters.get_current()[0], [], set()
            def call(value):
                seen.append([value] * 20)
                where.add(_interpreters.get_current()[0])
            threaded.run(call)
            assert where == {here}, (where, here)
            assert sorted(v[0] for v in seen if v[0] != "deep") == sorted([*range(200)] * 3), len(seen)
            assert sum(v[0] == "deep" for v in seen) == 600
            del seen[:]
            ran = []
            assert threaded.later(lambda: ran.append(_interpreters.get_current()[0])) == 0
            while not ran:
                pass
            assert ran == [here]
        '''
        interpreters = [Isolated("threaded", path=[Path(sys.argv[1])]) for _ in range(3)]
        failures = []
        def work(interpreter):
            try:
                interpreter.run(source)
            except BaseException as error:
                failures.append(error)
        threads = [threading.Thread(target=work, args=(interpreter,)) for interpreter in interpreters]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert not failures, failures
        for interpreter in interpreters[:2]:
            interpreter.destroy()
        """,
        str(tmp_path),
    )


def test_imports_in_several_threads_of_one_interpreter(tmp_path: Path) -> None:
    names = [f"part{number}" for number in range(12)]
    for name in names:
        extension(tmp_path, name, single_phase=name.endswith(("1", "5")))
    with Isolated("all", path=[tmp_path]) as interpreter:
        interpreter.run(
            f"""
            import concurrent.futures, importlib
            with concurrent.futures.ThreadPoolExecutor(6) as pool:
                modules = list(pool.map(importlib.import_module, {names * 3!r}))
            assert len(set(map(id, modules))) == {len(names)}
            assert [module.count() for module in modules[:{len(names)}]] == [1] * {len(names)}
            """
        )
