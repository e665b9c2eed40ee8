"""Notebooks as they are saved: as they were written, not as they were run last, and of no machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

CHECKOUT = Path(__file__).parent.parent
FOLDER = CHECKOUT / "notebooks"
NOTEBOOKS = sorted(path for path in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
GALLERY = CHECKOUT / "docs" / "notebooks.md"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
ABSOLUTE = re.compile(r"""(?<![\w.:/~-])/(?:home|root|tmp|usr|opt|var|work|mnt|Users)/\S*|\b[A-Z]:\\\\?\w+""")
LINK = re.compile(r"\]\((?!https?://|#)([^)\s]+)\)")


def faults(text: str) -> list[str]:
    """Say what makes a saved notebook differ from one that was only written."""
    notebook: dict[str, Any] = json.loads(text)
    found = []
    if text != json.dumps(notebook, indent=1, ensure_ascii=False) + "\n":
        found.append("it is not laid out as Jupyter saves it")
    if notebook["metadata"] != METADATA:
        found.append(f"its metadata are {notebook['metadata']}")
    for number, cell in enumerate(notebook["cells"]):
        where = f"cell {number}"
        source = "".join(cell["source"])
        if strange := cell["metadata"].keys() - {"tags"}:  # such as raises-exception, which nbmake reads
            found.append(f"{where} has metadata: {sorted(strange)}")
        if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"] is not None):
            found.append(f"{where} was saved with what it gave when it ran")
        if not source.strip():
            found.append(f"{where} is empty")
        found += [f"{where} names {path[0]}, a place on one machine" for path in ABSOLUTE.finditer(source)]
    return found


def sources(path: Path, kind: str) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_there_are_notebooks() -> None:
    assert FOLDER / "parallel_terrain.ipynb" in NOTEBOOKS
    assert any(path.parent.name == "packages" for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_saved_as_it_was_written(path: Path) -> None:
    text = path.read_text()
    assert faults(text) == []
    nbformat.validate(nbformat.reads(text, nbformat.NO_CONVERT))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_teaches_and_checks_itself(path: Path) -> None:
    told = sources(path, "markdown")
    assert told[0].startswith("# "), "the first cell is its title, and what is learned"
    for target in (link for text in told for link in LINK.findall(text)):
        assert (path.parent / target).exists(), f"a link to {target}, which does not exist"
    assert sum(text.count("\nassert ") for text in sources(path, "code")) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_documentation_lists_it(path: Path) -> None:
    assert f"(../{path.relative_to(CHECKOUT).as_posix()})" in GALLERY.read_text()


def _run_cell(notebook: dict[str, Any]) -> None:
    notebook["cells"][1]["execution_count"] = 7


def _show(notebook: dict[str, Any]) -> None:
    notebook["cells"][1]["outputs"] = [{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}]


def _of_one_kernel(notebook: dict[str, Any]) -> None:
    notebook["metadata"]["kernelspec"]["name"] = "my-environment"


def _collapse(notebook: dict[str, Any]) -> None:
    notebook["cells"][1]["metadata"] = {"collapsed": True}


def _name_a_place(notebook: dict[str, Any]) -> None:
    notebook["cells"][1]["source"] = ["open('/home/me/data.npy')"]


def _empty(notebook: dict[str, Any]) -> None:
    notebook["cells"][1]["source"] = []


@pytest.mark.parametrize(
    ("litter", "said"),
    [
        (_run_cell, "cell 1 was saved with what it gave"),
        (_show, "cell 1 was saved with what it gave"),
        (_of_one_kernel, "its metadata are"),
        (_collapse, "cell 1 has metadata"),
        (_name_a_place, "cell 1 names /home/me/data.npy'\\), a place on one machine"),
        (_empty, "cell 1 is empty"),
    ],
)
def test_what_running_leaves_is_found(litter: Callable[[dict[str, Any]], None], said: str) -> None:
    notebook = json.loads(NOTEBOOKS[0].read_text())
    litter(notebook)
    (fault,) = faults(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    assert re.match(said, fault), fault
    assert "laid out" in faults(json.dumps(notebook))[0]
