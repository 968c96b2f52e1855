"""Opening crews, and how many workers each may have: CPUs, memory, and other calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import backends
from .._model import Plan
from .._observe.machine import machine
from . import budget, memory
from .desk import SLOW_CALL_S, now_s
from .knowledge import Knowledge, waits
from .turns import quick_turns

if TYPE_CHECKING:
    from ..backends.chunk import Chunk
    from ..backends.protocol import Crew
    from .call import Call

AHEAD_S = 50e-3  # an iterator is read this far ahead of each worker


class Hiring:
    """The workers that one call has."""

    def __init__(self, call: Call, knowledge: Knowledge) -> None:
        self._call = call
        self._knowledge = knowledge
        self._share = budget.Share(call.desk.tell)
        self._long: Chunk | None = None  # what the caller's thread was at when others came

    def due_for(self, plan: Plan, crew: Crew) -> bool:
        """Whether the crew should be fitted: other calls have given workers back, or the caller's
        thread has made room for one more where only so many may be at work.
        """
        if plan.backend == "processes" and self._call.options.workers is not None:
            return self._share.due or crew.hired < plan.workers - self.caller_is_at_it()
        return self._share.due

    def give_back(self) -> None:
        """Lets other calls have what this one had."""
        self._share.give_back()

    def open(self, plan: Plan, workers: int) -> Crew:
        """The plan's crew, with the caller's thread as one of its workers where it can be."""
        call = self._call
        call.desk.ahead = ahead(call.desk.item_s, workers)
        if call.executor is not None:
            from ..backends.executor import Executors

            crew: Crew = Executors(call.executor).open(call.job, call.desk, workers)
            return crew
        means: Any = backends.backend(plan.backend)
        native = 0  # threads of BLAS and the like in each worker: as they are
        if plan.processes:
            native = max(1, machine().cpus // plan.processes)
            processes = max(1, self._granted(plan, plan.processes, 0))
            with quick_turns, call.caller.pause:
                lanes: Crew = means.open(
                    call.job, call.desk, max(1, workers - self.caller_helps()), native, processes
                )
            return lanes
        if means.traits.shares_memory:
            if call.works and not call.source.cut and workers > 1:
                call.caller.retired = True  # it has the iterator to read
            if call.options.single:
                call.caller.retired = True
            workers = max(1, workers - self.caller_helps())
        else:
            unfinished = plan.observation is not None and not plan.observation.items
            if unfinished or now_s() - call.began_s - call.desk.busy_s > SLOW_CALL_S:
                self._long = call.caller.chunk
            call.desk.expect(memory.paces.get(call.job.fn, call.source.first()) or 0.0)
            workers = self._granted(plan, max(1, workers - self.caller_is_at_it()), 0)
        if plan.workers > 1 and not waits(plan, call.options.kind):
            native = max(1, machine().cpus // plan.workers)
        with quick_turns, call.caller.pause:
            opened: Crew = means.open(call.job, call.desk, workers, native)
        return opened

    def fit(self, plan: Plan, crew: Crew) -> None:
        """Brings a crew of processes to the size that CPUs and memory allow now."""
        workers = max(1, plan.workers - self.caller_is_at_it())
        held, need = crew.memory_bytes
        if need:
            workers = self._knowledge.fitting(workers, held, need)
        granted = self._granted(plan, workers, crew.hired)
        if granted != crew.hired:
            with quick_turns, self._call.caller.pause:
                crew.resize(granted)

    def caller_is_at_it(self) -> int:
        """1 while the caller's thread counts: where no more may run at once than were allowed, and
        while it runs a long item, for it has a CPU.
        """
        call = self._call
        chunk = call.caller.chunk
        if call.options.workers is not None and call.works and not call.caller.retired:
            return 1
        if chunk is None:
            return 0
        if call.options.workers is not None:
            return 1
        return int(chunk is self._long or self._call.desk.item_s > SLOW_CALL_S)

    def caller_helps(self) -> int:
        """1 where the caller's thread, or the one in its stead, runs items too."""
        call = self._call
        return int((call.works or call.away) and not call.caller.retired)

    def _granted(self, plan: Plan, wanted: int, hired: int) -> int:
        """How many of the workers wanted the call may have now, beside other calls."""
        options, cpus = self._call.options, machine().cpus
        stays = hired > 0 and self._call.job.initializer is not None  # or it would be run again
        # That items wait is certain where the caller says it, or workers have counted it.
        apart = self._knowledge.isolated or options.single
        waiting = options.kind == "io" or (apart and waits(plan, options.kind))
        demand = stays or options.workers is not None or waiting
        wanted = max(hired, wanted) if stays else wanted
        return self._share.settle(cpus, wanted, hired, now_s(), demand=demand)


def ahead(item_s: float, workers: int) -> int:
    """Items an iterator is read ahead."""
    if not item_s:
        return 2 * workers
    return int(max(2 * workers, min(AHEAD_S * workers / item_s, 100_000)))
