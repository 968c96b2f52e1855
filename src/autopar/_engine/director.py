"""The director of a call: watches the first items, plans, conducts a crew, changes course."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .. import backends
from .._decide import planner
from .._decide.costs import COLD, WARM, Costs
from .._decide.width import POLITE, Width, first_width, next_width
from .._errors import TransportError
from .._model import Machine, Observation, Options, Plan, Travel
from .._observe import effects
from .._observe.machine import machine
from .._observe.watch import WAITS, Subject, Watch
from . import budget
from .desk import SLOW_CALL_S, now_s

if TYPE_CHECKING:
    from ..backends.protocol import Crew
    from .call import Call

LOOK_AGAIN = 0.25  # a loop that goes on is looked at again after this share of its time so far
LOOK_MIN_S, LOOK_MAX_S = 2e-3, 0.25
TICK_S = 20e-3
RAMP_TICK_S = 2e-3
EARLY_S = 60e-3  # with this much work left, the helper is started before the verdict
AHEAD_S = 50e-3  # an iterator is read this far ahead of each worker
FIRST_ITEMS = 2  # of an isolated probe


class Director:
    """Conducts one call from a thread of its own."""

    def __init__(self, call: Call, *, only_plan: bool = False) -> None:
        self._call = call
        self._only_plan = only_plan
        self._ended = threading.Lock()
        self._ended.acquire()
        self._state = threading.Lock()
        self._engaged = False  # a crew was opened: the caller must wait until it is let go
        self._left_alone = False
        self._isolated = False
        self._seen: Observation | None = None
        self._travel: Travel | None = None
        self._machine: Machine | None = None
        self._share = budget.Share()

    # from the caller's thread

    def route(self) -> None:
        """Settles whether the caller's thread runs items.

        It does not where the caller shows that faults matter, or wants another means.
        """
        options = self._call.options
        chosen = self._call.executor is not None or options.backend == "processes"
        cares = options.kind == "cpu" or options.errors != "raise"
        self._isolated = chosen or cares
        self._call.works = not self._isolated

    def wait(self) -> None:
        """Returns when no crew is open."""
        with self._state:
            self._left_alone = True
            engaged = self._engaged
        if engaged:
            self._ended.acquire()

    # the director's thread

    def run(self) -> None:
        """The thread's whole life."""
        try:
            self._direct()
        except BaseException as error:
            self._call.desk.abort(error)
        finally:
            self._share.give_back()
            self._ended.release()

    def _direct(self) -> None:
        call = self._call
        plan = self.given_plan() or self._probe(at_birth=True)
        while plan is not None and not call.desk.over:
            call.plans.append(plan)
            if self._only_plan:
                call.caller.retired = True
                call.desk.abort()
                return
            plan = self._watch_loop() if plan.backend == "serial" else self._follow(plan)

    def given_plan(self) -> Plan | None:
        """The plan that needs no probe, if the caller's options say enough."""
        options, left = self._call.options, self._call.desk.left()
        if self._call.executor is not None:
            workers = options.workers or _workers_of(self._call.executor) or self._cpus()
            return Plan(type(self._call.executor).__name__, workers, "the caller chose it", {})
        if options.backend == "processes":
            return Plan("processes", self._computing(left), "the caller chose processes", {})
        if options.kind == "io" and options.backend in (None, "threads"):
            limit = options.workers or POLITE
            workers = max(1, min(limit, left or limit))
            return Plan("threads", workers, "the caller said that the items wait", {})
        if options.kind == "cpu":
            return self._computing_plan(left)
        if self._isolated:
            return self._isolated_plan()
        return None

    def _computing_plan(self, left: int | None) -> Plan:
        """The plan for items that the caller says compute."""
        said = "the caller said that the items compute"
        workers = self._computing(left)
        facts = self._facts()
        why_not = effects.writes_of(self._call.job.fn) or facts.processes_why_not
        if not facts.gil:
            return Plan("threads", workers, f"{said}, and there is no GIL", {})
        if self._call.options.backend == "threads" or why_not:
            aside = f"; processes are out: {why_not}" if why_not else ""
            return Plan("threads", workers, said + aside, {})
        return Plan("processes", workers, said, {})

    def _isolated_plan(self) -> Plan | None:
        """Where faults matter: the first items run in one worker, away from the calling thread.

        A process, unless the function could change what only this process sees: then a thread,
        watched as the calling thread would be.
        """
        call = self._call
        facts = self._facts()
        call.snapshot = effects.watch(call.job.fn, call.source.first())
        why_not = effects.writes_of(call.job.fn) or facts.processes_why_not
        if call.options.backend == "threads" or why_not or not call.snapshot.empty:
            call.work_away()
            return None
        because = "exceptions are kept, so the first items run in a process of their own"
        return Plan("processes", 1, because, {})

    def _probe(self, *, at_birth: bool = False) -> Plan | None:
        """Watches the caller's thread until a plan can be made; None when the call is over."""
        call = self._call
        assert call.subject is not None
        watch = Watch(call.subject, call.progress(), call.began_s)
        try:
            if at_birth:
                watch.knocked_at_birth(call.began_s)
            while not call.desk.over:
                if watch.timed_out == 1:
                    self._prepare()
                if watch.knock(call.finished):
                    return None
                if watch.clear():
                    with call.caller.pause:  # planning may import modules: see `_step`
                        self._seen = watch.observation(call.progress())
                        return self._plan()
        finally:
            with call.caller.pause:
                watch.close()
        return None

    def _plan(self) -> Plan:
        """The plan for what is left, from what has been seen."""
        call, seen = self._call, self._seen
        assert seen is not None
        facts = self._facts()
        left = call.desk.left()
        if self._needs_travel(seen, facts, left) and self._travel is None:
            self._travel = self._measure_travel()
        self._seen = seen = seen._replace(travel=self._travel)
        return planner.plan(seen, facts, left, call.options, self._costs())

    def _needs_travel(self, seen: Observation, facts: Machine, left: int | None) -> bool:
        """Whether processes are in question."""
        work_s = planner.expected(seen, left) * seen.wall_s
        if facts.processes_why_not or work_s < planner.WORTH_S or facts.cpus < 2:
            return False
        return seen.gil_s > 0.15 * seen.wall_s

    def _measure_travel(self) -> Travel:
        call = self._call
        why_not = effects.writes_of(call.job.fn)
        if why_not is None and call.snapshot is not None:
            why_not = call.snapshot.changed()
        if why_not is not None:
            return Travel(why_not=why_not)
        from .._transport.travel import travel  # pickle and all: most calls never need it

        sample = call.caller.sample
        if sample is None:
            return travel(call.job, call.source.first(), None)
        return travel(call.job, sample.item, sample.result)

    def _prepare(self) -> None:
        """Starts the process helper early when it will probably be needed."""
        call = self._call
        left = call.desk.left()
        item_s = call.desk.item_s  # 0 while the first item is still running: a long one
        if left is None or (item_s and left * item_s < EARLY_S):
            return
        with call.caller.pause:
            facts = self._facts()
            if facts.cpus > 1 and facts.processes_why_not is None:
                backends.backend("processes").prepare(by_value=_by_value(call.job.fn))

    def _facts(self) -> Machine:
        """The machine as this call may use it."""
        if self._machine is None:
            facts = machine()
            self._machine = facts._replace(cpus=budget.free(facts.cpus))
        return self._machine

    def _cpus(self) -> int:
        return self._facts().cpus

    def _computing(self, left: int | None) -> int:
        """Workers for items that compute."""
        limit = self._call.options.workers or self._cpus()
        return max(1, min(limit, left or limit))

    def _costs(self) -> Costs:
        return WARM if backends.backend("processes").warm else COLD

    # following a plan

    def _watch_loop(self) -> Plan | None:
        """Lets the caller's thread go on alone, and looks again after a while."""
        call = self._call
        elapsed_s = now_s() - call.began_s
        pause_s = min(max(elapsed_s * LOOK_AGAIN, LOOK_MIN_S), LOOK_MAX_S)
        while not call.desk.over:
            if call.finished.acquire(timeout=pause_s):
                return None
            plan = self._probe()
            if plan is None or plan.backend != "serial":
                return plan
            if plan.predicted_s["serial"] > call.plans[-1].predicted_s["serial"]:
                call.plans[-1] = plan  # the better reason: it was about more work
            pause_s = min(pause_s * 2, LOOK_MAX_S)
        return None

    def _follow(self, plan: Plan) -> Plan | None:
        """Opens the plan's crew and conducts it; the next plan, or None at the end."""
        with self._state:
            if self._left_alone and self._call.desk.over:
                return None
            self._engaged = True
        ramp = self._ramp(plan)
        try:
            crew = self._open(plan, plan.workers if ramp is None else ramp.threads)
        except TransportError as error:
            return self._refused(plan, error)
        try:
            return self._conduct(plan, crew, ramp)
        finally:
            crew.close(kill=self._call.desk.aborted is not None)

    def _open(self, plan: Plan, workers: int) -> Crew:
        call = self._call
        if call.executor is not None:
            from ..backends.executor import Executors

            crew: Crew = Executors(call.executor).open(call.job, call.desk, workers)
            return crew
        means: Any = backends.backend(plan.backend)
        if means.traits.shares_memory:
            self._caller_stays(workers)
            workers -= self._caller_helps()
        self._share.take(workers if means.traits.escapes_gil else 0)
        call.desk.ahead = _ahead(call.desk.item_s, workers)
        with call.caller.pause:
            opened: Crew = means.open(call.job, call.desk, workers)
        return opened

    def _caller_stays(self, workers: int) -> None:
        """The caller's thread is one of the workers, unless it has an iterator to read."""
        call = self._call
        if call.works and not call.source.cut and workers > 1:
            call.caller.retired = True

    def _caller_helps(self) -> int:
        call = self._call
        return int((call.works or call.away) and not call.caller.retired)

    def _conduct(self, plan: Plan, crew: Crew, ramp: Width | None) -> Plan | None:
        """Drives the crew until the call is over or the course changes."""
        call, desk = self._call, self._call.desk
        probing = self._isolated and plan.workers == 1 and not plan.predicted_s
        look_s = now_s() + SLOW_CALL_S
        while not desk.over:
            self._step(crew)
            if desk.refused is not None:
                error, desk.refused = desk.refused, None
                return self._refused(plan, error, crew)
            if desk.over:
                break
            crew.wait(RAMP_TICK_S if ramp is not None else TICK_S)
            at_s = now_s()
            if at_s >= look_s:
                look_s = at_s + SLOW_CALL_S
                desk.unstick()
                desk.ahead = _ahead(desk.item_s, plan.workers)
            if ramp is not None:
                ramp = self._grow(ramp, crew)
            if not crew_shares(plan) and crew.ready >= plan.workers:
                call.caller.retired = True
            if probing and self._probed():
                following = self._plan()
                if following.workers > 1 or following.backend != plan.backend:
                    return self._hand_over(crew, self._away(following))
                probing = False
        return None

    def _step(self, crew: Crew) -> None:
        """One step of the crew.

        The caller's thread rests meanwhile if it comes to the end of a chunk: every system call
        lets go of the GIL, and a thread that computes takes 5 ms to give it back.
        """
        with self._call.caller.pause:
            crew.step()

    def _ramp(self, plan: Plan) -> Width | None:
        """For items that wait: the number of threads grows while that helps."""
        desk, most = self._call.desk, self._call.options.workers or POLITE
        if plan.backend != "threads" or most < 2 or not _waits(plan):
            return None
        left = desk.left()
        limit = most if left is None else min(most, left + self._caller_helps())
        return first_width(left, limit, desk.done, now_s())

    def _grow(self, ramp: Width, crew: Crew) -> Width:
        desk = self._call.desk
        grown = next_width(ramp, desk.done, desk.item_s, now_s())
        if grown.threads != ramp.threads:
            crew.resize(max(1, grown.threads - self._caller_helps()))
        return grown

    def _probed(self) -> bool:
        """Whether the isolated probe has seen enough; then what it saw is noted."""
        desk = self._call.desk
        if desk.done < FIRST_ITEMS or desk.busy_s < LOOK_MIN_S:
            return False
        item_s, cpu_s = desk.busy_s / desk.done, desk.cpu_s / desk.done
        self._seen = Observation(desk.done, item_s, cpu_s, cpu_s)
        return True

    def _away(self, plan: Plan) -> Plan:
        """The plan, with a worker in place of the caller's thread."""
        return plan._replace(backend="threads") if plan.backend == "serial" else plan

    def _hand_over(self, crew: Crew, plan: Plan) -> Plan:
        """Lets a crew finish what it has begun, while the desk keeps the rest for the next."""
        crew.retire()
        while crew.busy and not self._call.desk.over:
            self._step(crew)
            crew.wait(TICK_S)
        return plan

    def _refused(self, plan: Plan, error: BaseException, crew: Crew | None = None) -> Plan | None:
        """The crew could not do the job: shared memory instead, unless the caller insisted."""
        call = self._call
        options: Options = call.options
        if crew is not None:
            self._hand_over(crew, plan)
        if plan.backend != "processes" or options.backend is not None or _is_own(error, call):
            call.desk.abort(error)
            return None
        self._travel = Travel(why_not=str(error))
        call.caller.retired = False
        if self._seen is not None and (call.works or call.away):
            following = self._plan()
            call.desk.tell()
            return following
        if self._isolated and options.kind == "auto":
            call.work_away()
            return self._probe()
        workers = self._computing(call.desk.left())
        return Plan("threads", workers, f"{plan.because}; processes are out: {error}", {})


def crew_shares(plan: Plan) -> bool:
    """Whether the plan's workers are threads of this process."""
    return plan.backend in ("serial", "threads")


def _waits(plan: Plan) -> bool:
    """Whether the plan was made for items that wait."""
    seen = plan.observation
    return seen is None or 1 - seen.cpu_s / max(seen.wall_s, 1e-9) > WAITS


def _is_own(error: BaseException, call: Call) -> bool:
    """Whether the error is the initializer's, which would fail anywhere."""
    return call.job.initializer is not None and not isinstance(error, TransportError | ImportError)


def _ahead(item_s: float, workers: int) -> int:
    """Items an iterator is read ahead."""
    if not item_s:
        return 2 * workers
    return int(max(2 * workers, min(AHEAD_S * workers / item_s, 100_000)))


def _by_value(fn: Any) -> bool:
    """Whether a function will probably have to travel by value."""
    return getattr(fn, "__module__", None) == "__main__" or "<" in getattr(fn, "__qualname__", "")


def _workers_of(executor: Any) -> int | None:
    found = getattr(executor, "_max_workers", None)
    return found if isinstance(found, int) else None


__all__ = ["Director", "Subject"]
