"""What the plan of a call rests on: the last call of its function, and what happens meanwhile."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal

from .._decide.doubt import (
    LEAST_ITEMS,
    Stretch,
    between,
    by_others,
    crowded,
    doubtful,
    grown_heavy,
    hindered,
    spare,
)
from .._model import Machine, Observation, Plan
from .._observe.watch import WAITS
from .._platform import machine_times
from . import memory
from .desk import now_s
from .knowledge import waits
from .turns import quick_turns

if TYPE_CHECKING:
    from .._decide.width import Width
    from .call import Call

CHECKED_ITEMS, CHECKED_S = 4, 10e-3  # enough to see whether the last call's account still fits
DOUBT_S = 0.1  # a plan is compared with what happens this long after it began to be followed...
TRUST = 4  # ...and, each time it is found right all the same, so much later again
ALIKE = 4  # a first item that took so many times as long as the others was of another kind
ROUNDS = 2  # of all workers; fewer say little of the pace at which items come back
CROWD_S = 40e-3  # threads that wait may be found to queue for the GIL when they have run this long


class Grounds:
    """The grounds of one call's plans.

    learned: what the function's last call has shown, as long as a plan rests on it.
    """

    def __init__(self, call: Call) -> None:
        self.learned: memory.Learned | None = None
        self._call = call
        self._from_cpu_s = 0.0
        self._doubt_s = DOUBT_S
        self._begun = Stretch(0.0, 0, 0.0, 0.0, 0.0)  # when the plan began to be followed...
        self._account = self._begun  # ...and when it was last compared
        self._crowd_s = CROWD_S
        self._under_way = False  # some items have come back since it began to be followed
        self._doubts_first = True

    def known(self) -> memory.Learned | None:
        """What is remembered of the function for such items."""
        return memory.learned.get(self._call.job.fn, self._call.source.first())

    def rest_on(self, learned: memory.Learned) -> None:
        """Notes that the plan follows from this memory."""
        self.learned, self._from_cpu_s = learned, time.process_time()

    def begin(self, plan: Plan) -> None:
        """Notes that a plan begins to be followed."""
        self._begun = self._account = self._taken_stock(plan)
        self._crowd_s, self._under_way = CROWD_S, False

    def confirm(self) -> None:
        """Notes that a plan was found right when it was made again: the next doubt comes later."""
        self._doubt_s *= TRUST

    def review(self, plan: Plan, machine: Machine) -> Observation | Literal["probe"] | None:
        """None while items are what the plan was made for; else what they have turned out to be,
        or that they have to be watched again.
        """
        self._note_progress(plan)
        if self._misremembered(plan) or self._first_was_another(plan):
            return "probe"
        found = self._finished(plan) or self._crowd(plan, machine)
        if found is not None:
            return found
        seen, stretch = plan.observation, self._stretch(plan)
        if seen is None or stretch is None:
            return None
        if plan.backend == "threads" and not waits(plan, self._call.options.kind):
            found = hindered(seen, plan.workers, stretch, machine, os.cpu_count() or 1)
            if found is not None and not seen.alone_s:
                return found
        if plan.backend != "threads" and grown_heavy(seen, stretch):
            self._call.caller.sample = None  # the next item, and its result, are weighed anew
            return "probe"
        return "probe" if doubtful(seen, plan.backend, stretch, gil=machine.gil) else None

    def _note_progress(self, plan: Plan) -> None:
        """Notes when the first items come back: the time until then says nothing of their pace."""
        if not self._under_way and self._call.desk.done - self._begun.items >= LEAST_ITEMS:
            self._begun, self._under_way = self._taken_stock(plan), True

    def _pace_s(self, workers: int) -> float:
        """Seconds from one item to the next under the plan that is followed; 0 if too few were run."""
        stretch = self._own_account().since(self._begun)
        if not self._under_way or stretch.items < ROUNDS * workers:
            return 0.0
        return stretch.wall_s / stretch.items

    def _misremembered(self, plan: Plan) -> bool:
        """Whether the items are not what the function's last call has shown."""
        desk, learned = self._call.desk, self.learned
        shared = plan.backend == "threads"
        seen_s = desk.busy_s if shared else desk.counted_s
        if learned is None or desk.done < CHECKED_ITEMS or seen_s < CHECKED_S:
            return False
        if shared:
            # Threads that fight for the GIL each look busy for no longer than one that has it
            # alone; what all of them together take of the CPUs shows it.
            share = (time.process_time() - self._from_cpu_s) / desk.done / learned.seen.wall_s
        else:
            share = desk.cpu_s / desk.counted_s
        if learned.fits(desk.busy_s / desk.done, share):
            return False
        self.learned = None
        memory.learned.forget(self._call.job.fn, self._call.source.first())
        return True

    def _first_was_another(self, plan: Plan) -> bool:
        """Whether the plan was made while the first item ran, and that was of a kind of its own.

        An import in it holds the GIL, whatever the items do. The calling thread runs others while
        processes get ready, which shows it.
        """
        desk, seen, first_s = self._call.desk, plan.observation, self._call.caller.first_s
        if plan.backend == "threads" or seen is None or seen.items or not self._free:
            return False
        others = desk.done - desk.counted - 1
        others_s = desk.busy_s - desk.counted_s - first_s
        found = first_s > 0 and others > 0 and ALIKE * others_s < others * first_s
        if not (found and self._doubts_first):
            return False
        self._doubts_first = False  # what is watched next may be an item that has not ended, too
        return True

    def _stretch(self, plan: Plan) -> Stretch | None:
        """What was done since the plan was last compared, if that is long enough ago."""
        if not self._free or now_s() - self._call.began_s - self._account.wall_s < self._doubt_s:
            return None
        account = self._taken_stock(plan)
        stretch = account.since(self._account)
        if not stretch.items:
            return None  # over a longer stretch, then
        self._account = account
        return stretch

    def _finished(self, plan: Plan) -> Observation | None:
        """What items have turned out to be, when the plan was made before the first had ended.

        While an item waits nobody knows whether it will compute. None before some have ended.
        """
        call, desk, seen = self._call, self._call.desk, plan.observation
        if plan.backend != "threads" or seen is None or seen.items or not self._free:
            return None
        was = self._account  # before the plan there may have been items of another kind
        counted = desk.counted - was.counted
        if counted < LEAST_ITEMS:
            return None
        first_s, mean_s = call.caller.first_s, (desk.counted_s - was.counted_s) / counted
        if first_s > seen.wall_s:  # it ran alone, and may have been an outlier
            wall_s = max(seen.wall_s, min(first_s, mean_s))
        else:  # it was not that one
            wall_s = between(seen.wall_s, max(seen.wall_s, mean_s))
        cpu_s = (desk.cpu_s - was.cpu_s) / counted
        # Of one that computed it was seen how much of that held the GIL; of one that waits, nothing.
        held = seen.gil_s / seen.cpu_s if seen.cpu_s > WAITS * seen.wall_s else 1.0
        return Observation(desk.done, wall_s, cpu_s, held * cpu_s, longest_s=desk.longest_s)

    def _crowd(self, plan: Plan, machine: Machine) -> Observation | None:
        """What the items are if threads that wait for them queue for the GIL.

        Looked for again after twice the time. The machine is only asked when everything else says
        so: each system call is a turn in that queue.
        """
        seen, now = plan.observation, now_s() - self._call.began_s
        if plan.backend != "threads" or seen is None or seen.alone_s or not machine.gil:
            return None
        if not self._free or now - self._begun.wall_s < self._crowd_s:
            return None
        self._crowd_s *= 2
        stretch = self._own_account().since(self._begun)
        found = crowded(seen, self._call.plans[-1].workers, stretch)
        if found is None:
            return None
        whole = self._taken_stock(plan).since(self._begun)
        if not spare(whole, os.cpu_count() or 1):
            return None
        return found._replace(others_s=by_others(whole))

    @property
    def _free(self) -> bool:
        """Whether another plan may be made."""
        call = self._call
        return call.works and call.options.kind == "auto" and call.options.backend is None

    def _taken_stock(self, plan: Plan) -> Stretch:
        """What the call has done so far, and the machine beside it where threads do it."""
        account = self._own_account()
        if plan.backend != "threads":
            return account
        with quick_turns, self._call.caller.pause:
            return account._replace(machine_s=machine_times().used_s)

    def _own_account(self) -> Stretch:
        """What the call has done so far, as far as this process knows by itself."""
        desk = self._call.desk
        return Stretch(
            now_s() - self._call.began_s,
            desk.done,
            desk.counted_s,
            desk.cpu_s,
            time.process_time(),
            counted=desk.counted,
            moved_s=desk.moved_s,
        )

    def remember(self, plan: Plan, ramp: Width | None) -> None:
        """Keeps what this call has shown of its function, if the next can check it."""
        call, desk, seen = self._call, self._call.desk, plan.observation
        if plan.backend in ("processes", "hybrid") and desk.done:
            memory.paces.keep(call.job.fn, call.source.first(), desk.busy_s / desk.done)
        if seen is None or desk.errors or not desk.done:
            return
        if (ramp is None and plan.backend != "processes") or seen.wall_s <= 0:
            return
        item_s = desk.busy_s / desk.done
        if ramp is None and not seen.items and not 0 < call.caller.first_s < ALIKE * item_s:
            return  # only a part of the first one was seen, and that may have been an import
        if ramp is None:  # the share of CPU is as it was seen, whatever the probe saw of the length
            more = item_s / max(seen.wall_s, 1e-9)
            seen = seen._replace(wall_s=item_s, cpu_s=seen.cpu_s * more, gil_s=seen.gil_s * more)
        elif not seen.items:
            seen = seen._replace(wall_s=item_s)
        seen = self._compared(seen._replace(items=desk.done), plan)
        threads = 0 if ramp is None else ramp.base or ramp.threads
        learned = memory.Learned(seen, item_s, threads, plan.backend != "threads")
        memory.learned.keep(call.job.fn, call.source.first(), learned)

    def _compared(self, seen: Observation, plan: Plan) -> Observation:
        """What was seen, with what threads or a hybrid have shown, where the choice is between them.

        The next call takes what was quicker: a running comparison settles what no model can.
        """
        pace_s = self._pace_s(plan.workers) if seen.alone_s else 0.0
        if not pace_s:
            return seen
        if plan.backend == "hybrid":
            return seen._replace(apart_s=pace_s)
        return seen._replace(alone_s=pace_s) if plan.backend == "threads" else seen
