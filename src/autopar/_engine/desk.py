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
from typing import TYPE_CHECKING, Any

from .._decide.chunks import chunk_size
from .._decide.width import Tally
from .._errors import TaskTimeout
from .._platform import gil_enabled
from .._retry import NEVER, Retry, may_try_again, note_tries, pause_s
from ..backends.chunk import Chunk, Failure, Lent
from .bell import Bell
from .kept import Kept
from .source import Source
from .turns import Courtesy

if TYPE_CHECKING:
    from .inbox import Inbox

# A signal that comes as the main thread is about to block is only handled when that wakes. Without a
# GIL the moment is long on a busy machine: before it blocks, it offers its CPU to others 40 times.
SIGNALS_S = 0.2
SLOW_CALL_S = 20e-3  # an item that runs this long must not keep those behind it from starting


class Desk:
    """One call's ledger; see `backends.protocol.Desk` for what crews may do with it."""

    def __init__(
        self,
        source: Source | Inbox,
        chunksize: int | None,
        *,
        retries: Retry = NEVER,
        timeout_s: float | None = None,
        keep_errors: bool = False,
        silent: bool = False,
    ) -> None:
        self.source = source
        self.over = False
        self.limit = sys.maxsize  # no item from here on may start
        self.refused: BaseException | None = None  # by a crew that cannot do the job
        self.aborted: BaseException | None = None  # what went wrong with the call as a whole
        self.errors: dict[int, BaseException] = {}
        self.done = 0
        self.busy_s = 0.0
        self.failed = 0  # items whose result is an exception
        self.counted = 0  # items whose worker counted its CPU seconds...
        self.counted_s = self.cpu_s = 0.0  # ...how long they took, and those
        self.moved_s = 0.0  # that crews have spent on packing, sending and loading
        self.item_s = 0.0
        self.longest_s = 0.0
        self.ahead = 4
        self.courtesy = Courtesy()
        self._chunksize = chunksize
        self._retries = retries
        self._timeout_s = timeout_s
        self._singly = timeout_s is not None or retries.waits
        self._keep_errors = keep_errors
        self._kept = Kept(silent=silent, failures_too=keep_errors)
        self._tries: dict[int, int] = {}  # of items that failed, and are to be tried elsewhere
        self._returned: list[tuple[int, Sequence[Any]]] = []
        self._held = 0
        self._open: set[Chunk] = set()
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)
        self._rested = threading.Condition(self._lock)  # not for what is meant for those who draw
        self._wake: Callable[[], object] | None = None
        self._due = sys.maxsize  # with so many items done the bell is rung
        self._bell = Bell()
        self._gil = gil_enabled()

    # what crews do

    def draw(self, workers: int, message_s: float, longest_s: float) -> Chunk | None:
        """The next chunk for one of `workers`, or None when there is none now."""
        with self._lock:
            return self._draw(self._draw_size(workers, message_s, longest_s))

    def take(
        self, workers: int, message_s: float, longest_s: float
    ) -> tuple[int, Sequence[Any]] | None:
        """As `draw`, for workers in another process: the first index, and the items."""
        with self._lock:
            return self._take(self._size(workers, message_s, longest_s))

    def draw_count(self, count: int) -> Chunk | None:
        """The next chunk of at most `count` items."""
        with self._lock:
            return self._draw(min(count, 1) if self._singly else count)

    def follow(self, chunk: Chunk, wall_s: float, count: int) -> Chunk | None:
        """The chunk after one that has been run, whose results will be settled later."""
        with self._lock:
            self._open.discard(chunk)
            self._note(chunk.end - chunk.start, wall_s)
            if chunk.stolen:
                return None
            return self._lend(count) if self._gil and not self._returned else self._draw(count)

    def cut_short(self, chunk: Lent, end: int, wall_s: float) -> None:
        """The list has become shorter: the last item of a chunk that was run is before `end`."""
        with self._lock:
            self._open.discard(chunk)
            self._note(end - chunk.start, wall_s)
            self._forgo(chunk.end - end - len(chunk.kept))
            self._give_back(end, chunk.kept)

    def give_way(self) -> None:
        """Lets the director in if it is late; to be called between two chunks."""
        self.courtesy.give_way()

    def settle(
        self, start: int, values: list[Any], wall_s: float, cpu_s: float | None = None
    ) -> None:
        """Results of consecutive items, and how long they took together."""
        with self._lock:
            self._note(len(values), wall_s, cpu_s)
            self._settle(start, values, wall_s, cpu_s)

    def settle_followed(self, start: int, values: list[Any]) -> None:
        """Results of consecutive chunks that `follow` has noted."""
        with self._lock:
            self._settle(start, values)

    def finish(
        self, chunk: Chunk, values: list[Any], wall_s: float, cpu_s: float | None = None
    ) -> bool:
        """All results of a chunk that was run through `todo`; False when it had been given up."""
        with self._lock:
            if chunk not in self._open:
                return False
            self._open.discard(chunk)
            self._note(len(values), wall_s, cpu_s)
            self._settle(chunk.start, values, wall_s, cpu_s)
            return True

    def rest(self, chunk: Chunk, unwanted: Callable[[], bool]) -> None:
        """Returns when a chunk's item may be tried again, or nothing is left in the chunk.

        unwanted: whether who rests is to rest no more; whoever makes it so calls `tell`.
        """
        until_s = now_s() + chunk.wait_s
        with self._lock:
            while (left_s := until_s - now_s()) > 0 and chunk.waiting:
                if self.over or unwanted():
                    self._take_rest(chunk)
                    return
                self._rested.wait(min(left_s, SIGNALS_S))

    def abandon(self, start: int, chunk: Chunk, error: BaseException) -> bool:
        """The item of `chunk` that `todo` yielded last raised; the rest is given back.

        start: the first item whose result is lost with it.
        False when the chunk had been given up.
        """
        tries = self._tries.get(chunk.start, 0) + 1
        final: BaseException | None = error
        if self._singly and isinstance(error, Exception):
            final = self._final(error, tries)
        with self._lock:
            if chunk not in self._open:
                return False
            self._open.discard(chunk)
            failed = chunk.at - 1
            rest = chunk.take_rest()
            self._held -= failed - start
            self._forgo(chunk.end - failed - 1 - len(rest))
            if final is not None:
                self._fail(failed, final)
            else:  # a chunk of one item, with a time of its own for each try
                self._try_again(failed, chunk.items[0], tries)
            self._give_back(failed + 1, rest)
            return True

    def fail(self, index: int, error: BaseException) -> None:
        """One item failed, and has no try left."""
        with self._lock:
            self._fail(index, error)

    def reject(self, index: int, item: Any, error: Exception) -> None:
        """One item does not travel to the workers it was for."""
        self.fail(index, error)

    def lose(self, index: int, item: Any, error: Exception, tries: int) -> None:
        """One item failed after so many tries; it gets another if it may."""
        final = self._final(error, tries)
        with self._lock:
            if final is None:
                self._try_again(index, item, tries)
            else:
                self._fail(index, final)

    def postpone(self, index: int, item: Any, tries: int) -> None:
        """One item, which has had so many tries, is to have another one, alone."""
        with self._lock:
            self._try_again(index, item, tries)

    def tries(self, index: int) -> int:
        """How many tries an item has had."""
        return self._tries.get(index, 0)

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

    def wait_done(self, done: int, timeout_s: float) -> None:
        """Returns when so many items are done, at such a change, or after `timeout_s`.

        For one thread, beside others that queue for the GIL: it needs fewer turns to wait so.
        """
        self._due = done
        if not self.over and self.done < done:
            self._bell.wait(timeout_s)
        self._due = sys.maxsize

    def listen(self, wake: Callable[[], object] | None) -> None:
        """`wake` is called whenever `wait` would return; the one before never again."""
        with self._lock:  # it may be about to write to a descriptor that is closed next
            self._wake = wake

    # what the engine does

    def tally(self) -> Tally:
        """What came of the items so far."""
        with self._lock:
            return Tally(self.done, self.failed, self.busy_s, time.process_time())

    def stand(self) -> tuple[int, int | None]:
        """Items done, and how many there are in all; None for these when nobody knows, or any more.

        Those of chunks that are still being run are among them: the last one may take for ever.
        """
        with self._lock:
            behind = (chunk.count - chunk.stolen - chunk.waiting - 1 for chunk in self._open)
            unread = self.source.unread if self.limit == sys.maxsize else None
            total = None if unread is None else self.source.at + unread
            return self.done + sum(max(0, count) for count in behind), total

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

    def expect(self, item_s: float) -> None:
        """How long an item may take, as long as nothing is known of these."""
        self.item_s = self.item_s or item_s

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
                self._more.wait(SIGNALS_S)

    def wait_for_stand_in(self, works: Callable[[], bool]) -> None:
        """As `wait_for_caller`, for a thread that runs items in its stead but reads none."""
        with self._lock:
            while not (self.over or (works() and self._available())):
                self._more.wait()

    @property
    def drained(self) -> bool:
        """Nothing is there to be drawn, nor will be, unless somebody gives something back."""
        return self.source.ended and not self._available()

    def pass_on(self) -> None:
        """Has another look who waits: one that ends may have been woken for what is there."""
        with self._lock:
            self._more.notify()

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

    def give_up_late(self) -> list[Chunk]:
        """Gives up the items that have run past their time, and with each the thread it is in."""
        timeout_s = self._timeout_s
        if timeout_s is None:
            return []
        with self._lock:
            since_s = now_s() - timeout_s
            late = [chunk for chunk in self._open if chunk.drawn_s < since_s]
            self._open.difference_update(late)
        for chunk in late:
            error = TaskTimeout(chunk.start, timeout_s, False)
            self.lose(chunk.start, chunk.items[0], error, self._tries.get(chunk.start, 0) + 1)
        return late

    def failures(self) -> list[tuple[int, BaseException]]:
        """Which items failed, and with what, in item order, where that is all there is to keep."""
        return self._kept.failures()

    def results(self) -> list[Any]:
        """Every result, in item order; they are not kept any longer."""
        return self._kept.results()

    def _final(self, error: Exception, tries: int) -> BaseException | None:
        """What an item is to fail with that did so for the last of `tries` times; None for another.

        Never under the lock: the caller's code may be asked.
        """
        try:
            if may_try_again(self._retries, tries, error):
                return None
        except BaseException as own:
            own.__context__ = error
            return own
        note_tries(error, tries)
        return error

    # under the lock

    def _draw_size(self, workers: int, message_s: float, longest_s: float) -> int:
        """As `_size`; one where items are given out singly, so that none is lost with another."""
        return 1 if self._singly else self._size(workers, message_s, longest_s)

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
        if self._singly:
            tries = self._tries.get(chunk.start, 0)
            chunk.wait_s = pause_s(self._retries, tries) if tries else 0.0
            chunk.drawn_s = now_s() + chunk.wait_s
        self._open.add(chunk)
        return chunk

    def _lend(self, count: int) -> Chunk | None:
        """As `_draw`, of items that nobody has given back; they are not copied if that saves time."""
        lent = self.source.lend(count) if isinstance(self.source, Source) else None
        if lent is None or not lent[2]:
            return self._draw(count)
        self._held += lent[2]
        chunk = Lent(*lent)
        self._open.add(chunk)
        return chunk

    def _forgo(self, count: int) -> None:
        """So many items that were given out are not there any more, nor any behind them."""
        if count > 0:
            self._held -= count
            self.source.end()
            self._check_over()

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

    def _settle(
        self, start: int, values: list[Any], wall_s: float = 0.0, cpu_s: float | None = None
    ) -> None:
        if self._tries:
            for index in range(start, start + len(values)):
                self._tries.pop(index, None)
        if values:
            self._keep(start, values, wall_s, cpu_s)
            if self._keep_errors:
                self.failed += sum(isinstance(value, Failure) for value in values)
        self._held -= len(values)
        self._check_over()

    def _keep(self, start: int, values: list[Any], wall_s: float, cpu_s: float | None) -> None:
        self._kept.add(start, values)

    def _note(self, count: int, wall_s: float, cpu_s: float | None = None) -> None:
        if cpu_s is not None:
            self.counted += count
            self.counted_s += wall_s
            self.cpu_s += cpu_s
        self.done += count
        self.busy_s += wall_s
        if self.done >= self._due:
            self._bell.ring()
        if count:
            mean, lately = wall_s / count, self.item_s
            self.longest_s = max(self.longest_s, mean)
            weight = min(1.0, 0.2 + wall_s / 0.05)  # 50 ms of work say enough on their own
            first = self.done == count  # before it, there may be what was expected
            self.item_s = mean if first else lately + weight * (mean - lately)

    def _try_again(self, index: int, item: Any, tries: int) -> None:
        self._tries[index] = tries
        self._give_back(index, [item])

    def _fail(self, index: int, error: BaseException) -> None:
        if self._keep_errors and isinstance(error, Exception | SystemExit):
            self._note(1, 0.0)
            self._settle(index, [Failure(error)])
            return
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
        if self.drained and not self._held:
            self.over = True
            self._changed()

    def _changed(self) -> None:
        self._more.notify_all()
        self._rested.notify_all()
        self._bell.ring()
        if self._wake is not None:
            self._wake()


def now_s() -> float:
    """The clock of the engine, in seconds."""
    return time.perf_counter()
