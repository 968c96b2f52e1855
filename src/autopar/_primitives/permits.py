"""What locks and semaphores are made of: permits that a dead process cannot keep.

A *token* semaphore counts the free permits. Around every use of it a process says so in its seat
(see `seats`): its intent goes up before it tries for a permit, and down after it failed or gave the
permit back. So whatever moment a process is killed at, a permit that is missing belongs to a dead
one if no living one can have it, and `_lost` can tell. Whoever then takes it over raises its own
intent before it clears that of the dead: killed at any moment in turn, it leaves the same picture.

Those that wait are counted, and sleep on a *bell*, which a release rings when there are any. They
wake now and then by themselves to see whether anybody has died.

Guarantees: a permit is never given out twice, nor lost; a holder that is only stopped keeps it.
With several permits at once the former needs a thread not to sleep for as long as a waiter's
pause between looking for waiters and releasing.
Relies on: every step being one call into C on a semaphore, or one aligned write; a release looks
for waiters before it begins, and where there are any it changes `ERA` first, so that two rounds
over the intents with an unchanged era saw no holder come and go.
"""

from __future__ import annotations

import itertools
import os
import time
import warnings
import weakref
from typing import Any, ClassVar

from .._errors import OwnerDied
from . import arena, semaphores
from .arena import Block, Place
from .life import alive, numbering
from .seats import SEAT_BYTES, SEATS, Seat, Seats, forget_intent, forget_waiting
from .semaphores import BYTES, PLAIN

# Where things are in a block: words first, then semaphores, then the seats.
TOTAL, ERA, SEATS_COUNT, NUMBERING = 0, 1, 2, 3
TOKEN, WAITERS, BELL, FIRST_SEAT = 32, 32 + BYTES, 32 + 2 * BYTES, 32 + 3 * BYTES
_BLOCK_BYTES = FIRST_SEAT + SEATS * SEAT_BYTES

# A waiter's first pauses are short, for it may have come between a release's look for waiters and
# the release. The last is how soon, at the latest, a death is seen.
PAUSES_S = (0.001, 0.005, 0.02, 0.05)
TRIES = 5  # before going to sleep; some 10 µs. See benchmarks/primitives.py
LOOK_AFTER_S = 0.02  # a pause as long as this, and nobody let go: perhaps nobody can


