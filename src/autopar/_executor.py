"""`AutoExecutor`: a `concurrent.futures.Executor` that finds the means for each function."""

from __future__ import annotations

import atexit
import contextvars
import itertools
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from ._awaiting import Blocking
from ._engine import sorting
from ._engine.dispatch import Dispatch
from ._engine.inbox import Entry
from ._errors import AutoparError, OptionTypeError, OptionValueError
from ._model import Job, Kind
from ._options import check_callable, check_kind
from ._report.report import Report, observer
from ._shapes import awaits

T = TypeVar("T")
P = ParamSpec("P")


class BrokenPool(AutoparError, BrokenExecutor):
    """No worker can be had: the initializer fails, or workers die before they are ready."""


class AutoExecutor(Executor):
    """Runs calls in threads or in processes, whichever suits their function.

    With `kind="auto"` the first calls of a function run in threads, where what they take is seen.
    Functions that compute under the GIL go on in processes, if they change nothing that the
    calling process would miss and if their arguments and results can travel; those that wait stay
    in threads, of which there come to be more while that helps. Each function is judged by itself,
    and both kinds of workers are at work at once.

    A call whose worker process dies gets `WorkerCrashed`, and no other call does: the executor
    goes on. Workers are let go while there is nothing to do, unless an initializer has prepared
    them.

    Args:
        max_workers: At most this many calls run at once; None for numbers that fit the work: the
            CPUs for what computes, and up to 100 for what waits.
        kind: What the calls do: "cpu" (compute: always in processes), "io" (wait: always in
            threads), or "auto" to have it found out for each function.
        initializer: Called with `initargs` once in each worker before its first call.
        initargs: Arguments of `initializer`.

    Raises:
        ValueError, TypeError: An option that cannot be meant.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        kind: Kind = "auto",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        check(max_workers, kind, initializer)
        job = Job(sorting.call, initializer, initargs)
        self._dispatch = Dispatch(kind, max_workers, job, broken_pool, observer())
        self._lock = threading.Lock()
        self._closed = False
        keep_until_done(self, self._dispatch)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Has `fn(*args, **kwargs)` called.

        Returns:
            A future with the result or the exception. It is running, and cannot be cancelled any
            more, as soon as a worker has it.

        Raises:
            RuntimeError: After `shutdown`, or while the interpreter ends.
            BrokenExecutor: No worker can be had.
        """
        future: Future[T] = Future()
        account = self._dispatch.account(fn)
        self._put([Entry(_Promise(future), (fn, args, kwargs), None, account)])
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """`map(fn, *iterables)`, with the calls made ahead of time, beside each other.

        Args:
            fn: Called with one member of each iterable.
            iterables: All read at once, unless there is a `buffersize`.
            timeout: Seconds from this call until a result has to be there, or None.
            chunksize: So many calls may travel together; then the result of each is there when
                all of them have ended.
            buffersize: Read only so many calls ahead of what was taken of the results, or None.

        Returns:
            An iterator of the results, in order.

        Raises:
            TimeoutError: From the iterator, when a result is not there in time.
            ValueError, TypeError: An option that cannot be meant.
        """
        if chunksize < 1:
            raise OptionValueError(f"chunksize must be at least 1, not {chunksize}")
        if buffersize is not None and not isinstance(buffersize, int):
            raise OptionTypeError(f"buffersize must be an integer or None, not {buffersize!r}")
        if buffersize is not None and buffersize < 1:
            raise OptionValueError(f"buffersize must be None or > 0, not {buffersize}")
        until_s = None if timeout is None else time.monotonic() + timeout
        tuples = zip(*iterables)
        futures = deque(self._submit_all(fn, itertools.islice(tuples, buffersize), chunksize))
        ahead = None if buffersize is None else tuples
        return _results(weakref.WeakMethod(self._submit_all), fn, futures, ahead, until_s)

    @property
    def reports(self) -> list[Report]:
        """A report of each function so far, in the order of their first calls.

        Its `items` are the calls that have ended, its `wall_s` the seconds from when the first was
        submitted until the last ended, its workers the most there were, for all functions together.
        An `observe()` block in which an executor is made has the same reports when it has ended.
        """
        return self._dispatch.reports()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls, and lets the workers go when those there are have been done.

        Args:
            wait: Return when that is so.
            cancel_futures: Cancel the calls that no worker has.
        """
        with self._lock:
            self._closed = True
        if cancel_futures:
            self._dispatch.wait_for_first()  # they would have had a worker by now
            for entry in self._dispatch.withdraw(lambda _task: True):
                assert isinstance(entry.ticket, _Promise)
                entry.ticket.cancel()
        self._dispatch.end()
        if wait:
            self._dispatch.wait()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """As `shutdown`; but on Ctrl-C nobody waits for what has not ended."""
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            self._dispatch.kill(_interrupted())
        self.shutdown()

    def _submit_all(
        self, fn: Callable[..., T], tuples: Iterable[tuple[Any, ...]], chunksize: int = 1
    ) -> list[Future[T]]:
        futures: list[Future[T]] = []
        entries: list[Entry] = []
        batch, account = None, self._dispatch.account(fn)
        for number, args in enumerate(tuples):
            if chunksize > 1 and number % chunksize == 0:
                batch = object()
            future: Future[T] = Future()
            futures.append(future)
            entries.append(Entry(_Promise(future), (fn, args, {}), batch, account))
        if entries:
            self._put(entries)
        return futures

    def _put(self, entries: list[Entry]) -> None:
        with self._lock:
            broken = self._dispatch.broken
            if broken is not None:
                raise broken_pool(broken)
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if _ended or sys.is_finalizing():
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._dispatch.put(entries):
                return
        raise broken_pool(self._dispatch.broken or RuntimeError("it has ended"))


@overload
def auto_submit(
    fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
) -> Future[T]: ...
@overload
def auto_submit(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
def auto_submit(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    """Has `fn(*args, **kwargs)` called beside everything else, on an executor that all share.

    It is an `AutoExecutor`, made when it is first needed; `shutdown()` ends it when what was
    submitted has been done, as does the end of the interpreter, and the next call makes another.

    Args:
        fn: What is called. What a coroutine function gives is awaited, on an event loop of its own.
        args: Its arguments.
        kwargs: Its arguments by name.

    Returns:
        A future with what it returns or raises, for `concurrent.futures.wait` and its sisters.

    Raises:
        RuntimeError: The interpreter ends.
        BrokenExecutor: No worker can be had.
    """
    return submit_shared("auto", None, fn, *args, **kwargs)


def submit_shared(
    kind: Kind, workers: int | None, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Future[Any]:
    """As `auto_submit`, on the executor for this kind of work, of so many workers."""
    if awaits(fn):
        fn = Blocking(fn)
    while True:
        executor = _shared_executor(kind, workers)
        try:
            return executor.submit(fn, *args, **kwargs)
        except RuntimeError as error:
            with _sharing:
                if _shared.get((kind, workers)) is executor:
                    if isinstance(error, BrokenPool):
                        del _shared[kind, workers]  # the next call may have better luck
                    raise
            # another thread has ended it meanwhile


def _shared_executor(kind: Kind, workers: int | None) -> AutoExecutor:
    with _sharing:
        found = _shared.get((kind, workers))
        if found is None:
            # In no context: whose it happened to be made in is not what others' calls are to see.
            found = contextvars.Context().run(AutoExecutor, workers, kind=kind)
            _shared[kind, workers] = found
        return found


def shutdown_shared(*, wait: bool) -> None:
    """Ends the executors that all share."""
    with _sharing:
        executors = list(_shared.values())
        _shared.clear()
    for executor in executors:
        executor.shutdown(wait=wait)


_sharing = threading.RLock()  # a finalizer or a signal's handler may submit, too
_shared: dict[tuple[Kind, int | None], AutoExecutor] = {}


def _share_nothing() -> None:
    """In a child that the user forked none of the executors works."""
    global _sharing
    _sharing = threading.RLock()
    _shared.clear()


os.register_at_fork(after_in_child=_share_nothing)


class _Promise:
    """A future as the ticket of a task."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def begin(self) -> bool:
        """See `Ticket`."""
        return self._future.set_running_or_notify_cancel()

    def settle(self, value: Any) -> None:
        """See `Ticket`."""
        self._future.set_result(value)

    def fail(self, error: BaseException) -> None:
        """See `Ticket`."""
        self._future.set_exception(error)

    def cancel(self) -> None:
        """The task was withdrawn."""
        self._future.cancel()
        self._future.set_running_or_notify_cancel()


