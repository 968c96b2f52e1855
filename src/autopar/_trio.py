"""trio; see `_loops`. Imported where it runs."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ._loops import Body, Group, Late, Signal

trio: Any = sys.modules["trio"]  # it is not needed where it does not run, its types included


class Trio:
    """The running loop."""

    name = "trio"
    own: tuple[type[BaseException], ...] = (trio.Cancelled,)
    clock = staticmethod(trio.current_time)

    def signal(self) -> Signal:
        """See `Loop`."""
        return _Signal()

    @asynccontextmanager
    async def _group(self) -> AsyncIterator[Group]:
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            try:
                yield _Group(nursery)
            except trio.Cancelled:
                raise
            except BaseException as error:  # Ctrl-C; a nursery would make a group of it
                failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure

    def group(self) -> AbstractAsyncContextManager[Group]:
        """See `Loop`."""
        return self._group()

    def background(self, body: Body) -> _Task:
        """See `Loop`; a task of the system, as no nursery may be open where a generator yields."""
        task = _Task()
        context = contextvars.copy_context()
        trio.lowlevel.spawn_system_task(task.run, body, context=context)
        return task

    async def give_way(self) -> None:
        """See `Loop`."""
        await trio.lowlevel.checkpoint()

    async def sleep(self, seconds: float) -> None:
        """See `Loop`."""
        await trio.sleep(seconds)

    async def within(self, seconds: float, call: Awaitable[Any]) -> Any:
        """See `Loop`."""
        with trio.move_on_after(seconds):
            return await call
        raise Late

    async def settled(self, signal: Signal, seconds: float) -> None:
        """See `Loop`."""
        with trio.CancelScope(shield=True):
            await signal.wait(seconds)


class _Signal:
    def __init__(self) -> None:
        self._event = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def set(self) -> None:
        self._event.set()

    def set_from_thread(self) -> None:
        try:
            self._token.run_sync_soon(self.set)
        except trio.RunFinishedError:
            pass

    async def wait(self, seconds: float | None = None) -> None:
        if seconds is None:
            await self._event.wait()
        else:
            with trio.move_on_after(seconds):
                await self._event.wait()
        if self._event.is_set():
            self._event = trio.Event()


class _Group:
    def __init__(self, nursery: Any) -> None:
        self._nursery = nursery

    def spawn(self, body: Body) -> Callable[[], object]:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await body()

        self._nursery.start_soon(run)
        cancel: Callable[[], object] = scope.cancel
        return cancel


class _Task:
    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._over = trio.Event()

    async def run(self, body: Body) -> None:
        """The whole of it. What a task of the system raises would end the program."""
        try:
            with self._scope:
                await body()
        finally:
            self._over.set()

    def cancel(self) -> None:
        self._scope.cancel()

    async def wait(self, seconds: float | None = None) -> None:
        scope = trio.CancelScope(shield=True)
        if seconds is not None:
            scope.deadline = trio.current_time() + seconds
        with scope:
            await self._over.wait()
