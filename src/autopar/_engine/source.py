"""The items of a call, in order, each handed out once.

A list, tuple or range is cut where it lies, and its length asked each time: a list may grow or
shrink meanwhile, and the loop would follow. Any other iterable is read by one thread only, the
caller's (an iterator may belong to its thread, as a database cursor does), a bounded way ahead.
Relies on: the desk's lock around every method but `read`, which has a lock of its own for what it
shares with them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

QUICK_S, SLOW_S = 0.5e-3, 2e-3  # items are read in blocks that take about this long


class Source:
    """Items with their indexes.

    at: the index of the next item to be taken.
    ended: no item will come after those that are ready.
    error: what the iterable raised, at the index `at` will then have reached.
    """

    def __init__(
        self, items: Iterable[Any], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.at = 0
        self._clock = clock
        self.error: BaseException | None = None
        self._blocks: deque[Sequence[Any]] = deque()
        self._read = 0
        self._block = 1
        self._closed = False
        self._lock = threading.Lock()
        # A checker does not narrow by exact types, and a subclass may iterate in its own way.
        if type(items) in (list, tuple, range):
            self._sequence: Sequence[Any] | None = items  # type: ignore[assignment]
            self._size: int | None = None
            self.ended = True
        else:
            self._sequence = None
            self._size = length_of(items)
            self._iterator = iter(items)
            self.ended = False

    @property
    def ready(self) -> int:
        """Items that can be taken now."""
        if self._closed:
            return 0
        known = self._read if self._sequence is None else len(self._sequence)
        return max(0, known - self.at)

    @property
    def unread(self) -> int | None:
        """Items not taken, None when nobody can know."""
        if self.ended:
            return self.ready
        if self._size is None:
            return None
        return max(self._size - self.at, self.ready)

    def take(self, count: int) -> tuple[int, Sequence[Any]]:
        """The index of the next item, and at most `count` items from there."""
        start = self.at
        if self._sequence is not None:
            items = self._sequence[start : start + min(count, self.ready)]
        else:
            items = self._take_block(count)
        self.at += len(items)
        return start, items

    def lend(self, count: int) -> tuple[int, Sequence[Any], int] | None:
        """As `take`, but the whole of the items and how many are meant; None to have them taken.

        Of what would have to be copied to be taken.
        """
        if type(self._sequence) not in (list, tuple):
            return None
        start, count = self.at, min(count, self.ready)
        self.at += count
        assert self._sequence is not None
        return start, self._sequence, count

    def _take_block(self, count: int) -> Sequence[Any]:
        if not self._blocks or count < 1:
            return ()
        block = self._blocks.popleft()  # only the desk takes away, under its lock
        if len(block) > count:
            self._blocks.appendleft(block[count:])
            return block[:count]
        return block

    def read(self, count: int) -> None:
        """Reads up to `count` items ahead; only ever called by the caller's thread.

        In blocks, which grow while the iterable is quick, and are ready to be taken one by one.
        """
        while count > 0 and not self.ended:
            size = min(count, self._block)
            began_s = self._clock()
            self._read_block(size)
            took_s = self._clock() - began_s
            if took_s > SLOW_S:
                self._block = 1
            elif took_s < QUICK_S and size == self._block:
                self._block *= 4
            count -= size

    def _read_block(self, size: int) -> None:
        items: deque[Any] = deque()
        try:
            items.extend(islice(self._iterator, size))  # what came before an error stays in it
        except BaseException as error:
            self.error = error
        with self._lock:
            if items and not self._closed:
                self._blocks.append(list(items))
                self._read += len(items)
            if self.error is not None or len(items) < size:
                self.ended = True

    @property
    def cut(self) -> bool:
        """Whether the items are cut where they lie, so that nobody has to read them."""
        return self._sequence is not None

    def first(self) -> Any:
        """The first item, if it is there to be seen without reading; else None."""
        return self._sequence[0] if self._sequence else None

    def shown(self, index: int) -> str:
        """An item in few words, for a message; nothing when it is gone."""
        if self._sequence is None or index >= len(self._sequence):
            return ""
        return shown(self._sequence[index])

    def end(self) -> None:
        """Forgets what has not been taken."""
        with self._lock:
            self.ended = self._closed = True
            self._blocks.clear()


def shown(item: Any) -> str:
    """An item in few words, to follow others; nothing when it cannot be shown."""
    try:
        text = repr(item)
    except Exception:  # the user's repr must not hide the user's error
        return ""
    return f": {text if len(text) <= 80 else text[:77] + '...'}"


def length_of(items: Any) -> int | None:
    """How many there are, None when nobody can know."""
    try:
        return len(items)
    except TypeError:
        return None