def _results(
    submit_all: weakref.WeakMethod[Any],
    fn: Callable[..., T],
    futures: deque[Future[T]],
    ahead: Iterator[tuple[Any, ...]] | None,
    until_s: float | None,
) -> Iterator[T]:
    """The results of `futures`, and of those that are submitted for each one taken."""
    try:
        while futures:
            submit = submit_all() if ahead is not None else None
            if submit is not None and ahead is not None:
                futures.extend(submit(fn, itertools.islice(ahead, 1)))
                del submit
            left_s = None if until_s is None else until_s - time.monotonic()
            yield _result(futures.popleft(), left_s)
    finally:
        for future in futures:
            future.cancel()


def _result(future: Future[T], timeout_s: float | None) -> T:
    """What came of a future, which is let go with it."""
    try:
        try:
            return future.result(timeout_s)
        finally:
            future.cancel()
    finally:
        del future  # an exception's traceback leads here


def broken_pool(why: BaseException) -> BrokenPool:
    """The error of a call that is put where no worker can be had."""
    error = BrokenPool(f"no worker can be had any more: {why!r}. Make another one.")
    error.__cause__ = why
    return error


def _interrupted() -> AutoparError:
    return AutoparError("the program was interrupted before this call had ended")


def keep_until_done(owner: object, dispatch: Dispatch) -> None:
    """Has `dispatch` end when its owner is gone, or the interpreter ends; what was put is done."""
    _open.add(dispatch)
    weakref.finalize(owner, dispatch.end).atexit = False


def check(most: Any, kind: Any, initializer: Any) -> None:
    """Raises where an option cannot be meant."""
    if most is not None and (not isinstance(most, int) or isinstance(most, bool)):
        raise OptionTypeError(f"max_workers must be a whole number or None, not {most!r}")
    if most is not None and most < 1:
        raise OptionValueError(f"max_workers must be greater than 0, not {most}")
    check_kind(kind)
    if initializer is not None:
        check_callable("initializer", initializer)


_open: weakref.WeakSet[Dispatch] = weakref.WeakSet()
_ended = False


def _end_all() -> None:
    """Before the interpreter ends: what was submitted is done, and nothing more is taken."""
    global _ended
    _ended = True
    dispatches = list(_open)
    for dispatch in dispatches:
        if getattr(sys, "last_type", None) is KeyboardInterrupt:  # the program ends by Ctrl-C
            dispatch.kill(_interrupted())
        dispatch.end(at_once=True)
    for dispatch in dispatches:
        dispatch.wait()


# Before threads are waited for, where the interpreter has a place for that, as it has for the
# standard library's executors; `atexit` comes later.
getattr(threading, "_register_atexit", atexit.register)(_end_all)
