"""Iterables, asynchronous or not, whose items are drawn by coroutines of one loop."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from ._engine.source import length_of
from ._loops import Loop, Signal


class Reading(Protocol):
    """What is being read.

    left: items there are to be read, where that is known. ended: there will be none any more.
    error: what the iterable raised, after its last item.
    """

    left: int | None
    error: BaseException | None

    @property
    def ended(self) -> bool: ...

    def draw(self) -> tuple[Any, ...]:
        """The next item, alone, or nothing where there is none now."""
        ...

    def wake(self) -> None:
        """There may be use for more."""
        ...


class Now:
    """A plain iterable: an item is read when it is drawn."""

    def __init__(self, items: Any) -> None:
        self.left: int | None = length_of(items)
        self.error: BaseException | None = None
        self.ended = False
        self._items: Iterator[Any] = iter(items)

    def draw(self) -> tuple[Any, ...]:
        """See `Reading`."""
        if self.ended:
            return ()
        try:
            return (next(self._items),)
        except StopIteration:
            self.ended = True
        except BaseException as error:
            self.ended, self.error = True, error
        return ()

    def wake(self) -> None:
        """See `Reading`."""


class Later:
    """An asynchronous iterable: one coroutine reads it, one item ahead of those that are drawn.

    Always the same, as its contexts (time limits, groups) belong to one.
    may_read: tells whether there is use for another. news: is set when there is something to draw.
    """

    left: int | None = None

    def __init__(self, items: Any, loop: Loop, may_read: Callable[[], bool], news: Signal) -> None:
        self.error: BaseException | None = None
        self._items: AsyncIterator[Any] = aiter(items)
        self._loop, self._may_read, self._news = loop, may_read, news
        self._room = loop.signal()
        self._here = deque[Any]()
        self._over = False

    @property
    def ended(self) -> bool:
        """See `Reading`."""
        return self._over and not self._here

    def draw(self) -> tuple[Any, ...]:
        """See `Reading`."""
        if not self._here:
            return ()
        self._room.set()
        return (self._here.popleft(),)

    def wake(self) -> None:
        """See `Reading`."""
        self._room.set()

    async def run(self) -> None:
        """Reads to the end, or until it is cancelled; closes what it has not read out."""
        try:
            while True:
                while self._here or not self._may_read():
                    await self._room.wait()
                self._here.append(await anext(self._items))
                self._news.set()
        except StopAsyncIteration:
            pass
        except self._loop.own:
            raise
        except BaseException as error:
            self.error = error
        finally:
            self._over = True
            self._news.set()
            await self._close()

    async def _close(self) -> None:
        failed = await closed(self._items)
        self.error = self.error or failed


async def closed(items: AsyncIterator[Any]) -> Exception | None:
    """Closes a generator, and whatever else can be closed as one; what that raised."""
    closing = getattr(items, "aclose", None)
    try:
        if closing is not None:
            await closing()
    except Exception as error:
        return error
    return None
