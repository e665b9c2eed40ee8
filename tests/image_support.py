"""Interpreters, child processes and small extension modules for the tests of private images."""

from __future__ import annotations

import _interpreters
import os
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import memchannel.images

EXT_SUFFIX: str = sysconfig.get_config_var("EXT_SUFFIX")
CHILD_TIMEOUT = 240

memchannel.images.prepare_main()


class ErrorInInterpreterError(AssertionError):
    """A source raised in its interpreter; `text` is the traceback there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Isolated:
    """An interpreter with its own GIL, `sys.path` as here, and images enabled for `packages`."""

    def __init__(self, *packages: str, path: Iterable[Path] = ()) -> None:
        self.id: int = _interpreters.create("isolated", reqrefs=False)
        self.run(f"import sys; sys.path[:] = {[*map(str, path), *sys.path]!r}")
        self.run(memchannel.images.bootstrap(packages))

    def run(self, source: str) -> None:
        error = _interpreters.exec(self.id, textwrap.dedent(source))
        if error is not None:
            # Without memory CPython leaves these out.
            text = getattr(error, "errdisplay", None) or getattr(error, "formatted", None)
            raise ErrorInInterpreterError(text or "MemoryError, which could not be described")

    def value(self, expression: str) -> Any:
        """Return the value of an expression there, of a type with a literal."""
        read, write = os.pipe()
        try:
            self.run(f"import os as _os; _os.write({write}, repr({expression}).encode())")
        finally:
            os.close(write)
        with os.fdopen(read, encoding="utf-8") as pipe:
            return eval(pipe.read())

    def error(self, source: str) -> str:
        """Return the traceback of a source that must raise."""
        try:
            self.run(source)
        except ErrorInInterpreterError as error:
            return error.text
        raise AssertionError("nothing was raised")

    def destroy(self) -> None:
        _interpreters.destroy(self.id)

    def __enter__(self) -> Isolated:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()


def run_child(source: str, *arguments: str, **environment: str) -> str:
    """Run a script in a fresh process with this `sys.path`, and return its output; it must exit with 0."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(source), *arguments],
        capture_output=True,
        text=True,
        timeout=CHILD_TIMEOUT,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
            **environment,
        },
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def compile_library(output: Path, source: str, *flags: str, language: str = "c", python: bool = True) -> Path:
    """Compile and link a shared object with the C or C++ compiler of the machine."""
    output.parent.mkdir(parents=True, exist_ok=True)
    code = output.with_suffix(f".{language}")
    code.write_text(textwrap.dedent(source))
    compiler = os.environ.get("CC", "cc") if language == "c" else os.environ.get("CXX", "c++")
    include = [f"-I{sysconfig.get_path('include')}"] if python else []
    command = [*compiler.split(), "-shared", "-fPIC", "-O1", *include, str(code), "-o", str(output), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    code.unlink()
    return output


_MODULE = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>

{globals}

static PyObject *count(PyObject *self, PyObject *args) {{
    static long calls;  /* one for all interpreters, unless each has an image */
    return PyLong_FromLong(++calls);
}}
{functions}
static PyMethodDef methods[] = {{{{"count", count, METH_NOARGS, "count()"}}, {methods} {{0}}}};

static int execute(PyObject *module) {{
    {execute}
    return 0;
}}
"""
_MULTI_PHASE = """
static PyModuleDef_Slot slots[] = {{ {{Py_mod_exec, execute}}, {slots} {{0}} }};
static PyModuleDef definition = {{PyModuleDef_HEAD_INIT, "{name}", 0, 0, methods, slots}};
PyMODINIT_FUNC PyInit_{name}(void) {{
    {init}
    return PyModuleDef_Init(&definition);
}}
"""
_SINGLE_PHASE = """
static PyModuleDef definition = {{PyModuleDef_HEAD_INIT, "{name}", 0, -1, methods}};
PyMODINIT_FUNC PyInit_{name}(void) {{
    {init}
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && execute(module) < 0) {{
        Py_CLEAR(module);
    }}
    return module;
}}
"""


def extension(
    folder: Path,
    name: str,
    *flags: str,
    single_phase: bool = False,
    suffix: str = EXT_SUFFIX,
    init: str = "",
    execute: str = "",
    slots: str = "",
    functions: str = "",
    methods: str = "",
    before: str = "",
) -> Path:
    """Build an extension module with a function `count` whose counter is a C static.

    By default it says nothing of interpreters, so that CPython refuses it in those with their own GIL.
    """
    template = _MODULE + (_SINGLE_PHASE if single_phase else _MULTI_PHASE)
    source = template.format(
        name=name,
        init=init,
        execute=execute,
        slots=slots,
        functions=functions,
        methods=methods,
        globals=before,
    )
    return compile_library(folder / f"{name}{suffix}", source, *flags)


@contextmanager
def without_places(interpreter: Isolated, *names: str) -> Iterator[None]:
    """Take places for copies away in an interpreter: "_anonymous", "_temporary"."""
    interpreter.run(
        f"""
        from memchannel.images import _image
        _all_places = _image.places
        _image.places = tuple(place for place in _all_places if place[1].__name__ not in {names!r})
        """
    )
    try:
        yield
    finally:
        interpreter.run("_image.places = _all_places")
