"""Conditions: threads of any processes wait until another says that something has changed.

Each thread that waits has an entry in a table, which is changed by who holds the condition's lock
alone: so who is notified, in what order, and that no notification is spent on the dead, is decided
in peace. Each entry has a semaphore of its own to sleep on.
Guarantees: a waiter that dies makes nobody hang; if it was notified and had not woken yet, another
one is woken instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from .._errors import ReleaseError
from . import arena, semaphores
from .arena import Block
from .life import ANYBODY, Being, lately_alive, numbering, own
from .locks import Lock, RLock
from .permits import keep, restore
from .semaphores import BYTES

WAITERS = 900  # threads that can wait at once; an entry that is not used takes no memory
LOOK_S = 0.1  # how often a waiter looks whether one that was notified has died

_FREE, _WAITING, _NOTIFIED = 0, 1, 2
# Words: the next ticket; entries in use, and those that have a semaphore; whose numbers processes
# have; what is built on it.
_TICKET, _USED, _MADE, _NUMBERING, _STATE = 0, 1, 2, 3, 4
_FIRST = 256
_ENTRY_BYTES = 32 + BYTES

T = TypeVar("T")


class Condition:
    """A condition, as `multiprocessing.Condition`; it travels in any pickle.

    lock: a universal `Lock` or `RLock`; an RLock of its own if there is none.
    """

    __slots__ = ("__weakref__", "_block", "_entries", "_lock", "_words", "acquire", "release")

    def __init__(self, lock: Lock | None = None) -> None:
        self._bind(arena.block(_FIRST + WAITERS * _ENTRY_BYTES), RLock() if lock is None else lock)
        self._words[_NUMBERING] = numbering()
        keep(self, self._block)

    def _bind(self, block: Block, lock: Lock) -> None:
        self._block, self._lock = block, lock
        self._words = block.words(0, _FIRST // 8)
        self._entries: dict[int, _Entry] = {}
        self.acquire: Callable[..., bool] = lock.acquire
        self.release: Callable[[], None] = lock.release

    def _after_fork(self) -> None:
        """Nothing of it belongs to a process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (type(self), self._block.place(), (self._lock,))

    def _restore(self, block: Block, *more: Any) -> None:
        self._bind(block, more[0])

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, _type: object, _value: object, _trace: object) -> None:
        self._lock.__exit__(None, None, None)

    @property
    def owner_died(self) -> bool:
        """Whether this process has the lock from one that was killed while it held it."""
        return self._lock.owner_died

    def __repr__(self) -> str:
        return f"<autopar.Condition({self._lock!r}, {len(list(self._waiting()))})>"

    def state(self) -> memoryview:
        """Words for what is built on a condition, to be used with its lock."""
        return self._words[_STATE:]

    def wait(self, timeout: float | None = None) -> bool:
        """Let go of the lock, and take it again when notified, or after `timeout` seconds.

        Whether it was notified. Raises: ReleaseError without the lock.
        """
        self._check()
        entry = self._enter()
        depth = self._let_go()
        try:
            self._sleep(entry, None if timeout is None else time.monotonic() + timeout)
        finally:
            for _ in range(depth):
                self._lock.acquire()
            notified = entry.words[0] == _NOTIFIED
            entry.words[0] = _FREE
            self._shorten()
        return notified or self._notified_instead()

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until `predicate()` is true; the last it gave, after `timeout` seconds false."""
        until_s = None if timeout is None else time.monotonic() + timeout
        result = predicate()
        while not result:
            left_s = None if until_s is None else until_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                break
            self.wait(left_s)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake `n` of those that wait, who came first first. Raises: ReleaseError."""
        self._check()
        for ring in self.choose(n):
            ring()

    def notify_all(self) -> None:
        """Wake all that wait. Raises: ReleaseError."""
        self.notify(WAITERS)

    def choose(self, n: int) -> list[Callable[[], None]]:
        """Notify `n` of those that wait, with the lock; what wakes them is to be called then.

        Better after the lock is released: who wakes has to wait for it. If it is never called,
        they wake by themselves, a tenth of a second later.
        """
        if not self._words[_USED]:
            return []
        rings: list[Callable[[], None]] = []
        waiting = list(self._waiting())
        if len(waiting) > 1:
            waiting.sort(key=lambda entry: entry.words[1])
        for entry in waiting:
            if len(rings) == n:
                break
            if lately_alive(entry.being()):
                entry.words[0] = _NOTIFIED
                rings.append(entry.bell.release)
            else:
                entry.words[0] = _FREE
                self._shorten()
        return rings

    def all_alive(self) -> bool:
        """Whether no thread that waits was killed, as far as is known; with the lock."""
        return all(lately_alive(entry.being()) for entry in self._waiting())

    def _check(self) -> None:
        if not self._lock.held():
            raise ReleaseError("this needs the condition's lock")

    def _let_go(self) -> int:
        """Releases the lock, however often it was taken; how often that was."""
        depth = 0
        while self._lock.held():
            self._lock.release()
            depth += 1
            if not isinstance(self._lock, RLock):
                break  # once released, another thread of this process may have it
        return depth

    def _sleep(self, entry: _Entry, until_s: float | None) -> None:
        while True:
            left_s = LOOK_S if until_s is None else until_s - time.monotonic()
            if left_s <= 0 or entry.bell.acquire(True, min(left_s, LOOK_S)):
                return
            # Who notified may have died before it rang; who was notified, before it woke.
            if entry.words[0] == _NOTIFIED or self._died_notified():
                return

    def _notified_instead(self) -> bool:
        """Takes the place of one that died when it had been notified, if there is one."""
        found = self._died_notified()
        if found is not None:
            found.words[0] = _FREE
        return found is not None

    def _died_notified(self) -> _Entry | None:
        for entry in self._in(_NOTIFIED):
            if not lately_alive(entry.being()):
                return entry
        return None

    def _enter(self) -> _Entry:
        """An entry for the calling thread, which holds the lock."""
        me = own() if self._words[_NUMBERING] == numbering() else ANYBODY
        entry = self._vacant()
        while entry.bell.acquire(False):
            pass  # rung for who was there before
        entry.words[1], entry.words[2], entry.words[3] = self._words[_TICKET], *me
        self._words[_TICKET] += 1
        entry.words[0] = _WAITING  # last: it makes the entry count
        return entry

    def _shorten(self) -> None:
        """Forgets free entries at the end, so that with nobody there is nobody to look at."""
        used = self._words[_USED]
        while used and self._entry(used - 1).words[0] == _FREE:
            used -= 1
        self._words[_USED] = used

    def _vacant(self) -> _Entry:
        used = self._words[_USED]
        for index in range(used):
            entry = self._entry(index)
            if entry.words[0] == _FREE:
                return entry
        for entry in map(self._entry, range(used)):
            if entry.words[0] == _WAITING and not lately_alive(entry.being()):
                return entry
        if used == WAITERS:
            raise RuntimeError(f"more than {WAITERS} threads wait for one condition")
        entry = self._entry(used)
        if used == self._words[_MADE]:
            semaphores.make(entry.address, 0)
            self._words[_MADE] = used + 1
        self._words[_USED] = used + 1
        return entry

    def _waiting(self) -> Iterator[_Entry]:
        return self._in(_WAITING)

    def _in(self, state: int) -> Iterator[_Entry]:
        entries = map(self._entry, range(self._words[_USED]))
        return (entry for entry in entries if entry.words[0] == state)

    def _entry(self, index: int) -> _Entry:
        entry = self._entries.get(index)
        if entry is None:
            first = _FIRST + index * _ENTRY_BYTES
            address = self._block.address + first + 32
            words = self._block.words(first, 4)
            entry = self._entries[index] = _Entry(words, address, semaphores.at(address))
        return entry


class _Entry(NamedTuple):
    """A place in the table: state, ticket, and who waits (its number and start); its semaphore."""

    words: memoryview
    address: int
    bell: Any

    def being(self) -> Being:
        return Being(self.words[2], self.words[3])
