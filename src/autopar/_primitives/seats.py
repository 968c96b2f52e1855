"""Who takes part in a primitive: one seat a process, with what it is about to do there.

A seat holds two counts, as semaphores, so that each change is one step that a kill cannot split.
*intent*: how many permits the process has, or is just trying for. *waiting*: how many of its
threads wait.
Guarantees: while a process has a permit, its intent is not zero; its `waiting` is never more than
what it added to the waiters of all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from . import semaphores
from .arena import Block
from .life import ANYBODY, Being, alive, own
from .semaphores import BYTES

SEAT_BYTES = 16 + 2 * BYTES
SEATS = max(100, 2 * (os.cpu_count() or 1) + 36)  # fits two pages with what comes before


class Seat(NamedTuple):
    """A process's counts, and who it is: ANYBODY where those share a seat that found no other."""

    being: Being
    intent: Any
    waiting: Any


class Seats:
    """The table of a primitive, in its block from byte `first` on, `count` seats long."""

    def __init__(self, block: Block, first: int, count: int) -> None:
        self._block, self._first, self._count = block, first, count

    def take(self, waiters: Any, idle: Callable[[], bool], *, known: bool = True) -> Seat:
        """A seat for this process. The caller holds the arena's guard, or nobody else knows it.

        waiters: the count of all that wait, from which the dead are taken off.
        known: whether the others can tell by this process's number whether it lives.
        idle: whether no permit is out now, so that who is dead by now can have none.
        """
        index = self._vacant(waiters, idle) if known else self._count - 1
        words = self._words(index)
        if index == self._count - 1:
            if words[0] != ANYBODY.pid:
                self._clean(index)
                words[0] = ANYBODY.pid
        else:
            words[0] = 0
            self._clean(index)
            words[1] = own().start
            words[0] = own().pid  # last: it makes the seat count
        return self._seat(index)

    def taken(self) -> list[Seat]:
        """All seats with somebody in them, dead or alive."""
        found: list[Seat] = []
        for index in range(self._count - 1):
            if not self._words(index)[0]:
                break  # they are taken in order, and not given back
            found.append(self._seat(index))
        if self._words(self._count - 1)[0]:
            found.append(self._seat(self._count - 1))
        return found

    def _vacant(self, waiters: Any, idle: Callable[[], bool]) -> int:
        for index in range(self._count - 1):
            if not self._words(index)[0]:
                return index
        for index in range(self._count - 1):
            seat = self._seat(index)
            # In this order: what is asked before a death says nothing of what came after.
            if not alive(seat.being) and (seat.intent._is_zero() or idle()):
                forget_waiting(seat, waiters)
                return index
        return self._count - 1

    def _words(self, index: int) -> memoryview:
        return self._block.words(self._first + SEAT_BYTES * index, 2)

    def _address(self, index: int) -> int:
        return self._block.address + self._first + SEAT_BYTES * index + 16

    def _clean(self, index: int) -> None:
        semaphores.make(self._address(index), 0)
        semaphores.make(self._address(index) + BYTES, 0)

    def _seat(self, index: int) -> Seat:
        pid, start = self._words(index)
        address = self._address(index)
        return Seat(Being(pid, start), semaphores.at(address), semaphores.at(address + BYTES))


def forget_intent(seat: Seat) -> None:
    """A dead process has nothing any more."""
    while seat.intent.acquire(False):
        pass


def forget_waiting(seat: Seat, waiters: Any) -> None:
    """A dead process waits for nothing any more."""
    # In this order: killed in between, one too many is counted, and that only costs time.
    while seat.waiting.acquire(False):
        waiters.acquire(False)
