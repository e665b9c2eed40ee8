"""Ask mypy and pyright (as basedpyright, which brings its own Node.js) about the examples of this folder,
of docs/examples and of README.md, and pyright whether it knows the type of every public name:
`python tests/typing/check.py`.

README.md's functions have no annotations, for shortness; everything else holds there as in strict code.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMPLETENESS = ["--verifytypes", "memchannel", "--ignoreexternal", "--outputjson"]
UNANNOTATED = ["--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls"]


def readme_as_program(folder: Path) -> Path:
    """Put the examples of README.md into one file, each on the line where it stands there."""
    text = (CHECKOUT / "README.md").read_text()
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text[: block.start(1)].count("\n")
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    if not any(lines):
        raise SystemExit("README.md has no example; is its ```python still what BLOCK looks for?")
    program = folder / "README.py"
    program.write_text("\n".join(lines))
    return program


def pyright_settings(folder: Path, *places: Path) -> Path:
    """Write a configuration outside of the checkout, since basedpyright takes pyproject.toml otherwise."""
    settings = folder / "pyrightconfig.json"
    content = {
        "include": [str(place) for place in places],
        "extraPaths": [str(CHECKOUT / "python")],
        "pythonVersion": "3.13",
        "typeCheckingMode": "standard",
        "reportUnnecessaryTypeIgnoreComment": "error",  # an error that is expected and not found is one
    }
    settings.write_text(json.dumps(content))
    return settings


def symbols_without_type(report: bytes) -> list[str]:
    """Give the names of `memchannel` itself whose type cannot be told from annotations alone."""
    symbols = json.loads(report)["typeCompleteness"]["symbols"]
    exported = {symbol["name"]: symbol for symbol in symbols if symbol["isExported"]}
    if "memchannel.Channel" not in exported:
        raise SystemExit("pyright did not find the package; is it where PYTHONPATH says?")
    return [
        name
        for name, symbol in exported.items()
        if name.count(".") == 1 and (not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"])
    ]


def main() -> int:
    """Run all, beside each other; 1 for errors."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        readme = readme_as_program(folder)
        completeness = subprocess.Popen(
            [sys.executable, "-m", "basedpyright", *COMPLETENESS, "--pythonpath", sys.executable],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT / "python")},
            stdout=subprocess.PIPE,
        )
        places = (CHECKOUT / "tests" / "typing", CHECKOUT / "docs" / "examples")
        commands: list[list[str | Path]] = [
            ["mypy", *places],
            ["mypy", *UNANNOTATED, readme],
            ["basedpyright", "--project", pyright_settings(folder, *places, readme)],
        ]
        running = [
            subprocess.Popen([sys.executable, "-m", *command], cwd=CHECKOUT, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for command in commands
        ]  # fmt: skip
        for process in running:
            print(process.communicate()[0], end="", flush=True)
        unknown = symbols_without_type(completeness.communicate()[0])
        for symbol in unknown:
            print(f"the type of {symbol} is not known to who uses it: annotate it")
    return int(bool(unknown) or any(process.returncode for process in running))


if __name__ == "__main__":
    sys.exit(main())
