"""The few things that libraries of coroutines are asked for here: asyncio and trio, whichever runs.

Guarantees: what is spawned in a group has ended when the group is left, however it is left; what
runs in the background ends nothing but itself.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

Body = Callable[[], Coroutine[Any, Any, None]]


class Late(Exception):
    """What was awaited took longer than it may, and was cancelled."""


class Signal(Protocol):
    """Something that one coroutine waits for."""

    def set(self) -> None:
        """Wakes it, from its own thread."""
        ...

    def set_from_thread(self) -> None:
        """Wakes it, from any thread; nothing when the loop is gone."""
        ...

    async def wait(self, seconds: float | None = None) -> None:
        """Returns when it is set, or after so long, and has it unset again."""
        ...


class Group(Protocol):
    """Coroutines beside the one that waits for them all."""

    def spawn(self, body: Body) -> Callable[[], object]:
        """Runs another, which must not raise; what cancels it."""
        ...


class Task(Protocol):
    """A coroutine in the background; it must not raise."""

    def cancel(self) -> None:
        """Cancels it, once."""
        ...

    async def wait(self, seconds: float | None = None) -> None:
        """Returns when it has ended, or after so long, also where the caller was cancelled."""
        ...


class Loop(Protocol):
    """The library that runs the calling coroutine.

    name: what it is called. own: what its cancellations raise that nobody may keep.
    """

    name: str
    own: tuple[type[BaseException], ...]

    def clock(self) -> float:
        """Seconds since some time."""
        ...

    def signal(self) -> Signal:
        """One that is not set."""
        ...

    def group(self) -> AbstractAsyncContextManager[Group]:
        """Leaving it waits for all that runs in it; an exception that leaves it cancels them."""
        ...

    def background(self, body: Body) -> Task:
        """Runs a coroutine beside all others."""
        ...

    async def give_way(self) -> None:
        """Lets others run."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Lets others run for so long."""
        ...

    async def within(self, seconds: float, call: Awaitable[Any]) -> Any:
        """What `call` gives. Raises: Late when it takes longer."""
        ...

    async def settled(self, signal: Signal, seconds: float) -> None:
        """Waits for a signal, but not longer, also where the caller was cancelled."""
        ...


def running() -> Loop:
    """The one that runs the calling coroutine. Raises: RuntimeError where none does."""
    if trio_running() is not None:
        from ._trio import Trio

        return Trio()
    from ._asyncio import Asyncio

    return Asyncio()


def trio_running() -> Any:
    """trio, where it runs in this thread, else None."""
    trio = sys.modules.get("trio")
    lowlevel = getattr(trio, "lowlevel", None)  # another thread may be about to import it
    return trio if lowlevel is not None and lowlevel.in_trio_run() else None
