"""Tasks of any function, each done by the means that suits its function."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .._model import Job, Kind, Plan
from .._observe.machine import machine
from .._report.report import Observer, Report
from ..backends.chunk import Failure
from . import sorting
from .accounts import Account, Accounts, Task
from .crowding import Crowding
from .flow import Flow
from .inbox import Entry
from .isolation import APART, Obstacle, obstacle
from .sorting import Sorter

if TYPE_CHECKING:
    from concurrent.futures import Executor

WAIT_S = 1e-3


class Dispatch:
    """The workers of one executor, pool or lazy map: threads, processes, or both.

    kind: "io" for threads, "cpu" for processes, "auto" to have it found out for each function.
    most: workers at most, both kinds together, or None for numbers that fit the tasks.
    job: what is said of each worker and each task; its function is not used.
    broken_by: makes the error that tasks fail with when no worker can be had, from the cause.
    seen_by: who wants the reports when all is over, one for each function; or None.
    means: the only one, where that is neither, or an executor of the caller's; `kind` is not
    "auto" then.
    total: how many tasks there will be, or None.
    hybrid: tasks may come to share worker processes. careful: faults matter: tasks begin in processes if
    nothing is against it, else in threads; `kind` is "auto" then.

    Guarantees: with `kind` "auto" a task that does not travel to a process is done in a thread.
    """

    def __init__(
        self,
        kind: Kind,
        most: int | None,
        job: Job,
        broken_by: Callable[[BaseException], BaseException],
        seen_by: Observer | None = None,
        means: str | Executor | None = None,
        *,
        total: int | None = None,
        hybrid: bool = False,
        careful: bool = False,
    ) -> None:
        self._kind: Kind = kind
        self._most = most
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._held = 0
        self._ending = self._closing = False
        prepared = job._replace(fn=sorting.call, keep_errors=True, strict=True)
        self._job, self._careful = prepared, careful
        processes = kind == "cpu" or (kind == "auto" and (most != 1 or careful))
        if processes and machine().processes_why_not is not None:
            processes = kind == "cpu" and machine().gil
        self._processes: Flow | None = None
        self._threads: Flow | None = None
        self._given: Flow | None = None
        self._hybrid: Flow | None = None
        self._crowding: Crowding | None = None
        self._seen_by = [] if seen_by is None else [seen_by]
        self._over: set[str] = set()
        self._accounts = Accounts(self._tell_of)
        self._sorter = Sorter(self._accounts, most, self._waiting) if kind == "auto" else None
        if means is not None:
            executor = None if isinstance(means, str) else means
            self._given = Flow(
                means if isinstance(means, str) else type(means).__name__,
                prepared,
                lambda: most,
                broken_by,
                then=self._ended,
                executor=executor,
            )
            return
        if processes:
            self._processes = Flow(
                "processes",
                prepared,
                self._most_processes,
                broken_by,
                then=self._ended,
                look=self._close,
                isolates=careful,
                total=total,
            )
        if kind != "cpu" or not processes:
            run = sorting.run if self._sorter is None else self._sorter.run
            self._threads = Flow(
                "threads",
                prepared._replace(fn=run),
                self._most_threads,
                broken_by,
                waits=kind == "io",
                look=self._sort if processes else None,
                then=self._ended,
            )
        if hybrid and self._processes is not None and self._threads is not None:
            self._hybrid = Flow(
                "hybrid", prepared, self._most_lanes, broken_by, look=self._close, then=self._ended
            )
            self._crowding = Crowding(self._threads, self._accounts)
        for flow in self._others if kind == "auto" else ():
            flow.desk.elsewhere = self._brought_home

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Those there are."""
        every = self._threads, self._processes, self._hybrid, self._given
        return tuple(flow for flow in every if flow is not None)

    @property
    def broken(self) -> BaseException | None:
        """What keeps it from doing any task."""
        return next((flow.broken for flow in self.flows if flow.broken is not None), None)

    @property
    def width(self) -> int:
        """Workers there are, or that would have something to do at once."""
        return sum(flow.width for flow in self.flows)

    def pace(self) -> tuple[int, float]:
        """Tasks done, and the seconds they took together."""
        tallies = [flow.desk.tally() for flow in self.flows]
        return sum(tally.ended for tally in tallies), sum(tally.busy_s for tally in tallies)

    @property
    def unsettled(self) -> int:
        """Tasks that are waiting or being run."""
        return sum(flow.desk.unsettled for flow in self.flows)

    def try_one(self, fn: Callable[[Any], Any], item: Any) -> Any:
        """`fn(item)`, run here, and looked at as a worker's call would be."""
        assert self._sorter is not None
        result = self._sorter.run((fn, (item,), {}))
        if type(result) is Failure:
            raise result.error
        return result

    def worth_while(self, fn: Callable[[Any], Any]) -> bool:
        """Whether calls of `fn` have turned out to be quicker beside each other."""
        if self._sorter is None or self._most == 1:
            return False
        apart = self._processes is not None and self._accounts.of(fn).apart
        return apart or self._sorter.waits(fn)

    def forget(self, fn: Callable[[Any], Any]) -> None:
        """Has calls of `fn` judged afresh: they are not what they were."""
        self._accounts.forget(fn)

    def account(self, fn: Callable[..., Any]) -> Account:
        """What the tasks of a function have come to, to be put with them."""
        return self._accounts.of(fn)

    def plans(self, account: Account, said: str | None = None) -> tuple[Plan, ...]:
        """Where the tasks of a function have been done, and why: if not otherwise, as was `said`."""
        workers = {flow.means: max(1, flow.widest) for flow in self.flows}
        plans = account.plans(self._kind, workers, machine(), said)
        if self._given is None:
            return plans
        return tuple(plan._replace(processes=self._given.processes) for plan in plans)

    def reports(self) -> list[Report]:
        """What there is to tell of each function so far, in the order of their first tasks."""
        return [self._report(account) for account in self._accounts.all()]

    def _report(self, account: Account) -> Report:
        return account.report(self._kind, self.plans(account))

    def put(self, entries: Sequence[Entry]) -> bool:
        """Tasks to be done, all of one function; False when no more are taken.

        Raises: RuntimeError in a child that was forked since.
        """
        if self.foreign:
            raise RuntimeError("this was made before the process was forked: make another one here")
        while not self._closing:
            flow = self._flow_for(entries[0])
            if flow.put(entries):
                return True
            if flow.gone is None:
                break
        return False

    def withdraw(self, chosen: Callable[[Task], bool]) -> list[Entry]:
        """The waiting tasks for which `chosen(task)`; they will not be done."""
        flows = () if self.foreign else self.flows
        return [entry for flow in flows for entry in flow.desk.withdraw(chosen)]

    @property
    def foreign(self) -> bool:
        """Whether this is a child that was forked since: none of its threads is here."""
        return os.getpid() != self._process

    def hold(self) -> None:
        """Somebody will still put tasks, also after the end: until `release`."""
        with self._lock:
            self._held += 1

    def release(self) -> None:
        """One who held will put no more."""
        with self._lock:
            self._held -= 1
            due = self._ending and not self._held
        if due:
            self._end()

    def end(self, *, at_once: bool = False) -> None:
        """Takes no more tasks, but of those who hold; those there are will be done.

        at_once: not of these either.
        """
        if self.foreign:
            return
        with self._lock:
            self._ending = True
            due = at_once or not self._held
        if due:
            self._end()

    def _end(self) -> None:
        self._closing = True  # first: who has done the last task looks at it then
        self._close()

    def _close(self) -> None:
        """Ends threads when there is no task: one may still move to the others, or come back.

        They have the others end after them.
        """
        if self._closing and not (self._others and self.unsettled):
            self.flows[0].end()

    def wait_for_first(self) -> None:
        """Waits until workers that are being started for the first tasks have them."""
        for flow in () if self.foreign else self.flows:
            while flow.desk.unsettled and not (flow.desk.source.at or flow.desk.over):
                time.sleep(WAIT_S)

    def kill(self, error: BaseException) -> None:
        """Ends at once: what is not done fails with this error."""
        for flow in () if self.foreign else self.flows:
            flow.kill(error)
        self._tell()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until all is done after the end; whether it is."""
        return self.foreign or all(flow.wait(timeout_s) for flow in self.flows)

    def _flow_for(self, entry: Entry) -> Flow:
        threads, processes = self._threads, self._processes
        if self._given is not None:
            return self._given
        account = self._account_of(entry)
        if self._careful and not account.judged:
            self._judge(account, entry.task)
        if processes is None:
            assert threads is not None
            return threads
        if threads is None or self._sorter is None:
            return processes
        flow = self._flow_of(account.means)
        if flow.gone is None:
            return flow
        account.stay(str(flow.gone))
        return threads

    def _flow_of(self, means: str) -> Flow:
        """The one that is this means."""
        return next(flow for flow in self.flows if flow.means == means)

    def _account_of(self, entry: Entry) -> Account:
        return self._accounts.of(entry.task[0]) if entry.account is None else entry.account

    def _judge(self, account: Account, task: Task) -> None:
        """Finds out where a function's tasks are to begin, from the first of them."""
        account.judged = True
        why = machine().processes_why_not
        against = None if why is None else Obstacle(why, for_good=True)
        against = against or obstacle(task[0], task[1], self._job)
        if against is None:
            account.means, account.plan = "processes", Plan("processes", 1, APART, {})
            return
        account.exposed = f"faults matter, but {against.why}, so the first items run in threads"
        account.why_not = against.why if against.for_good else None

    def _brought_home(self, entry: Entry, error: Exception) -> None:
        """Has threads do a task that does not travel; and, if few of its function do, all the others."""
        threads, account = self._threads, self._account_of(entry)
        assert threads is not None
        entries = [entry]
        account.brought += 1
        if account.brought > account.tally(account.means).items:
            account.stay(str(error))
            entries += self.withdraw(account.has)
        for each in entries:
            try:
                taken = threads.put([each])
            except RuntimeError:  # there are no more threads
                taken = False
            if not taken and each.ticket.begin():
                each.ticket.fail(error)

    def _ended(self, means: str) -> None:
        """A flow has ended; threads have the others end after them."""
        again = means in self._over
        self._over.add(means)
        over = len(self._over) == len(self.flows)
        for flow in self._others if means == "threads" else ():
            flow.end()
        if means != "threads" and not again:
            self._close()  # it was broken, and nobody looks at what it held any more
        if over:
            self._tell()

    def _tell(self) -> None:
        """Tells who wants to know what came of each function; once.

        Without a lock: the collector may come here in the middle of anything.
        """
        try:
            seen_by = self._seen_by.pop()
        except IndexError:  # nobody does, or they have been told
            return
        for report in () if self.foreign else self.reports():
            seen_by.note(report)

    def _tell_of(self, account: Account) -> None:
        """Tells of one whose account is closed before the end."""
        for seen_by in self._seen_by:
            seen_by.note(self._report(account))

    @property
    def _others(self) -> list[Flow]:
        """Those that tasks may move to from threads."""
        return [flow for flow in (self._processes, self._hybrid) if flow is not None]

    def _sort(self) -> None:
        """Moves the waiting tasks of functions that have turned out to belong elsewhere."""
        threads = self._threads
        assert threads is not None
        assert self._sorter is not None
        if self._crowding is not None:
            self._crowding.look()
        for account in self._sorter.found():
            moved, flow = threads.desk.withdraw(account.has), self._flow_of(account.means)
            if moved and not flow.put(moved):
                threads.desk.put(moved, back=True)
            if flow.gone is not None:
                account.stay(str(flow.gone))
        self._close()

    def _waiting(self, test: Callable[[Task], bool]) -> int:
        return 0 if self._threads is None else self._threads.desk.waiting(test)

    def _most_threads(self) -> int | None:
        most, processes, hybrid = self._most, self._processes, self._hybrid
        threads = self._threads
        if most is None or processes is None:
            return most
        late = self._careful and threads is not None and not threads.width
        if late and processes.desk.unsettled:
            return 0  # what could not travel waits until those have ended
        wanted = min(machine().cpus, processes.desk.unsettled, most // 2)
        taken = max(processes.workers, wanted)
        if hybrid is not None:
            taken += max(hybrid.workers, min(hybrid.desk.unsettled, most // 2))
        return max(1, most - taken)

    def _most_processes(self) -> int | None:
        most, threads = self._most, self._threads
        if most is None or threads is None:
            return most
        return max(0, most - threads.workers)

    def _most_lanes(self) -> int:
        """None at all before half of the workers are free: processes are filled from the start."""
        most, threads = self._most, self._threads
        plans = [account.plan for account in self._accounts.all() if account.means == "hybrid"]
        lanes = max((plan.workers for plan in plans if plan is not None), default=1)
        if threads is not None:
            lanes = max(lanes, threads.width)  # they cost little
        if most is None or threads is None:
            return lanes
        free = most - threads.workers
        return min(free, lanes) if 2 * free >= most else 0
