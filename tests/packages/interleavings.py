"""Imports, computes and closes 2 to 16 interpreters in random order, in one thread and in several at once.

    python tests/packages/interleavings.py --count 500            # seeds 0 to 499
    python tests/packages/interleavings.py --first 17 --count 1   # one of them
    python tests/packages/interleavings.py --parts scipy.ndimage,scipy.linalg,pandas --write

A program is told by its seed and runs in a process of its own. It is a list of steps for each of its threads;
every interpreter belongs to one thread. A step that fails, a crash, a hang, and anything written to standard
error are failures. With --write the figures go into docs/packages.md; debug builds find most.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from typing import NamedTuple

LIMIT = 300.0
"""Seconds after which a program hangs; debug builds take seconds for an import."""
PARTS = ["numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.ma", "numpy.polynomial", "numpy.lib"]
REFUSED = ["numpy._core.umath", "numpy.lib", "numpy.linalg", "numpy.ma", "numpy.random"]
COMPUTATIONS = {
    "product": """
        a = np.arange(1.0, 10.0).reshape(3, 3) + n % 7 * np.eye(3)
        assert (a @ np.ones(3)).tolist() == a.sum(1).tolist()
        assert np.allclose(np.linalg.inv(a + 20 * np.eye(3)) @ (a + 20 * np.eye(3)), np.eye(3))""",
    "fft": """
        x = np.cos(np.arange(64 + n % 64))
        assert np.allclose(np.fft.irfft(np.fft.rfft(x), len(x)), x)""",
    "random": """
        first, second = (np.random.default_rng(n).normal(size=8) for _ in range(2))
        assert (first == second).all()
        assert len(np.random.random(5)) == 5""",
    "errors": """
        with np.errstate(divide="raise"):
            try:
                np.ones(2) / 0
            except FloatingPointError:
                pass
            else:
                raise AssertionError("no FloatingPointError")
        told = []
        with np.errstate(all="call", call=lambda kind, flag: told.append(kind)):
            np.log(np.array([0.0, -1.0]))
        assert sorted(set(told)) == ["divide by zero", "invalid value"], told""",
    "callbacks": """
        assert np.vectorize(lambda x: x + n)(np.arange(3)).tolist() == [n, n + 1, n + 2]
        assert (np.array([n, None, "x"], dtype=object) == np.array([n, None, "x"], dtype=object)).all()
        assert np.array([str(n), "long " * 20], dtype=np.dtypes.StringDType())[0] == str(n)""",
    "threads": """
        import threading
        sums = []
        threads = [threading.Thread(target=lambda: sums.append(int(np.arange(1000).sum()))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sums == [499500] * 3""",
    "garbage": """
        import gc
        cycle = [np.zeros(1000 + n), None]
        cycle[1] = cycle
        del cycle
        gc.collect()""",
}
# Refuses one module while NumPy is imported; where NumPy is there already, nothing comes of it.
FAIL = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise ImportError("on purpose")

sys.meta_path.insert(0, refusing := Refusing())
try:
    import numpy
except ImportError as error:
    assert "on purpose" in str(error), error
finally:
    sys.meta_path.remove(refusing)
"""

Step = tuple[str, int, int]


class Program(NamedTuple):
    """What each thread does, and the modules that may be imported."""

    threads: list[list[Step]]
    parts: list[str]


def generate(seed: int, parts: list[str]) -> Program:
    """Compose the program of a seed."""
    rng = random.Random(seed)
    count = rng.randint(2, 16)
    number_of_threads = rng.choice([1, rng.randint(2, count)])
    threads: list[list[Step]] = [[] for _ in range(number_of_threads)]
    states = ["none"] * count
    for _ in range(rng.randint(2, 6) * count):
        interpreter = rng.randrange(count)
        state = states[interpreter]
        if state == "none":
            operation = rng.choice(["create", "create reused"])
        elif state == "failed":
            operation = rng.choice(["close", "close by force"])
        else:
            weights = {"import": 6, "compute": 8, "fail": 2, "close": 3, "close by force": 1}
            operation = rng.choices(list(weights), list(weights.values()))[0]
        states[interpreter] = {"fail": "failed", "close": "none", "close by force": "none"}.get(
            operation, "open"
        )
        step = (operation, interpreter, rng.randrange(1 << 16))
        threads[interpreter % number_of_threads].append(step)
    # Some are closed at last, in any order; the rest is there at the end of the process.
    left = [interpreter for interpreter in range(count) if states[interpreter] != "none"]
    for interpreter in rng.sample(left, rng.randint(0, len(left))):
        threads[interpreter % number_of_threads].append(("close", interpreter, 0))
    return Program(threads, parts)


def take(steps: list[Step], parts: list[str], failures: list[str]) -> None:
    """Take the steps of one thread."""
    import textwrap

    from memchannel import interpreters

    packages = tuple({part.partition(".")[0] for part in parts})
    opened: dict[int, interpreters.Interpreter] = {}
    for step in steps:
        operation, number, value = step
        try:
            if operation.startswith("create"):
                opened[number] = interpreters.create(packages=packages, reuse=operation == "create reused")
            elif operation == "close":
                interpreters.close(opened.pop(number), timeout=60)
            elif operation == "close by force":
                opened.pop(number).close()
            elif operation == "import":
                interpreters.run(opened[number], f"import {parts[value % len(parts)]}").check()
            elif operation == "fail":
                name = REFUSED[value % len(REFUSED)]
                interpreters.run(opened[number], FAIL.format(name=name)).check()
            else:
                computation = textwrap.dedent(list(COMPUTATIONS.values())[value % len(COMPUTATIONS)])
                interpreters.run(opened[number], f"import numpy as np\n{computation}", n=value).check()
        except BaseException as error:
            failures.append(f"{step}:\n{''.join(traceback.format_exception(error))}")
            return


def run_here(program: Program) -> None:
    """Run a program in this process."""
    failures: list[str] = []
    warnings.simplefilter("ignore")
    threads = [
        threading.Thread(target=take, args=(steps, program.parts, failures)) for steps in program.threads[1:]
    ]
    for thread in threads:
        thread.start()
    take(program.threads[0], program.parts, failures)
    for thread in threads:
        thread.join()
    if failures:
        sys.exit("\n".join(failures))


def run(program: Program) -> str:
    """Run a program in a process of its own; returns why it failed, or ""."""
    command = [sys.executable, "-X", "faulthandler", __file__, "--child", json.dumps(program)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired as error:
        return f"no end within {LIMIT:g} seconds\n{(error.stderr or b'').decode(errors='replace')}"
    if done.returncode or done.stderr.strip():
        return f"status {done.returncode}\n{done.stderr[-6000:]}"
    return ""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--parts", default="", help="further modules to import, with commas between")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/packages.md")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_here(Program(*json.loads(options.child)))
        return 0
    more = list(filter(None, options.parts.split(",")))
    steps: Counter[str] = Counter()
    failed, done, begin = 0, 0, time.monotonic()
    for seed in range(options.first, options.first + options.count):
        if time.monotonic() - begin > 60 * options.minutes:
            break
        program = generate(seed, PARTS + more)
        done += 1
        steps.update(operation for thread in program.threads for operation, *_ in thread)
        if why := run(program):
            failed += 1
            print(f"seed {seed}: {why}", flush=True)
    print(f"{done} programs, {failed} failed: {dict(steps)}")
    if options.write:
        import figures

        made = steps["create"] + steps["create reused"]
        cells = [done, made, steps["import"], steps["compute"], steps["fail"], failed]
        modules = ", ".join(["NumPy", *(f"`{part}`" for part in more)])
        figures.put_rows("interleavings", [figures.build(), modules], [[f"{cell:,}" for cell in cells]])
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
