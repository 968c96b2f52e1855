"""Events and barriers, built on conditions."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import BrokenBarrierError
from typing import Any

from .condition import WAITERS, Condition
from .locks import InnerLock

# Of the last generations of a barrier, how they ended is kept for those still on their way out.
GENERATIONS = 16
_RECALL_S = 0.5  # who sets an event may be killed before it has told: then waiters look


def build(cls: type[Any], *parts: Any) -> Any:
    """An object of what it is made of, as pickle calls it."""
    built: Any = object.__new__(cls)
    built._build(*parts)
    return built


class Event:
    """A flag that threads of any processes wait for, as `multiprocessing.Event`; it travels."""

    __slots__ = ("__weakref__", "_condition", "_words")

    def __init__(self) -> None:
        self._build(Condition(InnerLock()))

    def _build(self, condition: Condition) -> None:
        self._condition, self._words = condition, condition.state()

    def __reduce__(self) -> tuple[Any, ...]:
        return build, (type(self), self._condition)

    def is_set(self) -> bool:
        """Whether the flag is up."""
        return self._words[0] != 0

    def set(self) -> None:
        """Raise the flag, and wake all that wait for it."""
        with self._condition:
            self._words[0] = 1
            rings = self._condition.choose(WAITERS)
        for ring in rings:
            ring()

    def clear(self) -> None:
        """Lower the flag."""
        with self._condition:
            self._words[0] = 0

    def wait(self, timeout: float | None = None) -> bool:
        """Whether the flag was raised, within `timeout` seconds if given."""
        if self._words[0]:
            return True
        until_s = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while not self._words[0]:
                left_s = _RECALL_S if until_s is None else until_s - time.monotonic()
                if left_s <= 0:
                    return False
                if self._condition.wait(min(left_s, _RECALL_S)):
                    return True  # also where it has been lowered again since
        return True

    def __repr__(self) -> str:
        return f"<autopar.Event at {id(self):#x}: {'set' if self.is_set() else 'unset'}>"


_PARTIES, _GENERATION, _ARRIVED, _BROKEN, _ENDINGS = 0, 1, 2, 3, 4


class Barrier:
    """Where `parties` threads of any processes meet, as `multiprocessing.Barrier`; it travels.

    A thread that was killed while it waited breaks the barrier for the others when they meet.

    Raises: ValueError for less than one party.
    """

    __slots__ = ("__weakref__", "_action", "_condition", "_timeout", "_words")

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> None:
        if parties < 1:
            raise ValueError("parties must be 1 or more")
        self._build(Condition(InnerLock()), action, timeout)
        self._words[_PARTIES] = parties

    def _build(self, condition: Condition, action: Any, timeout: float | None) -> None:
        self._condition, self._action, self._timeout = condition, action, timeout
        self._words = condition.state()

    def __reduce__(self) -> tuple[Any, ...]:
        return build, (type(self), self._condition, self._action, self._timeout)

    @property
    def parties(self) -> int:
        """How many have to come."""
        return int(self._words[_PARTIES])

    @property
    def n_waiting(self) -> int:
        """How many have come."""
        return int(self._words[_ARRIVED])

    @property
    def broken(self) -> bool:
        """Whether it is of no use until it is reset."""
        return self._words[_BROKEN] != 0

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others; a number from 0 to `parties` - 1, another for each.

        Raises: BrokenBarrierError when it is broken or reset meanwhile, or after `timeout` seconds.
        """
        words = self._words
        with self._condition:
            if self._condition.owner_died:
                self._break()  # who was killed may have counted itself, or half of a change
            if words[_BROKEN]:
                raise BrokenBarrierError
            mine, index = words[_GENERATION], words[_ARRIVED]
            words[_ARRIVED] = index + 1
            if index + 1 == words[_PARTIES]:
                self._meet()
                return index
            self._await(mine, self._timeout if timeout is None else timeout)
        return index

    def reset(self) -> None:
        """Make it as new; those that wait get BrokenBarrierError."""
        with self._condition:
            self._end(well=False)
            self._words[_BROKEN] = 0

    def abort(self) -> None:
        """Break it; all that wait, and all that come, get BrokenBarrierError."""
        with self._condition:
            self._break()

    def __repr__(self) -> str:
        state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<autopar.Barrier at {id(self):#x}: {state}>"

    def _meet(self) -> None:
        """The last one has come."""
        try:
            if not self._condition.all_alive():
                raise BrokenBarrierError("one that waited here was killed")
            if self._action is not None:
                self._action()
        except BaseException:
            self._break()
            raise
        self._end(well=True)

    def _await(self, mine: int, timeout_s: float | None) -> None:
        words = self._words
        try:
            self._condition.wait_for(lambda: words[_GENERATION] != mine, timeout_s)
        finally:
            if words[_GENERATION] == mine:
                self._break()
        if not words[_ENDINGS + mine % GENERATIONS]:
            raise BrokenBarrierError

    def _break(self) -> None:
        self._words[_BROKEN] = 1
        self._end(well=False)

    def _end(self, *, well: bool) -> None:
        """Lets all that wait go on to the next generation."""
        words = self._words
        words[_ENDINGS + words[_GENERATION] % GENERATIONS] = well
        words[_ARRIVED] = 0
        words[_GENERATION] += 1
        self._condition.notify_all()
