"""Plain functions under an event loop: a thread stands in for the one that would block.

Guarantees: the loop waits for nothing but signals; when the coroutine that waits is cancelled, the
work is too, and what cannot be (an item in a thread) is waited for a bounded time.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

from . import backends
from ._errors import AutoparError
from ._feeder import close
from ._lazy import Leash
from ._loops import Loop, running
from ._reading import closed

AHEAD = 8  # results that wait for whoever takes them, unless their number was said
LEAVE_S = 1.0  # what was cancelled has ended by then, but for items in threads


def nobody_waits() -> AutoparError:
    """What is not done fails with this."""
    return AutoparError("the coroutine that waited for the results was cancelled")


def in_a_thread(work: Callable[[], object]) -> None:
    """Has it called in a thread, with the context of this one."""
    context = contextvars.copy_context()
    backends.backend("threads").run(lambda: context.run(work))


async def done_by(run: Callable[[], Any], abort: Callable[[AutoparError], object]) -> Any:
    """What `run` gives, in a thread; `abort` ends it when the calling coroutine is cancelled."""
    loop, came = running(), list[tuple[bool, Any]]()
    done = loop.signal()

    def work() -> None:
        try:
            came.append((True, run()))
        except BaseException as error:
            came.append((False, error))
        done.set_from_thread()

    try:
        in_a_thread(work)
        await done.wait()
    except BaseException:
        abort(nobody_waits())
        if not came:
            await loop.settled(done, LEAVE_S)
        raise
    good, value = came.pop()
    if good:
        return value
    try:
        raise value
    finally:
        del value  # its traceback leads here


async def each_by(
    results: Callable[[Iterator[Any], Leash], Iterator[Any]], items: Any, ahead: int | None
) -> AsyncGenerator[Any]:
    """What the iterator `results(items, leash)` gives, which a thread takes from it."""
    bridge = Bridge(running(), items) if hasattr(items, "__anext__") else None
    leash = Leash()
    pump = _Pump(running(), results(bridge or items, leash), 0 if ahead else AHEAD)
    try:
        in_a_thread(pump.run)
        while (came := await pump.next()) is not None:
            good, value = came
            if not good:
                raise value
            yield value
    finally:
        pump.end()
        leash.cut(nobody_waits())
        if bridge is not None:
            await bridge.end()
        await pump.over()


class _Pump:
    """Takes results from an iterator, as they are awaited, and so many ahead."""

    def __init__(self, loop: Loop, results: Iterator[Any], ahead: int) -> None:
        self._loop, self._results = loop, results
        self._news = loop.signal()
        self._here: deque[tuple[bool, Any] | None] = deque()
        self._wanted = threading.Semaphore(ahead)
        self._ended = self._is_over = False

    def run(self) -> None:
        """The whole of it, in a thread."""
        last: tuple[bool, Any] | None = None
        try:
            while True:
                self._wanted.acquire()
                if self._ended:
                    break
                self._here.append((True, next(self._results)))
                self._news.set_from_thread()
        except StopIteration:
            pass
        except BaseException as error:
            last = False, error
        try:
            close(self._results)
        except BaseException as error:
            last = last or (False, error)
        self._is_over = True
        self._here.append(last)
        if last is not None:
            self._here.append(None)
        del last
        self._news.set_from_thread()

    async def next(self) -> tuple[bool, Any] | None:
        """Whether it is a result, and it or the exception; None at the end."""
        self._wanted.release()
        while not self._here:
            await self._news.wait()
        return self._here.popleft()

    def end(self) -> None:
        """Nobody takes any more."""
        self._ended = True
        self._wanted.release()

    async def over(self) -> None:
        """Waits until the iterator is closed, but not for long."""
        until_s = self._loop.clock() + LEAVE_S
        while not self._is_over and (left_s := until_s - self._loop.clock()) > 0:
            await self._loop.settled(self._news, left_s)


class Bridge:
    """The items of an asynchronous iterator, for a thread: each is awaited when it is asked for.

    All are awaited by one task, as its contexts belong to one.
    """

    def __init__(self, loop: Loop, items: AsyncIterator[Any]) -> None:
        self._items = items
        self._wanted = loop.signal()
        self._lock = threading.Condition()
        self._came: deque[tuple[bool, Any]] = deque()
        self._over = False
        self._own = loop.own
        self._task = loop.background(self._serve)

    def __iter__(self) -> Bridge:
        return self

    def __next__(self) -> Any:
        self._wanted.set_from_thread()
        with self._lock:
            while not self._came and not self._over:
                self._lock.wait()
            if not self._came:
                raise StopIteration
            good, value = self._came.popleft()
        if good:
            return value
        try:
            raise value
        finally:
            del value

    def stop(self) -> None:
        """Nobody asks any more; who waits gets the end."""
        self._say_over()
        self._task.cancel()

    async def end(self) -> None:
        """As `stop`, and waits until the iterator is closed, but not for long."""
        self.stop()
        await self._task.wait(LEAVE_S)

    async def _serve(self) -> None:
        try:
            while not self._over:
                await self._wanted.wait()
                self._give(True, await anext(self._items))
        except StopAsyncIteration:
            pass
        except self._own:
            raise
        except BaseException as error:
            self._give(False, error)
        finally:
            self._say_over()
            failed = await closed(self._items)
            if failed is not None:
                self._give(False, failed)

    def _give(self, good: bool, value: Any) -> None:
        with self._lock:
            self._came.append((good, value))
            self._lock.notify()

    def _say_over(self) -> None:
        with self._lock:
            self._over = True
            self._lock.notify_all()
