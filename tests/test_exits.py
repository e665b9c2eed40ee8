"""However a process ends, in whatever situation: the right exit status, no crash, no hang."""

from __future__ import annotations

import pytest

from exits.programs import ENDINGS, SITUATIONS, Outcome, program, run
from exits.run import excuse


def test_there_are_sixty_and_more() -> None:
    assert len(SITUATIONS) * len(ENDINGS) == 66


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


OWN = "Traceback (most recent call last):\n  ...\nLookupError: on purpose\n"


@pytest.mark.parametrize(
    ("outcome", "good"),
    [
        (Outcome(0, 0, ""), True),
        (Outcome(1, 1, OWN), True),
        (Outcome(0, 0, OWN), False),
        (Outcome(1, 1, OWN + OWN), False),
        (Outcome(0, 0, "Exception ignored in atexit callback"), False),
        (Outcome(0, 0, "Fatal Python error"), False),
        (Outcome(-11, 0, ""), False),
        (Outcome(None, 0, ""), False),
    ],
)
def test_failures_are_seen(outcome: Outcome, good: bool) -> None:
    assert outcome.good == good


def test_only_the_same_failure_of_a_control_is_an_excuse() -> None:
    crash, hang, fine = Outcome(-11, 0, ""), Outcome(None, 0, ""), Outcome(0, 0, "")
    assert excuse([crash], [crash, crash, fine]) == 2
    assert excuse([crash], [hang, fine]) == 0
    assert excuse([crash, hang], [crash, hang]) == 2
    assert excuse([crash, hang], [crash, crash]) == 0
    assert excuse([hang], [fine]) == 0
