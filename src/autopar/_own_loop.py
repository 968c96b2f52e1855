"""Coroutine functions in maps that block: they are awaited on an event loop of the map's own.

It runs in the calling thread; where that thread runs a loop already, or results come one after
another, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from ._afar import LEAVE_S, in_a_thread
from ._awaited import AHEAD, Account, all_of, job_of, most_of
from ._coroutines import ENDING, Awaiting
from ._engine.desk import SIGNALS_S
from ._engine.source import length_of
from ._feeder import close
from ._loops import running, trio_running
from ._options import Chosen
from ._pending import ResultIterator

Main = Callable[[], Coroutine[Any, Any, Any]]


def results(fn: Any, items: Any, chosen: Chosen, *, silent: bool = False) -> list[Any]:
    """`[await fn(item) for item in items]`; nothing if it is to be silent."""
    run, here = _runner()
    main = partial(all_of, fn, items, chosen, silent=silent)
    found: list[Any] = run(main) if here else _result(_Elsewhere(main), run)
    return found


def _result(there: _Elsewhere, run: Callable[[Main], Any]) -> Any:
    try:
        there.start(run)
        return there.result()
    finally:
        there.stop()


def each(fn: Any, items: Any, chosen: Chosen, ordered: bool, ahead: int | None) -> Iterator[Any]:
    """The results one after another; `items` is closed when nobody takes more."""
    at_hand = isinstance(items, list | tuple | range)
    taken: ResultIterator[Any] = ResultIterator(ordered=ordered)
    account = Account(fn, chosen, here=False)
    source = iter(items) if at_hand else _Reader(iter(items))
    mapped = _Mapped(fn, source, chosen, taken, ahead, account)
    there = _Elsewhere(mapped.run)
    found = _each(there, mapped, taken, chosen.errors == "return")
    weakref.finalize(found, there.stop)
    if chosen.progress is None:
        return found
    from ._displays import display
    from ._progress import counted

    return counted(found, display(chosen.progress), length_of(items), account.report)


def _each(
    there: _Elsewhere, mapped: _Mapped, taken: ResultIterator[Any], keep_errors: bool
) -> Iterator[Any]:
    try:
        there.start(_runner()[0])
        while (result := taken.take()) is not None:
            mapped.wake()
            _index, good, value = result
            if not good and not (keep_errors and isinstance(value, Exception)):
                raise value
            yield value
    finally:
        if not sys.is_finalizing():
            there.stop()


def _runner() -> tuple[Callable[[Main], Any], bool]:
    """What runs a coroutine to its end, and whether the calling thread can do that."""
    trio = trio_running()
    if trio is not None:
        return trio.run, False
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return partial(_run, asyncio.new_event_loop), True
    like = type(loop).__module__.startswith("uvloop")
    return partial(_run, type(loop) if like else asyncio.new_event_loop), False


def _run(factory: Callable[[], asyncio.AbstractEventLoop], main: Main) -> Any:
    """Runs it on a new loop, which does not become the thread's current one."""
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


class _Elsewhere:
    """A coroutine that is run in another thread, from where it can be stopped."""

    def __init__(self, main: Main) -> None:
        self._main = main
        self._came: list[tuple[bool, Any]] = []
        self._over = threading.Event()
        self._over.set()
        self._stopped = False
        self._stop: Callable[[], None] = _nothing

    def start(self, run: Callable[[Main], Any]) -> None:
        """Has it run."""
        self._over.clear()
        in_a_thread(lambda: self._work(run))

    def result(self) -> Any:
        """What it returns, or raises."""
        while not self._over.wait(SIGNALS_S):
            pass
        good, value = self._came.pop()
        if good:
            return value
        try:
            raise value
        finally:
            del value  # its traceback leads here

    def stop(self) -> None:
        """Cancels it, and waits for its end, but not for long."""
        self._stopped = True
        self._stop()
        self._over.wait(LEAVE_S)

    def _work(self, run: Callable[[Main], Any]) -> None:
        try:
            run(self._guarded)
        except BaseException as error:
            self._came.append((False, error))
        finally:
            self._over.set()

    async def _guarded(self) -> None:
        loop = running()
        news = loop.signal()
        self._stop = news.set_from_thread

        async def body() -> None:
            try:
                self._came.append((True, await self._main()))
            except loop.own:
                raise
            except BaseException as error:
                self._came.append((False, error))
            finally:
                news.set()

        if not self._stopped:
            task = loop.background(body)
            await news.wait()
            task.cancel()
            await task.wait()


def _nothing() -> None:
    """It does not run."""


class _Mapped:
    """A map that is awaited in one thread, while its results are taken in another."""

    def __init__(
        self,
        fn: Any,
        items: Any,
        chosen: Chosen,
        taken: ResultIterator[Any],
        ahead: int | None,
        account: Account,
    ) -> None:
        self._account = account
        self._fn, self._items, self._chosen = fn, items, chosen
        self._taken, self._ahead = taken, ahead
        self._awaiting: Awaiting | None = None
        self._full = False

    def wake(self) -> None:
        """A result was taken: there may be use for more."""
        if self._full and self._awaiting is not None:
            self._full = False
            self._awaiting.wake_from_thread()

    async def run(self) -> None:
        """The whole of it."""
        count, failure = 0, None
        try:
            job, most = job_of(self._fn, self._chosen), most_of(self._chosen)
            awaiting = Awaiting(job, self._items, most, self._tell, self._may_begin)
            self._awaiting = awaiting
            account = self._account
            account.follow(awaiting)
            try:
                await awaiting.run()
            finally:
                count = awaiting.done
                account.close()
                close(self._items)
        except BaseException as error:
            failure = error
            if isinstance(error, running().own):
                raise
        finally:
            self._taken.end(0 if isinstance(failure, ENDING) else count, failure)
            del failure

    def _tell(self, index: int, good: bool, value: Any) -> None:
        put = self._taken.settle_part if good else self._taken.fail_part
        put(index, value)

    def _may_begin(self, index: int) -> bool:
        if self._has_room(index):
            return True
        self._full = True  # before the last look, or who takes one now wakes nobody
        return self._has_room(index)

    def _has_room(self, index: int) -> bool:
        assert self._awaiting is not None
        return index < self._taken.taken + (self._ahead or AHEAD * self._awaiting.width)


class _Reader:
    """An iterator that may block, as an asynchronous one: other threads read it."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._lock = threading.Lock()
        self._reading = self._closed = False

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> Any:
        read = running().signal()
        came: list[tuple[bool, Any]] = []

        def work() -> None:
            try:
                came.append((True, next(self._items)))
            except BaseException as error:
                came.append((False, error))
            with self._lock:
                self._reading = False
                if self._closed:
                    close(self._items)
            read.set_from_thread()

        self._reading = True
        in_a_thread(work)
        await read.wait()
        good, value = came.pop()
        if good:
            return value
        if isinstance(value, StopIteration):
            raise StopAsyncIteration
        raise value

    async def aclose(self) -> None:
        """Closes the iterator, or has that done when it has been read."""
        with self._lock:
            self._closed = True
            if not self._reading:
                close(self._items)
