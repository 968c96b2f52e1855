"""Results of a pool that are still to come: one, a list of them, or one after another.

Names and behaviour are those of `multiprocessing.pool`'s AsyncResult and its iterators.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from ._engine.desk import SIGNALS_S

R = TypeVar("R")


class AsyncResult(Generic[R]):
    """The result of a call that may not have ended."""

    def __init__(
        self,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._callback, self._error_callback = callback, error_callback
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def get(self, timeout: float | None = None) -> R:
        """The result, once it is there.

        Args:
            timeout: Seconds to wait, or None.

        Raises:
            Exception: What the call raised.
            multiprocessing.TimeoutError: The call has not ended in time.
        """
        self.wait(timeout)
        if not self.ready():
            raise _late()
        if self._error is None:
            value: R = self._value
            return value
        try:
            raise self._error
        finally:
            del self  # the traceback leads to this frame, which must not lead back

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the call has ended, or for so many seconds."""
        until_s = None if timeout is None else time.monotonic() + timeout
        while not self._done.is_set():
            left_s = SIGNALS_S if until_s is None else until_s - time.monotonic()
            if left_s <= 0:
                return
            self._done.wait(min(left_s, SIGNALS_S))

    def ready(self) -> bool:
        """Whether the call has ended."""
        return self._done.is_set()

    def successful(self) -> bool:
        """Whether the call has ended without an exception.

        Raises:
            ValueError: It has not ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    # a ticket

    def begin(self) -> bool:
        """See `Ticket`."""
        return True

    def settle(self, value: Any) -> None:
        """See `Ticket`."""
        self._value = value
        _tell(self._callback, value)
        self._finish()

    def fail(self, error: BaseException) -> None:
        """See `Ticket`."""
        self._error = error
        _tell(self._error_callback, error)
        self._finish()

    def _finish(self) -> None:
        self._callback = self._error_callback = None
        self._done.set()


class MapResult(AsyncResult[list[R]]):
    """The results of calls that may not have ended, in order.

    Where some fail, the others are run all the same, and what the first of them (in order) raised
    is raised.
    """

    def __init__(
        self,
        count: int,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        super().__init__(callback, error_callback)
        self._values: list[Any] = [None] * count
        self._left = count
        self._failed = count
        self._lock = threading.Lock()
        self._first: BaseException | None = None
        if not count:
            self.settle([])

    def part(self, index: int) -> Part:
        """The ticket of one of the calls."""
        return Part(self, index)

    def settle_part(self, index: int, value: Any) -> None:
        """One of the calls has returned."""
        self._values[index] = value
        self._count()

    def fail_part(self, index: int, error: BaseException) -> None:
        """One of the calls has raised."""
        with self._lock:
            if index < self._failed:
                self._failed, self._first = index, error
        self._count()

    def _count(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
            error, self._first = self._first, None
        values, self._values = self._values, []
        if error is None:
            self.settle(values)
        else:
            self.fail(error)


class Part:
    """The ticket of one of many calls."""

    __slots__ = ("_index", "_whole")

    def __init__(self, whole: MapResult[Any] | ResultIterator[Any], index: int) -> None:
        self._whole, self._index = whole, index

    def begin(self) -> bool:
        """See `Ticket`."""
        return True

    def settle(self, value: Any) -> None:
        """See `Ticket`."""
        self._whole.settle_part(self._index, value)

    def fail(self, error: BaseException) -> None:
        """See `Ticket`."""
        self._whole.fail_part(self._index, error)


class ResultIterator(Iterator[R]):
    """Results as they come, in order or not.

    taken: results that were taken from it, so that no more is read ahead than there is use for.
    """

    def __init__(self, *, ordered: bool) -> None:
        self.taken: int = 0
        self.moved: threading.Condition = threading.Condition()
        self._ordered = ordered
        self._here: deque[tuple[int, bool, Any]] = deque()
        self._early: dict[int, tuple[int, bool, Any]] = {}
        self._next = 0
        self._count: int | None = None
        self._error: BaseException | None = None

    def __iter__(self) -> ResultIterator[R]:
        return self

    def __next__(self) -> R:
        return self.next()

    def next(self, timeout: float | None = None) -> R:
        """The next result.

        Args:
            timeout: Seconds to wait for it, or None.

        Raises:
            StopIteration: There are no more.
            Exception: What its call raised; those that follow can still be had.
            multiprocessing.TimeoutError: It is not there in time.
        """
        _index, good, value = self._take(timeout)
        if good:
            result: R = value
            return result
        try:
            raise value
        finally:
            del value

    def take(self) -> tuple[int, bool, Any] | None:
        """The next result's index, whether it is one, and it or the exception; None at the end.

        Raises:
            Exception: What the iterable raised, after all results.
        """
        try:
            return self._take(None)
        except StopIteration:
            return None

    def _take(self, timeout: float | None) -> tuple[int, bool, Any]:
        until_s = None if timeout is None else time.monotonic() + timeout
        with self.moved:
            while not self._here:
                if self._count is not None and self.taken >= self._count:
                    self._end()
                left_s = SIGNALS_S if until_s is None else until_s - time.monotonic()
                if left_s <= 0:
                    raise _late()
                self.moved.wait(min(left_s, SIGNALS_S))
            self.taken += 1
            self.moved.notify_all()
            return self._here.popleft()

    def _end(self) -> None:
        error, self._error = self._error, None
        if error is None:
            raise StopIteration
        try:
            raise error
        finally:
            del error

    def settle_part(self, index: int, value: Any) -> None:
        """One of the calls has returned."""
        self._put((index, True, value))

    def fail_part(self, index: int, error: BaseException) -> None:
        """One of the calls has raised."""
        self._put((index, False, error))

    def end(self, count: int, error: BaseException | None = None) -> None:
        """There are so many results in all, and then, if there is one, this error."""
        with self.moved:
            self._count, self._error = count, error
            self.moved.notify_all()

    def _put(self, result: tuple[int, bool, Any]) -> None:
        with self.moved:
            if not self._ordered:
                self._here.append(result)
            else:
                self._early[result[0]] = result
                while self._next in self._early:
                    self._here.append(self._early.pop(self._next))
                    self._next += 1
            self.moved.notify_all()


def _late() -> Exception:
    from multiprocessing import TimeoutError as PoolTimeout

    return PoolTimeout("the result is not there yet")


def _tell(callback: Callable[[Any], object] | None, value: Any) -> None:
    """Calls back; an exception there is shown, and ends nothing."""
    if callback is None:
        return
    try:
        callback(value)
    except Exception:
        args = (*sys.exc_info(), threading.current_thread())
        threading.excepthook(threading.ExceptHookArgs(args))