class Permits:
    """Some permits, of which each taken in a `with` is given back at its process's death."""

    # Bound methods of semaphores lie in slots: a slot is the quickest thing to read, and every
    # uncontended use is five such calls.
    __slots__ = (
        "__weakref__", "_bell", "_block", "_down", "_era", "_give", "_held", "_looked_s", "_quiet",
        "_seat", "_seats", "_token", "_try", "_up", "_waiters", "_words",
    )  # fmt: skip

    _kind: ClassVar[int] = PLAIN
    _seat: Seat | None
    _up: Any
    _down: Any

    def _make(self, value: int, maximum: int) -> None:
        """Makes `value` permits, of which never more than `maximum` are free."""
        arena.require()
        block = arena.block(_BLOCK_BYTES)
        words = block.words(0, 4)
        words[TOTAL], words[SEATS_COUNT], words[NUMBERING] = value, SEATS, numbering()
        for offset, count in ((TOKEN, value), (WAITERS, 0), (BELL, 0)):
            semaphores.make(block.address + offset, count)
        self._bind(block, maximum)
        self._sit(self._seats.take(self._waiters, self._all_free))
        keep(self, block)

    def _bind(self, block: Block, maximum: int) -> None:
        """Makes this object the handle of what is in a block."""
        self._block, self._words = block, block.words(0, 4)
        self._seats = Seats(block, FIRST_SEAT, self._words[SEATS_COUNT])
        self._use(semaphores.at(block.address + TOKEN, self._kind, maximum))
        self._waiters = semaphores.at(block.address + WAITERS)
        self._bell = semaphores.at(block.address + BELL)
        self._quiet = self._waiters._is_zero
        self._looked_s = 0.0
        self._era = _eras()
        self._stand()

    def _use(self, token: Any) -> None:
        self._token = token
        self._try, self._give = token.acquire, token.release
        self._held = token._count if self._kind == PLAIN else token._is_mine

    def _sit(self, seat: Seat) -> None:
        self._seat = seat
        self._up, self._down = seat.intent.release, seat.intent.acquire

    def _stand(self) -> None:
        """Leaves the taking of a seat to the first use."""
        self._seat = None
        self._up, self._down = _FirstUp(self), _nothing

    def _after_fork(self) -> None:
        """The child has no permit, and no seat yet."""
        self._token._after_fork()
        self._era = _eras()
        self._stand()

    def own_seat(self) -> Seat:
        """The seat of this process."""
        if self._seat is None:
            with arena.lock():
                if self._seat is None:
                    with self._block.arena.guard():
                        known = self._words[NUMBERING] == numbering()
                        self._sit(self._seats.take(self._waiters, self._all_free, known=known))
        assert self._seat is not None
        return self._seat

    def _all_free(self) -> bool:
        return bool(self._token._get_value() >= self._words[TOTAL])

    # Below and in `locks`, what is called each time is read from its slot first and called then: in
    # one step, Python 3.11 takes twice as long for it, and the quickest use a third longer.

    def __enter__(self) -> bool:
        up = self._up
        up()
        attempt = self._try
        if attempt(False):
            return True
        self._down(False)
        return self._wait(None)

    def __exit__(self, _type: object, _value: object, _trace: object) -> None:
        quiet = self._quiet
        if quiet():
            give, down = self._give, self._down
            give()
            down(False)
        else:
            self._release_to_waiters()

    def _release_to_waiters(self) -> None:
        """As the end of a `with`, where somebody waits."""
        self._words[ERA] = self._era()
        self._give()
        self._down(False)
        self._ring()

    def _ring(self) -> None:
        """Wakes one of those that wait; it need not be the one that gets the permit."""
        if self._bell._is_zero():
            self._bell.release()
        elif time.monotonic() > self._looked_s + PAUSES_S[-1]:
            # Nobody came for the bell before: perhaps the waiters counted are dead.
            self._looked_s = time.monotonic()
            with self._block.arena.guard(wait=False) as got:
                for seat in self._seats.taken() if got else ():
                    if not seat.waiting._is_zero() and not alive(seat.being):
                        forget_waiting(seat, self._waiters)

    def _wait(self, timeout_s: float | None) -> bool:
        """Waits for a permit, with the intent down; whether it was got, with the intent up."""
        if timeout_s != 0 and self._try_again():
            return True
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        seat = self.own_seat()
        self._waiters.release()
        seat.waiting.release()
        try:
            pauses = iter(PAUSES_S)
            pause_s = next(pauses)
            while True:
                self._up()
                if self._try(False):
                    return True
                self._down(False)
                left_s = pause_s if until_s is None else until_s - time.monotonic()
                if left_s <= 0:
                    return self._inherit()
                if not self._bell.acquire(True, min(pause_s, left_s)):
                    if pause_s >= LOOK_AFTER_S and self._inherit():
                        return True
                    pause_s = next(pauses, PAUSES_S[-1])
        finally:
            if seat.waiting.acquire(False):
                self._waiters.acquire(False)

    def _try_again(self) -> bool:
        """Tries a few times more without sleep: to sleep and wake takes longer than most holds."""
        for _ in range(TRIES):
            time.sleep(0)  # lets other threads run
            self._up()
            if self._try(False):
                return True
            self._down(False)
        return False

    def _poll(self) -> bool:
        """After a try that failed: looks for the dead now and then, as those that wait do."""
        if time.monotonic() < self._looked_s + PAUSES_S[-1]:
            return False
        self._looked_s = time.monotonic()
        return self._wait(0.0)

    def _inherit(self) -> bool:
        """Takes a permit over from a dead process, if one has been lost that way.

        The caller is counted among those that wait, so that releases change the era.
        """
        with self._block.arena.guard(wait=False) as got:
            if not got:
                return False  # somebody is looking already
            living: list[Seat] = []
            dead: list[Seat] = []
            for seat in self._seats.taken():
                (living if seat.intent._is_zero() or alive(seat.being) else dead).append(seat)
            lost = self._lost(living, dead) if dead else 0
            if lost < 1:
                self._absolve(dead)
                return False
            got = self._take_over(lost, dead)
        self._tell([seat.being.pid for seat in dead], got)
        return got

    def _tell(self, pids: list[int], got: bool) -> None:
        """Warns of the holders that died. got: whether the caller has what one of them had."""
        names = " or ".join(map(str, pids))
        message = (
            f"process {names} ended while it held a {type(self).__name__}; "
            "what this guards may have been left half changed"
        )
        try:
            warnings.warn(OwnerDied(message), stacklevel=5)
        except OwnerDied:  # warnings are errors: then nothing has been acquired
            if got:
                self.__exit__(None, None, None)
            raise

    def _lost(self, living: list[Seat], dead: list[Seat]) -> int:
        """How many permits the dead have for certain; the caller holds the guard."""
        era = self._words[ERA]
        before = [seat.intent._get_value() for seat in living]
        free = self._token._get_value()
        after = [seat.intent._get_value() for seat in living]
        if self._words[ERA] != era:
            return 0
        in_use = sum(map(max, before, after))
        missing = int(self._words[TOTAL] - free - in_use)
        claimed = [int(seat.intent._get_value()) for seat in dead]
        return min(missing, sum(claimed))

    def _absolve(self, dead: list[Seat]) -> None:
        """Clears the intents of dead ones that have no permit after all, if that is certain."""

    def _take_over(self, lost: int, dead: list[Seat]) -> bool:
        """Gives the permits of the dead back. Whether the caller has got one by that."""
        for _ in range(lost):
            self._token.release()
        for seat in dead:
            forget_intent(seat)
        self._bell.release()
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (type(self), self._block.place(), self._travels())

    def _travels(self) -> tuple[Any, ...]:
        """What besides the place `_restore` needs."""
        return ()

    def _restore(self, block: Block, *_more: Any) -> None:
        """Makes this object the handle of what another process has made."""
        raise NotImplementedError


