"""Locks, semaphores, conditions, events and barriers of processes: multiprocessing's.

Each is multiprocessing's own class, made in the default context when it is made, so that
`set_start_method` keeps its meaning. The locks add `locked()` where multiprocessing has none
(before Python 3.14), and `with` runs no Python code: half the time.

Relies on: a `SemLock` keeping its C half in `_semlock`, as it has since Python 2.6.
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context, synchronize
from types import TracebackType
from typing import TYPE_CHECKING, Any


class _Quick(synchronize.SemLock):
    """The special methods of the C half in slots, where `with` finds them first."""

    __slots__ = ("__enter__", "__exit__")

    _semlock: Any

    if TYPE_CHECKING:  # they are in the slots

        def __enter__(self) -> bool: ...
        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
            /,
        ) -> None: ...

    def _fill(self) -> None:
        slots: Any = self
        slots.__enter__, slots.__exit__ = self._semlock.__enter__, self._semlock.__exit__

    def __setstate__(self, state: Any) -> None:
        _set_state(self, state)
        self._fill()

    def locked(self) -> bool:
        """Whether anybody holds it."""
        held: bool = self._semlock._is_zero()
        return held


_set_state: Any = synchronize.SemLock.__dict__["__setstate__"]


class Lock(_Quick, synchronize.Lock):
    """`multiprocessing.Lock`: a lock that any worker may release."""

    def __init__(self) -> None:
        super().__init__(ctx=get_context())
        self._fill()


class RLock(_Quick, synchronize.RLock):
    """`multiprocessing.RLock`: its owner may acquire it again, and has to release as often."""

    def __init__(self) -> None:
        super().__init__(ctx=get_context())
        self._fill()


class Semaphore(_Quick, synchronize.Semaphore):
    """`multiprocessing.Semaphore`: a count that `acquire` takes from."""

    def __init__(self, value: int = 1) -> None:
        _check("value", value, 0)
        super().__init__(value, ctx=get_context())
        self._fill()


class BoundedSemaphore(_Quick, synchronize.BoundedSemaphore):
    """`multiprocessing.BoundedSemaphore`: a `Semaphore` that never holds more than at first."""

    def __init__(self, value: int = 1) -> None:
        _check("value", value, 0)
        super().__init__(value, ctx=get_context())
        self._fill()


class Condition(synchronize.Condition):
    """`multiprocessing.Condition`: a lock, and those who wait for what it guards to change."""

    def __init__(self, lock: Any = None) -> None:
        super().__init__(RLock() if lock is None else lock, ctx=get_context())


class Event(synchronize.Event):
    """`multiprocessing.Event`: a flag that can be waited for.

    Who waits while it is set learns of it also when it is cleared again at once, as with
    threading's, and unlike with multiprocessing's.
    """

    _cond: Any
    _flag: Any

    def __init__(self) -> None:
        super().__init__(ctx=get_context())

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set, or gets set within `timeout` seconds, None without end."""
        with self._cond:
            if self._flag.acquire(False):
                self._flag.release()
                return True
            told: bool = self._cond.wait(timeout)
            return told


class Barrier(synchronize.Barrier):
    """`multiprocessing.Barrier`: where `parties` workers wait for each other."""

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> None:
        _check("parties", parties, 1)
        super().__init__(parties, action, timeout, ctx=get_context())


def _check(name: str, number: int, least: int) -> None:
    """As threading does; the system's error for it says only "Invalid argument"."""
    if number < least:
        raise ValueError(f"{name} must be >= {least}")
