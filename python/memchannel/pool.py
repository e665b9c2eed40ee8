"""A `concurrent.futures.Executor` whose workers are interpreters of this process."""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, NoReturn, overload

from memchannel import _core, _display, _making, _worker
from memchannel._arguments import checked_arguments, checked_name, checked_packages, deadline, integer
from memchannel._crew import BrokenInterpreterPool, Crew, Shipment, _Terms
from memchannel._results import Results
from memchannel.codecs.functions import UNPICKLABLE, dump_function, unpicklable_part

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Unpack

    from numpy.typing import NDArray

    from memchannel._typing import ArraySource, BlockOptions, MapOptions


__all__ = ["BrokenInterpreterPool", "InterpreterPool"]

_numbers = itertools.count()
_MOST_BLAS_THREADS = 4  # for each processor; a library starts as many as it is told, with buffers


def _name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _bound(function: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    return functools.partial(function, *args) if args else function


_CALL, _CALL_ITEM, _CALL_CHUNK = map(_name_of, (_worker.call, _worker.call_item, _worker.call_chunk))


class InterpreterPool(Executor):
    """Run functions in other interpreters, each with its own GIL and its own NumPy.

    Arrays of 64 KiB and more in arguments and results are never copied: the other side gets a read-only
    array over the same memory.

    Parameters
    ----------
    max_workers : int, optional
        How many interpreters; by default ``os.process_cpu_count()``.
    packages : iterable of str, "all" or None, optional
        Packages whose extension modules load as private images in the workers, see `memchannel.images`.
    initializer : callable, optional
        Called in each worker before its first task.
    initargs : tuple, optional
        Its arguments.
    max_tasks_per_interpreter : int, optional
        After so many tasks a worker gets a fresh (or cleaned) interpreter.
    name : str, optional
        Shown in the names of threads and in messages.
    reuse : bool, optional
        Take parked interpreters of earlier pools, and park the workers' at the end. They cost tens of
        megabytes that CPython does not give back.
    blas_threads : int, optional
        How many threads each BLAS library (OpenBLAS, MKL, BLIS) may use for one operation while tasks of this
        pool run; by default the processors are shared out among the workers. There is one such library for
        all interpreters, so the number holds for the whole process; of several pools at work the smallest
        holds. It is put back as soon as no task runs. More than four for each processor is as good as that,
        and a library takes no more than it was built for (64 in NumPy's wheels).
    prefix_output : bool, optional
        Begin each line that a worker prints with its name, ``[pool_number]``. What workers write to
        `sys.stdout` and `sys.stderr` comes out of those of the interpreter that made the pool, whatever they
        are then, line by line, and before the task's result.

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If the initializer is not callable, or a number is no integer.
    pickle.PicklingError
        If the initializer or one of its arguments cannot be pickled.

    Examples
    --------
    >>> from memchannel import InterpreterPool
    >>> with InterpreterPool(2, packages=None) as pool:
    ...     list(pool.map(pow, [2, 3], [10, 2]))
    [1024, 9]
    """

    def __init__[*Ts](
        self,
        max_workers: int | None = None,
        *,
        packages: Iterable[str] | str | None = ("numpy",),
        initializer: Callable[[*Ts], object] | None = None,
        initargs: tuple[*Ts] = (),  # type: ignore[assignment]  # as without an initializer
        max_tasks_per_interpreter: int | None = None,
        name: str | None = None,
        reuse: bool = True,
        blas_threads: int | None = None,
        prefix_output: bool = False,
    ) -> None:
        workers = os.process_cpu_count() or 1
        if max_workers is not None:
            workers = integer("max_workers", max_workers, least=1, rule="greater than 0", optional=True)
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, not {initializer!r}")
        limit = max_tasks_per_interpreter
        if limit is not None:
            limit = integer("max_tasks_per_interpreter", limit, least=1, optional=True)
        if blas_threads is not None:
            most = _MOST_BLAS_THREADS * (os.process_cpu_count() or 1)
            blas_threads = integer("blas_threads", blas_threads, least=1, optional=True, most=most)
        given = checked_arguments("initargs", initargs, initializer)
        self._max_workers = workers
        self._crew = Crew(
            _Terms(
                workers,
                checked_packages(_making.listed(packages)),  # an iterator would do for one worker only
                None if initializer is None else dump_function(_bound(initializer, given)),
                -1 if limit is None else limit,
                checked_name(name) or f"InterpreterPool-{next(_numbers)}",
                bool(reuse),
                blas_threads,
                bool(prefix_output),
            )
        )
        # A pool that nobody holds ends when its tasks are done, as the standard executors do.
        self._finalizer = weakref.finalize(self, self._crew.shutdown, wait=False, cancel_futures=False)
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        state = "" if self._crew.state == "open" else f", {self._crew.state.partition(':')[0]}"
        return f"<InterpreterPool {self._crew.terms.name!r}, {self._max_workers} workers{state}>"

    _repr_html_ = _display.html_of

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:
        return _display.fields(self)

    def __reduce__(self) -> NoReturn:
        raise pickle.PicklingError(
            f"pool {self._crew.terms.name!r} belongs to the interpreter that made it: a task can make a pool "
            "of its own, or return what is to be submitted next"
        )

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule ``fn(*args, **kwargs)`` in a worker and return its future.

        Parameters
        ----------
        fn : callable
            Sent by reference where the worker can import it, by value where it cannot.
        *args, **kwargs : object
            Pickled, but arrays of 64 KiB and more in them are lent.

        Returns
        -------
        concurrent.futures.Future
            Of what the call returns or raises.

        Raises
        ------
        RuntimeError
            After `shutdown`.
        BrokenInterpreterPool
            If a worker could not start.
        pickle.PicklingError
            If the function or an argument cannot be pickled.
        """
        return self._submit(self._crew.ship(fn), args, kwargs)

    def _submit(self, shipment: Shipment, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        try:
            if shipment.parts is None:
                return self._crew.submit(shipment.name, args, kwargs or None)
            return self._crew.submit((_CALL, None), (shipment.parts, *args), kwargs or None)
        except Exception as exc:
            self._blame_argument({**dict(enumerate(args)), **kwargs}, exc)
            raise

    @overload  # type: ignore[override]  # narrower than an Executor's, as the built-in map is
    def map[T, T1](
        self, fn: Callable[[T1], T], items: Iterable[T1], /, **options: Unpack[MapOptions]
    ) -> Iterator[T]: ...
    @overload
    def map[T, T1, T2](
        self,
        fn: Callable[[T1, T2], T],
        items1: Iterable[T1],
        items2: Iterable[T2],
        /,
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...
    @overload
    def map[T, T1, T2, T3](
        self,
        fn: Callable[[T1, T2, T3], T],
        items1: Iterable[T1],
        items2: Iterable[T2],
        items3: Iterable[T3],
        /,
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...
    @overload
    def map[T](
        self,
        fn: Callable[..., T],
        items1: Iterable[Any],
        items2: Iterable[Any],
        items3: Iterable[Any],
        items4: Iterable[Any],
        /,
        *more_items: Iterable[Any],
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Call `fn` for each tuple of items; see `concurrent.futures.Executor.map`.

        A large array that several items have, or views of it, anywhere in them, is lent once. An exception of
        a call has a note with the item's index.

        Parameters
        ----------
        fn : callable
            Called with one item of each iterable.
        *iterables : iterable
            It ends with the shortest.
        timeout : float, optional
            Seconds from now in which a result must be there when it is asked for; None waits for ever.
        chunksize : int, optional
            How many items go to a worker in one task.
        buffersize : int, optional
            Read the iterables only so far ahead of the results, on every Python; None reads all at once.

        Returns
        -------
        iterator
            Of the results, in order.

        Raises
        ------
        TimeoutError
            By the iterator: the time is over.
        ValueError
            If a number is out of range.
        RuntimeError, BrokenInterpreterPool, pickle.PicklingError
            As by `submit`; also by the iterator, for items that are read later.
        """
        chunksize = integer("chunksize", chunksize, least=1)
        if buffersize is not None:
            buffersize = integer("buffersize", buffersize, least=1, rule="None or > 0", optional=True)
        end = deadline("timeout", timeout)
        shipment = self._crew.ship(fn)
        lendings = _core.Lendings()
        items = _zipped(iterables)
        tasks = enumerate(items) if chunksize == 1 else _chunks(items, chunksize)
        wrapper = _CALL_ITEM if chunksize == 1 else _CALL_CHUNK

        def submit(task: tuple[int, Any]) -> Future[Any]:
            try:
                name, args = (wrapper, shipment.name), (shipment.parts, *task)
                return self._crew.submit(name, args, None, lendings=lendings)
            except Exception as exc:
                first, chunk = task
                each = {first: chunk} if chunksize == 1 else dict(enumerate(chunk, first))
                self._blame_argument(each, exc)
                raise

        ahead = None if buffersize is None else -(-buffersize // chunksize)
        results = Results(self, submit, tasks, ahead, lendings, end=end)
        results.start()
        return results if chunksize == 1 else itertools.chain.from_iterable(results)

    def _blame_argument(self, arguments: dict[Any, Any], exc: Exception) -> None:
        """Name the argument that cannot be pickled: in another error, or a note to what the object raised."""
        if self._crew.broken or self._crew.was_shut_down:
            return
        for name, value in arguments.items():
            if part := unpicklable_part(value):
                text = f"argument {name!r} cannot be sent to a worker: {part}"
                if isinstance(exc, UNPICKLABLE):
                    raise pickle.PicklingError(text) from exc
                exc.add_note(text)
                return

    # A function of one array is checked against the array's own type, or any array where that is none.
    @overload
    def map_blocks[A: NDArray[Any], T](
        self, fn: Callable[[A], T], array: A, /, *, out: None = None, **options: Unpack[BlockOptions]
    ) -> Iterator[T]: ...
    @overload
    def map_blocks[A: NDArray[Any], Out: NDArray[Any]](
        self, fn: Callable[[A], object], array: A, /, *, out: Out, **options: Unpack[BlockOptions]
    ) -> Out: ...
    @overload
    def map_blocks[T](
        self,
        fn: Callable[[NDArray[Any]], T],
        array: ArraySource,
        /,
        *,
        out: None = None,
        **options: Unpack[BlockOptions],
    ) -> Iterator[T]: ...
    @overload
    def map_blocks[Out: NDArray[Any]](
        self,
        fn: Callable[[NDArray[Any]], object],
        array: ArraySource,
        /,
        *,
        out: Out,
        **options: Unpack[BlockOptions],
    ) -> Out: ...
    @overload
    def map_blocks[A: NDArray[Any], B: NDArray[Any], T](
        self,
        fn: Callable[[A, B], T],
        array1: A,
        array2: B,
        /,
        *,
        out: None = None,
        **options: Unpack[BlockOptions],
    ) -> Iterator[T]: ...
    @overload
    def map_blocks[A: NDArray[Any], B: NDArray[Any], Out: NDArray[Any]](
        self,
        fn: Callable[[A, B], object],
        array1: A,
        array2: B,
        /,
        *,
        out: Out,
        **options: Unpack[BlockOptions],
    ) -> Out: ...
    @overload
    def map_blocks[T](
        self,
        fn: Callable[..., T],
        array1: ArraySource,
        array2: ArraySource,
        /,
        *more: ArraySource,
        out: None = None,
        **options: Unpack[BlockOptions],
    ) -> Iterator[T]: ...
    @overload
    def map_blocks[Out: NDArray[Any]](
        self,
        fn: Callable[..., object],
        array1: ArraySource,
        array2: ArraySource,
        /,
        *more: ArraySource,
        out: Out,
        **options: Unpack[BlockOptions],
    ) -> Out: ...
    def map_blocks(
        self,
        fn: Callable[..., Any],
        *arrays: Any,
        axis: int | tuple[int, ...] = 0,
        blocks: int | Iterable[slice] | None = None,
        overlap: int = 0,
        trim: bool = True,
        out: NDArray[Any] | None = None,
        progress: bool = False,
    ) -> Any:
        """Call `fn` with one block of each array after the other, in all workers; nothing is copied.

        Parameters
        ----------
        fn : callable
            Called with as many blocks as there are arrays: read-only views along `axis`.
        *arrays : array
            Of equal length along their axes; everything an `ArrayChannel` takes. They are lent, not copied.
        axis : int or tuple of int, optional
            The axis to split, one for all or one for each array.
        blocks : int or iterable of slice, optional
            How many blocks, of nearly equal length, or which ones. By default four for each worker.
        overlap : int, optional
            Length of the halo: each block comes with so many further elements at both sides, fewer at the
            edges.
        trim : bool, optional
            Cut the halo off results that have the halo's length along the axis.
        out : numpy.ndarray, optional
            Made by `memchannel.empty`; each worker writes its own block's result into it, in place. It may
            be one of the arrays itself, without `overlap`. On an error nobody writes to it any more.
        progress : bool, optional
            Show a bar (terminal and notebook).

        Returns
        -------
        iterator or numpy.ndarray
            Results in order, or `out`. Eight blocks for each worker are started ahead of the result that is
            asked for, so that results do not pile up; the rest are at the latest when the pool shuts down.

        Raises
        ------
        numpy.exceptions.AxisError
            If the axis is out of range.
        ValueError
            If lengths, blocks, `overlap` or the shape of `out` or of a result do not fit, or `out` lies in
            the memory of an input in another way than block upon block.
        TypeError
            If something is no array or holds Python objects, or `out` is memory of an interpreter.
        BufferError
            If somebody else may write to a part of `out`.
        """
        from memchannel.blocks import map_blocks

        return map_blocks(
            self, fn, arrays, axis=axis, blocks=blocks, overlap=overlap, trim=trim, out=out, progress=progress
        )

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> bool | None:
        """Shut down, waiting for the tasks; after Ctrl-C they are cancelled or interrupted first."""
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            self._crew.interrupt()
        return super().__exit__(exc_type, exc_val, exc_tb)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; see `concurrent.futures.Executor.shutdown`.

        Results that are still held do not delay it: their memory stays with the parked interpreters.

        Parameters
        ----------
        wait : bool, optional
            Return when all tasks are done.
        cancel_futures : bool, optional
            Cancel the tasks that have not begun.
        """
        self._crew.shutdown(wait, cancel_futures)


def _zipped(iterables: tuple[Iterable[Any], ...]) -> Iterator[tuple[Any, ...]]:
    try:
        return zip(*iterables, strict=False)
    except TypeError:
        for number, one in enumerate(iterables):
            if not (hasattr(one, "__iter__") or hasattr(one, "__getitem__")):
                raise TypeError(f"iterable {number} of map() cannot be iterated over: {one!r}") from None
        raise


def _chunks(items: Iterable[Any], size: int) -> Iterator[tuple[int, list[Any]]]:
    iterator = iter(items)
    for first in itertools.count(0, size):
        chunk = list(itertools.islice(iterator, size))
        if not chunk:
            return
        yield first, chunk
