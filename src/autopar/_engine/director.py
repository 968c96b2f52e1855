"""The director of a call: watches the first items, decides, and has the plan followed."""

from __future__ import annotations

import _thread
import threading
from contextvars import Context
from typing import TYPE_CHECKING, NamedTuple

from .._births import births
from .._model import Observation, Plan
from .._observe.watch import Watch
from .conductor import TICK_S, Conductor
from .desk import SIGNALS_S, now_s
from .grounds import Grounds
from .knowledge import Knowledge
from .turns import quick_turns

if TYPE_CHECKING:
    from .call import Call

LOOK_AGAIN = 0.25  # a loop that goes on is looked at again after this share of its time so far
LOOK_MIN_S, LOOK_MAX_S = 2e-3, 0.25
IMPORT_S = 0.25  # imports in the first item that take longer are taken for a part of it
BRIEF_S = 20e-6  # what takes less is not worth another thread, unless it waits
ALIKE = 2  # items that take up to so many times as long are alike...
ALIKE_SHARE = 0.25  # ...if their shares of a CPU differ by less


class Glance(NamedTuple):
    """What the calling thread has done: by when, items, seconds that they took, CPU seconds."""

    at_s: float
    done: int
    busy_s: float
    cpu_s: float

    def since(self, earlier: Glance) -> Glance:
        """What it has done after an earlier one."""
        return Glance(
            self.at_s - earlier.at_s,
            self.done - earlier.done,
            self.busy_s - earlier.busy_s,
            self.cpu_s - earlier.cpu_s,
        )

    def is_like(self, seen: Observation) -> bool:
        """Whether items take as long as they did, and as much of a CPU.

        Of brief ones only: longer ones may have come to leave the GIL alone, which is not seen here.
        """
        if self.done <= 0 or self.at_s <= 0 or not 0 < seen.wall_s < BRIEF_S:
            return False
        pace = self.busy_s / self.done / seen.wall_s
        share = self.cpu_s / self.at_s - seen.cpu_s / seen.wall_s
        return 1 / ALIKE < pace < ALIKE and abs(share) < ALIKE_SHARE


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
        self._grounds = Grounds(call)
        self._conductor = Conductor(call, self.knowledge, self._grounds)

    # in the calling thread

    def start(self, context: Context) -> None:
        """Begins to conduct. Raises: RuntimeError when there can be no more threads."""
        births.expect(self)
        try:
            _thread.start_new_thread(context.run, (self.run,))
        except RuntimeError:
            births.note(self)
            raise

    def wait(self) -> None:
        """Returns when no crew is open."""
        if births.ending:
            births.wait()
        with self._state:
            self._left_alone = True
            engaged = self._engaged
        while engaged and not self._ended.acquire(timeout=SIGNALS_S):
            pass

    # in the director's thread

    def run(self) -> None:
        """The thread's whole life."""
        births.note(self)
        self._call.desk.courtesy.be_back()
        try:
            self._direct()
        except BaseException as error:
            self._call.desk.abort(error)
        finally:
            self._conductor.end()
            self._ended.release()
            self._call.rouse()

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
            following = self._watch_loop() if plan.backend == "serial" else self._follow(plan)
            if following is not None and following.backend == plan.backend:
                self._grounds.confirm()
            plan = following

    def _recalled(self) -> Plan | None:
        """The plan that the function's last call leads to, or None to have it probed."""
        call, knowledge = self._call, self.knowledge
        learned = self._grounds.known()
        if learned is None or call.away or self._only_plan:
            return None
        while learned.apart and not (call.desk.over or knowledge.may_judge()):
            if self._waited(LOOK_MIN_S / 2):
                return None
        with quick_turns, call.caller.pause:
            plan = knowledge.plan(learned.seen)
        if plan.backend == "serial":
            return None
        self._grounds.rest_on(learned)
        return plan._replace(because=f"as in its last call, {plan.because}")

    def _probe(self, *, at_birth: bool = False, afresh: bool = False) -> Plan | None:
        """Watches the caller's thread until a plan can be made; None when the call is over.

        at_birth: the director has just begun to live. afresh: others have run items meanwhile, so
        the caller's thread is at an item of its own only from now on.
        """
        call = self._call
        assert call.subject is not None
        watch = (
            self._fresh_watch() if afresh else Watch(call.subject, call.progress(), call.began_s)
        )
        try:
            if at_birth:
                watch.knocked_at_birth(call.began_s)
            prepared = at_imports = False
            while not call.desk.over:
                if call.give_up_late().own:
                    watch.close()
                    watch = self._fresh_watch()
                if watch.timed_out and not prepared:
                    prepared = True
                    with quick_turns, call.caller.pause:  # see `_step`
                        self.knowledge.prepare()
                    watch.begin_again()  # the thread may have rested meanwhile
                call.desk.courtesy.leave()
                over = watch.knock(call.finished)
                call.desk.courtesy.be_back()
                if over:
                    return None
                was_at_imports, at_imports = at_imports, self._is_at_imports()
                if was_at_imports and not at_imports:
                    watch.close()
                    watch = self._fresh_watch()
                elif watch.clear() and not at_imports:
                    with quick_turns, call.caller.pause:
                        return self.knowledge.plan(watch.observation(call.progress()))
        finally:
            with call.caller.pause:
                watch.close()
        return None

    def _is_at_imports(self) -> bool:
        """Whether what is seen is an import in the first item, which says nothing of the others.

        One that goes on for long is not waited for: workers may have to do the same.
        """
        call = self._call
        assert call.subject is not None
        if call.progress().items or now_s() - call.began_s > IMPORT_S:
            return False
        return call.subject.imports()

    def _fresh_watch(self) -> Watch:
        """A watch of a thread that has run nothing of what was done so far."""
        subject, progress = self._call.subject, self._call.progress()
        assert subject is not None
        return Watch(subject, progress, now_s() - progress.busy_s)

    def _watch_loop(self) -> Plan | None:
        """Lets the caller's thread go on alone, and looks again after a while."""
        call = self._call
        elapsed_s = now_s() - call.began_s
        timed = call.job.timeout_s is not None
        pause_s = min(max(elapsed_s * LOOK_AGAIN, LOOK_MIN_S), LOOK_MAX_S)
        glance = self._glance()
        while not call.desk.over:
            if self._waited(min(pause_s, TICK_S) if timed else pause_s):
                return None
            was, glance = glance, self._glance()
            plan = self._planned_as_before(glance.since(was)) or self._probe(afresh=self._engaged)
            if plan is None or plan.backend != "serial":
                return plan
            if plan.predicted_s["serial"] > call.plans[-1].predicted_s["serial"]:
                call.plans[-1] = plan  # the better reason: it was about more work
            pause_s = min(pause_s * 2, LOOK_MAX_S)
        return None

    def _glance(self) -> Glance:
        """How far the calling thread has come; to ask takes no turn at the GIL from it."""
        call = self._call
        assert call.subject is not None
        return Glance(now_s(), call.desk.done, call.desk.busy_s, call.subject.cpu_s())

    def _planned_as_before(self, stretch: Glance) -> Plan | None:
        """The plan for what is left now, if items go on as they were seen: then nothing has to be
        watched, and the calling thread goes on alone. Else None.
        """
        seen, call = self.knowledge.seen, self._call
        if seen is None or self._engaged or call.away or call.job.timeout_s is not None:
            return None
        if not stretch.is_like(seen):
            return None
        if call.source.cut:  # there were more of them left when it was made
            return call.plans[-1]
        with quick_turns, call.caller.pause:
            plan = self.knowledge.plan(seen)
        return plan if plan.backend == "serial" else None

    def _waited(self, seconds: float) -> bool:
        """Waits for so long, or until the call is over; whether it is."""
        courtesy = self._call.desk.courtesy
        courtesy.leave(seconds)
        try:
            return self._call.finished.acquire(timeout=seconds)
        finally:
            courtesy.be_back()

    def _follow(self, plan: Plan) -> Plan | None:
        """Has a plan with a crew followed; the next plan, or None at the end."""
        with self._state:
            if self._left_alone and self._call.desk.over:
                return None
            self._engaged = True
        following = self._conductor.follow(plan)
        return self._probe(afresh=True) if following == "probe" else following
