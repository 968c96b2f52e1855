"""The CPUs that the calls of this process share, so that many at once do not multiply workers.

Every call whose workers compute holds a share. While there are more workers wanted than CPUs,
each call may have its fair part; while there are more calls than CPUs, they take turns. Calls that
must have their workers, however many, leave the others one CPU to share. Nobody waits for ever:
when no turn has ended for a while (items may wait for items of another call), the one that has
waited longest is let in beside the others.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

ROUND_S = 0.5  # in which each call that waits for a worker is meant to have had one...
TURN_MIN_S, TURN_S = 0.02, 0.1  # ...for so long
PATIENCE_S = 0.5  # without a turn ending for so long, one more call is let in

_lock = threading.Lock()
_shares: list[Share] = []  # those that hold nothing are in the order in which they came to wait
_turned_s = 0.0  # when a call last came to have workers


def free(cpus: int) -> int:
    """CPUs a new call may count on."""
    if in_worker():
        return 1
    return max(1, cpus - sum(share.held for share in _shares))


def in_worker() -> bool:
    """Whether this is a worker process, whose CPU is its own item's."""
    return getattr(sys.modules.get("autopar"), "_worker_process", False)


class Share:
    """What one call holds.

    held: its workers, those included that are on their way out. wanted: those it could use.
    demand: it must have them all.
    due: others have given workers back since it last settled.
    wake: called when `due` becomes true.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.held = self.wanted = 0
        self.demand = False
        self.due = False
        self.wake = wake
        self._since_s = 0.0  # when it came to hold, or to wait

    def settle(self, cpus: int, wanted: int, hired: int, now_s: float, *, demand: bool) -> int:
        """How many workers the call may have now.

        cpus: those there are. wanted: workers it could use. hired: those it has.
        demand: it must have them all: the caller said how many, or they cannot be moved.
        """
        global _turned_s
        with _lock:
            self.due = False
            if self not in _shares:
                _shares.append(self)
                self._since_s = now_s
            freed = hired < self.held
            self.held, self.wanted, self.demand = hired, wanted, demand
            granted = wanted if demand else self._fair(cpus, wanted, now_s)
            if granted and not hired:
                self._since_s = _turned_s = now_s
            elif hired and not granted:
                _shares.remove(self)  # to the end of those that wait
                _shares.append(self)
            self.held = max(granted, hired)
            if freed:
                _call_next()
            return granted

    def _fair(self, cpus: int, wanted: int, now_s: float) -> int:
        spare = _spare(cpus)
        part = cpus // len(_shares)
        others = [
            share.held for share in _shares if share is not self and share.held < share.wanted
        ]
        poorest = min(others, default=cpus)
        if not self.held:
            first = next(share for share in _shares if not share.held) is self
            if first and spare > 0:
                return min(wanted, max(1, min(spare, part)))
            return int(first and now_s - max(_turned_s, self._since_s) > PATIENCE_S)
        if not others:
            return min(wanted, self.held + max(0, spare))
        if self.held == 1 and poorest == 0:
            turn_s = min(TURN_S, max(TURN_MIN_S, ROUND_S * cpus / len(_shares)))
            return int(now_s - self._since_s < turn_s)
        if self.held > max(part, poorest + 1):
            return min(wanted, self.held - 1, max(part, poorest + 1))
        return min(wanted, self.held + (spare > 0 and self.held <= poorest))

    def give_back(self) -> None:
        """Gives all back."""
        with _lock:
            if self in _shares:
                _shares.remove(self)
                _call_next()
            self.held = 0


def _spare(cpus: int) -> int:
    """CPUs that nobody has; of those that calls must have, one counts as not theirs."""
    demanded = sum(share.held for share in _shares if share.demand)
    return cpus - min(demanded, cpus - 1) - sum(s.held for s in _shares if not s.demand)


def _call_next() -> None:
    """Wakes the call that has waited longest, or one that could have more."""
    for share in sorted(_shares, key=lambda share: share.held):
        share.due = True
        share.wake()
        return


def _forget() -> None:
    global _lock, _shares
    _lock, _shares = threading.Lock(), []


os.register_at_fork(after_in_child=_forget)
