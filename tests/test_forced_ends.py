"""Owners that are ended by force while what they lent is in use, and crowds of interpreters.

CPython's own crash on this: a memoryview over a buffer of an interpreter that is gone (cpython#132776).
"""

from __future__ import annotations

import re

import pytest

from channel_support import run_script

LENT_AND_ENDED = """
import gc, warnings
import memchannel
from memchannel import ArrayChannel, MemChannel, interpreters

def lend(bytes_of, array_of):
    import numpy as np
    bytes_of.send(bytearray(b"spam"))
    array_of.send(np.arange(1000))
    array_of.send(np.arange(3))

first, second = MemChannel(), ArrayChannel()
owner = interpreters.create()
interpreters.run(owner, lend, bytes_of=first, array_of=second).check()
view, array = first.recv(), second.recv()
try:
    interpreters.close(owner)
except BufferError as exc:
    print(exc)
owner.close()
print(memchannel.stats().abandoned, memchannel.stats().live)
"""


def test_what_an_owner_ended_by_force_lent_stays_and_is_counted() -> None:
    source = (
        LENT_AND_ENDED
        + """
warnings.simplefilter("ignore")  # the drops
print(bytes(view), int(array.sum()), second.recv().tolist())
"""
    )
    refusal, counts, values = run_script(source).splitlines()
    assert re.fullmatch(r"3 views of interpreter \d+ are out \(channels \d+, \d+\)", refusal)
    assert counts == "3 0"  # from the owner's end on, whoever still holds them
    assert values == f"b'spam' {sum(range(1000))} [0, 1, 2]"


def test_the_first_drop_warns_once_and_names_owner_and_channels() -> None:
    source = (
        LENT_AND_ENDED
        + """
def drops():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield seen
    print([(one.category.__name__, str(one.message)) for one in seen])

for seen in drops():
    del array
    gc.collect()
for seen in drops():
    view.release()
    second.recv()
    gc.collect()
print(memchannel.stats().abandoned, memchannel.stats().live)
"""
    )
    refusal, _, first, later, counts = run_script(source).splitlines()
    (owner,) = re.findall(r"of interpreter (\d+) are out", refusal)
    (channels,) = re.findall(r"\(channels (.*)\)", refusal)
    assert first == str(
        [
            (
                "ResourceWarning",
                f"interpreter {owner} ended while 3 of its buffers were lent (channels: {channels}); "
                "the memory stays allocated until the process ends",
            )
        ]
    )
    assert later == "[]"
    assert counts == "3 0"


def test_the_warning_comes_in_the_interpreter_that_drops() -> None:
    source = """
import memchannel
from memchannel import ArrayChannel, interpreters

def lend(channel):
    import numpy as np
    channel.send(np.arange(1000))

channel = ArrayChannel()
owner, other = interpreters.create(), interpreters.create()
interpreters.run(owner, lend, channel=channel).check()
interpreters.run(other, "import numpy; kept = channel.recv()", channel=channel).check()
owner.close()
interpreters.run(other, '''
import warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    total = int(kept.sum())
    del kept
texts = [str(one.message).split(" (")[0] for one in seen if one.category is ResourceWarning]
print(total, len(texts), texts[0].split(" ", 2)[2], flush=True)
''').check()
interpreters.close(other)
"""
    assert run_script(source) == f"{sum(range(1000))} 1 ended while 1 of its buffers was lent\n"


# cpython#109700, #123134, skypilot#10559: each interpreter that comes costs descriptors, threads and memory.
@pytest.mark.slow
def test_a_hundred_interpreters_at_once() -> None:
    source = """
import os, threading
import memchannel
from memchannel import Channel, MemChannel, interpreters

def counts():
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(interpreters.list_all())

interpreters.close(interpreters.create(packages=None))
before = counts()
made = [interpreters.create(packages=None) for _ in range(100)]
print(len(interpreters.list_all()))
shared, answers = MemChannel(), Channel()
memory = bytearray(range(100))
ends = [shared.broadcast() for _ in made]
shared.send(memory)
source = "with end.recv() as view: answers.send(view[index])"
for index in range(0, 100, 10):
    interpreters.run(made[index], source, end=ends[index], index=index, answers=answers).check()
print(answers.recv_many(100) == [*range(0, 100, 10)])
del ends[:]
memory.append(1)  # nobody holds it any more
for interp in made:
    interpreters.close(interp)
print([now <= then for now, then in zip(counts(), before)])
"""
    assert run_script(source).splitlines() == ["101", "True", "[True, True, True]"]


def test_pool_after_pool_takes_no_more_memory() -> None:
    source = """
import gc, os, resource
import numpy as np
from memchannel import InterpreterPool, interpreters

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def total(block):
    return block.sum()

array = np.ones(500_000)
seen = []
for _ in range(20):
    with InterpreterPool(2) as pool:
        assert sum(pool.map_blocks(total, array)) == array.size
    gc.collect()
    seen.append((resident(), len(os.listdir("/proc/self/fd")), len(interpreters.list_all())))
memory, descriptors, made = zip(*seen)
print(max(memory[10:]) - max(memory[:10]) < 8_000_000, (max(memory) - memory[4]) // 1_000_000)
print(descriptors[-1] <= descriptors[4], max(made) <= 3)
"""
    memory, rest = run_script(source).splitlines()
    assert memory.startswith("True "), f"MB grown: {memory}"
    assert rest == "True True"
