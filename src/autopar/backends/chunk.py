"""What crews hand around: chunks of items, and exceptions in the place of results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import length_hint
from typing import Any, NamedTuple

from .._model import Job


class Traits(NamedTuple):
    """What is true of a backend's workers.

    shares_memory: a worker sees and changes the caller's objects; else everything is pickled.
    escapes_gil: Python code of two workers runs at once even where there is a GIL.
    kills_items: an item that never returns can be ended without harm to the caller.
    """

    shares_memory: bool
    escapes_gil: bool
    kills_items: bool


class Chunk:
    """Consecutive items handed to one worker, which runs what `todo` yields.

    The rest of a chunk can be taken away while it is being worked on. Under the GIL, emptying a
    list's iterator is one step that no other thread interleaves with, so a chunk costs no more to
    run than a list; without a GIL each item is claimed from one end, and the rest from the other.

    start: index of the first item. stolen: how many were taken from the end.
    seen: items that were waiting when somebody last looked.
    """

    __slots__ = ("count", "items", "seen", "start", "stolen", "todo")

    def __init__(self, start: int, items: Sequence[Any], *, one_step: bool) -> None:
        self.start, self.items, self.count = start, items, len(items)
        self.todo: Iterator[Any] = iter(items) if one_step else Claims(items)
        self.stolen = 0
        self.seen = -1

    @property
    def end(self) -> int:
        """The index after the last item that is still this chunk's."""
        return self.start + self.count - self.stolen

    @property
    def waiting(self) -> int:
        """Items that have not been started."""
        return length_hint(self.todo)

    def take_rest(self) -> list[Any]:
        """The items that have not been started, which nobody will start now."""
        return self.todo.take_rest() if isinstance(self.todo, Claims) else list(self.todo)


class Claims:
    """An iterator over items that hands each out once, whatever threads ask, without a GIL."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = deque(items)

    def __iter__(self) -> Claims:
        return self

    def __next__(self) -> Any:
        try:
            return self._items.popleft()
        except IndexError:
            raise StopIteration from None

    def __length_hint__(self) -> int:
        return len(self._items)

    def take_rest(self) -> list[Any]:
        """What is left, taken from the far end, so that what others claim stays in one piece."""
        rest: deque[Any] = deque()
        while True:
            try:
                rest.appendleft(self._items.pop())
            except IndexError:
                return list(rest)


def runner(job: Job) -> Callable[[Any], Any]:
    """The function workers of this process call: `fn`, or one that returns its exceptions."""
    if not job.keep_errors:
        return job.fn
    fn = job.fn

    def guarded(item: Any) -> Any:
        try:
            return fn(item)
        except Exception as error:
            return Failure(error)

    return guarded


class Failure:
    """An exception in the place of a result."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error
