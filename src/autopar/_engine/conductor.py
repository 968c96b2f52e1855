"""Following a plan: a crew is conducted until the call is over or its course changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from .._decide.width import (
    FIRST,
    POLITE,
    Width,
    enough_threads,
    first_width,
    next_look,
    next_width,
    worth_loading,
)
from .._errors import BackendUnavailable, TransportError
from .._model import Observation, Plan
from .._observe.machine import machine
from .desk import SLOW_CALL_S, now_s
from .grounds import Grounds
from .hiring import Hiring, ahead
from .isolation import fails_anywhere
from .knowledge import Knowledge, waits
from .turns import quick_turns

if TYPE_CHECKING:
    from ..backends.protocol import Crew
    from .call import Call

TICK_S = 20e-3
RAMP_TICK_S = 2e-3
FEW = 4  # threads at work beside somebody who has to have the GIL often
APART = ("processes", "hybrid")  # the means whose workers share no memory
SCOUTED_ITEMS, SCOUTED_S = 2, 2e-3  # enough to judge items by, run in a process of their own

Course = Plan | Literal["probe"] | None  # the next plan, or none until items are watched again


class Going(NamedTuple):
    """A plan that goes on, with its ramp where items wait."""

    plan: Plan
    ramp: Width | None


class Conductor:
    """Follows the plans of one call."""

    def __init__(self, call: Call, knowledge: Knowledge, grounds: Grounds) -> None:
        self._call = call
        self._knowledge = knowledge
        self._grounds = grounds
        self._hiring = Hiring(call, knowledge)
        self._former: tuple[Crew, int] | None = None  # threads that go on until others are ready

    def end(self) -> None:
        """Lets go of what is left."""
        self._relieve()
        self._hiring.give_back()

    def follow(self, plan: Plan) -> Course:
        """Opens the plan's crew and conducts it; the next plan, or None at the end."""
        ramp = self._ramp(plan)
        try:
            crew = self._hiring.open(plan, plan.workers if ramp is None else ramp.threads)
        except (TransportError, BackendUnavailable) as error:
            return self._refused(plan, error)
        except RuntimeError:  # no thread can be started any more
            if not self._call.works:
                raise
            self._call.caller.retired = False
            self._call.desk.tell()
            return None
        if self._former is not None:
            self._former[0].resize(self._former[1])
        try:
            return self._conduct(plan, crew, ramp)
        finally:
            if self._former is None or self._former[0] is not crew:
                crew.close(kill=self._call.desk.aborted is not None)
            self._hiring.give_back()  # the call may go on by other means, and others wait for it

    def _conduct(self, plan: Plan, crew: Crew, ramp: Width | None) -> Course:
        """Drives the crew until the call is over or the course changes."""
        call, desk = self._call, self._call.desk
        apart = plan.backend == "processes"
        look_s = now_s() + SLOW_CALL_S
        self._grounds.begin(plan)
        while not desk.over:
            self._step(crew)
            self._give_up_late(crew)
            if crew.ready and self._former is not None:
                self._relieve()
                self._grounds.begin(plan)
            if desk.refused is not None:
                error, desk.refused = desk.refused, None
                return self._refused(plan, error, crew)
            if desk.over:
                break
            self._wait(plan, crew, ramp)
            if now_s() >= look_s or self._hiring.due_for(plan, crew):
                look_s = now_s() + SLOW_CALL_S
                desk.unstick()
                desk.ahead = ahead(desk.item_s, plan.workers)
                if apart:
                    self._hiring.fit(plan, crew)
            self._knowledge.prepare_next()
            going = self._reviewed(Going(plan, ramp), crew)
            if not isinstance(going, Going):
                return going
            plan, ramp = going
            if plan.backend in APART and crew.ready >= self._enough(plan, ramp):
                call.caller.retired = True
            if self._scouted():
                following = self._scouts_plan(crew)
                if following.workers > 1 or following.backend != plan.backend:
                    return self._hand_over(crew, following)
        self._count(crew, ramp)
        self._grounds.remember(plan, ramp)
        return None

    def _count(self, crew: Crew, ramp: Width | None) -> None:
        """Puts the number of workers a ramp came to in the place of that which was planned."""
        if ramp is None:
            return
        plans = self._call.plans
        plans[-1] = plans[-1]._replace(workers=crew.ready + self._hiring.caller_helps())

    def _reviewed(self, going: Going, crew: Crew) -> Going | Plan | Literal["probe"]:
        """How it goes on: by the same plan, for all that is known of the items now, or another."""
        plan, ramp = going
        if self._former is not None:
            return going  # what is done now is done by others, and says nothing of this plan
        found = self._grounds.review(plan, self._knowledge.facts())
        if found == "probe":
            self._count(crew, ramp)
            self._hand_over(crew, plan)
            self._recall_caller()
            return "probe"
        if found is not None:
            following = self._planned_again(plan, found)
            if following.backend != plan.backend:
                return self._change(crew, ramp, following)
            plan = self._call.plans[-1] = following
            ramp = ramp and self._enough_for(plan, ramp)
        return Going(plan, ramp and self._grow(ramp, crew))

    def _planned_again(self, plan: Plan, seen: Observation) -> Plan:
        """What the plan has to be for items that have turned out to be so."""
        with quick_turns, self._call.caller.pause:
            following = self._knowledge.plan(seen)
        if following.backend == plan.backend:  # its crew goes on as it is
            return following._replace(workers=self._call.plans[-1].workers)
        waits_already = following.backend == "serial" and not seen.alone_s  # and not alone
        if waits_already or self._call.desk.drained:  # or nothing is left for others
            return plan._replace(observation=seen, predicted_s=following.predicted_s)
        return following

    def _change(self, threads: Crew, ramp: Width | None, following: Plan) -> Plan:
        """Has threads let others take over, as soon as those can."""
        self._count(threads, ramp)
        at_work = ramp.threads if ramp is not None else threads.ready
        serial = following.backend == "serial"
        if at_work + min(FIRST, following.workers) > (self._call.options.workers or POLITE):
            self._hand_over(threads, following)
        elif serial:
            threads.retire()
        else:
            threads.resize(FEW)  # beside more of them nobody gets the GIL to start others
            self._former = threads, at_work
        if serial:
            self._recall_caller()
        return following

    def _recall_caller(self) -> None:
        """Has the caller's thread run items again."""
        self._call.caller.retired = False
        self._call.desk.tell()

    def _enough(self, plan: Plan, ramp: Width | None) -> int:
        """Workers in processes with which the caller's thread is not needed any more."""
        if ramp is None:
            return plan.workers - self._hiring.caller_is_at_it()
        return ramp.threads - self._hiring.caller_helps()

    def _relieve(self) -> None:
        """Has the threads that others take over from draw no more."""
        if self._former is not None:
            self._former[0].close()
            self._former = None

    def _wait(self, plan: Plan, crew: Crew, ramp: Width | None) -> None:
        """Waits for news of the crew; of threads that wait, until they may tell how many to have."""
        if ramp is None or plan.backend != "threads":
            self._wait_for(crew, TICK_S if ramp is None else RAMP_TICK_S)
            return
        done, at_s = next_look(ramp)
        self._call.desk.wait_done(done, min(max(at_s - now_s(), RAMP_TICK_S), TICK_S))

    def _wait_for(self, crew: Crew, seconds: float) -> None:
        courtesy = self._call.desk.courtesy
        courtesy.leave(seconds)
        crew.wait(seconds)
        courtesy.be_back()

    def _give_up_late(self, crew: Crew) -> None:
        """Gives up items that run past their time in threads, and has others take over there."""
        late = self._call.give_up_late().others
        if late:
            crew.replace(late)

    def _step(self, crew: Crew) -> None:
        """One step of the crew.

        The caller's thread rests meanwhile if it comes to the end of a chunk: every system call
        lets go of the GIL, and a thread that computes takes a whole turn to give it back.
        """
        if self._former is not None:
            self._step_threads(self._former[0])
        if self._call.plans[-1].backend == "threads":  # they help themselves
            self._step_threads(crew)
            return
        with quick_turns, self._call.caller.pause:
            crew.step()

    def _step_threads(self, crew: Crew) -> None:
        try:
            crew.step()
        except RuntimeError:  # no thread can be started any more
            if not self._call.works:
                raise
            self._recall_caller()

    def _ramp(self, plan: Plan) -> Width | None:
        """For items that wait: the number of threads grows while that helps."""
        desk, options = self._call.desk, self._call.options
        most = options.workers or POLITE
        if plan.backend not in ("threads", "hybrid") or most < 2 or not waits(plan, options.kind):
            return None
        unfinished = desk.unfinished()
        limit = most if unfinished is None else min(most, unfinished)
        learned = self._grounds.learned
        threads = 0 if learned is None else learned.threads
        if plan.processes:  # as many as were planned: to have more of them costs more than threads
            width = first_width(unfinished, limit, desk.tally(), now_s(), plan.workers)
            self._call.plans[-1] = plan._replace(workers=width.threads)
            return width._replace(enough=max(FIRST, plan.workers))
        width = first_width(unfinished, limit, desk.tally(), now_s(), threads)
        self._call.plans[-1] = plan._replace(workers=width.threads)  # what is, not what may be
        return self._enough_for(plan, width)

    def _enough_for(self, plan: Plan, width: Width) -> Width:
        """The ramp with the number of threads that keep the GIL busy, if there is one."""
        seen, facts = plan.observation, self._knowledge.facts()
        if not facts.gil:
            return width._replace(cpus=facts.cpus)
        return width if seen is None else width._replace(enough=enough_threads(seen))

    def _grow(self, ramp: Width, crew: Crew) -> Width:
        ramp = ramp._replace(alone_s=self._call.caller.first_s)
        grown = next_width(ramp, self._call.desk.tally(), now_s())
        if grown.threads != ramp.threads:
            crew.resize(max(1, grown.threads - self._hiring.caller_helps()))
        return grown

    def _scouted(self) -> bool:
        """Whether enough items have been run in a process of their own."""
        desk, scouting = self._call.desk, self._knowledge.scouting
        return scouting and desk.done >= SCOUTED_ITEMS and desk.busy_s >= SCOUTED_S

    def _scouts_plan(self, crew: Crew) -> Plan:
        """The plan that the items run in a process lead to."""
        desk = self._call.desk
        self._knowledge.scouting = False
        item_s, cpu_s = desk.busy_s / desk.done, desk.cpu_s / desk.done
        seen = Observation(desk.done, item_s, cpu_s, cpu_s, longest_s=desk.longest_s)
        plan = self._knowledge.plan(seen)
        # What a loop would do, the process goes on doing: no item runs in the calling thread.
        if plan.backend == "serial":
            return plan._replace(backend="processes")
        if plan.backend == "threads":
            because = f"{plan.because}; in processes of their own they do no harm"
            loop_s, cpus = plan.predicted_s["serial"], machine().cpus
            workers = min(plan.workers, worth_loading(crew.load_s, loop_s, cpus))
            return plan._replace(backend="processes", workers=workers, because=because)
        return plan

    def _hand_over(self, crew: Crew, plan: Plan) -> Plan:
        """Lets a crew finish what it has begun, while the desk keeps the rest for the next."""
        crew.retire()
        while crew.busy and not self._call.desk.over:
            self._step(crew)
            self._give_up_late(crew)
            self._wait_for(crew, TICK_S)
        return plan

    def _refused(self, plan: Plan, error: BaseException, crew: Crew | None = None) -> Plan | None:
        """The crew could not do the job: shared memory instead, unless the caller insisted."""
        call, knowledge = self._call, self._knowledge
        self._relieve()
        if crew is not None:
            self._hand_over(crew, plan)
        insists = plan.backend not in APART or call.options.backend is not None
        if insists or fails_anywhere(error, call.job):
            call.desk.abort(error)
            return None
        call.caller.retired = False
        knowledge.scouting = False
        if knowledge.isolated and not call.away:
            call.work_away()
        call.desk.tell()
        return knowledge.shared_memory_plan(str(error), plan.because)
