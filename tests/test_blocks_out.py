"""map_blocks with out=: who may write to it, and when nobody does any more."""

from __future__ import annotations

import gc
import os
import signal
import time
import weakref

import numpy as np
import pytest

import memchannel
from channel_support import Task, run_script, wait_until
from memchannel import InterpreterPool
from memchannel.memory import WritableBlock


@pytest.fixture(scope="module")
def pool():
    with InterpreterPool(2) as made:
        yield made


# ---- errors


def test_nobody_writes_any_more_when_it_raises(pool):
    going_on = memchannel.Channel()
    begun = memchannel.Channel()

    def job(block):
        if block[0] == 0:
            begun.recv()  # another block is under way
            raise ValueError("the first block")
        begun.send_nowait(None)
        going_on.recv()
        return block * 2

    out = memchannel.zeros(64)
    call = Task(pool.map_blocks, job, np.arange(64.0), blocks=64, out=out)
    wait_until(lambda: any(wait.operation == "task's end" for wait in memchannel.dump_waits()))
    for _ in range(2):  # the other worker may have begun another block before all were cancelled
        going_on.send(None)
    with pytest.raises(ValueError, match="the first block"):
        call.result()
    written = out.copy()
    assert 1 <= np.count_nonzero(written) <= 2
    pool.map_blocks(np.negative, np.arange(64.0), out=out)
    assert (out == -np.arange(64.0)).all()


def test_a_retry_right_in_the_handler(pool):
    out = memchannel.zeros(400)

    def job(block):
        if block[0] == 0:
            raise ValueError("no")
        return block

    for _ in range(30):
        try:
            pool.map_blocks(job, np.arange(400.0), blocks=100, out=out)
        except ValueError:
            pool.map_blocks(np.negative, np.arange(400.0), out=out)
        assert (out == -np.arange(400.0)).all()


def test_an_exception_kept_by_the_function_keeps_nothing(pool):
    def job(block):
        try:
            raise ValueError("kept")
        except ValueError as exc:
            kept = exc  # noqa: F841 - a cycle through this frame
            raise

    out = memchannel.zeros(100)
    before = memchannel.stats().live
    gc.disable()
    try:
        for _ in range(3):
            array = np.arange(100_000.0)
            gone = weakref.ref(array)
            with pytest.raises(ValueError, match="kept"):
                pool.map_blocks(job, array[:100], out=out)
            with pytest.raises(ValueError, match="kept"):
                list(pool.map_blocks(job, array))
            del array
            wait_until(lambda gone=gone: gone() is None, "the end of the array")
            wait_until(lambda: memchannel.stats().live <= before, "the return of what was lent")
    finally:
        gc.enable()


def test_what_is_refused_writes_nothing(pool):
    out = memchannel.zeros(100)
    held = WritableBlock(out[90:])
    with pytest.raises(BufferError, match="lent writable already"):
        pool.map_blocks(np.negative, np.ones(100), blocks=100, out=out)
    assert not out.any()
    del held
    pool.map_blocks(np.negative, np.ones(100), blocks=100, out=out)
    assert (out == -1).all()


def test_the_whole_is_claimed_until_it_is_done(pool):
    going_on = memchannel.Channel()
    out = memchannel.zeros(8)

    def job(block):
        going_on.recv()
        return block

    call = Task(pool.map_blocks, job, np.arange(8.0), blocks=8, out=out)
    wait_until(lambda: going_on.statistics().waiting_receivers == 2)
    with pytest.raises(BufferError):
        WritableBlock(out[7:])
    for _ in range(8):
        going_on.send(None)
    assert call.result() is out
    WritableBlock(out)


def test_a_pool_that_is_shut_down_leaves_out_free(pool):
    out = memchannel.zeros(10)
    with InterpreterPool(1) as over:
        pass
    with pytest.raises(RuntimeError, match="shutdown"):
        over.map_blocks(np.negative, np.arange(10.0), out=out)
    WritableBlock(out)


@pytest.mark.parametrize("progress", [False, True])
def test_ctrl_c_interrupts_the_blocks_and_waits_for_them(progress):
    ready = memchannel.Channel()
    out = memchannel.zeros(64)

    def job(block):
        ready.send(None)
        while True:
            time.sleep(0.001)

    def interrupt_the_wait():
        ready.recv(), ready.recv()
        wait_until(lambda: any(wait.operation == "result" for wait in memchannel.dump_waits()))
        os.kill(os.getpid(), signal.SIGINT)

    with InterpreterPool(2) as pool:
        for _ in range(2):
            ending = Task(interrupt_the_wait)
            with pytest.raises(KeyboardInterrupt):
                pool.map_blocks(job, np.arange(64.0), blocks=64, out=out, progress=progress)
            ending.result()
            WritableBlock(out)  # nobody has it any more
        assert pool.map_blocks(np.negative, np.arange(64.0), out=out) is out


