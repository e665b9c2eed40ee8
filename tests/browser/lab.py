"""A real JupyterLab in a headless Chromium: a server of its own, and what a reader of a notebook does."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

HANG = 90
"""Seconds after which a wait counts as a hang."""

RUNNING = "[*]:"
"""What stands before a cell that runs."""

# No news, and all cells in the page, not only those in view.
_PAGE = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
_SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
}

# How far from the middle of an element its page shows it, and not what lies over it.
_FREE = """
const box = arguments[0].getBoundingClientRect(), middle = box.left + box.width / 2;
const free = x => document.elementFromPoint(middle + x, box.top + box.height / 2) === arguments[0];
for (let x = 0; x < box.width / 2 - 2; ++x) {
  if (free(x - 2) && free(x) && free(x + 2)) return x;  // drivers round the middle
}
return null;
"""


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@contextlib.contextmanager
def server(notebooks: Path, home: Path) -> Iterator[str]:
    """Run a server of this folder on a free port of this machine, and give the address of its Lab."""
    _write(home / "config/labconfig/page_config.json", _PAGE)
    for name, settings in _SETTINGS.items():
        _write(home / f"settings/@jupyterlab/{name}.jupyterlab-settings", settings)
    environment = dict(os.environ)
    for name in ("config", "runtime", "data", "settings", "workspaces"):
        kind = "JUPYTERLAB" if name in ("settings", "workspaces") else "JUPYTER"
        environment[f"{kind}_{name.upper()}_DIR"] = str(home / name)
    environment["IPYTHONDIR"] = str(home / "ipython")
    token = secrets.token_hex(16)
    options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    options += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebooks}"]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log
        )
    try:
        yield f"{_address(process, home)}lab?token={token}"
    finally:
        process.terminate()
        try:
            process.wait(HANG)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], home: Path) -> str:
    deadline = time.monotonic() + HANG
    while True:
        for file in (home / "runtime").glob("jpserver-*.json"):
            with contextlib.suppress(ValueError, KeyError):  # it is being written
                address: str = json.loads(file.read_text())["url"]
                return address
        log = (home / "server.log").read_text()
        assert process.poll() is None, f"the server ended: {log}"
        assert time.monotonic() < deadline, f"the server does not begin: {log}"
        time.sleep(0.05)


def _program(*names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(
        f"there is no {names[0]} on PATH; Debian: apt-get install chromium chromium-driver"
    )


@contextlib.contextmanager
def browser(home: Path, width: int = 1100, height: int = 1300) -> Iterator[webdriver.Chrome]:
    """Open a window of a headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    arguments = ["--headless=new", f"--window-size={width},{height}", "--disable-gpu", "--hide-scrollbars"]
    arguments += [
        "--disable-dev-shm-usage",
        f"--user-data-dir={home / 'chromium'}",
        "--force-color-profile=srgb",
    ]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # which Chromium does not have for root
    for argument in arguments:
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(_program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class Notebook:
    """One notebook, open in the browser; code cells are told by their places.

    The Lab draws cells anew at any time, and the sources of those out of view not at all.
    """

    def __init__(self, driver: webdriver.Chrome, lab: str, file: Path) -> None:
        self.driver = driver
        cells = json.loads(file.read_text())["cells"]
        self.sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        driver.get(lab.replace("/lab?", f"/lab/tree/{file.name}?"))
        self.wait(lambda: len(self._cells()) == len(self.sources), "all cells")
        self.wait(lambda: self._kernel_is("idle"), "an idle kernel")

    def _cells(self) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell")

    def wait[T](self, condition: Callable[[], T], what: str) -> T:
        """Wait until the condition holds, and give its value."""

        def holds(_: Any) -> T | bool:
            try:
                return condition()
            except StaleElementReferenceException:  # drawn anew meanwhile
                return False

        waiting = WebDriverWait(self.driver, HANG, poll_frequency=0.05)
        try:
            result: T = waiting.until(holds)  # type: ignore[assignment]
        except WebDriverException as exc:
            raise AssertionError(f"{what} did not come about: {self.texts()[-4000:]}") from exc
        return result

    def texts(self) -> str:
        """All that the page shows."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def _kernel_is(self, status: str) -> bool:
        indicators = self.driver.find_elements(By.CSS_SELECTOR, ".jp-Notebook-ExecutionIndicator")
        return any(one.get_attribute("data-status") == status for one in indicators)

    def cell(self, beginning: str) -> int:
        """Find the code cell that begins so."""
        (found,) = (i for i, source in enumerate(self.sources) if source.startswith(beginning))
        return found

    def _inside(self, cell: int, selector: str) -> str:
        """The text of what is in a cell, at one moment."""
        script = (
            "const cell = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[arguments[0]];"
            "return [...cell.querySelectorAll(arguments[1])].map(one => one.innerText).join('\\n')"
        )
        text: str = self.driver.execute_script(script, cell, selector)
        return text

    def start(self, cell: int) -> None:
        """Begin to run a cell, as Ctrl-Enter does."""
        self.wait(lambda: self._activated(cell), "an active cell")
        self.driver.switch_to.active_element.send_keys(Keys.CONTROL, Keys.ENTER)

    def _activated(self, cell: int) -> bool:
        element = self._cells()[cell]
        self.show(element)
        element.find_element(By.CSS_SELECTOR, ".jp-InputPrompt").click()
        return "jp-mod-active" in (element.get_attribute("class") or "")

    def run(self, cell: int) -> None:
        """Run a cell to its end."""
        before = self.prompt(cell)
        self.start(cell)
        self.wait(lambda: self.prompt(cell) not in (before, RUNNING), f"the end of {self.sources[cell]}")

    def prompt(self, cell: int) -> str:
        """What stands before the cell: its number, or a star while it runs."""
        return self._inside(cell, ".jp-InputPrompt").strip()

    def output(self, cell: int) -> str:
        """The text below the cell."""
        return self._inside(cell, ".jp-OutputArea-output")

    def below(self, cell: int, selector: str) -> list[WebElement]:
        """What is below the cell, by a CSS selector."""
        return self._cells()[cell].find_elements(By.CSS_SELECTOR, f".jp-OutputArea {selector}")

    def press(self, command: str) -> None:
        """Press a button of the notebook's toolbar."""
        button = f'.jp-NotebookPanel-toolbar [data-command="{command}"]'
        found = self.wait(
            lambda: self.driver.find_elements(By.CSS_SELECTOR, button), f"a button for {command}"
        )
        found[0].click()

    def show(self, element: WebElement) -> None:
        """Scroll to it."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'start'})", element)

    def point_at(self, element: WebElement) -> None:
        """Move the pointer to where it is not covered."""
        x = self.driver.execute_script(_FREE, element)
        assert x is not None, "it is covered all over"
        ActionChains(self.driver).move_to_element_with_offset(element, x, 0).perform()

    def turn_wheel(self, element: WebElement, by: int) -> None:
        """Turn the wheel while the pointer is there; away from its user by less than nothing."""
        origin = ScrollOrigin.from_element(element)
        ActionChains(self.driver).move_to_element(element).scroll_from_origin(origin, 0, by).perform()

    def drag(self, element: WebElement, to_the_right: int) -> None:
        """Hold it in the middle, and move it so many pixels."""
        ActionChains(self.driver).drag_and_drop_by_offset(element, to_the_right, 0).perform()

    def double_click(self, element: WebElement) -> None:
        """Click twice in the middle of it."""
        ActionChains(self.driver).double_click(element).perform()

    def picture(self, cell: int, path: Path, *, alone: bool = False) -> None:
        """Write what the notebook shows from this cell on, or the cell alone."""
        element = self._cells()[cell]
        self.show(element)
        path.parent.mkdir(parents=True, exist_ok=True)
        panel = self.driver.find_element(By.CSS_SELECTOR, ".jp-NotebookPanel")
        (element if alone else panel).screenshot(str(path))
