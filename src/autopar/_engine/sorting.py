"""Which tasks go to threads and which to processes, or to both at once, found out as they are done.

The first tasks of a function run in threads, where its time, its CPU time and what it changes are
seen; for as long as others computed beside it, it is taken to have queued for the GIL. Once that
says that processes would be quicker, and that they would change nothing but the speed, the tasks of
this function that are waiting move there, and all later ones go there at once.
How much of its computing holds the GIL is not measured, as other tasks run beside it: all of it is
taken to, and processes are right for the rest, too, unless moving its data costs more. Tasks that
wait go to threads of a few processes, if threads at work on them were seen to queue for the GIL.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from .._decide import planner
from .._model import Job, Observation, Options, Travel
from .._observe import effects
from .._observe.machine import machine
from ..backends.chunk import Failure
from .accounts import Account, Accounts, Task, Trial
from .knowledge import present_costs

WAITED_S = 2e-3  # less is not worth the threads that could wait beside each other


def run(task: Task) -> Any:
    """The result of a task, or what it raised that is no `Exception`, in a `Failure`."""
    fn, args, kwargs = task
    try:
        return fn(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        return Failure(error)


def call(task: Task) -> Any:
    """The result of a task."""
    fn, args, kwargs = task
    return fn(*args, **kwargs)


class Sorter:
    """What is known of each function whose tasks are put.

    accounts: where that is kept. most: processes at most, or None. waiting: tells how many waiting
    tasks pass a test.
    """

    def __init__(
        self,
        accounts: Accounts,
        most: int | None,
        waiting: Callable[[Callable[[Task], bool]], int],
    ) -> None:
        self._accounts, self._most, self._waiting = accounts, most, waiting
        self._lock = threading.Lock()
        self._found: list[Account] = []

    def waits(self, fn: Callable[..., Any]) -> bool:
        """Whether a function's tasks have waited so much that others may as well begin."""
        return self._accounts.of(fn).trial.waited_s > WAITED_S

    def run(self, task: Task) -> Any:
        """As the function `run`, with what it takes noted; it is considered at once, if it is due.

        Nothing of a task may be kept until later: its result is the caller's alone.
        """
        account = self._accounts.of(task[0])
        if account.why_not is not None:
            return run(task)
        snapshot = effects.watch(task[0], task[1:]) if account.due else None
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        began_all_s = time.process_time()
        result = run(task)
        wall_s, cpu_s = time.perf_counter() - began_s, time.thread_time() - began_cpu_s
        others_s = time.process_time() - began_all_s - cpu_s
        with self._lock:
            account.trial = account.trial.with_one(wall_s, cpu_s, others_s)
            trial, due = account.trial, account.trial.items >= 2 * account.looked
            account.looked = trial.items if due else account.looked
            crowded = None
            if snapshot is not None:  # it is considered once, by the first who can
                crowded, account.crowded = account.crowded, None
        if (due or crowded) and snapshot is not None and type(result) is not Failure:
            self._consider(account, trial, crowded, task, result, snapshot)
        return result

    def found(self) -> list[Account]:
        """The functions whose tasks have turned out to belong elsewhere."""
        if not self._found:
            return []
        with self._lock:
            found, self._found = self._found, []
        return found

    def _consider(
        self,
        account: Account,
        trial: Trial,
        crowded: Observation | None,
        task: Task,
        result: Any,
        snapshot: effects.Snapshot,
    ) -> None:
        seen = crowded or trial.seen()
        if seen is None or trial.wall_s <= 0:
            return
        left = max(self._waiting(account.has), trial.items)
        costs, facts = present_costs(), machine()
        if crowded is None and not planner.processes_may_gain(seen, facts, left, costs):
            return
        account.why_not = effects.writes_of(task[0]) or snapshot.changed()
        if account.why_not is not None:
            return
        seen = seen._replace(travel=_travel(task, result))
        if seen.travel is not None and seen.travel.why_not is not None:
            account.why_not = seen.travel.why_not
            return
        options = Options(workers=self._most, hybrid=crowded is not None)
        account.plan = plan = planner.plan(seen, facts, left, options, costs)
        if plan.backend in (planner.PROCESSES, planner.HYBRID):
            account.means = plan.backend
            with self._lock:
                self._found.append(account)


def _travel(task: Task, result: Any) -> Travel:
    """What a task's way costs, but for what is imported for the first."""
    from .._transport.travel import travel

    known = "cloudpickle" in sys.modules
    found = travel(Job(call), task, result)
    return found if known or found.why_not is not None else travel(Job(call), task, result)
