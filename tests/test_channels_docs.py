"""The examples of docs/channels.md and of what they document, as they stand there."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType

import pytest

import memchannel.channels
import memchannel.statistics

PAGE = Path(__file__).parent.parent / "docs" / "channels.md"


def test_the_page_about_channels() -> None:
    failed, attempted = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert failed == 0
    assert attempted > 30


@pytest.mark.parametrize("module", [memchannel.channels, memchannel.statistics])
def test_examples_in_docstrings(module: ModuleType) -> None:
    failed, attempted = doctest.testmod(module)
    assert failed == 0
    assert attempted > 0
