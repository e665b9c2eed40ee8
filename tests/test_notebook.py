"""The magics of `memchannel.notebook`, in a real kernel: `%%interpreter` and `%interpreters`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notebook_support import Kernel, Ran, kernel


@pytest.fixture(scope="module")
def shared_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("kernel")) as started:
        started.run("import numpy as np, memchannel\nfrom memchannel import interpreters")
        yield started


@pytest.fixture
def notebook(shared_kernel: Kernel) -> Iterator[Kernel]:
    """A kernel with no interpreters of earlier tests."""
    yield shared_kernel
    left = shared_kernel.run(
        "%reset -f\n%unload_ext memchannel\n%load_ext memchannel\n"
        "import numpy as np, memchannel\nfrom memchannel import interpreters"
    )
    assert not left.error, left.traceback


def wait_for_file(path: Path) -> str:
    """Source that waits until the test has made a file."""
    return f"import os, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.005)\n"


WHICH = "import _interpreters\nnumber = _interpreters.get_current()[0]"
"""Source that tells an interpreter's id."""
RUN_SOMETHING = """\
import threading
go, begun = memchannel.Event(), memchannel.Event()
busy = [one for one in interpreters.list_all() if one.id == number][0]
work = lambda go, begun: (begun.set(), go.wait())
kwargs = dict(go=go, begun=begun)
thread = threading.Thread(target=interpreters.run, args=(busy, work), kwargs=kwargs)
thread.start()
begun.wait()
"""
"""Source that runs something in the interpreter `number`, until `go` is set."""
OF_NUMBER = "[one for one in interpreters.list_all() if one.id == number][0]"


def usage_error(ran: Ran) -> str:
    """What a magic said of its arguments, beside which nothing was shown."""
    text = ran.text("stderr")
    assert text.startswith("UsageError: "), (text, ran.traceback)
    assert not ran.error
    return text


# ---- values


def test_arrays_go_in_and_out_without_a_copy(notebook: Kernel) -> None:
    notebook.run("a = np.arange(100_000.0); factor = 3")
    ran = notebook.run(
        "%%interpreter w -i a,factor -o b,addresses\n"
        "b = a * factor\n"
        "addresses = a.__array_interface__['data'], b.__array_interface__['data']"
    )
    assert ran.kinds == []
    here = "tuple(x.__array_interface__['data'] for x in (a, b))"
    # Writable where it was made; read-only on the other side.
    assert notebook.value("a.flags.writeable, b.flags.writeable") == "True False"
    assert notebook.value(f"[x[0] for x in addresses] == [x[0] for x in {here}]") == "True"
    assert notebook.value("addresses[0][1], addresses[1][1]") == "True False"
    assert notebook.value("(b == 3 * a).all()") == "True"


def test_small_arrays_are_not_copied_either(notebook: Kernel) -> None:
    notebook.run("small = np.arange(3)")
    notebook.run("%%interpreter w -i small -o back,at\nback = small[::-1]\nat = small.ctypes.data")
    assert notebook.value("at == small.ctypes.data, back.ctypes.data - at, back") == "True 16 [2 1 0]"


def test_variables_stay_and_are_those_of_main(notebook: Kernel) -> None:
    notebook.run("%%interpreter w\nkept = 41")
    notebook.run("%%interpreter w -o kept\nkept += 1")
    assert notebook.value("kept") == "42"
    ran = notebook.run("%%interpreter other\nkept")
    assert ran.error == "NameError"
    notebook.run("%%interpreter w -o number\n" + WHICH)
    notebook.run(f"w = {OF_NUMBER}")
    assert notebook.value("interpreters.run(w, 'print(kept)', capture_output=True).stdout") == "42\n"


def test_functions_of_cells_are_shared_both_ways(notebook: Kernel) -> None:
    notebook.run("def double(x): return 2 * x")
    notebook.run("%%interpreter w -i double -o twice\ndef twice(x): return double(double(x))")
    assert notebook.value("twice(np.arange(3))") == "[0 4 8]"


