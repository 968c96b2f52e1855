"""`Pool`: the interface of `multiprocessing.Pool`, over threads, processes, or both."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

from . import backends
from ._engine import sorting
from ._engine.accounts import Task
from ._engine.dispatch import Dispatch
from ._engine.inbox import Entry
from ._errors import AutoparError, OptionTypeError, OptionValueError
from ._executor import broken_pool, check, keep_until_done
from ._feeder import Feeder
from ._model import Job, Kind
from ._pending import AsyncResult, MapResult, ResultIterator
from ._report.report import Report, observer

R = TypeVar("R")

AHEAD = 4  # calls read of an iterable for each worker, beyond the results that were taken...
LEAST_AHEAD = 32  # ...and at least

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"


class Pool:
    """Workers that run calls: `multiprocessing.Pool`'s interface.

    With `kind="auto"` each function's first calls run in threads, and what computes goes on in
    processes; see `AutoExecutor`. A worker process that dies costs the call it was running, which
    raises `WorkerCrashed`, and no other; nothing waits for ever.

    Args:
        processes: Workers at most, threads included; None for numbers that fit the work.
        initializer: Called with `initargs` once in each worker before its first call.
        initargs: Arguments of `initializer`.
        maxtasksperchild: Calls after which a worker process is replaced by a fresh one, or None.
        kind: "cpu" (always processes), "io" (always threads), or "auto".

    Raises:
        ValueError, TypeError: An option that cannot be meant.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        maxtasksperchild: int | None = None,
        *,
        kind: Kind = "auto",
    ) -> None:
        if isinstance(processes, int) and processes < 1:
            raise OptionValueError("Number of processes must be at least 1")
        check(processes, kind, initializer)
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise OptionValueError("maxtasksperchild must be a positive int or None")
        job = Job(sorting.call, initializer, tuple(initargs), most_items=maxtasksperchild)
        self._dispatch = Dispatch(kind, processes, job, broken_pool, observer())
        self._state = RUN
        keep_until_done(self, self._dispatch)

    # one call

    def apply(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
    ) -> R:
        """`func(*args, **kwds)`, run by a worker."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[R]:
        """Has `func(*args, **kwds)` run by a worker.

        Args:
            func: What to call.
            args: Its arguments.
            kwds: Its keyword arguments.
            callback: Called with the result when it is there, in a thread of the pool.
            error_callback: Called with the exception, if there is one instead.

        Raises:
            ValueError: The pool is closed.
        """
        self._check_running()
        result: AsyncResult[R] = AsyncResult(callback, error_callback)
        task: Task = (func, tuple(args), dict(kwds or {}))
        self._put([Entry(result, task, None, self._dispatch.account(func))])
        return result

    # many calls

    def map(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[R]:
        """`[func(item) for item in iterable]`, run by the workers.

        Args:
            func: Called with one item.
            iterable: Read at once.
            chunksize: Only checked: how many items travel together is found out.

        Raises:
            Exception: What the first item (in order) that failed has raised, when all have ended.
            ValueError: The pool is closed.
        """
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[R]:
        """As `map`, without waiting."""
        calls = ((item,) for item in iterable)
        return self._map(func, calls, chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[R]:
        """`[func(*args) for args in iterable]`, run by the workers; else as `map`."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[R]:
        """As `starmap`, without waiting."""
        calls = (tuple(args) for args in iterable)
        return self._map(func, calls, chunksize, callback, error_callback)

    def _map(
        self,
        func: Callable[..., R],
        calls: Iterator[tuple[Any, ...]],
        chunksize: int | None,
        callback: Callable[[list[R]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> MapResult[R]:
        self._check_running()
        _check_chunksize(chunksize)
        tasks: list[Task] = [(func, args, {}) for args in calls]
        result: MapResult[R] = MapResult(len(tasks), callback, error_callback)
        if tasks:
            account = self._dispatch.account(func)
            self._put(
                [
                    Entry(result.part(index), task, result, account)
                    for index, task in enumerate(tasks)
                ]
            )
        return result

    def imap(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int = 1
    ) -> ResultIterator[R]:
        """The results of `func(item)` one after another, in order.

        The iterable is read by a thread of its own, a bounded way ahead of what was taken of the
        results; what it raises is raised in its place.

        Args:
            func: Called with one item.
            iterable: Any, also one that has no end.
            chunksize: Only checked: how many items travel together is found out.

        Raises:
            ValueError: The pool is closed.
        """
        return self._imap(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int = 1
    ) -> ResultIterator[R]:
        """As `imap`, with each result as soon as it is there."""
        return self._imap(func, iterable, chunksize, ordered=False)

    def _imap(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int,
        *,
        ordered: bool,
    ) -> ResultIterator[R]:
        self._check_running()
        _check_chunksize(chunksize)
        results: ResultIterator[R] = ResultIterator(ordered=ordered)
        feeder = Feeder(self._dispatch, func, iter(iterable), results, self._ahead)
        weakref.finalize(results, feeder.stop).atexit = False
        self._dispatch.hold()
        backends.backend("threads").run(feeder.run)
        return results

    # what came of it

    @property
    def reports(self) -> list[Report]:
        """A report of each function so far; see `AutoExecutor.reports`."""
        return self._dispatch.reports()

    # the end

    def close(self) -> None:
        """Takes no more calls; those there are will be done."""
        if self._state == RUN:
            self._state = CLOSE
            self._dispatch.end()

    def terminate(self) -> None:
        """Ends at once: what has not ended raises an `AutoparError`.

        Worker processes are ended; what runs in threads runs on, and nobody hears of it.
        """
        self._state = TERMINATE
        self._dispatch.kill(AutoparError("the pool was terminated before this call had ended"))

    def join(self) -> None:
        """Waits for the workers, after `close` or `terminate`.

        Raises:
            ValueError: The pool is still running.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        self._dispatch.wait()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} state={self._state}>"

    def _ahead(self) -> int:
        return max(LEAST_AHEAD, AHEAD * self._dispatch.width)

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def _put(self, entries: list[Entry]) -> None:
        broken = self._dispatch.broken
        if broken is not None or not self._dispatch.put(entries):
            raise broken_pool(self._dispatch.broken or RuntimeError("it has ended"))


class ThreadPool(Pool):
    """As `autopar.Pool`, of threads: the room `autopar.threads` has it as `Pool`."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        maxtasksperchild: int | None = None,
    ) -> None:
        super().__init__(processes, initializer, initargs, maxtasksperchild, kind="io")


class ProcessPool(Pool):
    """As `autopar.Pool`, of processes: the room `autopar.processes` has it as `Pool`."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        maxtasksperchild: int | None = None,
    ) -> None:
        super().__init__(processes, initializer, initargs, maxtasksperchild, kind="cpu")


def _check_chunksize(chunksize: int | None) -> None:
    if chunksize is not None and not isinstance(chunksize, int):
        raise OptionTypeError(f"chunksize must be a whole number, not {chunksize!r}")
    if chunksize is not None and chunksize < 1:
        raise OptionValueError(f"Chunksize must be 1+, not {chunksize}")
