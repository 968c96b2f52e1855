"""What is known of one call, and the plans that follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import backends
from .._decide import planner, room
from .._decide.costs import COLD, HELPED, WARM, Costs
from .._decide.doubt import ANOTHER, BUSY
from .._decide.width import FIRST, POLITE
from .._errors import BackendUnavailable
from .._model import Kind, Machine, Observation, Options, Plan, Travel
from .._observe import effects
from .._observe.machine import free_memory, machine
from .._observe.watch import WAITS
from .._platform import peak_bytes
from . import budget
from .desk import now_s

if TYPE_CHECKING:
    from .call import Call

MANY = 4  # processes for each CPU, for items that wait and must not share memory
WORKER_BYTES = 16 << 20  # what a worker holds before its first item
COPIES = 4  # an item's bytes are held about so many times where it is run
AGAIN_S, TRUST = 1.0, 4  # threads that held each other up are tried again so late, then later
EARLY_S = 60e-3  # with this much work left, the helper is started before the verdict


def isolates(call: Call) -> bool:
    """Whether no item may run in the calling thread: faults matter, or it wants other means."""
    options = call.options
    if call.executor is not None or options.backend in ("processes", "hybrid"):
        return True
    cares = options.kind == "cpu" or options.careful
    return call.job.timeout_s is not None or (cares and not budget.in_worker())


class Knowledge:
    """What is known of a call.

    isolated: the calling thread runs no item: the caller shows that faults matter, or wants
        another means.
    seen: what the probe saw last. travel: what it takes to go to a process, once measured.
    scouting: the first items run in a process of their own, to be judged by its account.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self.isolated = isolates(call)
        self.scouting = False
        self.seen: Observation | None = None
        self.travel: Travel | None = None
        self._weighed: Any = None  # the item and the result that it was measured on
        self._machine: Machine | None = None
        self._peak_bytes = peak_bytes()
        self._hindered: Observation | None = None  # see `_remembered`
        self._serves_next = False
        self._until_s, self._again_s = 0.0, AGAIN_S

    def given_plan(self) -> Plan | None:
        """The plan that needs no probe, if the caller's options say enough."""
        call, options, left = self._call, self._call.options, self._call.desk.left()
        if call.executor is not None:
            from ..backends.executor import workers_of

            workers = options.workers or workers_of(call.executor) or self.facts().cpus
            return Plan(type(call.executor).__name__, workers, "the caller chose it", {})
        if options.backend == "processes":
            return Plan("processes", self.computing(left), "the caller chose processes", {})
        if options.backend == "hybrid":
            return self._hybrid_plan(left)
        if options.kind == "io" and options.single:
            most = options.workers or MANY * machine().cpus
            workers = max(1, min(most, left or most))
            because = "the caller said that the items wait, and seeded ones must not share memory"
            return Plan("processes", workers, because, {})
        if options.kind == "io" and options.backend in (None, "threads"):
            limit = options.workers or POLITE
            workers = max(1, min(limit, left or limit))
            return Plan("threads", workers, "the caller said that the items wait", {})
        if options.kind == "cpu" and self.isolated:
            return self._computing_plan(left)
        return self._scouting_plan() if self.isolated else None

    def _hybrid_plan(self, left: int | None) -> Plan:
        """The plan where the caller wants a hybrid."""
        workers = self._call.options.workers or FIRST
        workers = max(1, min(workers, left or workers))
        processes = min(1 if budget.in_worker() else machine().cpus, workers)
        return Plan("hybrid", workers, "the caller chose it", {}, processes=processes)

    def plan(self, seen: Observation) -> Plan:
        """The plan for what is left, from what has been seen."""
        call, left, seen = self._call, self._call.desk.left(), self._remembered(seen)
        costs = present_costs()
        travel = self.travel
        outdated = travel is None or (
            not travel.why_not and call.caller.sample is not self._weighed
        )
        if outdated and self._needs_travel(seen, left, costs):
            travel = self._measure_travel()
        self.seen = seen._replace(travel=travel)
        options = call.options
        if call.job.initializer is not None or call.job.memory_bytes is not None:
            options = options._replace(hybrid=False)  # what is said of a worker is said of one
        plan = planner.plan(self.seen, self.facts(), left, options, costs)
        self._serves_next = self._would_serve(self.seen, options, costs) and not _is_apart(plan)
        if plan.backend == "hybrid":
            return plan._replace(processes=self.fitting(plan.processes))
        if plan.backend == "processes":
            return plan._replace(workers=self.fitting(plan.workers))
        return plan

    def _remembered(self, seen: Observation) -> Observation:
        """What was seen, and for what share of an item threads have held each other up.

        Whoever watches the loop again cannot see that, and would have threads try it at once.
        """
        if seen.alone_s:
            self._hindered = seen
            self._until_s = now_s() + self._again_s
            self._again_s *= TRUST
            return seen
        was = self._hindered
        if was is None or now_s() > self._until_s or seen.wall_s > ANOTHER * was.wall_s:
            return seen
        share = min(1.0, was.alone_s / max(was.wall_s, 1e-9))
        computes = seen.cpu_s >= BUSY * seen.wall_s
        return seen._replace(alone_s=share * seen.wall_s) if computes else seen

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
        single = self._call.options.single
        workers = 1 if single else self.computing(self._call.desk.left())
        return Plan("threads", workers, f"{said}; processes are out: {why_not}", {})

    def facts(self) -> Machine:
        """The machine as this call may use it."""
        if self._machine is None:
            facts = machine()
            self._machine = facts._replace(cpus=budget.free(facts.cpus))
        return self._machine

    def computing(self, left: int | None) -> int:
        """Workers for items that compute; how many there may be now is for the budget to say."""
        limit = self._call.options.workers or (1 if budget.in_worker() else machine().cpus)
        return max(1, min(limit, left or limit))

    def fitting(self, workers: int, held_bytes: int = 0, need_bytes: int = 0) -> int:
        """As many of these workers as the free memory has room for, at least one.

        held_bytes: what the present ones hold. need_bytes: what one was seen to need, or 0.
        """
        if not need_bytes:
            travel = self.travel
            payload = 0 if travel is None else travel.payload_bytes
            need_bytes = max(self._grown_bytes(), COPIES * payload) + WORKER_BYTES
        if workers * need_bytes < room.SMALL_BYTES:
            return workers
        return room.fitting(workers, need_bytes, free_memory(), held_bytes)

    def _grown_bytes(self) -> int:
        """What the items run in this process so far have added to its most."""
        return max(0, peak_bytes() - self._peak_bytes)

    def prepare(self) -> None:
        """Starts the process helper early when it will probably be needed."""
        left = self._call.desk.left()
        item_s = self._call.desk.item_s  # 0 while the first item is still running: a long one
        if left is None or (item_s and left * item_s < EARLY_S):
            return
        self._start_helper()

    def prepare_next(self) -> None:
        """Starts the helper once all items are given out, for the next call of the function.

        In this one it would come too late; but it would in every one, if it were never started.
        """
        if self._serves_next and self._call.desk.drained:
            self._serves_next = False
            self._start_helper()

    def _start_helper(self) -> None:
        call, facts, left = self._call, self.facts(), self._call.desk.left()
        if facts.cpus < 2 or facts.processes_why_not is not None:
            return
        try:
            native = facts.cpus // self.computing(left)
            backends.backend("processes").prepare(
                call.job.fn, by_value=_by_value(call.job.fn), native=native
            )
        except BackendUnavailable as error:
            self._machine = facts._replace(processes_why_not=error.why)

    def _computing_plan(self, left: int | None) -> Plan:
        """The plan for items that the caller says compute."""
        said = "the caller said that the items compute"
        workers = self.computing(left)
        facts = self.facts()
        options = self._call.options
        apart = options.careful or options.single or self._call.job.timeout_s is not None
        if not facts.gil and not apart:
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

    def _needs_travel(self, seen: Observation, left: int | None, costs: Costs) -> bool:
        """Whether processes are in question: to find out takes imports, and time."""
        facts = self.facts()
        if not planner.processes_may_gain(seen, facts, left, costs):
            return False
        held_s = seen.gil_s + COLD.gil_switch_s * facts.gil
        if max(held_s, seen.alone_s) > 0.15 * seen.wall_s:
            return True
        if planner.expected(seen, left) * seen.alone_s < EARLY_S:
            return False
        free = seen._replace(travel=Travel())  # if they would not be chosen then, they never will
        return _is_apart(planner.plan(free, facts, left, self._call.options, costs))

    def _would_serve(self, seen: Observation, options: Options, costs: Costs) -> bool:
        """Whether another call as this one would go to processes if these were ready."""
        if costs is WARM or not seen.alone_s or effects.writes_of(self._call.job.fn):
            return False
        unfinished = self._call.desk.unfinished()
        whole = None if unfinished is None else self._call.desk.done + unfinished
        free = seen if seen.travel is not None else seen._replace(travel=Travel())
        return _is_apart(planner.plan(free, self.facts(), whole, options, WARM))

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
        self.travel, self._weighed = travel(call.job, item, result), sample
        return self.travel


def waits(plan: Plan, kind: Kind) -> bool:
    """Whether the items are said, or were seen, to wait."""
    seen = plan.observation
    if kind != "auto" or seen is None:
        return kind == "io"
    return 1 - seen.cpu_s / max(seen.wall_s, 1e-9) > WAITS


def present_costs() -> Costs:
    """What means cost now: processes, above all, may be ready or not."""
    if backends.warm("processes"):
        return WARM
    return HELPED if backends.helped() else COLD


def _is_apart(plan: Plan) -> bool:
    return plan.backend in (planner.PROCESSES, planner.HYBRID)


def _by_value(fn: Any) -> bool:
    """Whether a function will probably have to travel by value."""
    return getattr(fn, "__module__", None) in ("__main__", "__mp_main__") or "<" in getattr(
        fn, "__qualname__", ""
    )
