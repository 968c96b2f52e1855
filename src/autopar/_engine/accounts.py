"""What the tasks of each function have come to, and why they are done where they are.

Relies on: what is added to a tally of one means is added under the lock of that means' desk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple

from .._decide import planner
from .._model import Kind, Machine, Observation, Plan
from .._observe.watch import WAITS
from .._report.report import Report
from .isolation import APART
from .memory import body_of

Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

FIRST_CALLS = "the first items of a function run in threads, where what they take is seen"
ALONE = 0.1  # of its time is what others may compute beside an item that runs as if alone
MOST = 1000  # functions with an account: some programs make a new one for each task


class Trial(NamedTuple):
    """What a function's tasks have shown where they were looked at.

    waited_s: how long the last ones have waited, one after another, each taken to have waited no
    longer than the one before it; 0 when one did not. alone, alone_s: those beside which nothing else
    computed, and the seconds that they took together.
    """

    items: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    longest_s: float = 0.0
    last_waited_s: float = 0.0
    waited_s: float = 0.0
    alone: int = 0
    alone_s: float = 0.0

    def with_one(self, took_s: float, cpu_s: float, others_s: float) -> Trial:
        """With one more of these seconds; others used so many of CPU meanwhile.

        For as long as others computed beside it, it is taken to have queued for the GIL.
        """
        wall_s, alone = max(cpu_s, took_s - others_s), others_s < ALONE * took_s
        waits = wall_s - cpu_s > WAITS * wall_s
        waited_s = wall_s - cpu_s if waits else 0.0
        return Trial(
            self.items + 1,
            self.wall_s + wall_s,
            self.cpu_s + cpu_s,
            max(self.longest_s, wall_s),
            waited_s,
            # one alone may have lost its CPU for so long
            self.waited_s + min(waited_s, self.last_waited_s) if waits else 0.0,
            self.alone + alone,
            self.alone_s + took_s * alone,
        )

    def seen(self) -> Observation | None:
        """The same for one of them; all of their computing is taken to hold the GIL."""
        if not self.items:
            return None
        cpu_s = self.cpu_s / self.items
        return Observation(
            self.items, self.wall_s / self.items, cpu_s, cpu_s, longest_s=self.longest_s
        )

    def waiting(self) -> Observation | None:
        """The same for one that waits: beside others that wait, what they compute takes no time of it.

        Its seconds are those of one alone; of no items if none was, and at least so many.
        """
        seen = self.seen()
        if seen is None:
            return None
        return (
            seen._replace(wall_s=self.alone_s / self.alone)
            if self.alone
            else seen._replace(items=0)
        )


class Tally:
    """How many of a function's tasks one means has done, and the seconds these took together."""

    def __init__(self) -> None:
        self.items = 0
        self.wall_s = self.cpu_s = self.ended_s = 0.0

    def add(self, items: int, wall_s: float, cpu_s: float | None) -> None:
        """So many more have just been done."""
        self.items += items
        self.wall_s += wall_s
        self.cpu_s += cpu_s or 0.0
        self.ended_s = time.perf_counter()


