"""When a plan that is being followed no longer fits the items.

A probe sees the first items only, and may be mistaken; a function's nature may change on the way.
What gives it away is the CPU: threads that were to wait, or to compute outside the GIL, and use
exactly one CPU between them fight for the GIL; processes that were to compute and use little of
their CPUs wait.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .._model import Machine, Observation
from .costs import COLD

LEAST_ITEMS = 4  # finished: fewer say nothing
ONE_CPU = 1.2  # CPUs: those who compute under the GIL have no more between them
BUSY, IDLE = 0.7, 0.4  # a share of CPU above the one computes, below the other waits
MORE = 2  # times the CPU seconds that were planned for
ANOTHER = 8  # an item that takes so many times as much, or as little, is another kind of item
HINDERED = 0.75  # of the CPUs that threads could use; with less, something holds them up
FULL = 0.75  # of a CPU in use is as much as one GIL lets threads use, beside what else is done
CROWD = 1.5  # CPUs that threads would use if each had all it needs: more than one GIL has to give
SPARE = 0.5  # CPUs that nobody used meanwhile, so it was not for want of one
SLOWER = 2.2  # times the CPU seconds: threads that get in each other's way without waiting...
GAIN = 0.6  # ...gain less than this share of what they should
MOVES = 0.5  # a share of the time on moving data, above which nothing else is waited for
SOME = 0.1  # of a CPU; what uses less does not need another one


class Stretch(NamedTuple):
    """What was done in a stretch of a call: the difference of two accounts of it.

    wall_s: seconds it lasted. items: finished. counted: of them, those whose CPU seconds were
    counted; counted_s, cpu_s: seconds that these took, and those. process_s: CPU seconds of the
    calling process; machine_s: of all there are, 0 where the system does not say. moved_s: spent
    on moving items and results.
    """

    wall_s: float
    items: int
    counted_s: float
    cpu_s: float
    process_s: float
    machine_s: float = 0.0
    counted: int = 0
    moved_s: float = 0.0

    def since(self, earlier: Stretch) -> Stretch:
        """What was done after an earlier account was taken."""
        return Stretch(
            self.wall_s - earlier.wall_s,
            self.items - earlier.items,
            self.counted_s - earlier.counted_s,
            self.cpu_s - earlier.cpu_s,
            self.process_s - earlier.process_s,
            self.machine_s - earlier.machine_s,
            self.counted - earlier.counted,
            self.moved_s - earlier.moved_s,
        )


def doubtful(seen: Observation, backend: str, stretch: Stretch, *, gil: bool) -> bool:
    """Whether what happens under a plan is not what it was made for.

    seen: what the plan was made from. backend: what it chose.
    """
    if stretch.items < LEAST_ITEMS or stretch.counted_s <= 0:
        return False
    planned = seen.cpu_s / max(seen.wall_s, 1e-9)
    if backend == "threads":
        if planned > BUSY and _waits_instead(stretch):
            return True
        used = stretch.process_s / stretch.wall_s
        held = stretch.items * seen.gil_s / stretch.wall_s
        if not gil or used > ONE_CPU or held > used / MORE:
            return False
        meant_s = stretch.items * seen.cpu_s
        if stretch.cpu_s > ANOTHER * meant_s:
            return used > SOME  # on a busy machine it may be all they get
        return used > IDLE if stretch.cpu_s > MORE * meant_s else used > BUSY and planned > BUSY
    if stretch.counted < LEAST_ITEMS:
        return False  # the calling thread has done the others, and its items are not counted
    share = stretch.cpu_s / stretch.counted_s
    if share < (min(IDLE, planned / MORE) if planned > IDLE else planned / ANOTHER):
        return True
    item_s = stretch.counted_s / stretch.counted
    if not seen.items:  # how long the first would go on was never known
        return item_s < seen.wall_s / ANOTHER
    return not seen.wall_s / ANOTHER < item_s < seen.wall_s * ANOTHER


def grown_heavy(seen: Observation, stretch: Stretch) -> bool:
    """Whether most of the time goes by on moving more data than was planned for."""
    if seen.travel is None or stretch.moved_s < MOVES * stretch.wall_s:
        return False
    planned_s = seen.travel.here_s + seen.travel.payload_bytes * COLD.copy_s_per_byte
    return stretch.moved_s > MORE * stretch.items * planned_s


def _waits_instead(stretch: Stretch) -> bool:
    """Whether items that computed have turned into others, which wait."""
    idle = stretch.process_s < IDLE * stretch.wall_s  # else a lock may be what they wait for
    return idle and stretch.cpu_s < IDLE * stretch.counted_s


def hindered(
    seen: Observation, threads: int, stretch: Stretch, machine: Machine, cpus: int
) -> Observation | None:
    """What items that compute are if threads at work on them hold each other up; else None.

    A lock of a library's own, brief turns at the GIL, memory that all want to write: whatever it
    is, what so many threads have done tells for how long an item keeps the others from theirs.
    cpus: those of the machine, as the calling process may have fewer.
    """
    most = min(threads, machine.cpus)
    if seen.cpu_s < BUSY * seen.wall_s or most < 2 or stretch.counted < LEAST_ITEMS:
        return None
    each_s = stretch.cpu_s / stretch.counted
    waits = spare(stretch, cpus) and stretch.process_s < HINDERED * most * stretch.wall_s
    found = waits and seen.cpu_s / MORE < each_s < MORE * seen.cpu_s  # else another kind of item
    if not machine.gil and SLOWER * seen.cpu_s < each_s < ANOTHER * seen.cpu_s:  # at full speed
        found = found or stretch.items * seen.wall_s < GAIN * most * stretch.wall_s
    return seen._replace(alone_s=stretch.wall_s / stretch.items) if found else None


def crowded(seen: Observation, threads: int, stretch: Stretch) -> Observation | None:
    """What items that wait are if threads at work on them seem to queue for the GIL; else None.

    They use one CPU between them, and would use more. It is the GIL that they queue for if some CPU
    had nothing to do meanwhile (`spare`).
    """
    if stretch.counted < LEAST_ITEMS or seen.cpu_s > BUSY * seen.wall_s:
        return None
    cpu_s, mean_s = stretch.cpu_s / stretch.counted, stretch.counted_s / stretch.counted
    wall_s = max(cpu_s, seen.wall_s if seen.items else between(seen.wall_s, mean_s), 1e-9)
    wanted, used = threads * cpu_s / wall_s, stretch.process_s / stretch.wall_s
    if wanted < CROWD or not FULL < used < ONE_CPU:
        return None
    alone_s = stretch.wall_s / stretch.items
    return Observation(stretch.items, wall_s, cpu_s, cpu_s, longest_s=mean_s, alone_s=alone_s)


def between(least_s: float, most_s: float) -> float:
    """Seconds an item takes alone, when it is known to be more than one and at most the other.

    At most: beside others it stands in their queues. Far apart, their geometric mean is wrong by the
    least factor.
    """
    return most_s if most_s < 4 * least_s else math.sqrt(least_s * most_s)


def by_others(stretch: Stretch) -> float:
    """CPU seconds that other programs used for each item."""
    return max(0.0, stretch.machine_s - stretch.process_s) / max(1, stretch.items)


def spare(stretch: Stretch, cpus: int) -> bool:
    """Whether there were CPUs that nobody used, out of all `cpus` of the machine."""
    return stretch.machine_s > 0 and cpus - stretch.machine_s / stretch.wall_s > SPARE
