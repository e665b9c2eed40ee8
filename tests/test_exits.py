"""However a process ends, in whatever situation: the right exit status, no crash, no hang."""

from __future__ import annotations

import pytest

from exits.programs import ENDINGS, SITUATIONS, program, run


def test_there_are_sixty() -> None:
    assert len(SITUATIONS) * len(ENDINGS) == 60


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_ending(situation: str) -> None:
    for ending, (_, expected) in ENDINGS.items():
        outcome = run(program(situation, ending), expected)
        if not outcome.good and SITUATIONS[situation].control is not None:
            # CPython's own, if it ends in the same way without memchannel.
            control = run(program(situation, ending, control=True), expected)
            if control.code == outcome.code != expected:
                continue
        assert outcome.good, f"{ending}: status {outcome.code}, not {expected}\n{outcome.stderr}"