class Account:
    """One function: what its tasks have come to, and what was concluded from that.

    means: where its tasks go. looked: tasks done when that was last considered.
    crowded: what its tasks are if threads at work on them queue for the GIL, to be considered.
    why_not: what keeps it in shared memory for good. plan: the last that was made for it.
    exposed: why its tasks have begun in threads, though faults matter; or None.
    judged: it has been found out whether they have to. brought: tasks that did not travel.
    """

    def __init__(self, key: object, name: str) -> None:
        self.key, self.name = key, name
        self.began_s = time.perf_counter()
        self.tallies: dict[str, Tally] = {}
        self.trial = Trial()
        self.means = "threads"
        self.crowded: Observation | None = None
        self.looked = 0
        self.why_not: str | None = None
        self.plan: Plan | None = None
        self.exposed: str | None = None
        self.judged = False
        self.brought = 0

    def stay(self, why_not: str) -> None:
        """Has its tasks done in shared memory from now on, for this reason."""
        self.means, self.plan, self.why_not = "threads", None, why_not

    @property
    def apart(self) -> bool:
        """Whether its tasks go to workers that share no memory with the caller."""
        return self.means != "threads"

    @property
    def due(self) -> bool:
        """Whether the task that is done next is reason to consider it again."""
        if self.why_not is not None or self.apart:
            return False
        return self.crowded is not None or self.trial.items + 1 >= 2 * self.looked

    def has(self, task: Task) -> bool:
        """Whether a task is of this function."""
        return key_of(task[0]) == self.key

    def tally(self, means: str) -> Tally:
        """That of a means."""
        found = self.tallies.get(means)
        return self.tallies.setdefault(means, Tally()) if found is None else found

    def report(self, kind: Kind, plans: tuple[Plan, ...]) -> Report:
        """What there is to tell of it so far."""
        tallies = list(self.tallies.values())
        ended_s = max([self.began_s, *(tally.ended_s for tally in tallies)])
        items = sum(tally.items for tally in tallies)
        return Report(self.name, kind, items, 0, ended_s - self.began_s, plans)

    def plans(
        self, kind: Kind, workers: dict[str, int], facts: Machine, said: str | None
    ) -> tuple[Plan, ...]:
        """Where its tasks have been done, and why, in this order.

        workers: the most that each means has had. said: what the caller chose, if it was not `kind`.
        """
        if kind != "auto":
            (means,) = workers
            said = said or f"the caller said that the items {'wait' if kind == 'io' else 'compute'}"
            return (Plan(means, workers[means], self._as_told(said, means), {}),)
        threads = Plan("threads", workers.get("threads", 1), FIRST_CALLS, {}, self.trial.seen())
        apart = max(1, workers.get("processes", 1))
        isolated = Plan("processes", apart, self._as_told(APART, "processes"), {})
        if not self.apart or self.plan is None:
            because = self.stays(facts)
            if self.plan is None:
                before = (isolated,) if self.tally("processes").items else ()
                return (*before, threads._replace(because=because))
            return (
                self.plan._replace(backend="threads", workers=threads.workers, because=because),
            )
        if self.plan.observation is None:  # they are there from the first on
            return (isolated,)
        moved = self.plan._replace(workers=max(1, workers.get(self.means, 1)))
        return (threads, moved) if self.tally("threads").items else (moved,)

    def stays(self, facts: Machine) -> str:
        """Why its tasks have stayed in shared memory."""
        seen = self.trial.seen()
        if seen is None:
            out = f"processes are out: {self.why_not}"
            return self.exposed or (FIRST_CALLS if self.why_not is None else out)
        nature = planner.describe(seen, facts)
        if self.why_not is not None:
            return f"{nature}; processes are out: {self.why_not}"
        if facts.processes_why_not is not None:
            return f"{nature}; processes cannot run here: {facts.processes_why_not}"
        if self.exposed is not None:
            return f"{nature}; {self.exposed}"
        if self.plan is not None:
            return self.plan.because
        if self.trial.waited_s:
            return f"{nature}, which threads do beside each other"
        return f"{nature}; that was not worth processes"

    def _as_told(self, said: str, means: str) -> str:
        """The reason where the caller has chosen, and what the tasks took."""
        tally = self.tally(means)
        if not tally.items:
            return said
        took = f"{said}; they took {1e3 * tally.wall_s / tally.items:.3g} ms each"
        cpu_s = tally.cpu_s / tally.items
        return f"{took}, of it {1e3 * cpu_s:.3g} ms of CPU" if cpu_s else took


class Accounts:
    """Those of all functions, in the order of their first tasks.

    dropped: told of an account that has to make room for another.
    """

    def __init__(self, dropped: Callable[[Account], object]) -> None:
        self._dropped = dropped
        self._accounts: dict[object, Account] = {}
        self._lock = threading.Lock()

    def of(self, fn: Callable[..., Any]) -> Account:
        """That of a function."""
        key = key_of(fn)
        found = self._accounts.get(key)
        return self._opened(key, fn) if found is None else found

    def all(self) -> list[Account]:
        """Those there are."""
        return list(self._accounts.values())

    def forget(self, fn: Callable[..., Any]) -> None:
        """Has it judged afresh."""
        with self._lock:
            self._accounts.pop(key_of(fn), None)

    def _opened(self, key: object, fn: Callable[..., Any]) -> Account:
        from .call import name_of

        oldest = None
        with self._lock:
            account = self._accounts.setdefault(key, Account(key, name_of(fn)))
            if len(self._accounts) > MOST:
                oldest = self._accounts.pop(next(iter(self._accounts)))
        if oldest is not None:
            self._dropped(oldest)
        return account


class _Code:
    """A code object, told from others by what it is: its own hash is that of all its constants."""

    __slots__ = ("_code",)

    def __init__(self, code: CodeType) -> None:
        self._code = code

    def __hash__(self) -> int:
        return id(self._code)

    def __eq__(self, other: object) -> bool:
        return type(other) is _Code and other._code is self._code


def key_of(fn: Callable[..., Any]) -> object:
    """What an account is kept under: never the callable, which nobody may keep alive by that."""
    body = body_of(fn)
    if type(body) is CodeType:
        return _Code(body)
    return type(body), getattr(body, "__qualname__", "")
