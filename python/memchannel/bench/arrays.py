"""Arrays: sending and receiving an ndarray against np.asarray(memoryview), from 1 KB to 8 GB.

All in one thread of one interpreter, without waiting: what is measured is the hand-over itself. No page of
the large arrays is ever touched, so that they fit any machine.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import pickle
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory
from typing import Any

import numpy as np

import memchannel
from memchannel.bench._harness import Benchmark, Side, per_operation
from memchannel.bench._processes import companion

bench = Benchmark("arrays", __doc__)

SIZES = {"1 KB": 2**10, "1 MB": 2**20, "1 GB": 2**30, "8 GB": 2**33}


def mapping(nbytes: int) -> mmap.mmap:
    """Map memory whose pages do not exist yet."""
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)


def untouched(nbytes: int) -> Any:
    """Make an array of float64 whose pages do not exist yet, either."""
    return np.empty(nbytes // 8)


def handing_over(array: Any, **options: Any) -> Callable[[], object]:
    """Send an array and receive it."""
    channel: Any = memchannel.ArrayChannel()
    send, recv = channel.send, channel.recv

    def hand_over() -> Any:
        send(array)
        return recv(**options)

    return hand_over


def asarray_of(array: Any) -> Callable[[], object]:
    """Make a memoryview, and an array of it."""
    asarray = np.asarray

    def make() -> Any:
        return asarray(memoryview(array))

    return make


def out_of_band(array: Any) -> Callable[[], object]:
    """Pickle with protocol 5 and buffers out of band, and unpickle."""

    def trip() -> Any:
        buffers: list[pickle.PickleBuffer] = []
        return pickle.loads(pickle.dumps(array, 5, buffer_callback=buffers.append), buffers=buffers)

    return trip


def _side(operation: Callable[[], Any], count: int, array: Any) -> Callable[[], float]:
    given = np.asarray(operation())
    if (given.shape, given.dtype) != (array.shape, array.dtype) or not np.may_share_memory(given, array):
        raise RuntimeError("this is not the array that was handed over")
    return lambda: per_operation(operation, count)


@bench.scenario
def sizes() -> None:
    """Compare sizes: the cost does not depend on them."""
    count = bench.scaled(50_000, 2_000)
    arrays = {name: untouched(size) for name, size in SIZES.items()}
    for name, array in arrays.items():
        bench.compare(
            f"send + recv, {name}",
            {
                side: _side(operation, count, array)
                for side, operation in {
                    "memchannel": handing_over(array),
                    "memoryview, np.asarray": asarray_of(array),
                    "pickle, out of band": out_of_band(array),
                }.items()
            },
            against="memoryview, np.asarray",
            reach=2.5,
            at=array.nbytes,
        )
    sides = {name: _side(handing_over(array), count, array) for name, array in reversed(arrays.items())}
    bench.compare("8 GB against 1 KB", sides, against="1 KB", reach=1.1)


@bench.scenario
def shared_memory_and_rebuild() -> None:
    """Compare with the way between processes: open a segment by name and lay an array over it."""
    count = bench.scaled(2_000, 200)
    segment = shared_memory.SharedMemory(create=True, size=2**20)

    def rebuild() -> None:
        other = shared_memory.SharedMemory(segment.name)
        array = np.ndarray((2**17,), "f8", other.buf)
        if array[-1] != 2.5:
            raise RuntimeError("this is not the array in the segment")
        del array
        other.close()

    array = np.zeros(2**17)
    try:
        np.ndarray((2**17,), "f8", segment.buf)[-1] = 2.5
        sides = {
            "memchannel": _side(handing_over(array), count, array),
            "processes, shared_memory": lambda: per_operation(rebuild, count),
        }
        bench.compare("against shared_memory, 1 MB", sides, against="processes, shared_memory", reach=1)
    finally:
        segment.close()
        segment.unlink()


@contextlib.contextmanager
def ray_store(size: int, count: int) -> Iterator[Side]:
    """Put an array into Ray's store and get it, without a copy on that side; in a process of its own."""
    import ray

    ray.init(
        num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=max(2**28, 8 * size)
    )
    array = np.arange(size // 8, dtype="f8")
    if not np.array_equal(ray.get(ray.put(array)), array):
        raise RuntimeError("Ray gave another array")
    yield lambda: per_operation(lambda: ray.get(ray.put(array)), count)
    ray.shutdown()


@contextlib.contextmanager
def iceoryx2_slice(size: int, count: int) -> Iterator[Side]:
    """Loan a slice, fill it, send and receive it, without a copy on that side; in a process of its own."""
    import ctypes
    import os

    import iceoryx2

    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
    name = iceoryx2.ServiceName.new(f"memchannel-bench-{os.getpid()}")
    kind = iceoryx2.Slice[ctypes.c_uint8]  # of larger elements 0.10 tells the bytes as length
    service = node.service_builder(name).publish_subscribe(kind).open_or_create()
    publisher = service.publisher_builder().initial_max_slice_len(size).create()
    subscriber = service.subscriber_builder().create()
    array = np.arange(size // 8, dtype="f8")

    def trip() -> Any:
        sample = publisher.loan_slice_uninit(size)
        ctypes.memmove(sample.payload_ptr, array.ctypes.data, size)
        sample.assume_init().send()
        return subscriber.receive()

    received = trip()
    if not np.array_equal(np.frombuffer(received.payload().as_memory_view(), "f8"), array):
        raise RuntimeError("iceoryx2 gave another array")
    del received
    yield lambda: per_operation(trip, count)


STORES = {"ray, put and get": ray_store, "iceoryx2, loan and receive": iceoryx2_slice}


@bench.scenario
def stores() -> None:
    """Compare with stores in shared memory: an array is copied there, and read without a copy."""
    for name in ("1 KB", "1 MB") if bench.quick else ("1 KB", "1 MB", "64 MB"):
        size = SIZES.get(name, 2**26)
        count = max(2**22 // size, 3) if not bench.quick else 3
        with contextlib.ExitStack() as stack:
            array = np.arange(size // 8, dtype="f8")
            ours = _side(handing_over(array), max(count, 300), array)
            sides = {"memchannel": ours}
            for side, store in {
                "ray, put and get": ray_store,
                "iceoryx2, loan and receive": iceoryx2_slice,
            }.items():
                start = functools.partial(companion, store, size, min(count, 1000))
                bench.enter(stack, sides, side, start)
            bench.compare(f"to a reader, {name}", sides)


@bench.scenario
def kinds() -> None:
    """Dtypes and layouts that need more than a number, views without NumPy, masked arrays."""
    count = bench.scaled(20_000, 1_000)
    base = untouched(2**20)
    struct = np.zeros(1000, [("t", "M8[ns]"), ("x", ">f8", (2,))])
    arrays: dict[str, Any] = {
        "plain": base,
        "reversed": base[::-1],
        "4-d": base.reshape(8, 16, 32, 32),
        "structured": struct,
        "as_view": base,
        "of mapped memory, checked": np.frombuffer(mapping(2**20), "f8"),
        "masked": np.ma.MaskedArray(base, base == 1),
    }
    sides = {}
    for name, array in arrays.items():
        hand_over = handing_over(array, as_view=True) if name == "as_view" else handing_over(array)
        sides[name] = _side(hand_over, count, array)
    bench.compare("kinds", sides, against="plain")
