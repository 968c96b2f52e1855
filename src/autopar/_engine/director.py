"""The director of a call: watches the first items, conducts a crew, changes course."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from .. import backends
from .._decide.width import POLITE, Width, enough_threads, first_width, next_width
from .._errors import BackendUnavailable, TransportError
from .._model import Kind, Observation, Plan
from .._observe.watch import WAITS, Watch
from . import budget, memory
from .desk import SLOW_CALL_S, now_s
from .knowledge import Knowledge

if TYPE_CHECKING:
    from ..backends.protocol import Crew
    from .call import Call

LOOK_AGAIN = 0.25  # a loop that goes on is looked at again after this share of its time so far
LOOK_MIN_S, LOOK_MAX_S = 2e-3, 0.25
TICK_S = 20e-3
RAMP_TICK_S = 2e-3
AHEAD_S = 50e-3  # an iterator is read this far ahead of each worker
CHECKED_ITEMS, CHECKED_S = 4, 10e-3  # enough to see whether the last call's account still fits
SCOUTED_ITEMS, SCOUTED_S = 2, 2e-3  # enough to judge items by, run in a process of their own


class Director:
    """Conducts one call from a thread of its own."""

    def __init__(self, call: Call, *, only_plan: bool = False) -> None:
        self.knowledge = Knowledge(call)
        self._call = call
        self._only_plan = only_plan
        self._ended = threading.Lock()
        self._ended.acquire()
        self._state = threading.Lock()
        self._engaged = False  # a crew was opened: the caller must wait until it is let go
        self._left_alone = False
        self._learned: memory.Learned | None = None
        self._from_cpu_s = 0.0
        self._share = budget.Share()

    # in the calling thread

    def wait(self) -> None:
        """Returns when no crew is open."""
        with self._state:
            self._left_alone = True
            engaged = self._engaged
        if engaged:
            self._ended.acquire()

    # in the director's thread

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
        plan = self.knowledge.given_plan() or self._recalled() or self._probe(at_birth=True)
        while plan is not None:
            call.plans.append(plan)
            if call.desk.over:
                return
            if self._only_plan:
                call.caller.retired = True
                call.desk.abort()
                return
            plan = self._watch_loop() if plan.backend == "serial" else self._follow(plan)

    def _recalled(self) -> Plan | None:
        """The plan that the function's last call leads to, or None to have it probed."""
        call, knowledge = self._call, self.knowledge
        learned = memory.recall(call.job.fn, call.source.first())
        if learned is None or call.away or self._only_plan:
            return None
        travels = not learned.threads
        while travels and not (call.desk.over or knowledge.may_judge()):
            if call.finished.acquire(timeout=LOOK_MIN_S / 2):
                return None
        with call.caller.pause:
            plan = knowledge.plan(learned.seen)
        if plan.backend == "serial":
            return None
        self._learned, self._from_cpu_s = learned, time.process_time()
        return plan._replace(because=f"as in its last call, {plan.because}")

    def _misremembered(self, plan: Plan) -> bool:
        """Whether the items are not what the function's last call has shown."""
        desk, learned = self._call.desk, self._learned
        shared = plan.backend == "threads"
        seen_s = desk.busy_s if shared else desk.far_s
        if learned is None or desk.done < CHECKED_ITEMS or seen_s < CHECKED_S:
            return False
        if shared:
            # Threads that fight for the GIL each look busy for no longer than one that has it
            # alone; what all of them together take of the CPUs shows it.
            share = (time.process_time() - self._from_cpu_s) / desk.done / learned.seen.wall_s
        else:
            share = desk.far_cpu_s / desk.far_s
        if learned.fits(desk.busy_s / desk.done, share):
            return False
        self._learned = None
        memory.forget(self._call.job.fn, self._call.source.first())
        return True

    def _remember(self, plan: Plan, ramp: Width | None) -> None:
        """Keeps what this call has shown of its function, if the next can check it."""
        call, desk, seen = self._call, self._call.desk, plan.observation
        if seen is None or desk.errors or not desk.done:
            return
        if (ramp is None and plan.backend != "processes") or seen.wall_s <= 0:
            return
        item_s = desk.busy_s / desk.done
        if ramp is None:  # the share of CPU is as it was seen, whatever the probe saw of the length
            more = item_s / max(seen.wall_s, 1e-9)
            seen = seen._replace(wall_s=item_s, cpu_s=seen.cpu_s * more, gil_s=seen.gil_s * more)
        elif not seen.items:
            seen = seen._replace(wall_s=item_s)
        seen = seen._replace(items=desk.done)
        learned = memory.Learned(seen, item_s, 0 if ramp is None else ramp.threads)
        memory.keep(call.job.fn, call.source.first(), learned)

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
                    with call.caller.pause:  # see `_step`
                        self.knowledge.prepare()
                if watch.knock(call.finished):
                    return None
                if watch.clear():
                    with call.caller.pause:
                        return self.knowledge.plan(watch.observation(call.progress()))
        finally:
            with call.caller.pause:
                watch.close()
        return None

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
        except (TransportError, BackendUnavailable) as error:
            return self._refused(plan, error)
        try:
            return self._conduct(plan, crew, ramp)
        finally:
            crew.close(kill=self._call.desk.aborted is not None)

    def _open(self, plan: Plan, workers: int) -> Crew:
        """The plan's crew, with the caller's thread as one of its workers where it can be."""
        call = self._call
        call.desk.ahead = _ahead(call.desk.item_s, workers)
        if call.executor is not None:
            from ..backends.executor import Executors

            crew: Crew = Executors(call.executor).open(call.job, call.desk, workers)
            return crew
        means: Any = backends.backend(plan.backend)
        if means.traits.shares_memory:
            if call.works and not call.source.cut and workers > 1:
                call.caller.retired = True  # it has the iterator to read
            workers = max(1, workers - self._caller_helps())
        self._share.take(workers if means.traits.escapes_gil else 0)
        with call.caller.pause:
            opened: Crew = means.open(call.job, call.desk, workers)
        return opened

    def _caller_helps(self) -> int:
        """1 where the caller's thread, or the one in its stead, runs items too."""
        call = self._call
        return int((call.works or call.away) and not call.caller.retired)

    def _conduct(self, plan: Plan, crew: Crew, ramp: Width | None) -> Plan | None:
        """Drives the crew until the call is over or the course changes."""
        call, desk = self._call, self._call.desk
        apart = plan.backend not in ("serial", "threads")
        look_s = now_s() + SLOW_CALL_S
        while not desk.over:
            self._step(crew)
            if desk.refused is not None:
                error, desk.refused = desk.refused, None
                return self._refused(plan, error, crew)
            if desk.over:
                break
            crew.wait(RAMP_TICK_S if ramp is not None else TICK_S)
            if now_s() >= look_s:
                look_s = now_s() + SLOW_CALL_S
                desk.unstick()
                desk.ahead = _ahead(desk.item_s, plan.workers)
            if ramp is not None:
                ramp = self._grow(ramp, crew)
            if self._misremembered(plan):
                self._hand_over(crew, plan)
                call.caller.retired = False
                desk.tell()
                return self._probe()
            if apart and crew.ready >= plan.workers:
                call.caller.retired = True
            if self.knowledge.scouting and self._scouted():
                following = self._scouts_plan()
                if following.workers > 1 or following.backend != plan.backend:
                    return self._hand_over(crew, following)
        self._remember(plan, ramp)
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
        desk, options = self._call.desk, self._call.options
        most = options.workers or POLITE
        if plan.backend != "threads" or most < 2 or not _waits(plan, options.kind):
            return None
        unfinished = desk.unfinished()
        limit = most if unfinished is None else min(most, unfinished)
        learned = 0 if self._learned is None else self._learned.threads
        width = first_width(unfinished, limit, desk.done, now_s(), learned)
        seen = plan.observation
        if seen is None or not self.knowledge.facts().gil:
            return width
        return width._replace(enough=enough_threads(seen))

    def _grow(self, ramp: Width, crew: Crew) -> Width:
        desk = self._call.desk
        grown = next_width(ramp, desk.done, desk.item_s, now_s())
        if grown.threads != ramp.threads:
            crew.resize(max(1, grown.threads - self._caller_helps()))
        return grown

    def _scouted(self) -> bool:
        """Whether enough items have been run in a process of their own."""
        desk = self._call.desk
        return desk.done >= SCOUTED_ITEMS and desk.busy_s >= SCOUTED_S

    def _scouts_plan(self) -> Plan:
        """The plan that the items run in a process lead to."""
        desk = self._call.desk
        self.knowledge.scouting = False
        item_s, cpu_s = desk.busy_s / desk.done, desk.far_cpu_s / desk.done
        seen = Observation(desk.done, item_s, cpu_s, cpu_s, longest_s=desk.longest_s)
        plan = self.knowledge.plan(seen)
        # What a loop would do, the process goes on doing: no item runs in the calling thread.
        return plan._replace(backend="processes") if plan.backend == "serial" else plan

    def _hand_over(self, crew: Crew, plan: Plan) -> Plan:
        """Lets a crew finish what it has begun, while the desk keeps the rest for the next."""
        crew.retire()
        while crew.busy and not self._call.desk.over:
            self._step(crew)
            crew.wait(TICK_S)
        return plan

    def _refused(self, plan: Plan, error: BaseException, crew: Crew | None = None) -> Plan | None:
        """The crew could not do the job: shared memory instead, unless the caller insisted."""
        call, knowledge = self._call, self.knowledge
        if crew is not None:
            self._hand_over(crew, plan)
        if plan.backend != "processes" or call.options.backend is not None or _is_own(error, call):
            call.desk.abort(error)
            return None
        call.caller.retired = False
        knowledge.scouting = False
        if knowledge.isolated and not call.away:
            call.work_away()
        call.desk.tell()
        return knowledge.shared_memory_plan(str(error), plan.because)


def _waits(plan: Plan, kind: Kind) -> bool:
    """Whether the items are said, or were seen, to wait."""
    seen = plan.observation
    if kind != "auto" or seen is None:
        return kind == "io"
    return 1 - seen.cpu_s / max(seen.wall_s, 1e-9) > WAITS


def _is_own(error: BaseException, call: Call) -> bool:
    """Whether the error is the initializer's, which would fail anywhere."""
    return call.job.initializer is not None and not isinstance(
        error, TransportError | BackendUnavailable | ImportError
    )


def _ahead(item_s: float, workers: int) -> int:
    """Items an iterator is read ahead."""
    if not item_s:
        return 2 * workers
    return int(max(2 * workers, min(AHEAD_S * workers / item_s, 100_000)))
