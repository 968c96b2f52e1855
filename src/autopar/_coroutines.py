"""Items that are awaited: many at once on one event loop, as many as that helps.

Each coroutine of a group awaits one item after another; their number grows and shrinks by the rule
for threads that wait. When an item fails, those before it are awaited, so that the exception is the
loop's, and those behind it are cancelled.
Guarantees: nothing of it runs any more when `Awaiting.run` has returned or raised; others on the
loop have their turn every few milliseconds, also where items never wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ._decide.width import POLITE, Tally, Width, first_width, next_width
from ._engine.call import name_of
from ._engine.source import shown
from ._errors import AutoparError, TaskTimeout
from ._loops import Group, Late, Loop, running
from ._model import Job
from ._reading import Later, Now, Reading
from ._retry import note_tries, wait_before

TICK_S = 5e-3  # between two looks at how many wait
TURN_S = 5e-3  # items that do not wait are run for so long, all together; then others have a turn

ENDING = (KeyboardInterrupt, SystemExit)  # ends all at once

Tell = Callable[[int, bool, Any], object]


class _Seat:
    """A coroutine of the group, and the item it awaits.

    left: it is to end now.
    """

    __slots__ = ("_cancel", "index", "item", "left")

    def __init__(self, index: int, item: Any) -> None:
        self.index, self.item = index, item
        self.left = False
        self._cancel: Callable[[], object] | None = None

    def sit(self, cancel: Callable[[], object]) -> None:
        """It runs; some loops begin to run it before they say how to cancel it."""
        self._cancel = cancel
        if self.left:
            cancel()

    def leave(self) -> None:
        """Cancels it."""
        self.left = True
        if self._cancel is not None:
            self._cancel()


class Awaiting:
    """One call of a coroutine function over many items; `items` may be asynchronous.

    job: its function, tries, time and initializer. limit: awaited at once at most, or None.
    tell: is given the index of each item, whether it is a result, and it or the exception.
    may_begin: tells whether there is use for the item of this index.
    done: items that were awaited. most: how many at once at most.
    """

    def __init__(
        self,
        job: Job,
        items: Any,
        limit: int | None,
        tell: Tell,
        may_begin: Callable[[int], bool] = lambda _index: True,
    ) -> None:
        self.done = self.most = 0
        self._loop: Loop = running()
        self._job, self._limit = job, limit or POLITE
        self._tell, self._may_begin = tell, may_begin
        self._at = 0
        self._stop: int | None = None  # no item from here on begins
        self._error: BaseException | None = None  # which ends all
        self._aborted: BaseException | None = None
        self._seats: set[_Seat] = set()
        self._failed, self._busy_s = 0, 0.0
        self._closing = False
        self._began_turn_s = self._loop.clock()
        self._news = self._loop.signal()
        self._later = self._reader(items) if hasattr(items, "__aiter__") else None
        self._reading: Reading = self._later or Now(items)
        self._ramp = first_width(self._reading.left, self._limit, Tally(), self._began_turn_s)

    def _reader(self, items: Any) -> Later:
        return Later(items, self._loop, lambda: self._may_begin(self._at), self._news)

    @property
    def total(self) -> int | None:
        """How many items there are in all, where that is known."""
        return self._at if self._reading.ended else self._reading.left

    def abort_from_thread(self, error: BaseException) -> None:
        """Ends it with an error, from any thread."""
        self._aborted = error
        self._news.set_from_thread()

    @property
    def loop(self) -> Loop:
        """The one it runs on."""
        return self._loop

    @property
    def width(self) -> int:
        """How many are awaited at once if there are so many."""
        return self._ramp.threads

    def wake(self) -> None:
        """Has it ask again whether there is use for more."""
        self._news.set()

    def wake_from_thread(self) -> None:
        """As `wake`, from any thread."""
        self._news.set_from_thread()

    async def run(self) -> None:
        """Returns when all outcomes have been told.

        Raises what the iterable raised, after that, and at once what is to end the program.
        """
        if self._job.initializer is not None:
            self._job.initializer(*self._job.initargs)
        async with self._loop.group() as group:
            try:
                await self._conduct(group)
                for seat in self._seats:
                    seat.leave()
            finally:
                self._closing = True  # where it is left by an exception, the group cancels all
        error, self._error = self._error, None
        if error is None and self._stop is None:
            error, self._reading.error = self._reading.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback leads here

    async def _conduct(self, group: Group) -> None:
        stop_reading = None if self._later is None else group.spawn(self._later.run)
        while True:
            if self._aborted is not None:
                self._error, self._aborted, self._stop = self._aborted, None, -1
            await self._fill(group)
            if self._over():
                break
            full = len(self._seats) >= self._ramp.threads
            await self._news.wait(TICK_S if full and not self._reading.ended else None)
            self._ramp = self._next_ramp()
        if stop_reading is not None:
            stop_reading()

    def _over(self) -> bool:
        if self._stop is not None:
            stop = self._stop
            return all(seat.index >= stop for seat in self._seats)
        return self._reading.ended and not self._seats

    # who awaits

    async def _fill(self, group: Group) -> None:
        """Has more items awaited, as long as there is room for them."""
        while len(self._seats) < self._ramp.threads:
            drawn = self._draw()
            if drawn is None:
                break
            seat = _Seat(*drawn)
            self._seats.add(seat)
            self.most = max(self.most, len(self._seats))
            seat.sit(group.spawn(partial(self._work, seat)))
            await self._pause()  # to read may take its time, too

    def _draw(self) -> tuple[int, Any] | None:
        """The next item and its index, or None where there is none now, or no use for it."""
        index = self._at
        if self._stop is not None or not self._may_begin(index):
            return None
        drawn = self._reading.draw()
        if not drawn:
            return None
        self._at += 1
        return index, drawn[0]

    async def _work(self, seat: _Seat) -> None:
        try:
            while not self._has_left(seat) and await self._serve(seat):
                await self._pause()
                drawn = None if len(self._seats) > self._ramp.threads else self._draw()
                if drawn is None:
                    return
                seat.index, seat.item = drawn
        except ENDING as error:  # Ctrl-C, between two items
            self._fail(-1, error)
        finally:
            self._seats.discard(seat)
            self._news.set()

    async def _serve(self, seat: _Seat) -> bool:
        """Has one item awaited; whether there may be another."""
        clock, index = self._loop.clock, seat.index
        began_s = clock()
        try:
            good, value = True, await self._tried(seat)
        except self._loop.own:
            raise
        except BaseException as error:
            if self._has_left(seat) and not isinstance(error, ENDING):
                return False  # it was cancelled, or came to grief then
            good, value = False, error
            self._note(error, seat)
        self.done += 1
        self._failed += not good
        self._busy_s += clock() - began_s
        if good or (self._job.keep_errors and isinstance(value, Exception)):
            self._tell(index, good, value)
            return True
        self._fail(index, value)
        return False

    def _fail(self, index: int, error: BaseException) -> None:
        """The loop would have ended here: those before this item are still awaited."""
        if isinstance(error, ENDING):
            self._error, index = error, -1
        else:
            self._tell(index, False, error)
        if self._stop is None or index < self._stop:
            self._stop = index
        for seat in self._seats:
            if seat.index > index:
                seat.leave()

    def _note(self, error: BaseException, seat: _Seat) -> None:
        if not isinstance(error, AutoparError):
            name = name_of(self._job.fn)
            error.add_note(f"autopar: raised by {name}() for item {seat.index}{shown(seat.item)}")

    async def _tried(self, seat: _Seat) -> Any:
        """What the item gives, after as many tries as it takes and may have."""
        tries = 0
        while True:
            try:
                return await self._once(seat.index, seat.item)
            except Exception as error:
                tries += 1
                wait_s = (
                    None if self._has_left(seat) else wait_before(self._job.retries, tries, error)
                )
                if wait_s is None:
                    note_tries(error, tries)
                    raise
            if wait_s:
                self._busy_s -= wait_s  # nobody is asked for anything meanwhile
                await self._loop.sleep(wait_s)

    async def _once(self, index: int, item: Any) -> Any:
        timeout_s = self._job.timeout_s
        if timeout_s is None:
            return await self._job.fn(item)
        try:
            return await self._loop.within(timeout_s, self._job.fn(item))
        except Late as late:
            raise TaskTimeout(index, timeout_s, True, True) from late.__cause__

    def _has_left(self, seat: _Seat) -> bool:
        return seat.left or self._closing

    async def _pause(self) -> None:
        """Lets others run when the turn is over.

        Only one in each round begins a new turn: each would take as long.
        """
        began_s = self._began_turn_s
        if self._loop.clock() - began_s <= TURN_S:
            return
        await self._loop.give_way()
        if self._began_turn_s == began_s:
            self._began_turn_s = self._loop.clock()

    # how many

    def _tally(self) -> Tally:
        return Tally(self.done, self._failed, self._busy_s, time.process_time())

    def _next_ramp(self) -> Width:
        """The ramp after what has been done; it learns nothing from room that nobody needs."""
        ramp, tally, now_s = self._ramp, self._tally(), self._loop.clock()
        self._reading.wake()
        if len(self._seats) < ramp.threads:
            return ramp._replace(since=tally, since_s=now_s, seen=tally.ended, seen_s=now_s, old=0)
        return next_width(ramp, tally, now_s)
