"""The choice: seconds that each strategy would still take, and the least of them.

Per item an observation gives W (seconds), C (CPU seconds) and G (seconds holding the GIL). With
N items left on P CPUs, and s_t, g_t, ... the costs of `Costs`:

    serial        N W
    threads(n)    n s_t + N max(W / n, G + g_t, C / P)
    processes(p)  m + A W + (N - A) max((W + d) / p_eff, d)    p_eff = min(p, P W / C)

where A = min(N, t_s / W) items are run by the caller's thread while the crew starts, t_s is how
long that takes, m what a chunk's way costs, and d what moving an item and its result does. The
width of each is the one that makes it least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from .._model import Machine, Observation, Options, Plan, Travel
from .costs import Costs
from .width import POLITE

SERIAL, THREADS, PROCESSES = "serial", "threads", "processes"

WORTH = 0.85  # go parallel only for a prediction below this share of the loop's...
WORTH_S = 2e-3  # ...that saves at least this many seconds
COMPUTES = 0.7  # items that use a CPU for more of their time than this get one each
NEVER = math.inf


def plan(
    seen: Observation, machine: Machine, left: int | None, options: Options, costs: Costs
) -> Plan:
    """The least costly way to run what is left.

    left: items not yet given out; None when unknown, which is planned for as if as much were
    left as has been done (so that a wrong guess costs at most as much again).
    """
    count = expected(seen, left)
    limit = max(1, min(count, options.workers or max(POLITE, machine.cpus)))
    threads, threads_s = _threads(seen, machine, count, limit, costs)
    procs, procs_s = _processes(seen, machine, count, limit, costs)
    serial_s = count * seen.wall_s
    predicted = {SERIAL: serial_s, THREADS: threads_s, PROCESSES: procs_s}
    workers = {SERIAL: 1, THREADS: threads, PROCESSES: procs}
    if options.backend in predicted:
        name = options.backend
        because = f"the caller chose {name}"
    else:
        name = _cheapest(predicted)
        because = " ".join(_reason(name, seen, machine, count, predicted, limit).split())
    return Plan(name, workers[name], because, predicted, seen)


def expected(seen: Observation, left: int | None) -> int:
    """Items assumed to be left."""
    return max(1, seen.items) if left is None else left


def _cheapest(predicted: dict[str, float]) -> str:
    best = min((THREADS, PROCESSES), key=lambda name: predicted[name])
    serial_s = predicted[SERIAL]
    if predicted[best] < WORTH * serial_s and serial_s - predicted[best] > WORTH_S:
        return best
    return SERIAL


def _threads(
    seen: Observation, machine: Machine, count: int, limit: int, costs: Costs
) -> tuple[int, float]:
    """The best number of threads and the seconds they need."""
    held_s = seen.gil_s + costs.gil_switch_s if machine.gil else 0.0
    bound_s = max(held_s, seen.cpu_s / machine.cpus)

    def seconds(threads: int) -> float:
        return threads * costs.thread_start_s + count * max(seen.wall_s / threads, bound_s)

    return _least(seconds, limit)


def _processes(
    seen: Observation, machine: Machine, count: int, limit: int, costs: Costs
) -> tuple[int, float]:
    """The best number of processes and the seconds they need; never where they cannot go."""
    travel = seen.travel
    if travel is None or travel.why_not or machine.processes_why_not:
        return 1, NEVER
    wall_s, busy_s = max(seen.wall_s, 1e-9), max(seen.cpu_s, 1e-9)
    most_at_once = machine.cpus * wall_s / busy_s
    if busy_s > COMPUTES * wall_s:
        most_at_once = min(most_at_once, machine.cpus)
    move_s = travel.pack_s + travel.payload_bytes * costs.copy_s_per_byte

    def seconds(procs: int) -> float:
        start_s = costs.crew_start_s + procs * costs.worker_start_s
        item_s = max((wall_s + move_s) / min(procs, most_at_once), move_s)
        alone = min(count, start_s / wall_s)  # at W each, but a dear start is never a gain
        return costs.message_s + alone * max(wall_s, item_s) + (count - alone) * item_s

    return _least(seconds, max(1, min(limit, math.ceil(most_at_once), 4 * machine.cpus)))


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
    if waits > 0.4 and held < 0.6:
        return f"items wait {waits:.0%} of their {length}"
    if seen.cpu_s > 1.3 * wall_s:
        return f"items of {length} are already parallel inside ({seen.cpu_s / wall_s:.1f} CPUs)"
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
