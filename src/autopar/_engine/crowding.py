"""Whether threads that wait for a function's tasks queue for the GIL, as tasks come.

The question that a call asks of its own threads (`grounds`), asked where there is no end to look
towards: each look is at what was done since the one before, and the next comes after twice as long.
"""

from __future__ import annotations

import os
import time

from .._decide.doubt import FULL, Stretch, by_others, crowded, spare
from .._decide.width import enough_threads
from .._observe.machine import machine
from .._platform import machine_times
from .accounts import Account, Accounts
from .desk import now_s
from .flow import Flow
from .grounds import CROWD_S
from .turns import quick_turns

OWN = 0.5  # of the CPU in use at least; or who takes the results uses most, which no process would


class Crowding:
    """Looks at the threads of a flow, while they work on the tasks of one function."""

    def __init__(self, threads: Flow, accounts: Accounts) -> None:
        self._threads, self._accounts = threads, accounts
        self._begun: Stretch | None = None
        self._wait_s = CROWD_S

    def look(self) -> None:
        """Notes with the function if its tasks queue for the GIL."""
        every = self._accounts.all()
        if len(every) != 1 or every[0].why_not is not None or every[0].apart or not machine().gil:
            return
        account, begun, now = every[0], self._begun, now_s()
        if begun is None:
            self._begun = self._whole()
        elif now - begun.wall_s >= self._wait_s:
            self._wait_s *= 2
            self._begun = self._judge(account, begun)

    def _judge(self, account: Account, begun: Stretch) -> Stretch:
        """Notes what a stretch has shown; where the next one begins."""
        whole, seen = self._whole(), account.trial.waiting()
        stretch = whole.since(begun)
        if seen is None:
            return whole
        if stretch.process_s > FULL * stretch.wall_s:  # it may be the GIL: enough threads show it
            self._threads.least = enough_threads(seen) // 4
        found = crowded(seen, self._threads.workers, stretch)
        own = found is not None and found.cpu_s * stretch.items > OWN * stretch.process_s
        if found is not None and own and spare(stretch, os.cpu_count() or 1):
            account.crowded = found._replace(others_s=by_others(stretch))
        return whole

    def _whole(self) -> Stretch:
        desk = self._threads.desk
        with quick_turns:
            machine_s = machine_times().used_s
        return Stretch(
            now_s(),
            desk.done,
            desk.counted_s,
            desk.cpu_s,
            time.process_time(),
            machine_s,
            desk.counted,
            desk.moved_s,
        )
