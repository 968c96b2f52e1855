"""The choice: seconds that each strategy would still take, and the least of them.

Per item an observation gives W (seconds), C (CPU seconds) and G (seconds holding the GIL). With
N items left on P CPUs, and s_t, g_t, ... the costs of `Costs`:

    serial        N W
    threads(n)    n s_t + N max(W / n, G + g_t, (C + g_t) / P, L)
    processes(p)  m + A W + (N - A) max((W + d) / p_eff, (C + d + h) / P, h)
    hybrid(p, n)  m + B L + (N - B) max((W + c) / n, (G + c) / p, (C + O + c + h) / P, h)

where A = min(N, t_s / W) items are run by the caller's thread while the crew starts, t_s is how
long that takes, m what a chunk's way costs, h what moving an item and its result costs here, d
what it costs there, p_eff = min(p, P W / C), and c = d + l with l for a chunk's way within a worker
of many threads. A hybrid has n threads in p processes; B = min(N, t_s / L) items are run by the
threads that it takes over from, and its t_s is longer for their sake. O is what other programs used
meanwhile: a server on the same machine has as much to do for each item, however it is asked. L is
what threads at work have shown that an item holds up others for. Without a GIL the first g_t and G
are 0, and the second g_t is what threads share. The width of each is the one that makes it least. A
first item that has not ended yet is taken to be half done: of what lasts for nobody knows how long,
the longer has it run, the longer it goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from .._model import Machine, Observation, Options, Plan, Travel
from .costs import Costs
from .width import POLITE

SERIAL, THREADS, PROCESSES, HYBRID = "serial", "threads", "processes", "hybrid"

WORTH = 0.85  # go parallel only for a prediction below this share of the loop's...
AS_GOOD = 1.1  # threads are preferred up to this many times: they move nothing, and share caches
WORTH_S = 2e-3  # ...that saves at least this many seconds
WAITS = 0.4  # items that wait for a larger share of their time wait for somebody to be polite to
COMPUTES = 0.7  # items that use a CPU for more of their time than this get one each
HALF = 0.5  # items that use a CPU for less than this share of their time wait
TASK_S = 20e-3  # tasks for processes are meant to run at most this long
NEVER = math.inf


def plan(
    seen: Observation, machine: Machine, left: int | None, options: Options, costs: Costs
) -> Plan:
    """The least costly way to run what is left.

    left: items not yet given out; None when unknown, which is planned for as if as much were
    left as has been done (so that a wrong guess costs at most as much again).
    """
    told, seen = seen, seen if seen.items else _twice(seen)
    count = expected(seen, left)
    limit = max(1, min(count, options.workers or _most(seen, machine)))
    threads, threads_s = (1, NEVER)
    if not options.single:
        threads, threads_s = _threads(seen, machine, count, limit, costs)
    apart = options.single or options.careful
    procs, procs_s = _processes(seen, machine, count, limit, costs, alone=apart)
    split, lanes, hybrid_s = (1, 1, NEVER)
    if options.hybrid and not apart:
        split, lanes, hybrid_s = _hybrid(seen, machine, count, limit, costs)
    serial_s = count * seen.wall_s
    predicted = {SERIAL: serial_s, THREADS: threads_s, PROCESSES: procs_s, HYBRID: hybrid_s}
    workers = {SERIAL: 1, THREADS: threads, PROCESSES: procs, HYBRID: lanes}
    if options.backend in predicted:
        name = options.backend
        because = f"the caller chose {name}"
    else:
        name = _cheapest(predicted)
        because = " ".join(_reason(name, told, machine, count, predicted, limit).split())
    return Plan(name, workers[name], because, predicted, told, split if name == HYBRID else 0)


def _most(seen: Observation, machine: Machine) -> int:
    """Items in flight at most, where the caller has not said how many."""
    waits = seen.wall_s - seen.cpu_s > WAITS * seen.wall_s
    return POLITE if waits else max(POLITE, machine.cpus)


def _twice(seen: Observation) -> Observation:
    """An item of the same nature, twice as long."""
    return seen._replace(wall_s=2 * seen.wall_s, cpu_s=2 * seen.cpu_s, gil_s=2 * seen.gil_s)


def expected(seen: Observation, left: int | None) -> int:
    """Items assumed to be left; a first one that has not ended is, beside others."""
    left = max(1, seen.items) if left is None else left
    return left + 1 if left and not seen.items else left


def processes_may_gain(seen: Observation, machine: Machine, left: int | None, costs: Costs) -> bool:
    """Whether processes could be chosen at all, whatever it takes to travel there."""
    if machine.processes_why_not or machine.cpus < 2:
        return False
    loop_s = expected(seen, left) * (seen if seen.items else _twice(seen)).wall_s
    return loop_s > WORTH_S and costs.crew_start_s < WORTH * loop_s


def _cheapest(predicted: dict[str, float]) -> str:
    best = THREADS if predicted[THREADS] <= AS_GOOD * predicted[PROCESSES] else PROCESSES
    if predicted[HYBRID] < WORTH * predicted[best]:  # it has the most that can go wrong
        best = HYBRID
    serial_s = predicted[SERIAL]
    if predicted[best] < WORTH * serial_s and serial_s - predicted[best] > WORTH_S:
        return best
    return SERIAL


def _threads(
    seen: Observation, machine: Machine, count: int, limit: int, costs: Costs
) -> tuple[int, float]:
    """The best number of threads and the seconds they need."""
    switch_s = costs.gil_switch_s if machine.gil else costs.beside_s  # most of it is spent on a CPU
    held_s = seen.gil_s + switch_s if machine.gil else 0.0
    bound_s = max(held_s, seen.alone_s, (seen.cpu_s + switch_s) / machine.cpus)

    def seconds(threads: int) -> float:
        return threads * costs.thread_start_s + count * max(seen.wall_s / threads, bound_s)

    return _least(seconds, limit)


def _processes(
    seen: Observation, machine: Machine, count: int, limit: int, costs: Costs, *, alone: bool
) -> tuple[int, float]:
    """The best number of processes and the seconds they need; never where they cannot go.

    alone: items must not share a process.
    """
    travel = seen.travel
    if travel is None or travel.why_not or machine.processes_why_not:
        return 1, NEVER
    wall_s, busy_s = max(seen.wall_s, 1e-9), max(seen.cpu_s, 1e-9)
    if max(busy_s, seen.gil_s * machine.gil) <= HALF * wall_s and not alone:
        return 1, NEVER  # they wait: in threads, or in a hybrid once these have shown the need
    most_at_once = machine.cpus * wall_s / busy_s
    if busy_s > COMPUTES * wall_s:
        most_at_once = min(most_at_once, machine.cpus)
    here_s, there_s = _ways(travel, costs)
    bound_s = max(here_s, (busy_s + there_s + here_s) / machine.cpus)

    def seconds(procs: int) -> float:
        start_s = costs.crew_start_s + procs * costs.worker_start_s
        item_s = max((wall_s + there_s) / min(procs, most_at_once), bound_s)
        before = min(count, start_s / wall_s)  # at W each, but a dear start is never a gain
        return costs.message_s + before * max(wall_s, item_s) + (count - before) * item_s

    # More than CPUs only where no threads are to be had: each holds memory, and loads the function.
    most = 4 * machine.cpus if alone else machine.cpus
    return _least(seconds, max(1, min(limit, math.ceil(most_at_once), most)))


def _hybrid(
    seen: Observation, machine: Machine, count: int, limit: int, costs: Costs
) -> tuple[int, int, float]:
    """The best number of processes, of threads in all of them, and the seconds they need.

    Only for items that wait, and where threads have shown that the GIL is what holds them up: how
    much of what they compute is under it nobody can see before.
    """
    travel, wall_s = seen.travel, max(seen.wall_s, 1e-9)
    if travel is None or travel.why_not or machine.processes_why_not or not machine.gil:
        return 1, 1, NEVER
    if not seen.alone_s or seen.cpu_s > HALF * wall_s:
        return 1, 1, NEVER
    together = max(1.0, min(TASK_S / wall_s, count / (2 * POLITE)))  # items that travel as one
    here_s, there_s = (way_s + costs.message_s / together for way_s in _ways(travel, costs))
    more_s = there_s + costs.lane_s / together
    best, best_item_s = (1, 1, NEVER), NEVER
    for split in _splits(min(machine.cpus, limit // 2)):
        busy_s = seen.cpu_s + seen.others_s + more_s + here_s
        bound_s = max((seen.gil_s + more_s) / split, busy_s / machine.cpus, here_s)
        start_s = costs.takeover(machine.cpus) + split * costs.worker_start_s

        for width in _widths(limit):
            if width < 2 * split:
                continue
            item_s = max((wall_s + more_s) / width, bound_s)
            before = min(count, (start_s + width / split * costs.lane_start_s) / seen.alone_s)
            took_s = costs.message_s + before * seen.alone_s + (count - before) * item_s
            if took_s < best[2]:
                best, best_item_s = (split, width, took_s), item_s
    if not seen.apart_s or best[2] == NEVER:
        return best
    # What one has shown is worth more than what was thought of it.
    return best[0], best[1], best[2] * seen.apart_s / best_item_s


def _ways(travel: Travel, costs: Costs) -> tuple[float, float]:
    """Seconds that moving an item and its result costs here, and there."""
    copy_s = travel.payload_bytes * costs.copy_s_per_byte
    return travel.here_s + copy_s, travel.there_s + copy_s


def _splits(most: int) -> Iterator[int]:
    """The numbers of processes that are tried."""
    split = 2
    while split <= most:
        yield split
        split = max(split + 1, split * 3 // 2)


def _least(seconds: Callable[[int], float], limit: int) -> tuple[int, float]:
    """The width up to `limit` that needs the fewest seconds, and those."""
    best, best_s = 1, NEVER
    for width in _widths(limit):
        took_s = seconds(width)
        if took_s < best_s:
            best, best_s = width, took_s
    return best, best_s


def _widths(limit: int) -> Iterator[int]:
    """The widths up to `limit` that are tried: all to 128, then every tenth, so planning is quick.

    The grid does not depend on `limit`: a higher limit only adds to it, never predicts slower.
    """
    yield from range(min(2, limit), min(limit, 128) + 1)
    width = 140
    while width <= limit:
        yield width
        width = width * 11 // 10


def _reason(
    name: str,
    seen: Observation,
    machine: Machine,
    count: int,
    predicted: dict[str, float],
    limit: int,
) -> str:
    """Why, in one sentence, with the numbers that decided."""
    nature = describe(seen, machine)
    if name == SERIAL:
        return f"{nature}; {_why_serial(seen, machine, predicted, limit)}"
    gain = predicted[SERIAL] / max(predicted[name], 1e-9)
    stays = seen.travel.why_not if name == THREADS and seen.travel else None
    aside = f" (processes are out: {stays})" if stays else ""
    needs = f"{name} should need {_s(predicted[name])} for {count} items"
    return f"{nature}; {needs}, {gain:.1f} times less than the loop{aside}"


def describe(seen: Observation, machine: Machine) -> str:
    """What the items do, in words, with the shares that tell."""
    wall_s = max(seen.wall_s, 1e-9)
    length = _s(wall_s) if seen.items else f"more than {_s(wall_s)}"
    waits = max(0.0, 1 - seen.cpu_s / wall_s)
    held = seen.gil_s / wall_s
    if waits > WAITS and held < 0.6:
        return f"items wait {waits:.0%} of their {length}"
    if seen.cpu_s > 1.3 * wall_s:
        return f"items of {length} are already parallel inside ({seen.cpu_s / wall_s:.1f} CPUs)"
    if seen.alone_s > 0.5 * wall_s:
        return f"items compute for {length} and threads that run them hold each other up"
    if not machine.gil:
        return f"items compute for {length} and there is no GIL"
    if held > 0.33:
        return f"items compute for {length}, {min(held, 1):.0%} of it holding the GIL"
    return f"items compute for {length} outside the GIL"


def _why_serial(
    seen: Observation, machine: Machine, predicted: dict[str, float], limit: int
) -> str:
    serial_s = predicted[SERIAL]
    if limit < 2:
        return "one worker is all there may be"
    if serial_s < WORTH_S + WORTH * serial_s:
        return f"{_s(serial_s)} of work costs less than starting workers"
    if seen.travel and seen.travel.why_not:
        return f"threads would not help and processes are out: {seen.travel.why_not}"
    if machine.processes_why_not and predicted[PROCESSES] == NEVER:
        return f"threads would not help and processes cannot run here: {machine.processes_why_not}"
    best_s = min(predicted[THREADS], predicted[PROCESSES])
    return f"the loop needs {_s(serial_s)} and the best of the others {_s(best_s)}"


def _s(seconds: float) -> str:
    """Seconds for people."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} us" if seconds >= 1e-6 else f"{seconds * 1e9:.3g} ns"


def no_travel(why: str) -> Travel:
    """The travel of a job that must stay in shared memory."""
    return Travel(why_not=why)
