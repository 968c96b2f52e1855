"""How a lazy map has gone, for its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ._decide import planner
from ._engine.call import name_of
from ._engine.dispatch import Dispatch
from ._model import Plan
from ._observe.machine import machine
from ._options import Chosen
from ._report.report import Report

MOST_PLANS = 50  # a map that has no end may go to and fro for ever


class Course:
    """What has been done so far, where, and why there.

    done: items that have ended; here: of them, in the thread that asks.
    """

    def __init__(
        self, fn: Callable[[Any], Any], chosen: Chosen, dispatch: Dispatch, alone: bool
    ) -> None:
        self.done = self.here = 0
        self._fn, self._chosen, self._dispatch = fn, chosen, dispatch
        self._alone = alone
        self._began_s: float | None = None
        self._plans: list[Plan] = []

    def begin(self) -> None:
        """The first result is asked for."""
        self._began_s = time.perf_counter()

    def come(self, done: int) -> None:
        """So many have ended by now, the last ones in the thread that asks."""
        self.here += done - self.done
        self.done = done

    def turn(self, *, alone: bool) -> None:
        """From now on items run in the thread that asks, `alone`, or in workers."""
        self._plans = [*self._plans, *self._now(over=True)][-MOST_PLANS:]
        self._alone = alone

    def report(self) -> Report:
        """What there is to tell."""
        now_s = time.perf_counter()
        return Report(
            name_of(self._fn),
            self._chosen.kind,
            self.done,
            self.here,
            now_s - (self._began_s or now_s),
            (*self._plans, *self._now(over=False)),
        )

    def _now(self, *, over: bool) -> tuple[Plan, ...]:
        """The plans since the last turn; over: the next comes now."""
        account, backend = self._dispatch.account(self._fn), self._chosen.backend
        if not self._alone:
            said = None if backend is None else f"the caller chose {backend}"
            if self._chosen.executor is not None:
                said = "the caller chose it"
            return self._dispatch.plans(account, said)
        seen = account.trial.seen()
        if backend is not None:
            because = f"the caller chose {backend}"
        elif seen is None or over:
            because = "the first items run in the thread that asks, where what they take is seen"
        elif self._plans:
            nature = planner.describe(seen, machine())
            because = f"{nature}, too little for the way to a worker to be worth while"
        else:
            because = account.stays(machine())
        return (Plan("serial", 1, because, {}, seen),)
