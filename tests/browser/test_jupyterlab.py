"""A reader opens a notebook in JupyterLab, runs its cells, looks at what they show, and presses stop."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import RUNNING, Notebook, browser, server

CHECKOUT = Path(__file__).parent.parent.parent
PICTURES = Path(os.environ.get("MEMCHANNEL_PICTURES", CHECKOUT / "build" / "pictures"))
ENDLESS = "%%interpreter filter\nprint('begun')\nturns = 0\nwhile True:\n    turns += 1"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """The notebook of the magics, and one more cell that never ends, open in a browser."""
    home = tmp_path_factory.mktemp("home")
    content = json.loads((CHECKOUT / "notebooks" / "interpreter_cells.ipynb").read_text())
    endless = {"cell_type": "code", "execution_count": None, "id": "endless", "metadata": {}, "outputs": []}
    content["cells"].append({**endless, "source": ENDLESS})
    file = home / "notebooks" / "interpreter_cells.ipynb"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    with server(file.parent, home) as lab, browser(home) as driver:
        yield Notebook(driver, lab, file)


def test_a_reader_of_the_notebook(notebook: Notebook) -> None:
    """Cell after cell, up to the one that closes the interpreters."""
    for cell in range(notebook.cell("del smoothed")):
        notebook.run(cell)
    assert "at 0x" in notebook.output(notebook.cell("%%interpreter filter -i head -o address"))
    # The picture was drawn over there.
    drawn = notebook.cell("%%interpreter filter -i head -o smoothed")
    assert sorted(notebook.output(drawn).split()) == ["...", "done", "smoothing"]
    (image,) = notebook.below(drawn, "img")
    assert image.get_attribute("src").startswith("data:image/png;base64,")
    assert notebook.driver.execute_script("return arguments[0].naturalWidth", image) > 400
    # The traceback has the cell's own lines.
    wrong = notebook.cell("%%interpreter filter\nsmooth(head[0])")
    failed = notebook.output(wrong)
    assert f"Cell In{notebook.prompt(wrong).removesuffix(':')}, line 2" in failed
    assert "----> 2 smooth(head[0])" in failed
    assert "ValueError: not enough values to unpack (expected 2, got 1)" in failed
    # All blocks are done, says the bar, a widget.
    pool = notebook.cell("def busiest(block):")
    bar = notebook.wait(
        lambda: notebook.below(pool, ".jupyter-widgets .progress-bar, [role=progressbar]"), "a bar"
    )
    assert "progress-bar-success" in bar[0].get_attribute("class")
    assert "16/16" in notebook.output(pool)
    # The list is a table.
    (table,) = notebook.below(notebook.cell("%interpreters"), "table")
    assert [row.split()[:3] for row in table.text.split("\n")[1:3]] == [
        ["filter", "1", "idle"],
        ["measure", "2", "idle"],
    ]
    notebook.picture(pool, PICTURES / "progress_bar.png", alone=True)
    notebook.picture(drawn, PICTURES / "interpreter_cells.png")


def test_the_stop_button(notebook: Notebook) -> None:
    endless = notebook.cell(ENDLESS)
    notebook.start(endless)
    # What it prints is there while it runs.
    notebook.wait(lambda: "begun" in notebook.output(endless), "the output of a cell that runs")
    assert notebook.prompt(endless) == RUNNING
    notebook.press("notebook:interrupt-kernel")
    notebook.wait(lambda: notebook.prompt(endless) != RUNNING, "the end of the cell")
    shown = notebook.output(endless)
    assert "KeyboardInterrupt" in shown
    assert "while True" in shown
    assert "memchannel" not in shown
    notebook.picture(endless, PICTURES / "interrupted_cell.png", alone=True)
    # The interpreter is there, with its variables.
    notebook.run(notebook.cell('assert "smooth" not in globals()'))
    listed = notebook.cell("%interpreters")
    notebook.run(listed)
    assert "filter" in notebook.output(listed)
