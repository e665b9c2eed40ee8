"""A few random programs, seeds that failed once, and the tools themselves."""

from __future__ import annotations

import pytest

from chaos.programs import WEIGHTS, Program, generate, run, shrink


@pytest.mark.parametrize("seed", range(20))
def test_a_random_program(seed: int) -> None:
    outcome = run(generate(seed))
    assert outcome.good, f"{outcome.why}\n{outcome.stderr}"


# At exit, the core's thread dropped the last reference to an interpreter that the main one was destroying.
ENDED_TWICE: list[Program] = [
    [
        ("create", 0, 0),
        ("create", 0, 0),
        ("create", 40242, 53673),
        ("close politely", 6399, 58806),
        ("send from", 12163, 20090),
        ("receive in", 51023, 52984),
        ("fall", 0, 0),
    ],
    [
        ("create", 0, 0),
        ("create", 0, 0),
        ("send", 42736, 2257),
        ("receive", 20702, 7758),
        ("send from", 37308, 59986),
        ("receive", 30357, 63025),
        ("fall", 0, 0),
    ],
]


@pytest.mark.parametrize("program", ENDED_TWICE)
def test_an_interpreter_is_ended_once(program: Program) -> None:
    for _ in range(5):
        outcome = run(program)
        assert outcome.good, f"{outcome.why}\n{outcome.stderr}"


def test_every_operation_at_once() -> None:
    program: Program = [
        ("create", 1, 0),
        ("create", 1, 0),
        *((name, 1, 1) for name in WEIGHTS),
        ("exit", 0, 0),
    ]
    outcome = run(program)
    assert outcome.good, f"{outcome.why}\n{outcome.stderr}"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ([("no such ending", 0, 0), ("exit", 0, 0)], "status 0, not 3"),
        ([("create", "not a number", 0), ("exit", 0, 0)], "status 1, not 3"),
    ],
)
def test_failures_are_seen(program: Program, why: str) -> None:
    outcome = run(program)
    assert not outcome.good
    assert outcome.why == why


def test_a_seed_tells_the_program() -> None:
    assert generate(7) == generate(7) != generate(8)


def test_failing_programs_are_shrunk() -> None:
    program = generate(0, 60)
    needed = [step for step in program if step[0] == "send"][:2]
    assert len(needed) == 2

    def fails(shorter: Program) -> bool:
        return all(step in shorter for step in needed)

    assert shrink(program, fails) == [*needed, program[-1]]
