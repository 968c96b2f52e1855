"""Items that run past their time, and what is done about them.

A worker is halted first, and what it has said by then counts: otherwise it could come to the next
item between the look and the blow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .remote import Remote

if TYPE_CHECKING:
    from .helper import Helper

HALT_S = 0.5  # a worker that does not halt within this time is ended as it is


class Late:
    """Watches that no item runs for more than `timeout_s`.

    take: takes in what a worker has sent.
    """

    def __init__(self, timeout_s: float, take: Callable[[Remote], None]) -> None:
        self._timeout_s, self._take = timeout_s, take

    def watch(self, remotes: Iterable[Remote], helper: Helper) -> None:
        """Halts workers whose item has run too long, and ends those that halted at it."""
        now_s = time.monotonic()
        for remote in remotes:
            if remote.halted is None:
                index = remote.at_work_on
                if index is not None and now_s - remote.since_s > self._timeout_s:
                    remote.halted = index, now_s
                    helper.halt(remote)
            elif remote.number in helper.halted or now_s - remote.halted[1] > HALT_S:
                self._judge(remote, helper)

    def _judge(self, remote: Remote, helper: Helper) -> None:
        """Ends a halted worker, unless it has finished the item meanwhile."""
        assert remote.halted is not None
        self._take(remote)
        if remote.at_work_on == remote.halted[0]:
            remote.halted = remote.halted[0], math.inf  # only once
            helper.halted.discard(remote.number)
            helper.kill([remote])
        else:
            remote.halted = None
            helper.resume(remote)