def test_ctrl_c_at_any_moment():
    source = """
import os, signal, threading, time
import memchannel, numpy as np
from memchannel import InterpreterPool
from memchannel.memory import WritableBlock

def job(block, ready):
    ready.send(None)
    while True:
        time.sleep(0.001)

def interrupt(ready, pause):
    ready.recv()
    time.sleep(pause)  # amid whatever the main thread is at
    os.kill(os.getpid(), signal.SIGINT)

# Both interpreters have imported all: importlib's locks may stay locked when an import is interrupted.
begun, go = memchannel.Channel(), memchannel.Channel()
with InterpreterPool(2) as pool:
    results = pool.map_blocks(lambda block: (begun.send(None), go.recv()), np.arange(2), blocks=2)
    begun.recv(), begun.recv()
    go.send_many([None, None])
    list(results)

out = memchannel.zeros(64)
for attempt in range(20):
    ready = memchannel.Channel()
    thread = threading.Thread(target=interrupt, args=(ready, attempt * 0.0002))
    with InterpreterPool(2) as pool:
        thread.start()
        try:
            pool.map_blocks(lambda block: job(block, ready), np.arange(64.0), blocks=64, out=out)
        except KeyboardInterrupt:
            WritableBlock(out)  # nobody has it any more
            print("interrupted", attempt)
        thread.join()
"""
    assert run_script(source) == "".join(f"interrupted {attempt}\n" for attempt in range(20))


# ---- memory that out has in common with the arrays


def test_in_place(pool):
    array = memchannel.array(np.arange(100.0))
    pool.map_blocks(lambda block: block[::-1] * 2, array, blocks=4, out=array)
    assert (array == 2 * np.arange(100.0).reshape(4, 25)[:, ::-1].ravel()).all()
    pool.map_blocks(lambda a, b: a + b, array, array, out=array, blocks=3)
    assert (array == 4 * np.arange(100.0).reshape(4, 25)[:, ::-1].ravel()).all()


BASE = memchannel.zeros((40, 40))
SHARED = {
    "halo": ((BASE,), {"out": BASE, "overlap": 1}),
    "reversed": ((BASE[::-1],), {"out": BASE}),
    "shifted": ((BASE[:30],), {"out": BASE[5:35]}),
    "transposed": ((BASE.T,), {"out": BASE}),
    "other axis": ((BASE, BASE), {"out": BASE, "axis": (0, 1)}),
    "the second": ((np.zeros((40, 40)), BASE[::-1]), {"out": BASE}),
    "one column": ((BASE,), {"out": BASE[:, 7]}),
    "other dtype": ((BASE.view("f4")[:, :40],), {"out": BASE}),
    "masked": ((np.ma.masked_array(BASE[::-1], False),), {"out": BASE}),
    "mask": ((np.ma.masked_array(np.zeros((40, 320)), BASE.view("?")[::-1]),), {"out": BASE.view("i1")}),
}


@pytest.mark.parametrize("name", SHARED)
def test_memory_that_others_read_is_refused(pool, name):
    arrays, options = SHARED[name]
    with pytest.raises(ValueError, match=r"out shares memory with array \d"):
        pool.map_blocks(lambda *blocks: blocks[0], *arrays, **options)
    assert not BASE.any()


def test_neighbours_in_one_memory_are_fine(pool):
    base = memchannel.zeros((10, 4))
    base[:, 0] = np.arange(10)
    pool.map_blocks(lambda block: block * 2, base[:, 0], out=base[:, 1])
    assert (base[:, 1] == 2 * np.arange(10)).all()


# ---- what does not fit


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([slice(0, 3), slice(5, 10)], "no block writes 3:5 of out"),
        ([slice(2, 10)], "no block writes 0:2"),
        ([slice(0, 9)], "no block writes 9:10"),
        ([], "no block writes 0:10"),
        ([slice(0, 10), slice(4, 6)], "blocks overlap at 4:6"),
        ([slice(0, 6), slice(4, 10)], "blocks overlap at 4:6"),
    ],
)
def test_blocks_must_cover_out_once(pool, blocks, text):
    with pytest.raises(ValueError, match=text):
        pool.map_blocks(np.negative, np.arange(10.0), blocks=blocks, out=memchannel.zeros(10))
    if "no block" in text:
        assert len(list(pool.map_blocks(len, np.arange(10.0), blocks=blocks))) == len(blocks)


def test_masks_have_no_place_in_out(pool):
    with pytest.raises(TypeError, match=r"masked array.*filled"):
        pool.map_blocks(lambda b: np.ma.masked_array(b, True), np.arange(4.0), out=memchannel.zeros(4))
    with pytest.raises(TypeError, match="MaskedArray"):
        pool.map_blocks(np.negative, np.arange(4.0), out=np.ma.masked_array(memchannel.zeros(4)))
    with pytest.raises(TypeError, match=r"data and mask.*filled"):
        memchannel.array(np.ma.masked_array([1, 2], [True, False]))


def test_out_must_not_overlap_itself(pool):
    memory = memchannel.zeros(10)
    windows = np.lib.stride_tricks.sliding_window_view(memory, 3, writeable=True)
    with pytest.raises(ValueError, match="may share memory"):
        pool.map_blocks(np.negative, np.ones((8, 3)), out=windows)
    for fine in (memory[:8].reshape(4, 2).T, memory[::-2], memory[:0].reshape(0, 3)):
        assert pool.map_blocks(np.negative, np.ones(fine.shape), out=fine) is fine
        assert (fine == -1).all()
