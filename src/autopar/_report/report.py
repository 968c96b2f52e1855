"""The account of a call: what was measured, what was predicted, what was chosen and why."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .._model import Observation, Plan

COLUMNS = 80


class Report(NamedTuple):
    """What happened in one call, or with the calls of one function in an executor or pool.

    function: name of the function. kind: as the caller gave it.
    items: results returned or exceptions seen; in_caller: how many ran in the caller's thread.
    wall_s: seconds from call to return; of a lazy map, from when the first result was asked for
    until there were no more; in an executor, from the first call until the last ended.
    plans: every plan in the order it was followed; the last was in force at the end.
    """

    function: str
    kind: str
    items: int
    in_caller: int
    wall_s: float
    plans: tuple[Plan, ...]

    @property
    def plan(self) -> Plan:
        """The plan in force at the end."""
        return self.plans[-1]

    @property
    def backend(self) -> str:
        """The means used at the end, such as "serial", "processes", or an executor's name."""
        return self.plan.backend

    @property
    def workers(self) -> int:
        """Workers of that backend at most; where items wait, as many as there came to be."""
        return self.plan.workers

    @property
    def because(self) -> str:
        """The reason, as one sentence."""
        return self.plan.because

    @property
    def predicted_s(self) -> dict[str, float]:
        """Seconds each strategy was predicted to need when the last plan was made."""
        return self.plan.predicted_s

    @property
    def observation(self) -> Observation | None:
        """What the last plan was made from."""
        return self.plan.observation

    @property
    def changes(self) -> tuple[Plan, ...]:
        """The plans after the first, each a change of course."""
        return self.plans[1:]

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(report: Report) -> Iterator[str]:
    import textwrap  # 4 ms with all it imports, and few reports are printed

    plan = report.plan
    yield from textwrap.wrap(
        f"{report.function}: {report.items} items in {report.wall_s:.4g} s",
        COLUMNS,
        subsequent_indent=" " * 13,
    )
    yield from textwrap.wrap(
        f"{plan.means}, {report.in_caller} items in the caller's thread",
        COLUMNS,
        initial_indent="  ran as     ",
        subsequent_indent=" " * 13,
    )
    yield from textwrap.wrap(
        plan.because, COLUMNS, initial_indent="  because    ", subsequent_indent=" " * 13
    )
    seen = plan.observation
    if seen is not None:
        yield (
            f"  an item    {seen.wall_s:.3g} s, of it {seen.cpu_s:.3g} s of CPU "
            f"and {seen.gil_s:.3g} s under the GIL"
        )
    for name, seconds in plan.predicted_s.items():
        cost = "cannot" if seconds == float("inf") else f"{seconds:.3g} s"
        yield f"  predicted  {name:<10} {cost}"
    for earlier in report.plans[:-1]:
        yield from textwrap.wrap(
            f"{earlier.means}, {earlier.because}",
            COLUMNS,
            initial_indent="  before     ",
            subsequent_indent=" " * 13,
        )


class Observer:
    """Collects reports; see `observe`."""

    def __init__(self, outer: Observer | None) -> None:
        self.reports: list[Report] = []
        self._outer = outer

    def note(self, report: Report) -> None:
        """Keeps a report, here and in the observers around this one."""
        self.reports.append(report)
        if self._outer is not None:
            self._outer.note(report)


_observer: contextvars.ContextVar[Observer | None] = contextvars.ContextVar(
    "autopar.observer", default=None
)


@contextmanager
def observe() -> Iterator[Observer]:
    """Collects the `Report` of every call made inside, from any thread of this context.

    A lazy map called inside is reported when its iterator ends or is closed, if a result was ever
    asked for; an executor or pool made inside when it has ended, with a report for each function.
    That may be after the block, and wherever results are taken or calls are submitted.

    The context manager gives an object whose `reports` is the list, in the order the calls ended.
    """
    token = _observer.set(Observer(_observer.get()))
    try:
        observer = _observer.get()
        assert observer is not None
        yield observer
    finally:
        _observer.reset(token)


def observer() -> Observer | None:
    """Who wants the report of a call made now."""
    return _observer.get()
