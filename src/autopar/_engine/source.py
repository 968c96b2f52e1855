"""The items of a call, in order, each handed out once.

A list, tuple or range is cut where it lies. Any other iterable is read by one thread only, the
caller's (an iterator may belong to its thread, as a database cursor does), a bounded way ahead.
Relies on: the desk's lock around every method but `read`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any


class Source:
    """Items with their indexes.

    at: the index of the next item to be taken.
    ended: no item will come after those that are ready.
    error: what the iterable raised, at the index `at` will then have reached.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self.at = 0
        self.error: BaseException | None = None
        self._read: deque[Any] = deque()
        if type(items) in (list, tuple, range):
            self._sequence: Sequence[Any] | None = items  # type: ignore[assignment]
            self._size: int | None = len(items)  # type: ignore[arg-type]
            self.ended = True
        else:
            self._sequence = None
            self._size = _length(items)
            self._iterator = iter(items)
            self.ended = False

    @property
    def ready(self) -> int:
        """Items that can be taken now."""
        if self._sequence is not None:
            return max(0, (self._size or 0) - self.at)
        return len(self._read)

    @property
    def unread(self) -> int | None:
        """Items not taken, None when nobody can know."""
        if self.ended:
            return self.ready
        if self._size is None:
            return None
        return max(self._size - self.at, len(self._read))

    def take(self, count: int) -> tuple[int, Sequence[Any]]:
        """The index of the next item, and up to `count` items from there."""
        start = self.at
        if self._sequence is not None:
            items = self._sequence[start : start + min(count, self.ready)]
        else:
            items = [self._read.popleft() for _ in range(min(count, len(self._read)))]
        self.at += len(items)
        return start, items

    def read(self, count: int) -> None:
        """Reads up to `count` items ahead; only ever called by the caller's thread."""
        if self.ended:
            return
        got = 0
        try:
            for item in islice(self._iterator, count):
                self._read.append(item)
                got += 1
        except BaseException as error:
            self.error = error
            got = -1
        if got < count:
            self.ended = True

    @property
    def cut(self) -> bool:
        """Whether the items are cut where they lie, so that nobody has to read them."""
        return self._sequence is not None

    def first(self) -> Any:
        """The first item, if it is there to be seen without reading; else None."""
        return self._sequence[0] if self._sequence and not self.at else None

    def shown(self, index: int) -> str:
        """An item in few words, for a message; nothing when it is gone."""
        if self._sequence is None or index >= len(self._sequence):
            return ""
        try:
            text = repr(self._sequence[index])
        except Exception:  # the user's repr must not hide the user's error
            return ""
        return f": {text if len(text) <= 80 else text[:77] + '...'}"

    def end(self) -> None:
        """Forgets what has not been taken."""
        self.ended = True
        self._size = self.at
        self._read.clear()


def _length(items: Iterable[Any]) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]
    except TypeError:
        return None
