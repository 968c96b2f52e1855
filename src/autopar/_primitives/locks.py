"""Locks and semaphores that work across threads and processes, and survive their holders."""

from __future__ import annotations

import ctypes
import time
from typing import Any, ClassVar

from .._errors import ReleaseError
from . import semaphores
from .arena import Block
from .life import Being
from .permits import ERA, PAUSES_S, TOKEN, TOTAL, Permits
from .seats import Seat, forget_intent
from .semaphores import BYTES, RECURSIVE, VALUE_MAX


class Lock(Permits):
    """A lock for the threads of any processes of this machine; it travels in any pickle.

    As `multiprocessing.Lock`: any thread of any process may release it. If a process is killed
    while it holds the lock, one of those that wait gets it within a tenth of a second or so: an
    `OwnerDied` warning tells of that, and `owner_died` is true there until it lets go. What a
    process has released for another is not known to be its own: its death is not seen then.

    Raises: BackendUnavailable on a system without what it needs.
    """

    __slots__ = ("_common", "_seen_dead", "owner_died")

    # Costs: three to four times what multiprocessing's `acquire` and `release` do, which are two
    # calls into C. These are six in two Python functions, and two empty ones cost as much as its two
    # calls: a permit and whose it is cannot be taken in one step. In a `with` it is about as quick.

    # Relies on: the token's own count in this process, which tells a release of this process's
    # hold from one of another's. A hold that was inherited has none, and gets a token of its own.

    def __init__(self) -> None:
        self._set_up()
        self._make(1, 1)

    def _restore(self, block: Block, *_more: Any) -> None:
        self._set_up()
        self._bind(block, 1)

    def _set_up(self) -> None:
        self._common: Any = None  # the token of all processes, while another takes its place here
        self.owner_died: bool = False
        self._seen_dead: tuple[int, list[Being]] = (0, [])

    def _after_fork(self) -> None:
        if self.owner_died:
            self._use(self._common)
            self._set_up()
        super()._after_fork()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Whether it was got, within `timeout` seconds if given; without `block`, at once."""
        up = self._up
        up()
        attempt = self._try
        if attempt(False):
            return True
        self._down(False)
        if not block:
            return self._poll()
        return self._wait(None if timeout is None else max(0.0, timeout))

    def release(self) -> None:
        """Let go of it. Raises: ReleaseError, a ValueError and RuntimeError, if nobody has it."""
        held, quiet = self._held, self._quiet
        if not held():
            self._release_for_another()
        elif quiet():
            give, down = self._give, self._down
            give()
            down(False)
        else:
            self._release_to_waiters()

    def held(self) -> bool:
        """Whether this process has it; of an RLock, the calling thread."""
        return bool(self._held())

    def locked(self) -> bool:
        """Whether anybody has it now."""
        return bool(self._token._is_zero())

    def __repr__(self) -> str:
        state = "locked" if self.locked() else "unlocked"
        return f"<{state} autopar.{type(self).__name__} object at {id(self):#x}>"

    def _release_for_another(self) -> None:
        """Lets go of what another process has, whose intent stays up."""
        self._words[ERA] = self._era()
        try:
            self._give()
        except ValueError:
            raise ReleaseError("nobody holds this lock") from None
        if not self._quiet():
            self._ring()

    def _release_to_waiters(self) -> None:
        if not self.owner_died:
            super()._release_to_waiters()
        elif self._token._count() > 1:
            self._give()
            self._down(False)
        elif self._held():
            self._release_inherited()
        else:
            raise ReleaseError("another thread holds this lock")

    def _absolve(self, dead: list[Seat]) -> None:
        # Another era means that somebody has let go of the lock since they were seen dead; so they
        # did not have it, and died when they tried for it, or had just let go.
        era, seen = self._seen_dead
        if self._words[ERA] != era:
            for seat in dead:
                if seat.being in seen:
                    forget_intent(seat)
        self._seen_dead = self._words[ERA], [seat.being for seat in dead]

    def _take_over(self, lost: int, dead: list[Seat]) -> bool:
        """Makes this process the owner. The token stays taken: nobody can come in between."""
        self._up()
        for seat in dead:
            forget_intent(seat)
        # A token in this process's own memory counts the hold here. It is never given back, for a
        # thread that has read its methods and not called them yet; nor is the memory, therefore.
        memory = ctypes.create_string_buffer(BYTES)
        _spent.append(memory)
        semaphores.make(ctypes.addressof(memory), 1)
        token = semaphores.at(ctypes.addressof(memory), self._kind, 1)
        token.acquire(False)
        self._common = self._token
        self._use(token)
        self.owner_died = True
        self._waiters.release()  # leads the release to where it looks
        self.own_seat().waiting.release()
        return True

    def _release_inherited(self) -> None:
        self._use(self._common)
        self._set_up()
        if self.own_seat().waiting.acquire(False):
            self._waiters.acquire(False)
        self._words[ERA] = self._era()
        semaphores.at(self._block.address + TOKEN).release()  # not by an object that counts holds
        self._down(False)
        self._ring()


_spent: list[Any] = []  # 32 bytes for each hold inherited


class RLock(Lock):
    """As `Lock`, but the thread that has it may take it again, and only that one lets go of it."""

    __slots__ = ()

    _kind: ClassVar[int] = RECURSIVE

    def _release_for_another(self) -> None:
        raise ReleaseError("only the thread that holds this lock can release it")


class InnerLock(Lock):
    """A lock of which no user knows: that its owner has died is not for them to be told."""

    __slots__ = ()

    def _tell(self, pids: list[int], got: bool) -> None:
        pass


class Semaphore(Permits):
    """A counter that is never below zero, as `multiprocessing.Semaphore`; it travels in any pickle.

    `acquire` and `release` may be a signal between processes, and are for ever. What a process
    has taken in a `with` is given back when it dies, and an `OwnerDied` warning tells of it.

    Raises: ValueError for a negative value; BackendUnavailable.
    """

    __slots__ = ()

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("a semaphore's first value is at least 0")
        self._make(value, self._maximum(value))

    def _maximum(self, value: int) -> int:
        return VALUE_MAX

    def _restore(self, block: Block, *more: Any) -> None:
        self._bind(block, self._maximum(*more))

    def _travels(self) -> tuple[Any, ...]:
        return (self._token.maxvalue,)

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Whether it was counted down, within `timeout` seconds if given; else at once."""
        if self._try(False):
            return True
        if not block:
            return self._poll()
        until_s = None if timeout is None else time.monotonic() + max(0.0, timeout)
        while True:
            left_s = PAUSES_S[-1] if until_s is None else until_s - time.monotonic()
            if self._token.acquire(True, max(0.0, min(PAUSES_S[-1], left_s))):
                return True
            self._look()
            if left_s <= 0:
                return bool(self._try(False))

    def release(self, n: int = 1) -> None:
        """Count up by `n`. Raises: ValueError past the bound of a BoundedSemaphore."""
        if n < 1:
            raise ValueError("n must be one or more")
        for _ in range(n):
            self._give()
        if not self._quiet():
            self._words[ERA] = self._era()
            self._ring()

    def get_value(self) -> int:
        """The count now."""
        return int(self._token._get_value())

    def locked(self) -> bool:
        """Whether an acquisition would have to wait now."""
        return bool(self._token._is_zero())

    def __repr__(self) -> str:
        return f"<autopar.Semaphore at {id(self):#x}: value={self.get_value()}>"

    def _poll(self) -> bool:
        if time.monotonic() < self._looked_s + PAUSES_S[-1]:
            return False
        self._looked_s = time.monotonic()
        self._look()
        return bool(self._try(False))

    def _look(self) -> None:
        """Gives back what the dead have, if there are any."""
        seat = self.own_seat()
        self._waiters.release()
        seat.waiting.release()
        try:
            self._inherit()
        finally:
            if seat.waiting.acquire(False):
                self._waiters.acquire(False)


class BoundedSemaphore(Semaphore):
    """As `Semaphore`, but it is an error to release it above its first value."""

    __slots__ = ()

    def _maximum(self, value: int) -> int:
        return value

    def __repr__(self) -> str:
        value = f"{self.get_value()}/{self._words[TOTAL]}"
        return f"<autopar.BoundedSemaphore at {id(self):#x}: value={value}>"
