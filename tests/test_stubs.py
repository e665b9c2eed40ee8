"""The stubs say what the built extension has."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import memchannel
from memchannel import _core

# stubtest knows of these what no stub can say: the extension itself derives from them, nobody else can.
ALLOWED = r"memchannel\._core\.(_End|RecvChannel|SendChannel|_Primitive)"

STUBS = Path(memchannel.__file__).parent / "_core.pyi"


def stubtest(folder: Path, *stubs: Path) -> tuple[int, str]:
    """Compare the extension with its stubs, or with those in the folder instead."""
    allowed = folder / "allowed.txt"
    allowed.write_text(ALLOWED + "\n")
    config = folder / "mypy.ini"
    # IPython as in the project's own settings: typed in part, and differently in each release.
    typed_in_part = "[mypy-IPython.*,traitlets.*]\nfollow_imports = skip\n"
    config.write_text(f"[mypy]\nignore_missing_imports = True\n{typed_in_part}")
    options = ["--allowlist", allowed, "--mypy-config-file", config]
    result = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "memchannel._core", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        cwd=folder,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, stubs))},
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.slow
def test_stubs_and_extension_agree(tmp_path: Path) -> None:
    code, output = stubtest(tmp_path)
    assert code == 0, output


@pytest.mark.slow
def test_the_comparison_sees_differences(tmp_path: Path) -> None:
    package = tmp_path / "stubs" / "memchannel"
    shutil.copytree(STUBS.parent, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    wrong = STUBS.read_text().replace("def fileno(self) -> int", "def fileno(self, now: bool = ...) -> int")
    (package / "_core.pyi").write_text(wrong)
    code, output = stubtest(tmp_path, package.parent)
    assert code == 1, output
    assert "Notifier.fileno" in output


def test_every_name_is_in_the_stubs() -> None:
    tree = ast.parse(STUBS.read_text())
    described: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            described.add(node.name)
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) != "TypeAlias":
            described.add(ast.unparse(node.target))
    built = {name for name in dir(_core) if not (name.startswith("__") and name != "__version__")}
    assert built == described
