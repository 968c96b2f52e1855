"""What crews hand around: chunks of items, and exceptions in the place of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

    The rest of a chunk can be taken away while it is being worked on: emptying the iterator is
    one step that no other thread can interleave with (under the GIL, or under `claim` without).

    start: index of the first item. stolen: how many were taken from the end.
    """

    __slots__ = ("count", "items", "seen", "start", "stolen", "todo")

    def __init__(self, start: int, items: Sequence[Any], todo: Iterator[Any]) -> None:
        self.start, self.items, self.count = start, items, len(items)
        self.todo = todo
        self.stolen = 0
        self.seen = -1

    @property
    def end(self) -> int:
        """The index after the last item that is still this chunk's."""
        return self.start + self.count - self.stolen


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
