"""The ledger of one call: what is left, who holds what, what came back.

Guarantees: every item is handed out once, unless it comes back unstarted; results are joined in
item order; after a failure no item behind it starts, and those before it still run, so that the
exception raised is the one the loop would have raised.
Relies on: what `backends.chunk` says of taking the rest of a chunk.
"""

from __future__ import annotations

import heapq
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from .._decide.chunks import chunk_size
from .._platform import gil_enabled
from ..backends.chunk import Chunk
from .source import Source

SLOW_CALL_S = 20e-3  # an item that runs this long must not keep those behind it from starting


class Desk:
    """One call's ledger; see `backends.protocol.Desk` for what crews may do with it."""

    def __init__(self, source: Source, chunksize: int | None) -> None:
        self.source = source
        self.over = False
        self.limit = sys.maxsize  # no item from here on may start
        self.refused: BaseException | None = None  # by a crew that cannot do the job
        self.aborted: BaseException | None = None  # what went wrong with the call as a whole
        self.errors: dict[int, BaseException] = {}
        self.done = 0
        self.busy_s = 0.0
        self.far_s = self.far_cpu_s = 0.0  # of the items whose worker counted its CPU seconds
        self.item_s = 0.0
        self.longest_s = 0.0
        self.ahead = 4
        self._chunksize = chunksize
        self._parts: list[tuple[int, list[Any]]] = []
        self._returned: list[tuple[int, Sequence[Any]]] = []
        self._held = 0
        self._open: set[Chunk] = set()
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)
        self._wake: Callable[[], object] | None = None
        self._gil = gil_enabled()

    # what crews do

    def draw(self, workers: int, message_s: float, longest_s: float) -> Chunk | None:
        """The next chunk for one of `workers`, or None when there is none now."""
        with self._lock:
            return self._draw(self._size(workers, message_s, longest_s))

    def take(
        self, workers: int, message_s: float, longest_s: float
    ) -> tuple[int, Sequence[Any]] | None:
        """As `draw`, for workers in another process: the first index, and the items."""
        with self._lock:
            return self._take(self._size(workers, message_s, longest_s))

    def draw_count(self, count: int) -> Chunk | None:
        """The next chunk of at most `count` items."""
        with self._lock:
            return self._draw(count)

    def follow(self, chunk: Chunk, wall_s: float, count: int) -> Chunk | None:
        """The chunk after one that has been run, whose results will be settled later."""
        with self._lock:
            self._open.discard(chunk)
            self._note(chunk.end - chunk.start, wall_s)
            return None if chunk.stolen else self._draw(count)

    def settle(
        self, start: int, values: list[Any], wall_s: float, cpu_s: float | None = None
    ) -> None:
        """Results of consecutive items, and how long they took together."""
        with self._lock:
            self._note(len(values), wall_s)
            if cpu_s is not None:
                self.far_s += wall_s
                self.far_cpu_s += cpu_s
            self._settle(start, values)

    def settle_followed(self, start: int, values: list[Any]) -> None:
        """Results of consecutive chunks that `follow` has noted."""
        with self._lock:
            self._settle(start, values)

    def finish(self, chunk: Chunk, values: list[Any], wall_s: float) -> None:
        """All results of a chunk that was run through `todo`."""
        with self._lock:
            self._open.discard(chunk)
            self._note(len(values), wall_s)
            self._settle(chunk.start, values)

    def abandon(self, start: int, chunk: Chunk, error: BaseException) -> None:
        """The item of `chunk` that `todo` yielded last raised; the rest is given back.

        start: the first item whose result is lost with it.
        """
        with self._lock:
            self._open.discard(chunk)
            rest = chunk.take_rest()
            failed = chunk.end - len(rest) - 1
            self._held -= failed - start
            self._fail(failed, error)
            self._give_back(failed + 1, rest)

    def fail(self, index: int, error: BaseException) -> None:
        """One item failed."""
        with self._lock:
            self._fail(index, error)

    def give_back(self, start: int, items: Sequence[Any]) -> None:
        """Drawn items that were not started."""
        with self._lock:
            self._give_back(start, items)

    def refuse(self, error: BaseException) -> None:
        """The job cannot be done by this crew at all."""
        with self._lock:
            self.refused = self.refused or error
            self._changed()

    def wait(self, timeout_s: float) -> None:
        """Returns when there may be something to draw, or after `timeout_s`."""
        with self._lock:
            if not self.over and not self._available():
                self._more.wait(timeout_s)

    def wait_change(self, timeout_s: float) -> None:
        """Returns at the next change that somebody may wait for, or after `timeout_s`."""
        with self._lock:
            if not self.over:
                self._more.wait(timeout_s)

    def listen(self, wake: Callable[[], object] | None) -> None:
        """`wake` is called whenever `wait` would return."""
        self._wake = wake

    # what the engine does

    def left(self) -> int | None:
        """Items not yet given out, None when unknown."""
        with self._lock:
            return self._left()

    def unfinished(self) -> int | None:
        """Items given out or not whose results are still to come, None when unknown."""
        with self._lock:
            left = self._left()
            return None if left is None else left + self._held

    def feed(self) -> None:
        """Says that the source has more, or has ended."""
        with self._lock:
            self._check_over()
            self._changed()

    def hungry(self) -> bool:
        """Whether the source should read on, to stay `ahead` items ahead."""
        source = self.source
        return not (source.ended or self.over) and source.ready < self.ahead

    def wait_for_caller(self, works: Callable[[], bool]) -> None:
        """Returns when the call is over, or there is something for the caller's thread to do.

        works: whether the caller's thread may run items.
        """
        with self._lock:
            while not (self.over or self.hungry() or (works() and self._available())):
                self._more.wait()

    def wait_for_stand_in(self, works: Callable[[], bool]) -> None:
        """As `wait_for_caller`, for a thread that runs items in its stead but reads none."""
        with self._lock:
            while not (self.over or (works() and self._available())):
                self._more.wait()

    def tell(self) -> None:
        """Has everyone who waits look again."""
        with self._lock:
            self._changed()

    def abort(self, error: BaseException | None = None) -> None:
        """Ends the call at once, whatever is still being run."""
        with self._lock:
            self.aborted = self.aborted or error
            self._stop_at(-1)
            self.over = True
            self._changed()

    def unstick(self) -> bool:
        """Takes back what waits behind an item that has run long; true if there was such."""
        with self._lock:
            stuck = [chunk for chunk in self._open if self._is_stuck(chunk)]
            for chunk in stuck:
                self._take_rest(chunk)
            return bool(stuck)

    def results(self) -> list[Any]:
        """Every result, in item order."""
        parts = sorted(self._parts, key=lambda part: part[0])
        if not parts:
            return []
        joined = parts[0][1]
        for _start, values in parts[1:]:
            joined += values
        return joined

    # under the lock

    def _size(self, workers: int, message_s: float, longest_s: float) -> int:
        if self._chunksize is not None:
            return self._chunksize
        if not self.item_s:
            return 1
        return chunk_size(self._left(), workers, self.item_s, message_s, longest_s)

    def _left(self) -> int | None:
        unread = self.source.unread
        if unread is None:
            return None
        return unread + sum(len(items) for _start, items in self._returned)

    def _available(self) -> bool:
        return bool(self._returned) or self.source.ready > 0

    def _draw(self, count: int) -> Chunk | None:
        taken = self._take(count)
        if taken is None:
            return None
        chunk = Chunk(*taken, one_step=self._gil)
        self._open.add(chunk)
        return chunk

    def _take(self, count: int) -> tuple[int, Sequence[Any]] | None:
        if self._returned:
            start, items = heapq.heappop(self._returned)
            if len(items) > count:
                heapq.heappush(self._returned, (start + count, items[count:]))
                items = items[:count]
        else:
            start, items = self.source.take(count)
            if not self.source.ended and 2 * self.source.ready < self.ahead:
                self._changed()
        if not items:
            self._check_over()
            return None
        self._held += len(items)
        return start, items

    def _settle(self, start: int, values: list[Any]) -> None:
        if values:
            self._parts.append((start, values))
        self._held -= len(values)
        self._check_over()

    def _note(self, count: int, wall_s: float) -> None:
        self.done += count
        self.busy_s += wall_s
        if count:
            mean, lately = wall_s / count, self.item_s
            self.longest_s = max(self.longest_s, mean)
            weight = min(1.0, 0.2 + wall_s / 0.05)  # 50 ms of work say enough on their own
            self.item_s = mean if not lately else lately + weight * (mean - lately)

    def _fail(self, index: int, error: BaseException) -> None:
        self.errors[index] = error
        self._held -= 1
        self._stop_at(index)
        self._check_over()

    def _stop_at(self, index: int) -> None:
        self.limit = min(self.limit, index)
        kept = [(at, items[: max(0, self.limit - at)]) for at, items in self._returned]
        self._returned = [(at, items) for at, items in kept if items]
        heapq.heapify(self._returned)
        for chunk in [chunk for chunk in self._open if chunk.end > self.limit]:
            self._take_rest(chunk)
        self.source.end()  # items are given out in order: what is left lies behind the limit
        self._check_over()
        self._changed()

    def _give_back(self, start: int, items: Sequence[Any]) -> None:
        self._held -= len(items)
        allowed = min(len(items), max(0, self.limit - start))
        if allowed:
            heapq.heappush(self._returned, (start, items[:allowed]))
            self._changed()
        self._check_over()

    def _take_rest(self, chunk: Chunk) -> None:
        """Takes back what a worker has not started of its chunk."""
        rest = chunk.take_rest()
        chunk.stolen += len(rest)
        self._give_back(chunk.end, rest)

    def _is_stuck(self, chunk: Chunk) -> bool:
        """Whether a chunk has stood at the same item since it was last looked at."""
        waiting = chunk.waiting if chunk.count > 1 else 0
        was, chunk.seen = chunk.seen, waiting
        return 0 < waiting == was

    def _check_over(self) -> None:
        drained = self.source.ended and not self.source.ready
        if drained and not self._held and not self._returned:
            self.over = True
            self._changed()

    def _changed(self) -> None:
        self._more.notify_all()
        if self._wake is not None:
            self._wake()


def now_s() -> float:
    """The clock of the engine, in seconds."""
    return time.perf_counter()
