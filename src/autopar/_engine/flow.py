"""Tasks that flow through one means: its crew is open while there are any, and then let go.

A director, a thread borrowed for as long as there are tasks, opens the crew, keeps it going, and
fits it to what is waiting; so a flow that nobody uses costs nothing, and holds no CPU against
others. Workers that have run an initializer are kept until the flow ends.
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import backends
from .._decide import room
from .._decide.width import FIRST, POLITE, Width, first_width, next_width, worth_loading
from .._errors import BackendUnavailable, TransportError
from .._model import Job
from .._observe.machine import free_memory, machine
from .._observe.watch import WAITS
from .._platform import gil_enabled
from ..backends.protocol import Crew
from . import budget
from .bell import Bell
from .desk import SIGNALS_S, SLOW_CALL_S, now_s
from .inbox import Entry, OpenDesk
from .isolation import fails_anywhere

if TYPE_CHECKING:
    from concurrent.futures import Executor

TICK_S = 5e-3  # between two looks while something is being done
LINGER_S = 0.2  # with nothing to do for so long, the workers are let go
STAY_S = 5.0  # between two looks at workers that are kept
FEW = 1  # threads to begin with when nobody knows yet whether tasks wait
COMPUTES = 0.7  # threads that use so much of a CPU together compute: no more of them are wanted...
SCOUTED_ITEMS, SCOUTED_S = 2, 2e-3  # enough to judge items by, run in a process of their own
WORKER_BYTES = 16 << 20  # what a worker holds before its first item
PATIENCE_S = 1.0  # ...unless nothing has come back for so long: they may wait for those to come


class Flow:
    """One means, `means`, for tasks that come as they come.

    job: what its workers run. most: tells how many workers there may be now, None for any number;
    with 0 it waits. broken_by: makes the error that tasks fail with when no worker can be had.
    waits: tasks are known to wait. executor: the caller's own, which is the means.
    isolates: tasks are in processes so that they do no harm, also those that wait. total: how many
    there will be, where that is known.
    look: called by the director after each look at the crew, outside every lock.
    then: called when all is over, with `means`; maybe more than once.
    widest: the most workers that there were at once. processes: how many they were threads of.
    gone: why no worker can be had, and its tasks are done elsewhere; else None.
    least: threads to have, whatever fewer have shown, to see whether they queue for the GIL.
    """

    def __init__(
        self,
        means: str,
        job: Job,
        most: Callable[[], int | None],
        broken_by: Callable[[BaseException], BaseException],
        *,
        waits: bool = False,
        look: Callable[[], object] | None = None,
        then: Callable[[str], object],
        executor: Executor | None = None,
        isolates: bool = False,
        total: int | None = None,
    ) -> None:
        self.means = means
        self.desk = OpenDesk(means, retries=job.retries, timeout_s=job.timeout_s)
        self.most = most
        self.waits = waits
        self.executor = executor
        self.isolates, self.total = isolates, total
        self.broken: BaseException | None = None
        self.gone: Exception | None = None
        self.least = 0
        self._job = job
        self._broken_by, self._look, self._then = broken_by, look, then
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._directed = False
        self._killed = False
        self._workers = self._width = self.widest = self.processes = 0
        self._ended = threading.Event()
        self._bell = Bell()

    # who has tasks done

    def put(self, entries: Sequence[Entry]) -> bool:
        """Tasks to be done; False when no more are taken."""
        with self._lock:
            if not self.desk.put(entries):
                return False
            if self._directed:
                if self.desk.unsettled > self._workers:
                    self._bell.ring()
                return True
            self._directed = True
        try:
            context = self._context.copy()
            backends.backend("threads").run(lambda: context.run(self._direct))
        except RuntimeError:  # the interpreter is ending: no more threads
            self._directed = False
            self.desk.withdraw(
                lambda task: any(task is entry.task for entry in entries), begun=True
            )
            raise
        return True

    def end(self) -> None:
        """Takes no more tasks; those there are will be done."""
        with self._lock:
            self.desk.end()
            over = not self._directed
        self._bell.ring()
        if over:
            self._finish()

    def kill(self, error: BaseException) -> None:
        """Ends at once: what is not done fails with this error."""
        self._killed = self.desk.unsettled > 0  # else the workers are as good as new
        self.desk.forsake(error)
        self.end()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until all is done after the end; whether it is."""
        until_s = None if timeout_s is None else now_s() + timeout_s
        while not self._ended.is_set():
            left_s = SIGNALS_S if until_s is None else min(SIGNALS_S, until_s - now_s())
            if left_s <= 0:
                return False
            self._ended.wait(left_s)
        return True

    @property
    def width(self) -> int:
        """Workers that it would have now if there were enough to do."""
        return self._width

    @property
    def workers(self) -> int:
        """Workers that are at work, or about to be."""
        return min(self._workers, self.desk.unsettled)

    # in the director's thread

    def _direct(self) -> None:
        try:
            while self._serve():
                pass
            if self._look is not None:  # a task may have come and gone since the last look
                self._look()
        except BaseException as error:
            self._break(error)
        finally:
            if self.desk.over:
                self._finish()

    def _finish(self) -> None:
        self._then(self.means)
        self._ended.set()

    def _serve(self) -> bool:
        """Has a crew do what there is; whether there is more to do."""
        while self.most() == 0 and not self.desk.over:
            time.sleep(TICK_S)
        share = budget.Share(self.desk.tell)
        try:
            fitter = (FITTERS[self.means] if self.executor is None else _Lent)(self, share)
            try:
                crew = fitter.open(self._job, self.desk)
            except (TransportError, BackendUnavailable) as error:
                self._leave(error)
            else:
                self._fitted(fitter)
                try:
                    self._conduct(crew, fitter)
                finally:
                    self._workers = self._width = 0
                    crew.close(kill=self._killed)
        finally:
            share.give_back()  # also if no crew could be had
        with self._lock:
            self._directed = self.desk.unsettled > 0 and not self.desk.over
            return self._directed

    def _conduct(self, crew: Crew, fitter: _Fitter) -> None:
        desk, stays = self.desk, self._job.initializer is not None
        idle_s, looked_s = None, now_s()
        while not desk.over:
            crew.step()
            if desk.refused is not None:
                self._leave(desk.refused, crew)
                return
            now = now_s()
            if desk.unsettled:
                idle_s = None
            elif idle_s is None:
                idle_s = now
            elif not stays and now - idle_s > LINGER_S:
                return
            late = len(desk.give_up_late())
            if late:
                crew.replace(late)
            if now - looked_s > SLOW_CALL_S:
                looked_s = now
                desk.unstick()
            fitter.fit(crew)
            self._fitted(fitter)
            if self._look is not None:
                self._look()
            self._pause(crew, TICK_S if idle_s is None else STAY_S if stays else LINGER_S)

    def _fitted(self, fitter: _Fitter) -> None:
        self._workers, self._width = fitter.wanted, fitter.width
        self.widest, self.processes = max(self.widest, fitter.wanted), fitter.processes

    def _pause(self, crew: Crew, timeout_s: float) -> None:
        """Waits until there is something for the director to do, or so long.

        Threads help themselves to what there is: the director is only needed for more of them, and
        would take the wake-ups that are meant for them.
        """
        if self.means == "threads":
            self._bell.wait(timeout_s)
        else:
            crew.wait(timeout_s)

    def _leave(self, error: BaseException, crew: Crew | None = None) -> None:
        """Leaves what there is to do to others, where others can do it; with this error no more comes.

        crew: has been at work; what it has begun ends there.
        """
        elsewhere = self.desk.elsewhere is not None and not fails_anywhere(error, self._job)
        if not elsewhere or not isinstance(error, Exception):
            self._break(error)
            return
        if crew is not None:
            crew.retire()
            while crew.busy and not self.desk.over:
                crew.step()
                self.desk.give_up_late()
                self._pause(crew, TICK_S)
        self.gone = error
        self.desk.leave(error)

    def _break(self, error: BaseException) -> None:
        """Takes no more: no worker can be had."""
        self.broken = error
        self.desk.forsake(self._broken_by(error))


