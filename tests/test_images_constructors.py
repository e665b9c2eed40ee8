"""Constructors and destructors of private images, whose code is not in the copies that the linker loads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from image_support import extension, run_child
from memchannel.images._elf import ElfFile

_TOLD = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char told[4000];
static void tell(const char *who, int argc, char **argv, char **envp) {
    size_t end = strlen(told);
    const char *last = argc ? argv[argc - 1] : "", *marked = "";
    for (char **entry = envp; *entry; entry++)
        if (strncmp(*entry, "MARK=", 5) == 0) marked = *entry;
    snprintf(told + end, sizeof told - end, "%s %d %s %s\\n", who, argc, last, marked);
}
static void say(const char *line) { if (write(1, line, strlen(line)) < 0) abort(); }
#define TELL(who) { tell(who, argc, argv, envp); }
void begin(int argc, char **argv, char **envp) TELL("begin")
void finish(void) { say("finish\\n"); }
__attribute__((constructor(200))) static void first(int argc, char **argv, char **envp) TELL("first")
__attribute__((constructor(300))) static void second(int argc, char **argv, char **envp) TELL("second")
__attribute__((destructor(200))) static void last(void) { say("last\\n"); }
__attribute__((destructor(300))) static void last_but_one(void) { say("last but one\\n"); }
"""
_TELLS = {
    "before": _TOLD,
    "functions": "static PyObject *get(PyObject *s, PyObject *a) { return PyUnicode_FromString(told); }",
    "methods": '{"get", get, METH_NOARGS, ""},',
}
# Code and tables in segments of their own, as most linkers lay them out.
_APART = "-Wl,-z,separate-code"
_ENDS = ("-Wl,-init,begin", "-Wl,-fini,finish")


def left_out(path: Path) -> int:
    """Return how many bytes of code a copy leaves out."""
    with ElfFile(os.fspath(path)) as elf:
        return sum(segment.size for segment in elf.unread_segments() if segment.executable)


@pytest.mark.parametrize("flags", [(), _ENDS], ids=["the compiler's", "own first and last"])
@pytest.mark.parametrize("layout", [_APART, "-Wl,-z,noseparate-code"], ids=["apart", "together"])
@pytest.mark.parametrize("protection", ["-Wl,-z,norelro", "-Wl,-z,relro", "-Wl,-z,relro,-z,now"])
def test_they_run_as_in_the_original(
    tmp_path: Path, flags: tuple[str, ...], layout: str, protection: str
) -> None:
    path = extension(tmp_path, "telling", *flags, layout, protection, **_TELLS)
    assert (left_out(path) > 0) == (layout == _APART)
    program = """
    import os, sys
    sys.path.insert(0, sys.argv[1])
    if sys.argv[2] == "image":
        from image_support import Isolated
        interpreter = Isolated("telling")
        interpreter.run("import telling; print(telling.get(), flush=True)")
        interpreter.destroy()
    else:
        import telling
        print(telling.get(), flush=True)
    """
    texts = [run_child(program, str(tmp_path), how, "end", MARK="set") for how in ("plain", "image")]
    assert texts[0] == texts[1]
    words = [line.split(" ")[0] for line in texts[0].splitlines() if line]
    begin, finish = (["begin"], ["finish"]) if flags else ([], [])
    assert words == [*begin, "first", "second", "last", "last", *finish]  # "last but one", and "last"


def test_code_that_the_linker_runs_is_in_the_copy(tmp_path: Path) -> None:
    path = extension(
        tmp_path,
        "resolving",
        _APART,
        before="""
        static int chosen(void) { return 7; }
        static void *resolve(void) { return chosen; }
        static int indirect(void) __attribute__((ifunc("resolve")));
        static int found;
        __attribute__((constructor)) static void call(void) { found = indirect(); }
        static PyObject *get(PyObject *s, PyObject *a) { return PyLong_FromLong(found + indirect()); }
        """,
        methods='{"get", get, METH_NOARGS, ""},',
    )
    assert left_out(path) == 0
    program = """
    import sys
    from pathlib import Path
    from image_support import Isolated
    with Isolated("resolving", path=[Path(sys.argv[1])]) as interpreter:
        interpreter.run("import resolving; assert resolving.get() == 14")
    """
    run_child(program, str(tmp_path))


def test_a_file_that_changes_before_its_code_is_mapped(tmp_path: Path) -> None:
    path = extension(tmp_path, "changing", *_ENDS, _APART, **_TELLS)
    assert left_out(path) > 0
    program = """
    import sys
    from pathlib import Path
    from image_support import Isolated
    with Isolated("changing", path=[Path(sys.argv[1]).parent]) as interpreter:
        interpreter.run(f'''
    import os
    from memchannel.images import _image
    open_library = _image._open
    def open_and_change(*arguments):
        handle = open_library(*arguments)
        os.utime({sys.argv[1]!r})
        return handle
    _image._open = open_and_change
    ''')
        print(interpreter.error("import changing"))
        interpreter.run('''
    _image._open = open_library
    import changing
    assert changing.get().startswith("begin")
    ''')
    """
    text = run_child(program, str(path))
    assert "changed on disk while it was being loaded" in text
    # Of the image that was given up, only the function that the linker knows from the start is run at exit.
    ends = [line for line in text.splitlines() if line in ("last but one", "last", "finish")]
    assert sorted(ends) == ["finish", "finish", "last", "last but one"]
