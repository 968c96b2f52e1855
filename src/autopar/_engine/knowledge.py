"""What is known of one call, and the plans that follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import backends
from .._decide import planner
from .._decide.costs import COLD, WARM, Costs
from .._decide.width import POLITE
from .._errors import BackendUnavailable
from .._model import Machine, Observation, Plan, Travel
from .._observe import effects
from .._observe.machine import machine
from . import budget

if TYPE_CHECKING:
    from .call import Call

EARLY_S = 60e-3  # with this much work left, the helper is started before the verdict


class Knowledge:
    """What is known of a call.

    isolated: the calling thread runs no item: the caller shows that faults matter, or wants
        another means.
    seen: what the probe saw last. travel: what it takes to go to a process, once measured.
    scouting: the first items run in a process of their own, to be judged by its account.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        options = call.options
        chosen = call.executor is not None or options.backend == "processes"
        cares = options.kind == "cpu" or options.errors != "raise"
        self.isolated = chosen or (cares and not budget.in_worker())
        self.scouting = False
        self.seen: Observation | None = None
        self.travel: Travel | None = None
        self._machine: Machine | None = None

    def given_plan(self) -> Plan | None:
        """The plan that needs no probe, if the caller's options say enough."""
        call, options, left = self._call, self._call.options, self._call.desk.left()
        if call.executor is not None:
            workers = options.workers or _workers_of(call.executor) or self.facts().cpus
            return Plan(type(call.executor).__name__, workers, "the caller chose it", {})
        if options.backend == "processes":
            return Plan("processes", self.computing(left), "the caller chose processes", {})
        if options.kind == "io" and options.backend in (None, "threads"):
            limit = options.workers or POLITE
            workers = max(1, min(limit, left or limit))
            return Plan("threads", workers, "the caller said that the items wait", {})
        if options.kind == "cpu" and self.isolated:
            return self._computing_plan(left)
        return self._scouting_plan() if self.isolated else None

    def plan(self, seen: Observation) -> Plan:
        """The plan for what is left, from what has been seen."""
        call, left = self._call, self._call.desk.left()
        travel = self.travel
        if travel is None and self._needs_travel(seen, left):
            travel = self._measure_travel()
        self.seen = seen._replace(travel=travel)
        costs: Costs = WARM if backends.backend("processes").warm else COLD
        return planner.plan(self.seen, self.facts(), left, call.options, costs)

    def may_judge(self) -> bool:
        """Whether it can be told if a call changes its world: one has ended, or none could."""
        call = self._call
        nothing = call.snapshot is not None and call.snapshot.empty
        return nothing or call.caller.sample is not None

    def shared_memory_plan(self, why_not: str, said: str) -> Plan:
        """The plan when processes have turned out to be out of the question."""
        self.travel = Travel(why_not=why_not)
        if self.seen is not None:
            return self.plan(self.seen)
        workers = self.computing(self._call.desk.left())
        return Plan("threads", workers, f"{said}; processes are out: {why_not}", {})

    def facts(self) -> Machine:
        """The machine as this call may use it."""
        if self._machine is None:
            facts = machine()
            self._machine = facts._replace(cpus=budget.free(facts.cpus))
        return self._machine

    def computing(self, left: int | None) -> int:
        """Workers for items that compute."""
        limit = self._call.options.workers or self.facts().cpus
        return max(1, min(limit, left or limit))

    def prepare(self) -> None:
        """Starts the process helper early when it will probably be needed."""
        call, left = self._call, self._call.desk.left()
        item_s = call.desk.item_s  # 0 while the first item is still running: a long one
        if left is None or (item_s and left * item_s < EARLY_S):
            return
        facts = self.facts()
        if facts.cpus < 2 or facts.processes_why_not is not None:
            return
        try:
            backends.backend("processes").prepare(by_value=_by_value(call.job.fn))
        except BackendUnavailable as error:
            self._machine = facts._replace(processes_why_not=error.why)

    def _computing_plan(self, left: int | None) -> Plan:
        """The plan for items that the caller says compute."""
        said = "the caller said that the items compute"
        workers = self.computing(left)
        facts = self.facts()
        if not facts.gil:
            return Plan("threads", workers, f"{said}, and there is no GIL", {})
        why_not = effects.writes_of(self._call.job.fn) or facts.processes_why_not
        if why_not is not None:
            return self.shared_memory_plan(why_not, said)
        means = "threads" if self._call.options.backend == "threads" else "processes"
        return Plan(means, workers, said, {})

    def _scouting_plan(self) -> Plan | None:
        """Where faults matter: the first items run in one worker, away from the calling thread.

        A process, unless the function could change what only this process sees: then a thread,
        watched as the calling thread would be.
        """
        call = self._call
        call.snapshot = effects.watch(call.job.fn, call.source.first())
        why_not = effects.writes_of(call.job.fn) or self.facts().processes_why_not
        if call.options.backend == "threads" or why_not or not call.snapshot.empty:
            call.work_away()
            return None
        self.scouting = True
        because = "exceptions are kept, so the first items run in a process of their own"
        return Plan("processes", 1, because, {})

    def _needs_travel(self, seen: Observation, left: int | None) -> bool:
        """Whether processes are in question."""
        facts = self.facts()
        work_s = planner.expected(seen, left) * seen.wall_s
        if facts.processes_why_not or work_s < planner.WORTH_S or facts.cpus < 2:
            return False
        return seen.gil_s > 0.15 * seen.wall_s

    def _measure_travel(self) -> Travel:
        """What going to a process takes; kept, unless it may be otherwise in a moment."""
        call, sample = self._call, self._call.caller.sample
        why_not = effects.writes_of(call.job.fn)
        if why_not is None and call.snapshot is not None:
            why_not = call.snapshot.changed()
            if why_not is None and sample is None and not call.snapshot.empty:
                return Travel(why_not="no call has ended yet to show whether it changes its world")
        if why_not is not None:
            self.travel = Travel(why_not=why_not)
            return self.travel
        from .._transport.travel import travel  # pickle and all: most calls never need it

        item, result = (call.source.first(), None) if sample is None else sample
        self.travel = travel(call.job, item, result)
        return self.travel


def _by_value(fn: Any) -> bool:
    """Whether a function will probably have to travel by value."""
    return getattr(fn, "__module__", None) == "__main__" or "<" in getattr(fn, "__qualname__", "")


def _workers_of(executor: Any) -> int | None:
    found = getattr(executor, "_max_workers", None)
    return found if isinstance(found, int) else None
