"""What crews hand around: chunks of items, and exceptions in the place of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import length_hint
from typing import Any, NamedTuple

from .._model import Job
from .._retry import Retry, note_tries, wait_before


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
    run than a list; without a GIL each item is popped from a list, and a mark put at its end ends it.

    start: index of the first item. stolen: how many were taken from the end.
    seen: items that were waiting when somebody last looked.
    wait_s: how long its item is to wait first, which has been tried before.
    drawn_s: when it was drawn, that wait included, noted where its item has only so much time.
    """

    __slots__ = (
        "_claims",
        "count",
        "drawn_s",
        "items",
        "seen",
        "start",
        "stolen",
        "todo",
        "wait_s",
    )

    start: int
    items: Sequence[Any]
    count: int
    todo: Iterator[Any]
    _claims: Claims | None
    stolen: int
    seen: int
    drawn_s: float
    wait_s: float

    def __init__(self, start: int, items: Sequence[Any], *, one_step: bool) -> None:
        self._claims = None if one_step else Claims(items)
        todo = iter(items) if self._claims is None else self._claims.each()
        self._begin(start, items, len(items), todo)

    def _begin(self, start: int, items: Sequence[Any], count: int, todo: Iterator[Any]) -> None:
        self.start, self.items, self.count, self.todo = start, items, count, todo
        self.stolen = 0
        self.seen = -1
        self.drawn_s = self.wait_s = 0.0

    @property
    def end(self) -> int:
        """The index after the last item that is still this chunk's."""
        return self.start + self.count - self.stolen

    @property
    def waiting(self) -> int:
        """Items that have not been started."""
        return length_hint(self.todo) if self._claims is None else self._claims.waiting

    @property
    def at(self) -> int:
        """The index of the next item that has not been started."""
        return self.end - self.waiting

    @property
    def ended_early(self) -> bool:
        """Whether its items came to an end before their number was reached."""
        return False

    def take_rest(self) -> list[Any]:
        """The items that have not been started, which nobody will start now."""
        return list(self.todo) if self._claims is None else self._claims.take_rest()


class Lent(Chunk):
    """A chunk of a list or tuple whose items are run where they lie: a copy would take a tenth of
    the time of the briefest functions.

    Should the list become shorter meanwhile, it ends there, as the loop would. Nobody knows then at
    which item, but who counts the results.

    Relies on: the GIL. The iterator tells where it stands until it has come to the list's end,
    which it does not before the chunk's end unless the list has become shorter.

    kept: what was taken from the end of one that ended early, where that is not known yet.
    """

    __slots__ = ("_iterator", "_last_at", "kept")

    _iterator: Any

    def __init__(self, start: int, items: Sequence[Any], count: int) -> None:
        iterator: Any = iter(items)
        iterator.__setstate__(start)
        self._iterator = iterator
        self._claims = None
        self._begin(start, items, count, islice(iterator, count))
        self.kept: list[Any] = []
        self._last_at = start

    @property
    def waiting(self) -> int:
        """See `Chunk`."""
        return 0 if self.ended_early else max(0, self.end - self.at)

    @property
    def at(self) -> int:
        """See `Chunk`; of one that has ended early, where it was when somebody took its rest."""
        state = self._iterator.__reduce__()
        return self._last_at if len(state) < 3 else min(int(state[2]), self.end)

    @property
    def ended_early(self) -> bool:
        """See `Chunk`."""
        return len(self._iterator.__reduce__()) < 3

    def take_rest(self) -> list[Any]:
        """See `Chunk`; of one that ends early by that it is `kept`, and nothing is given."""
        self._last_at = self.at
        rest = list(self.todo)
        if not self.ended_early:
            return rest
        self.kept += rest
        return []


class Claims:
    """Items that one thread runs, and whose rest another may take, without a GIL.

    Relies on: a list's own lock, which makes each pop and each append one step.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        self._left = [_END, *reversed(items)]
        self._taken = False

    def each(self) -> Iterator[Any]:
        """The items in order, until there are none or the rest has been taken."""
        pop = self._left.pop
        while (item := pop()) is not _END:
            yield item

    @property
    def waiting(self) -> int:
        """Items that have not been handed out."""
        return 0 if self._taken else max(0, len(self._left) - 1)

    def take_rest(self) -> list[Any]:
        """The items that have not been handed out; called by one thread at a time."""
        if self._taken:
            return []
        self._taken = True
        self._left.append(_END)  # from here on nothing is handed out any more
        return [item for item in reversed(self._left.copy()) if item is not _END]


_END = object()  # where items end


def runner(job: Job) -> Callable[[Any], Any]:
    """What workers of this process call for an item.

    Where items are given out one by one the desk sees to further tries, and to waits before them.
    """
    return job.fn if job.singly else thorough(job)


def thorough(job: Job) -> Callable[[Any], Any]:
    """`fn`, tried as often as it may be, or a function that returns its exceptions."""
    fn = _persisting(job.fn, job.retries) if job.retries.times else job.fn
    return _keeping(fn) if job.keep_errors else fn


def _persisting(fn: Callable[[Any], Any], retry: Retry) -> Callable[[Any], Any]:
    def persisting(item: Any) -> Any:
        tries = 0
        while True:
            try:
                return fn(item)
            except Exception as error:
                tries += 1
                wait_s = wait_before(retry, tries, error)
                if wait_s is None:
                    note_tries(error, tries)
                    raise
            time.sleep(wait_s)

    return persisting


def _keeping(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def keeping(item: Any) -> Any:
        try:
            return fn(item)
        except (Exception, SystemExit) as error:
            return Failure(error)

    return keeping


class Failure:
    """An exception in the place of a result."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException = error
