"""A reader opens a notebook in JupyterLab, runs its cells, looks at what they show, and presses stop."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import RUNNING, Notebook, browser, server
from selenium.webdriver.common.by import By

CHECKOUT = Path(__file__).parent.parent.parent
PICTURES = Path(os.environ.get("MEMCHANNEL_PICTURES", CHECKOUT / "build" / "pictures"))
TIMELINE = "import timeline\n\ntrace = timeline.record(8_000)\ntrace"
PLOT = "trace.plot();"
ENDLESS = "%%interpreter filter\nprint('begun')\nturns = 0\nwhile True:\n    turns += 1"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """The notebook of the magics, cells with a trace and one that never ends, open in a browser."""
    home = tmp_path_factory.mktemp("home")
    content = json.loads((CHECKOUT / "notebooks" / "interpreter_cells.ipynb").read_text())
    for number, source in enumerate((TIMELINE, PLOT, ENDLESS)):
        cell = {"cell_type": "code", "execution_count": None, "id": f"added-{number}", "metadata": {}}
        content["cells"].append({**cell, "outputs": [], "source": source})
    file = home / "notebooks" / "interpreter_cells.ipynb"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    shutil.copy(CHECKOUT / "docs" / "examples" / "timeline.py", file.parent)
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


def test_the_timeline(notebook: Notebook) -> None:
    shown, plotted = notebook.cell(TIMELINE), notebook.cell(PLOT)
    notebook.run(shown)
    notebook.run(plotted)
    (image,) = notebook.below(plotted, "img")
    assert notebook.driver.execute_script("return arguments[0].naturalWidth", image) > 800
    notebook.picture(plotted, PICTURES / "timeline.png", alone=True)
    notebook.picture(shown, PICTURES / "timeline_notebook.png", alone=True)
    # Its script runs, as for its reader: the bar that is pointed at says what it is.
    (page,) = notebook.below(shown, ".memchannel-trace")
    tasks = page.find_elements(By.CSS_SELECTOR, "rect.task")
    longest = max(tasks, key=lambda bar: float(bar.get_attribute("width") or 0))
    notebook.point_at(longest)
    told = page.find_element(By.CSS_SELECTOR, ".told")
    notebook.wait(lambda: told.text.startswith("uneven: "), "what the bar is")
    # The wheel shows less of the time, around the pointer, and a double click all of it.
    (svg,) = page.find_elements(By.TAG_NAME, "svg")
    axis = page.find_element(By.CSS_SELECTOR, ".axis")

    def shown_part() -> str:
        return str(svg.get_dom_attribute("viewBox"))

    whole, times = shown_part(), axis.text
    notebook.turn_wheel(longest, -500)
    notebook.wait(lambda: shown_part() != whole, "a part of the time")
    left, _, width, _ = map(float, shown_part().split())
    assert 0 < left < left + width < 1000
    assert axis.text != times
    # Dragging moves it.
    notebook.drag(svg, 40)
    notebook.wait(lambda: float(shown_part().split()[0]) < left, "an earlier time")
    notebook.double_click(svg)
    notebook.wait(lambda: (shown_part(), axis.text) == (whole, times), "all of the time")


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
