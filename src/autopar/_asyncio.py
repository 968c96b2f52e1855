"""asyncio, and whatever loop it runs on; see `_loops`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from ._loops import Body, Group, Late, Signal


class Asyncio:
    """The running event loop."""

    own: tuple[type[BaseException], ...] = ()

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        fast = type(self._loop).__module__.partition(".")[0] == "uvloop"
        self.name = "uvloop" if fast else "asyncio"

    def signal(self) -> Signal:
        """See `Loop`."""
        return _Signal(self._loop)

    def group(self) -> AbstractAsyncContextManager[Group]:
        """See `Loop`."""
        return _Group()

    def background(self, body: Body) -> _Task:
        """See `Loop`."""
        return _Task(self._loop.create_task(body()))

    async def give_way(self) -> None:
        """See `Loop`."""
        await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        """See `Loop`."""
        await asyncio.sleep(seconds)

    async def within(self, seconds: float, call: Awaitable[Any]) -> Any:
        """See `Loop`."""
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await call
        except TimeoutError as error:
            if limit.expired():
                raise Late from error
            raise

    async def settled(self, signal: Signal, seconds: float) -> None:
        """See `Loop`; a cancellation is over once it has been raised."""
        await signal.wait(seconds)


class _Signal:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._is_set = True
        self._wake()

    def set_from_thread(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self.set)
        except RuntimeError:  # the loop is closed
            pass

    async def wait(self, seconds: float | None = None) -> None:
        if not self._is_set:
            waiter = self._waiter = self._loop.create_future()
            timer = None if seconds is None else self._loop.call_later(seconds, self._wake)
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        self._is_set = False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Group(asyncio.TaskGroup):
    def spawn(self, body: Body) -> Callable[[], object]:
        return self.create_task(body()).cancel


class _Task:
    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task  # the loop itself only refers to it weakly
        self._cancelled = False

    def cancel(self) -> None:
        if not self._cancelled:  # a second time would disturb how it ends
            self._cancelled = True
            self._task.cancel()

    async def wait(self, seconds: float | None = None) -> None:
        try:
            await asyncio.wait([self._task], timeout=seconds)
        except asyncio.CancelledError:  # once: who does not end does not hold up who insists
            await asyncio.wait([self._task], timeout=seconds)
            raise
