"""Try an installed memchannel in the environment that holds it and what it requires, and nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

REQUIRED = {"cloudpickle", "memchannel", "numpy", "threadpoolctl"}
if sys.version_info < (3, 14):
    REQUIRED.add("backports.interpreters")
TOOLS = {"pip", "setuptools", "wheel"}  # what environments bring themselves


def normal(name: str) -> str:
    """Spell a distribution's name as the packaging guide has it."""
    return name.lower().replace("_", "-").replace(".", "-")


def check_installed() -> None:
    """Only what is required came along, and the package is the installed one."""
    installed = {normal(one.metadata["Name"]) for one in importlib.metadata.distributions()}
    expected = {normal(name) for name in REQUIRED}
    assert installed - TOOLS == expected, f"installed: {sorted(installed)}, required: {sorted(expected)}"
    import memchannel

    place = Path(memchannel.__file__)
    assert place.is_relative_to(sysconfig.get_path("platlib")), place


def check_command_line(folder: Path) -> None:
    """The commands find the package and each interpreter's NumPy; both ways to start them are there."""
    import numpy as np

    script = Path(sysconfig.get_path("scripts")) / "memchannel"
    doctor = subprocess.run([script, "doctor", "--json"], stdout=subprocess.PIPE, check=False, text=True)
    facts = json.loads(doctor.stdout)
    assert doctor.returncode == 0, doctor.stdout
    assert facts["packages"]["numpy"]["ok"], doctor.stdout
    assert facts["memchannel"]["ok"], doctor.stdout

    np.save(folder / "data.npy", np.arange(600.0).reshape(100, 6))
    (folder / "tripling.py").write_text("def triple(block):\n    return 3 * block\n")
    command = [sys.executable, "-m", "memchannel", "map", "data.npy", "tripling:triple", "-o", "out.npy"]
    subprocess.run(command, cwd=folder, check=True)
    assert (np.load(folder / "out.npy") == 3 * np.load(folder / "data.npy")).all()


def check_pool() -> None:
    """A function of this script, over the blocks of an array, in interpreters with their own NumPy."""
    import numpy as np

    import memchannel

    data = np.arange(240_000.0).reshape(-1, 8)
    with memchannel.InterpreterPool(2) as pool:
        found = sum(pool.map_blocks(lambda block: float(np.sqrt(block).sum()), data))
        roots = pool.map_blocks(np.sqrt, data, out=memchannel.empty(data.shape))
    assert (roots == np.sqrt(data)).all()
    assert abs(found - roots.sum()) <= 1e-9 * found
    assert memchannel.stats().bytes_lent >= 2 * data.nbytes


def main() -> None:
    """Run all checks; the first that fails ends this with a traceback."""
    check_installed()
    with tempfile.TemporaryDirectory() as name:
        check_command_line(Path(name))
    check_pool()
    print(f"works on Python {sys.version.split()[0]}, with {', '.join(sorted(REQUIRED - {'memchannel'}))}")


if __name__ == "__main__":
    main()
