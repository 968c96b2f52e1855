"""Calls in simulated time: fixed strategies, the best of them, and autopar's own way.

autopar's planner, ramp, doubt and chunks are the real ones. What the engine does between them
(`_engine.director`, `_engine.conductor`, `_engine.grounds`) is told here in few words.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Iterator
from typing import NamedTuple

from autopar._decide import planner
from autopar._decide.costs import COLD
from autopar._decide.doubt import LEAST_ITEMS, Stretch, between, crowded, doubtful, spare
from autopar._decide.width import (
    FIRST,
    POLITE,
    Tally,
    Width,
    enough_threads,
    first_width,
    next_width,
)
from autopar._engine.conductor import FEW, RAMP_TICK_S
from autopar._engine.desk import SLOW_CALL_S
from autopar._engine.director import LOOK_AGAIN, LOOK_MAX_S, LOOK_MIN_S
from autopar._engine.grounds import CROWD_S, DOUBT_S, TRUST
from autopar._engine.knowledge import EARLY_S
from autopar._model import Machine, Observation, Options, Plan, Travel
from autopar._observe.watch import BRIEF, HOLDS, LONG_S, WAITS, WINDOW_S

from .crews import Apart, Caller, Threads, World
from .shapes import Shape

THREADS = (2, 4, 8, 16, 32, 64, 128)
APART = ("processes", "hybrid")

Sleeps = Generator[float, None, "Plan | None"]


class Outcome(NamedTuple):
    """What came of a call.

    most: items that were run at once. flooded_s: how long its server had more than twice as many
    requests as slots. plans: what was planned, in order.
    """

    took_s: float
    most: int
    flooded_s: float = 0.0
    plans: tuple[Plan, ...] = ()

    @property
    def means(self) -> str:
        """The plans, in words."""
        return ", then ".join(plan.means for plan in self.plans)


def fixed(shape: Shape, plan: Plan, until_s: float = math.inf) -> float:
    """Seconds that a strategy takes which is followed from the beginning, or `until_s`.

    The caller's thread takes part, and does so alone while processes start: whoever tunes by
    hand does no better.
    """
    return Call(shape).run(plan, until_s).took_s


def own_way(shape: Shape) -> Outcome:
    """What comes of it when autopar decides."""
    return Call(shape).run()


def best(shape: Shape) -> tuple[float, str]:
    """The fewest seconds of all fixed strategies, and which needs them.

    A strategy is not run when it could not be quicker even if nothing got in its way.
    """
    least_s, which = shape.serial_s, "serial"
    for bound_s, plan in sorted(_strategies(shape), key=lambda pair: (pair[0], pair[1].workers)):
        if bound_s >= least_s:
            break
        took_s = fixed(shape, plan, least_s)
        if took_s < least_s:
            least_s, which = took_s, plan.means
    return least_s, which


def _strategies(shape: Shape) -> Iterator[tuple[float, Plan]]:
    """Each fixed strategy after the seconds that it needs at least."""
    count = len(shape.items)
    wait_s, gil_s, free_s = (sum(part) for part in zip(*shape.items))
    longest_s = max(sum(item) for item in shape.items)
    work_s = max(longest_s, (gil_s + free_s) / shape.cpus)
    slots = shape.server.slots if shape.server else math.inf

    def least_s(width: int) -> float:
        return max(work_s, wait_s / min(width, slots), shape.serial_s / width)

    for width in THREADS:
        if width < 2 * count:
            held_s = gil_s if shape.gil else 0.0
            yield max(held_s, least_s(width)), Plan("threads", width, "", {})
    polite = THREADS[-1] if wait_s > WAITS * shape.serial_s else 256  # to whom items wait for
    procs = [1, 2, 3, 4, 8, 16, 32, 64, 128, 256]
    procs = [split for split in procs if split < 2 * shape.cpus and split <= polite]
    for split in procs:
        yield least_s(split + 1), Plan("processes", split, "", {})
        for width in (4 * split, 16 * split, 64 * split):
            if split > 1 and width <= min(2 * count, THREADS[-1]):
                held_s = gil_s / (split + 1) if shape.gil else 0.0
                yield max(held_s, least_s(width + 1)), Plan("hybrid", width, "", {}, None, split)


class Call:
    """One call of a shape."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._world = World(shape)
        self._clock = self._world.clock
        self._ledger = self._world.ledger
        self._caller = Caller(self._world)
        self._chance = random.Random(shape.name)
        self._plans: list[Plan] = []
        self._former: tuple[Threads, int] | None = None
        self._doubt_s = DOUBT_S
        self._begun, self._crowd_s = Stretch(0.0, 0, 0.0, 0.0, 0.0), CROWD_S
        self._fixed = False

    def run(self, plan: Plan | None = None, until_s: float = math.inf) -> Outcome:
        """Runs the items, by a plan or as autopar would."""
        self._fixed = plan is not None
        self._caller.go()

        def director() -> Generator[float, None, None]:
            following = plan if plan is not None else (yield from self._probe())
            while following is not None:
                self._plans.append(following)
                was = following.backend
                if was == "serial":
                    following = yield from self._watch_loop()
                else:
                    following = yield from self._follow(following)
                if following is not None and following.backend == was:
                    self._doubt_s *= TRUST

        self._clock.spawn(director())
        world = self._world
        self._clock.run(lambda: self._ledger.over, until_s)
        flooded_s = world.server.crowded_s if world.server else 0.0
        return Outcome(self._clock.now_s, world.most, flooded_s, tuple(self._plans))

    # watching

    def _probe(self) -> Sleeps:
        """Watches the caller's thread until a plan can be made."""
        ledger = self._ledger
        from_s, items, busy_s = self._clock.now_s, ledger.done, ledger.busy_s
        began = self._caller.spent_by_now()
        yield WINDOW_S
        cpu_share, gil_share = self._shares(began)
        if self._shape.gil and cpu_share > WAITS:
            if gil_share > HOLDS * cpu_share:
                yield WINDOW_S  # until a second knock has timed out
            elif BRIEF / 2 < gil_share < 3 * BRIEF:
                yield LONG_S - WINDOW_S
        if ledger.over:
            return None
        seen = self._observation(from_s, items, busy_s, self._shares(began))
        return self._planned(seen)

    def _shares(self, began: list[float]) -> tuple[float, float]:
        """Shares of the time since then that the caller's thread computed, and under the GIL."""
        wait_s, gil_s, free_s = (
            now_s - was_s for now_s, was_s in zip(self._caller.spent_by_now(), began)
        )
        all_s = max(wait_s + gil_s + free_s, 1e-9)
        return (gil_s + free_s) / all_s, gil_s / all_s

    def _observation(
        self, from_s: float, done: int, busy_s: float, shares: tuple[float, float]
    ) -> Observation:
        """As the watch sees it, and wrong by as much as the shape says."""
        ledger, caller, error = self._ledger, self._caller, self._shape.error
        items, spent_s = ledger.done - done, ledger.busy_s - busy_s
        began_s = caller.chunk.begun_s if caller.chunk else self._clock.now_s
        running_s = self._clock.now_s - max(began_s, from_s)
        if items > 2 and not done:
            items, spent_s = items - 1, spent_s - caller.first_s
        mean_s = spent_s / items if items else 0.0
        if running_s > 2 * mean_s:
            mean_s = max(mean_s, (spent_s + running_s) / (items + 1))
        wall_s = mean_s * (1 + self._chance.uniform(-error, error))
        cpu_share = min(1.0, shares[0] * (1 + self._chance.uniform(-error, error)))
        gil_share = min(cpu_share, shares[1] * (1 + self._chance.uniform(-error, error)))
        cpu_s, gil_s = wall_s * cpu_share, wall_s * gil_share
        return Observation(ledger.done - done, wall_s, cpu_s, gil_s, longest_s=ledger.longest_s)

    def _planned(self, seen: Observation) -> Plan:
        shape, left = self._shape, self._ledger.left
        machine = Machine(shape.whole_cpus, shape.gil)
        held_s = seen.gil_s + COLD.gil_switch_s
        if max(held_s, seen.alone_s) > BRIEF * seen.wall_s or left * seen.alone_s > EARLY_S:
            seen = seen._replace(travel=Travel(shape.pack_s, shape.pack_s))
        return planner.plan(seen, machine, left, Options(), shape.believed)

    def _watch_loop(self) -> Sleeps:
        """Lets the caller's thread go on alone, and looks again after a while."""
        pause_s = min(max(self._clock.now_s * LOOK_AGAIN, LOOK_MIN_S), LOOK_MAX_S)
        while True:
            yield pause_s
            plan = yield from self._probe()
            if plan is None or plan.backend != "serial":
                return plan
            pause_s = min(2 * pause_s, LOOK_MAX_S)

    # following

    def _follow(self, plan: Plan) -> Sleeps:
        """Opens the plan's crew and conducts it."""
        caller, clock = self._caller, self._clock
        ramp = None if self._fixed else self._ramp(plan)
        crew = self._open(plan, plan.workers if ramp is None else ramp.threads)
        if self._former is not None:
            self._former[0].resize(self._former[1])
        look_s, account = clock.now_s + SLOW_CALL_S, self._taken_stock()
        self._begun, self._crowd_s = account, CROWD_S
        while not self._ledger.over:
            yield RAMP_TICK_S
            if self._former is not None and crew.ready:
                self._former[0].close()
                self._former = None
                account = self._taken_stock()
            if clock.now_s >= look_s:
                look_s = clock.now_s + SLOW_CALL_S
                self._ledger.unstick()
                if plan.backend == "processes":
                    crew.fit(max(1, plan.workers - self._caller_is_at_it()))
            if plan.backend in APART and crew.ready >= self._enough(plan, ramp):
                caller.retired = True
            if self._fixed or self._former is not None:
                continue
            if ramp is not None:
                following = self._reviewed(plan, ramp)
                if following.backend != plan.backend and isinstance(crew, Threads):
                    crew.resize(FEW)
                    self._former = crew, ramp.threads
                    return following
                if following is not plan:
                    plan = following._replace(workers=ramp.threads)
                    ramp = self._enough_for(following, ramp)
                grown = next_width(ramp, self._tally(), clock.now_s)
                if grown.threads != ramp.threads:
                    crew.resize(max(1, grown.threads - (not caller.retired)))
                ramp = grown
            if clock.now_s - account.wall_s >= self._doubt_s:
                now = self._taken_stock()
                stretch = now.since(account)
                if stretch.items:
                    account = now
                    assert plan.observation is not None
                    if doubtful(plan.observation, plan.backend, stretch, gil=self._shape.gil):
                        return (yield from self._hand_over(crew))
        return None

    def _hand_over(self, crew: Threads | Apart) -> Sleeps:
        """Lets the crew finish what it has begun, and watches the caller's thread again."""
        crew.close()
        while crew.busy and not self._ledger.over:
            yield RAMP_TICK_S
        self._caller.retired = False
        self._caller.go()
        return (yield from self._probe())

    def _open(self, plan: Plan, workers: int) -> Threads | Apart:
        if plan.backend == "threads":
            return Threads(self._world, max(1, workers - 1))
        if plan.backend == "hybrid":
            over = self._former is not None
            return Apart(self._world, workers, plan.processes, over=over)
        return Apart(self._world, max(1, workers - self._caller_is_at_it()))

    def _ramp(self, plan: Plan) -> Width | None:
        """For items that wait: the number of threads grows while that helps."""
        seen, ledger = plan.observation, self._ledger
        assert seen is not None
        if plan.backend == "processes" or 1 - seen.cpu_s / max(seen.wall_s, 1e-9) <= WAITS:
            return None
        unfinished = ledger.count - ledger.done
        limit = min(POLITE, unfinished)
        if plan.processes:
            width = first_width(unfinished, limit, self._tally(), self._clock.now_s, plan.workers)
            return width._replace(enough=max(FIRST, plan.workers))
        width = first_width(unfinished, limit, self._tally(), self._clock.now_s)
        return self._enough_for(plan, width)

    def _tally(self) -> Tally:
        cpu_s = self._taken_stock().process_s
        return Tally(self._ledger.done, 0, self._ledger.busy_s, cpu_s)

    def _enough_for(self, plan: Plan, width: Width) -> Width:
        seen = plan.observation
        if not self._shape.gil:
            return width._replace(cpus=self._shape.whole_cpus)
        return width if seen is None else width._replace(enough=enough_threads(seen))

    def _enough(self, plan: Plan, ramp: Width | None) -> int:
        """Workers in processes with which the caller's thread is not needed any more."""
        if plan.backend == "processes":
            return plan.workers - self._caller_is_at_it()
        return (plan.workers if ramp is None else ramp.threads) - (not self._caller.retired)

    def _caller_is_at_it(self) -> int:
        """1 while the caller's thread runs a long item."""
        chunk = self._caller.chunk
        if chunk is None:
            return 0
        standing = self._clock.now_s - chunk.begun_s > SLOW_CALL_S
        return int(standing or self._ledger.item_s > SLOW_CALL_S)

    def _reviewed(self, plan: Plan, ramp: Width) -> Plan:
        """The plan again, or what it has to be for all that is known of the items now."""
        following = self._looked_again(plan)
        return self._crowd(plan, ramp) if following is plan else following

    def _looked_again(self, plan: Plan) -> Plan:
        """The plan again, or what it has to be now that items of which none had ended have."""
        seen, ledger = plan.observation, self._ledger
        if plan.backend != "threads" or seen is None or seen.items:
            return plan
        if ledger.counted < LEAST_ITEMS:
            return plan
        most_s = self._caller.first_s
        if most_s < seen.wall_s:
            most_s = max(seen.wall_s, ledger.counted_s / ledger.counted)
        wall_s = between(seen.wall_s, most_s)
        cpu_s = ledger.cpu_s / ledger.counted
        held = seen.gil_s / seen.cpu_s if seen.cpu_s > WAITS * seen.wall_s else 1.0
        seen = Observation(ledger.done, wall_s, cpu_s, held * cpu_s, longest_s=ledger.longest_s)
        following = self._planned(seen)
        if following.backend == "serial":
            return plan._replace(observation=seen, predicted_s=following.predicted_s)
        return following

    def _crowd(self, plan: Plan, ramp: Width) -> Plan:
        """The plan again, or another if the threads have shown that they queue for the GIL."""
        seen, stretch = plan.observation, self._taken_stock().since(self._begun)
        if stretch.wall_s < self._crowd_s:
            return plan
        self._crowd_s *= 2
        if plan.backend != "threads" or seen is None or seen.alone_s or not self._shape.gil:
            return plan
        found = crowded(seen, ramp.threads, stretch)
        if found is None or not spare(stretch, self._shape.whole_cpus):
            return plan
        following = self._planned(found)
        return plan if following.backend == "serial" else following

    def _taken_stock(self) -> Stretch:
        ledger, now_s = self._ledger, self._clock.now_s
        home_cpu_s = self._world.home.cpu_s
        return Stretch(
            now_s,
            ledger.done,
            ledger.counted_s,
            ledger.cpu_s,
            home_cpu_s,
            home_cpu_s,  # while threads are at work nobody else is
            ledger.counted,
        )