class _Fitter:
    """The size of one crew: `wanted` workers, and up to `width` if there were more to do.

    processes: how many the workers are threads of; 0 when each has one of its own.
    """

    processes = 0

    def __init__(self, flow: Flow, share: budget.Share) -> None:
        self.wanted = self.width = 1
        self._flow, self._share = flow, share

    def open(self, job: Job, desk: OpenDesk) -> Crew:
        """The crew, as large as what there is to do asks for."""
        raise NotImplementedError

    def fit(self, crew: Crew) -> None:
        """Brings it to the size that it should have now."""


class _Processes(_Fitter):
    """As many processes as there are CPUs for, and tasks; more for tasks that were seen to wait."""

    def open(self, job: Job, desk: OpenDesk) -> Crew:
        means: Any = backends.backend(self._flow.means)
        self.wanted = self._grant(0)
        native = max(1, machine().cpus // self.wanted)
        crew: Crew = means.open(job, desk, self.wanted, native)
        return crew

    def fit(self, crew: Crew) -> None:
        granted = self._grant(crew.hired, self._worth(crew))
        if granted != self.wanted:
            self.wanted = granted
            crew.resize(granted)

    def _worth(self, crew: Crew) -> int:
        """How many are worth while for tasks that wait; 0 where they have not shown that."""
        flow, desk = self._flow, self._flow.desk
        scouted = desk.counted >= SCOUTED_ITEMS and desk.counted_s >= SCOUTED_S
        if not (flow.isolates and scouted) or budget.in_worker():
            return 0
        if desk.counted_s - desk.cpu_s <= WAITS * desk.counted_s:
            return 0
        # Of those that nobody has counted, so many are taken to come as there were.
        left = desk.done if flow.total is None else flow.total - desk.done
        loop_s = max(left, desk.unsettled) * desk.item_s
        cpus = machine().cpus
        full = math.ceil(cpus * desk.counted_s / max(desk.cpu_s, 1e-9))  # then there is no CPU left
        worth = max(crew.hired, min(full, worth_loading(crew.load_s, loop_s, cpus)))
        held, need = crew.memory_bytes
        return room.fitting(worth, max(need, WORKER_BYTES), free_memory(), held)

    def _grant(self, hired: int, worth: int = 0) -> int:
        flow, cpus = self._flow, machine().cpus
        most = flow.most()
        demand = most is not None or worth > cpus
        if most is None:
            most = 1 if budget.in_worker() else max(cpus, worth)
        self.width = max(1, most)
        wanted = min(self.width, max(hired, flow.desk.unsettled))  # what comes may need them
        return max(1, self._share.settle(cpus, wanted, hired, now_s(), demand=demand))


class _Threads(_Fitter):
    """More threads while that helps, as for the items of a call that wait."""

    def open(self, job: Job, desk: OpenDesk) -> Crew:
        most, few = self._flow.most() or POLITE, 0 if self._flow.waits else FEW
        cpus = 1 if gil_enabled() else machine().cpus
        ramp = first_width(None, most, desk.tally(), now_s(), few)
        self._ramp: Width = ramp._replace(cpus=cpus)
        self._least = 0
        self._looked_s, self._used_s = now_s(), time.process_time()
        self.wanted = self._want()
        crew: Crew = backends.backend("threads").open(job, desk, self.wanted)
        return crew

    def fit(self, crew: Crew) -> None:
        self._ramp = self._next()
        wanted = self._want()
        if wanted != self.wanted:
            self.wanted = wanted
            crew.resize(wanted)

    def _next(self) -> Width:
        """The ramp after what has been done; it learns nothing from threads with nothing to do."""
        ramp, desk, now = self._ramp, self._flow.desk, now_s()
        tally = desk.tally()
        if self._flow.least > self._least:
            self._least = self._flow.least
            if ramp.threads < min(self._least, ramp.limit):
                again = first_width(None, ramp.limit, tally, now, self._least)
                return again._replace(cpus=ramp.cpus, enough=4 * self._least)
        if self._computing():
            return ramp
        if desk.unsettled < ramp.threads:
            return ramp._replace(since=tally, since_s=now, seen=tally.ended, seen_s=now, old=0)
        return next_width(ramp, tally, now)

    def _want(self) -> int:
        """Threads for what there is; those that have nothing to do now stay for what comes."""
        most = self._flow.most() or self._ramp.threads
        self.width = max(1, min(most, self._ramp.threads))
        return max(1, min(self.width, max(self.wanted, self._flow.desk.unsettled)))

    def _computing(self) -> bool:
        """Whether what is being run computes, so that more threads would only be in its way."""
        now, used_s = now_s(), time.process_time()
        elapsed_s, spent_s = now - self._looked_s, used_s - self._used_s
        self._looked_s, self._used_s = now, used_s
        if self._flow.waits or self._ramp.threads >= FIRST:
            return False
        stuck = now - max(self._ramp.seen_s, self._ramp.since_s) > PATIENCE_S
        return spent_s > COMPUTES * elapsed_s and not stuck


class _Lanes(_Fitter):
    """Threads of a few processes: as many as the caller allows, or as a hybrid begins with.

    All of them at once: a process opens them best before its first task, and they cost little. Later
    there may be more, when others of the caller's workers have finished what they were at.
    """

    def open(self, job: Job, desk: OpenDesk) -> Crew:
        most, cpus = self._flow.most(), machine().cpus
        self.wanted = self.width = most or FIRST
        wanted = min(1 if budget.in_worker() else cpus, self.wanted)
        granted = self._share.settle(cpus, wanted, 0, now_s(), demand=most is not None)
        self.processes = max(1, granted)
        native, means = max(1, cpus // wanted), backends.backend(self._flow.means)
        crew: Crew = means.open(job, desk, self.wanted, native, self.processes)
        return crew

    def fit(self, crew: Crew) -> None:
        most = self._flow.most() or 0
        if most > self.wanted:
            self.wanted = self.width = most
            crew.resize(most)


class _Lent(_Fitter):
    """The workers of an executor that is the caller's: as many as it says."""

    def open(self, job: Job, desk: OpenDesk) -> Crew:
        from ..backends.executor import Executors, workers_of

        executor: Any = self._flow.executor
        most = self._flow.most() or workers_of(executor) or machine().cpus
        self.wanted = self.width = most
        crew: Crew = Executors(executor).open(job, desk, most)
        return crew


FITTERS: dict[str, type[_Fitter]] = {
    "threads": _Threads,
    "processes": _Processes,
    "hybrid": _Lanes,
}