def test_channels_are_shared(notebook: Kernel) -> None:
    notebook.run("channel = memchannel.ArrayChannel(); data = np.arange(9); channel.send(data)")
    notebook.run("%%interpreter w -i channel -o total\ntotal = int(channel.recv().sum())")
    assert notebook.value("total") == "36"


def test_an_interpreter_has_its_own_gil(notebook: Kernel) -> None:
    notebook.run("%%interpreter w -o number\n" + WHICH)
    assert notebook.value("number != interpreters.get_current().id") == "True"


# ---- what is shown


def test_output_comes_while_the_cell_runs(notebook: Kernel, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    ran = notebook.start(
        "%%interpreter w\n"
        "import sys\n"
        "print('without a newline', end='')\n"
        "print('to stderr', file=sys.stderr)\n" + wait_for_file(seen) + "print(' and the rest')"
    )
    notebook.wait(ran, lambda ran: "newline" in ran.text() and "stderr" in ran.text("stderr"))
    assert not ran.done
    seen.touch()
    notebook.wait(ran)
    assert ran.text() == "without a newline and the rest\n"
    assert ran.text("stderr") == "to stderr\n"


def test_figures_come_while_the_cell_runs(notebook: Kernel, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    ran = notebook.start(
        "%%interpreter w\n"
        "import matplotlib.pyplot as plt\n"
        "plt.plot([1, 3, 2])\n"
        "plt.show()\n" + wait_for_file(seen) + "plt.plot([3, 2, 1]);"
    )
    notebook.wait(ran, lambda ran: ran.data)
    assert not ran.done
    seen.touch()
    notebook.wait(ran)
    first, second = (one["image/png"] for one in ran.data)
    assert first != second
    assert ran.kinds == ["display_data", "display_data"]  # the semicolon hid the line's repr


def test_rich_output_is_in_order_with_text(notebook: Kernel) -> None:
    ran = notebook.run(
        "%%interpreter w\n"
        "from IPython.display import HTML, clear_output, display\n"
        "class Both:\n"
        "    def _repr_html_(self): return '<b>bold</b>'\n"
        "    def _repr_png_(self): return b'\\x89PNG'\n"
        "    def __repr__(self): return 'plain'\n"
        "print('before')\n"
        "handle = display(Both(), display_id='mine')\n"
        "print('between')\n"
        "handle.update(HTML('<i>new</i>'))\n"
        "clear_output(wait=True)\n"
        "Both()"
    )
    assert ran.kinds == [
        *["stream", "display_data", "stream", "update_display_data", "clear_output", "display_data"]
    ], ran.traceback
    assert [ran.data[0][kind] for kind in ("text/plain", "text/html")] == ["plain", "<b>bold</b>"]
    assert ran.data[0]["image/png"].strip() == "iVBORw=="
    assert ran.contents("display_data")[0]["transient"] == {"display_id": "mine"}
    assert ran.contents("update_display_data")[0]["data"]["text/html"] == "<i>new</i>"
    assert ran.contents("clear_output") == [{"wait": True}]
    assert ran.data[1] == ran.data[0]


def test_ipython_syntax_works_in_cells(notebook: Kernel) -> None:
    ran = notebook.run("%%interpreter w\n%%capture taken\nprint('hidden')")
    assert ran.kinds == []
    assert notebook.run("%%interpreter w\ntaken.stdout").data[0]["text/plain"] == "'hidden\\n'"
    assert (
        notebook.run("%%interpreter w\nimport asyncio\nawait asyncio.sleep(0, 5)").data[0]["text/plain"]
        == "5"
    )


def test_figures_are_inline_when_asked_for(notebook: Kernel) -> None:
    ran = notebook.run("%%interpreter w\n%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1]);")
    assert [sorted(one) for one in ran.data] == [["image/png", "text/plain"]], ran.traceback


def test_commands_print_as_they_run(notebook: Kernel, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    ran = notebook.start(
        "%%interpreter w -o _exit_code\n"
        f"word, file = 'begun', {str(seen)!r}\n"
        "!echo $word {6 * 7}; while [ ! -e $file ]; do sleep 0.01; done; echo ende€ >&2; exit 3"
    )
    notebook.wait(ran, lambda ran: "begun 42" in ran.text())
    assert not ran.done
    seen.touch()
    notebook.wait(ran)
    assert ran.text() == "begun 42\nende€\n"
    assert notebook.value("_exit_code") == "3"


def test_widgets_are_shown_as_text(notebook: Kernel) -> None:
    ran = notebook.run(
        "%%interpreter w\n"
        "class Slider:\n"  # as those of ipywidgets
        "    def _repr_mimebundle_(self, **_):\n"
        "        view = {'version_major': 2, 'version_minor': 0, 'model_id': '0'}\n"
        "        return {'text/plain': 'a slider', 'application/vnd.jupyter.widget-view+json': view}\n"
        "Slider()"
    )
    assert ran.data == [{"text/plain": "a slider"}]  # the notebook has no model of it


def test_an_interpreter_is_not_left_by_exit(notebook: Kernel) -> None:
    text = usage_error(notebook.run("%%interpreter w\nkept = 1\nexit()"))
    assert "closed from the notebook: %interpreters --close NAME" in text
    assert notebook.run("%%interpreter w\nkept").data


def test_output_of_pools_is_under_the_cell_that_submits(notebook: Kernel) -> None:
    notebook.run(
        "def speak(text):\n    print(text)\n    return text\n"
        "pool = memchannel.InterpreterPool(1)\npool.submit(speak, 'first').result()"
    )
    # The result is not taken: the text comes by itself.
    ran = notebook.start(
        "done = memchannel.Event(); future = pool.submit(speak, 'second')\n"
        "import concurrent.futures\nconcurrent.futures.wait([future]); done.wait(20)"
    )
    notebook.wait(ran, lambda ran: "second" in ran.text())
    notebook.interrupt()
    notebook.wait(ran)
    notebook.run("pool.shutdown()")


# ---- exceptions


def test_a_traceback_is_the_cells_own(notebook: Kernel) -> None:
    notebook.run("%%interpreter w\ndef divide(x):\n    return x / 0")
    ran = notebook.run("%%interpreter w\nprint('before')\n\ndivide(1)")
    (asked,) = ran.contents("execute_input")
    number = asked["execution_count"]
    assert ran.error == "ZeroDivisionError"
    assert ran.text() == "before\n"
    assert f"Cell In[{number}], line 4\n" in ran.traceback  # the magic's own line is the first
    assert "----> 4 divide(1)" in ran.traceback
    assert "----> 3     return x / 0" in ran.traceback
    assert "memchannel" not in ran.traceback
    assert notebook.run("%%interpreter w\ndivide").data  # and goes on


@pytest.mark.parametrize(
    ("source", "error", "shown"),
    [
        ("1 1", "RemoteError", "line 2\n    1 1\n"),
        ("import nowhere_to_be_found", "ModuleNotFoundError", "----> 2 import nowhere"),
        ("import sys; sys.exit('enough')", "SystemExit", "SystemExit: enough"),
        ("raise ExceptionGroup('two', [KeyError('a'), OSError('b')])", "RemoteError", "ExceptionGroup: two"),
        (
            "class Own(Exception):\n    def __init__(self, a): super().__init__()\nraise Own(1)",
            "RemoteError",
            "----> 4 raise Own(1)",
        ),
    ],
    ids=["syntax", "import", "exit", "group", "unpicklable"],
)
def test_exceptions_of_all_kinds(notebook: Kernel, source: str, error: str, shown: str) -> None:
    ran = notebook.run(f"%%interpreter w -o never\n{source}")
    assert ran.error == error
    assert shown in ran.traceback
    assert notebook.value("'never' in dir()") == "False"


def test_exceptions_can_be_caught(notebook: Kernel) -> None:
    ran = notebook.run(
        "try:\n"
        "    get_ipython().run_cell_magic('interpreter', 'w', 'int(\"x\")')\n"
        "except ValueError as exc:\n"
        "    print(exc, '/', type(exc.__cause__).__name__)"
    )
    assert ran.text() == "invalid literal for int() with base 10: 'x' / RemoteTraceback\n"


def test_the_stop_button_interrupts_a_cell(notebook: Kernel) -> None:
    ran = notebook.start("%%interpreter w -o count\nprint('begun')\ncount = 0\nwhile True:\n    count += 1")
    notebook.wait(ran, lambda ran: "begun" in ran.text())
    notebook.interrupt()
    notebook.wait(ran)
    assert ran.error == "KeyboardInterrupt"
    assert "count += 1" in ran.traceback or "while True" in ran.traceback
    notebook.run("%%interpreter w -o count\npass")
    assert int(notebook.value("count")) > 0


TELLING_CREATE = """
from memchannel import interpreters

def create(*args, create=interpreters.create, **keywords):
    print("making", flush=True)
    return create(*args, **keywords)

interpreters.create = create
"""


def test_an_interrupt_while_the_interpreter_is_made(notebook: Kernel) -> None:
    notebook.run(TELLING_CREATE)  # what comes before the magic begins is the kernel's concern
    ran = notebook.start("%%interpreter w --packages none\nkept = 1\nwhile True: pass")
    notebook.wait(ran, lambda ran: "making" in ran.text())
    notebook.interrupt()
    assert notebook.wait(ran).error == "KeyboardInterrupt"
    assert notebook.run("%%interpreter w --packages none\n'works'").data[0]["text/plain"] == "'works'"


def test_a_wait_is_interrupted_too_and_may_catch_it(notebook: Kernel) -> None:
    notebook.run("channel = memchannel.Channel()")
    ran = notebook.start(
        "%%interpreter w -i channel -o answer\n"
        "print('begun')\n"
        "try:\n    channel.recv()\nexcept KeyboardInterrupt:\n    answer = 'caught'"
    )
    notebook.wait(ran, lambda ran: "begun" in ran.text())
    notebook.interrupt()
    assert notebook.wait(ran).error == ""
    assert notebook.value("answer") == "caught"


@pytest.mark.parametrize(
    "wait",
    ["await asyncio.sleep(1000)", "!echo $$ > {file}; echo ready; exec sleep 1000"],
    ids=["await", "command"],
)
def test_the_stop_button_ends_waits_of_the_system(notebook: Kernel, tmp_path: Path, wait: str) -> None:
    file = tmp_path / "process"
    ran = notebook.start(
        f"%%interpreter w\nimport asyncio\nfile = {str(file)!r}\nprint('begun')\n"
        f"try:\n    {wait}\nfinally:\n    print('cleaned up')"
    )
    notebook.wait(ran, lambda ran: ("ready" if "!" in wait else "begun") in ran.text())
    notebook.interrupt()
    notebook.wait(ran)
    assert ran.error == "KeyboardInterrupt"
    assert "----> 6 " in ran.traceback
    assert "cleaned up" in ran.text()
    assert not file.exists() or not Path(f"/proc/{file.read_text().strip()}").exists()
    again = notebook.run("%%interpreter w\nawait asyncio.sleep(0, 'works')")
    assert again.data[0]["text/plain"] == "'works'"  # and nothing of the former cell goes on


# ---- bad input


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "required: name"),
        ("w -z", "unrecognized arguments: -z"),
        ("w -i", "expected one argument"),
        ("w -i a, b", "unrecognized arguments: b"),
        ("w -i a;b", "names of variables with commas between them and no spaces, such as a,b; 'a;b' is none"),
        ("w -o class", "'class' is none"),
        ("w -i nowhere", "the notebook has no variable 'nowhere'"),
        ("main", "'main' cannot name an interpreter"),
        ("9lives", "'9lives' cannot name an interpreter"),
        ("w -p nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
    ],
)
def test_wrong_arguments(notebook: Kernel, line: str, words: str) -> None:
    before = notebook.value("len(interpreters.list_all())")
    assert words in usage_error(notebook.run(f"%%interpreter {line}\nprint('not run')"))
    assert notebook.value("len(interpreters.list_all())") == before  # none was made in vain


def test_what_cannot_be_shared_is_named(notebook: Kernel) -> None:
    notebook.run("import threading; lock = threading.Lock(); fine = 1")
    text = usage_error(notebook.run("%%interpreter w -i fine,lock\nprint('not run')"))
    assert "-i: 'lock' cannot be shared: cannot pickle '_thread.lock' object" in text
    text = usage_error(
        notebook.run(
            "%%interpreter w -o good,lock2,absent\nimport threading\nlock2 = threading.Lock()\ngood = 5"
        )
    )
    assert "'absent' is no variable of interpreter 'w'" in text
    assert "'lock2' cannot be shared: cannot pickle '_thread.lock' object" in text
    assert notebook.value("good") == "5"  # nothing is lost for the others


def test_packages_are_for_the_first_use(notebook: Kernel) -> None:
    ran = notebook.run("%%interpreter plain --packages none\nimport numpy")
    assert ran.error == "ImportError"
    text = usage_error(notebook.run("%%interpreter plain --packages numpy\npass"))
    assert "'plain' was made with --packages none" in text
    assert "%interpreters --close plain" in text
    assert notebook.run("%%interpreter plain --packages none\n1").data
    notebook.run("%interpreters --close plain")
    assert notebook.run("%%interpreter plain --packages numpy\nimport numpy\nnumpy.ones(1)").data


def test_an_interpreter_that_ended_between_cells(notebook: Kernel) -> None:
    notebook.run("%%interpreter w -o number\n" + WHICH)
    notebook.run(f"{OF_NUMBER}.close()")
    assert "ended: its names are lost" in notebook.run("%interpreters").data[0]["text/plain"]
    text = usage_error(notebook.run("%%interpreter w\npass"))
    assert "was closed since its last cell, and its variables are lost; run this cell again" in text
    assert notebook.run("%%interpreter w\n'new'").data[0]["text/plain"] == "'new'"


def test_an_interpreter_that_runs_something_else(notebook: Kernel) -> None:
    notebook.run("%%interpreter w -o number\n" + WHICH)
    notebook.run(RUN_SOMETHING)
    assert "interpreter 'w' still runs something" in usage_error(notebook.run("%%interpreter w\npass"))
    assert "'w' cannot be closed" in usage_error(notebook.run("%interpreters -d w"))
    notebook.run("go.set(); thread.join()")
    assert notebook.run("%%interpreter w\n1").data


# ---- %interpreters


def test_the_list_and_closing(notebook: Kernel) -> None:
    notebook.run("%%interpreter one -o array\nimport numpy as np\narray = np.ones(100_000)")
    notebook.run("%%interpreter two --packages none\npass")
    listed = notebook.run("%interpreters").data[0]
    lines = [line.split() for line in listed["text/plain"].splitlines() if line]
    rows = {line[0]: line[2:] for line in lines}
    assert rows["one"] == ["idle", "all", "1", "array"]
    assert rows["two"] == ["idle", "none", "0", "-"]
    assert listed["text/html"].startswith("<table>")
    assert "there is no interpreter 'three'; there are: one, two" in usage_error(
        notebook.run("%interpreters --close two three")
    )
    notebook.run("ids = [one.id for one in interpreters.idle()]")
    text = notebook.run("%interpreters --close one two").text()
    assert "'one'" in text
    assert "will be closed when its memory is not used any more: 1 view" in text
    assert "it gave array (Out and _ keep what was displayed)" in text
    assert "interpreter 'two'" in text
    assert notebook.value("array.sum()") == "100000.0"
    assert "to be closed" in notebook.run("%interpreters").data[0]["text/plain"]
    notebook.run("del array")
    assert "to be closed" not in notebook.run("%interpreters").data[0]["text/plain"]
    assert notebook.value("{one.id for one in interpreters.list_all()} & set(ids)") == "set()"


def test_what_is_to_be_closed_is_closed_although_the_magics_were_unloaded(notebook: Kernel) -> None:
    notebook.run("%%interpreter w -o array\nimport numpy as np\narray = np.ones(9)")
    assert "will be closed when" in notebook.run("%reload_ext memchannel").text()
    assert "to be closed" in notebook.run("%interpreters").data[0]["text/plain"]
    notebook.run("del array; before = {one.id for one in interpreters.list_all()}")
    assert "to be closed" not in notebook.run("%interpreters").data[0]["text/plain"]
    assert notebook.value("len(before - {one.id for one in interpreters.list_all()})") == "1"


def test_closing_goes_on_after_one_that_runs_something(notebook: Kernel) -> None:
    notebook.run("%%interpreter first -o number\n" + WHICH)
    notebook.run("%%interpreter second\npass")
    notebook.run(RUN_SOMETHING)
    ran = notebook.run("%interpreters --close first second second")
    notebook.run("go.set(); thread.join()")
    assert ran.text().startswith("interpreter 'second'")
    assert "interpreter 'first' cannot be closed" in ran.text("stderr")
    left = notebook.run("%interpreters").data[0]["text/plain"]
    assert "first" in left
    assert "second" not in left


def test_threads_that_need_the_same_interpreter_make_one(notebook: Kernel) -> None:
    before = int(notebook.value("len(interpreters.list_all())"))
    ran = notebook.run(
        "import threading\n"
        "shell = get_ipython()\n"
        "def use(): shell.run_cell_magic('interpreter', 'w --packages none', 'pass')\n"
        "threads = [threading.Thread(target=use) for _ in range(4)]\n"
        "for one in threads: one.start()\n"
        "for one in threads: one.join()"
    )
    assert not ran.error, ran.traceback
    assert int(notebook.value("len(interpreters.list_all())")) <= before + 1


# ---- kernels


def test_a_restart_while_a_cell_runs(tmp_path: Path) -> None:
    with kernel(tmp_path) as notebook:
        before = notebook.pid
        ran = notebook.start("%%interpreter w\nprint('begun')\nwhile True: pass")
        notebook.wait(ran, lambda ran: "begun" in ran.text())
        notebook.restart()
        assert notebook.pid != before
        assert not Path(f"/proc/{before}").exists()
        notebook.run("%load_ext memchannel")
        assert notebook.run("%%interpreter w\n6 * 7").data[0]["text/plain"] == "42"


WITHOUT = """\
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("matplotlib", "tqdm", "matplotlib_inline"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


def test_a_notebook_without_matplotlib_and_tqdm(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT.replace(', "matplotlib_inline"', ""))
    with kernel(tmp_path, first_on_path=tmp_path) as notebook:
        assert notebook.run("%%interpreter w\n'works'").data[0]["text/plain"] == "'works'"
        ran = notebook.run("%%interpreter w\nimport matplotlib.pyplot")
        assert "ModuleNotFoundError: No module named 'matplotlib'" in ran.traceback
        notebook.run("import memchannel, numpy as np")
        ran = notebook.run(
            "with memchannel.InterpreterPool(1) as pool:\n"
            "    list(pool.map_blocks(np.sum, np.ones(9), progress=True))"
        )
        assert "progress=True needs tqdm: pip install memchannel[progress]" in ran.traceback


def test_in_ipython_of_a_terminal(tmp_path: Path) -> None:
    script = tmp_path / "script.ipy"
    script.write_text(
        "%load_ext memchannel\n"
        "get_ipython().run_cell_magic('interpreter', 'w', 'print(1)\\n2 + 3')\n"
        "%interpreters -d w\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=nocolor", str(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1", "5", "interpreter 'w' (1) is closed"]
    assert done.stderr == ""
