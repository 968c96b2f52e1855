"""Locks, semaphores and conditions of one process, with multiprocessing's signatures.

Guarantees: `with` costs what it costs with threading's, because no Python code runs in it.
Relies on: special methods that are looked up on the class through its slots, which hold the
methods of a lock written in C. `acquire` and `release` are Python functions, for multiprocessing's
`block=` and `timeout=None` and for its exceptions: 1.7 times what threading's cost, of which 0.65 is
what a pair of Python functions costs that do nothing (benchmarks/rooms.py).
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .misuse import NotHeld, OutOfTurn

_NOT_HELD = "semaphore or lock released too many times"
_NOT_OWNER = "attempt to release recursive lock not owned by thread"


class Lock:
    """A lock that any worker may release, not only the one that acquired it."""

    __slots__ = ("__enter__", "__exit__", "__weakref__", "_lock")

    if TYPE_CHECKING:  # they are in the slots

        def __enter__(self) -> bool: ...
        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
            /,
        ) -> None: ...

    def __init__(self) -> None:
        lock = self._lock = threading.Lock()
        slots: Any = self
        slots.__enter__, slots.__exit__ = lock.__enter__, lock.__exit__

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Whether the lock was got; waits for it at most `timeout` seconds, None without end."""
        if timeout is None:
            return self._lock.acquire() if block else self._lock.acquire(False)
        return self._lock.acquire(True, max(timeout, 0.0)) if block else self._lock.acquire(False)

    def release(self) -> None:
        """Give the lock back.

        Raises: `ValueError` (also a `RuntimeError`) when nobody holds it.
        """
        try:
            self._lock.release()
        except RuntimeError:
            raise NotHeld(_NOT_HELD) from None

    def locked(self) -> bool:
        """Whether anybody holds it."""
        return self._lock.locked()

    def __repr__(self) -> str:
        return _described(self)


if TYPE_CHECKING:
    _Reentrant = Lock
else:
    _Reentrant = type(threading.RLock())  # written in C, and open to subclasses
_take: Any = _Reentrant.acquire
_give: Any = _Reentrant.release
_locked: Any = getattr(_Reentrant, "locked", None)  # since 3.14


class RLock(_Reentrant):
    """A lock that its owner may acquire again, and has to release as often."""

    __slots__ = ()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Whether the lock was got; waits for it at most `timeout` seconds, None without end."""
        if timeout is None:
            got: bool = _take(self) if block else _take(self, False)
        elif block:
            got = _take(self, True, max(timeout, 0.0))
        else:
            got = _take(self, False)
        return got

    def release(self) -> None:
        """Undo one `acquire`.

        Raises: `AssertionError` (also a `RuntimeError`) when another worker owns the lock, or none.
        """
        try:
            _give(self)
        except RuntimeError:
            raise OutOfTurn(_NOT_OWNER) from None

    def locked(self) -> bool:
        """Whether anybody owns it."""
        if _locked is not None:
            owned: bool = _locked(self)
            return owned
        described: str = _Reentrant.__repr__(self)
        return described.startswith("<locked ")


if TYPE_CHECKING:

    class _Semaphore:
        """A `threading.Semaphore`, but for `acquire`, whose arguments have other names there."""

        _value: int

        def __init__(self, value: int = 1) -> None: ...
        def __enter__(self) -> bool: ...
        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
            /,
        ) -> None: ...
        def release(self, n: int = 1) -> None: ...

    class _BoundedSemaphore(_Semaphore):
        _initial_value: int

    class _Condition:
        """A `threading.Condition`, but for `acquire`, which is the lock's."""

        def __init__(self, lock: Any) -> None: ...
        def __enter__(self) -> bool: ...
        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
            /,
        ) -> None: ...
        def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
        def release(self) -> None: ...
        def wait_for(self, predicate: Any, timeout: float | None = None) -> Any: ...
        def notify_all(self) -> None: ...

else:
    _Semaphore, _BoundedSemaphore = threading.Semaphore, threading.BoundedSemaphore
    _Condition = threading.Condition


class Semaphore(_Semaphore):
    """A count of `value` that `acquire` takes from, waiting while there is nothing left."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Whether one was got; waits for it at most `timeout` seconds, None without end."""
        got: bool = _take_one(self, block, timeout) if block else _take_one(self, False)
        return got

    def get_value(self) -> int:
        """How many are left."""
        return self._value  # it has had this name since Python 3.0

    def __repr__(self) -> str:
        return f"<threads.{type(self).__name__} at {id(self):#x}: value={self._value}>"


class BoundedSemaphore(Semaphore, _BoundedSemaphore):
    """A `Semaphore` that never holds more than it did at first: `release` raises `ValueError`."""

    def __repr__(self) -> str:
        value = f"{self._value}/{self._initial_value}"
        return f"<threads.{type(self).__name__} at {id(self):#x}: value={value}>"


_take_one: Any = threading.Semaphore.acquire


class Condition(_Condition):
    """A lock, a new `RLock` unless one is given, and those who wait for what it guards to change.

    `wait`, `notify` and `notify_all` raise `AssertionError` (also a `RuntimeError`) in a worker
    that does not hold the lock.
    """

    def __init__(self, lock: Any = None) -> None:
        super().__init__(RLock() if lock is None else lock)

    def wait(self, timeout: float | None = None) -> bool:
        """Give the lock back until notified, at most `timeout` seconds; whether it was in time."""
        try:
            told: bool = _wait(self, timeout)
        except RuntimeError as error:  # said of one who does not hold the lock, of nothing else
            raise OutOfTurn(*error.args) from None
        return told

    def notify(self, n: int = 1) -> None:
        """Wake `n` of those who wait."""
        try:
            _notify(self, n)
        except RuntimeError as error:
            raise OutOfTurn(*error.args) from None


_wait: Any = threading.Condition.wait
_notify: Any = threading.Condition.notify


def _described(lock: Any) -> str:
    state = "locked" if lock.locked() else "unlocked"
    return f"<{state} {type(lock).__module__}.{type(lock).__qualname__} object at {id(lock):#x}>"