class _FirstUp:
    """Stands for the intent until the process has a seat."""

    def __init__(self, owner: Permits) -> None:
        self._owner = weakref.ref(owner)  # not to keep it alive in a circle

    def __call__(self) -> None:
        owner = self._owner()
        assert owner is not None
        owner.own_seat().intent.release()


def _nothing(_block: bool) -> bool:
    return False


def _eras() -> Any:
    """Numbers that nobody else gives, as often as it is called."""
    global _count_of
    if _count_of is None or _count_of[0] != os.getpid():
        _count_of = os.getpid(), itertools.count(os.getpid() << 40 | 1).__next__
    return _count_of[1]


_count_of: tuple[int, Any] | None = None

# The objects of this process by what they are the handle of: sent to it twice, one is the same
# object, so that what a thread has of an RLock it has under every name.
_handles: weakref.WeakValueDictionary[tuple[bytes, int], Any] = weakref.WeakValueDictionary()


def keep(handle: Any, block: Block) -> None:
    """Remembers the handle of a block."""
    _handles[block.arena.identity, block.at] = handle


def restore(cls: type[Any], place: Place, more: tuple[Any, ...]) -> Any:
    """The handle of what is at a place, as pickle calls it. Raises: TransportError."""
    place = Place(*place)
    with arena.lock():
        handle = _handles.get((place.identity, place.at))
        if handle is None:
            arena.require()
            block = arena.find(place, _a(cls.__name__))
            handle = object.__new__(cls)
            handle._restore(block, *more)
            keep(handle, block)
        return handle


def _a(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOR" else f"a {name}"


def _in_child() -> None:
    for handle in list(_handles.values()):
        handle._after_fork()


os.register_at_fork(after_in_child=_in_child)
