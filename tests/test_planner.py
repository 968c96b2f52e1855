"""The choice: what is true of every plan, and a table of worked examples."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopar._decide.costs import COLD, WARM, Costs
from autopar._decide.planner import (
    HYBRID,
    NEVER,
    PROCESSES,
    SERIAL,
    THREADS,
    WORTH,
    WORTH_S,
    no_travel,
    plan,
    processes_may_gain,
)
from autopar._model import Machine, Observation, Options, Plan, Travel

NS, US, MS, S = 1e-9, 1e-6, 1e-3, 1.0
MB = 1_000_000
ANY, FREE, LOCKED = Options(), Travel(), no_travel("it writes the global 'seen'")

# what is true of every plan

seconds = st.one_of(st.just(0.0), st.floats(1 * NS, 10.0), st.floats(1 * US, 10 * MS))
counts = st.one_of(st.none(), st.integers(0, 100), st.integers(0, 10**7))
travels = st.one_of(
    st.none(),
    st.builds(
        Travel,
        here_s=st.floats(0, 0.1),
        there_s=st.floats(0, 0.1),
        payload_bytes=st.integers(0, 10**9),
    ),
    st.builds(Travel, why_not=st.text(min_size=1)),
)
machines = st.builds(
    Machine,
    cpus=st.integers(1, 1024),
    gil=st.booleans(),
    processes_why_not=st.one_of(st.none(), st.text(min_size=1)),
)
crews = st.builds(  # no process starts sooner than a thread
    COLD._replace,
    crew_start_s=st.floats(WARM.crew_start_s, 10.0),
    worker_start_s=st.floats(WARM.worker_start_s, 1.0),
    message_s=st.floats(10 * US, 10 * MS),
)
options = st.builds(
    Options,
    backend=st.one_of(st.none(), st.sampled_from([SERIAL, THREADS, PROCESSES])),
    workers=st.one_of(st.none(), st.integers(1, 2000)),
)
free_options = st.builds(
    Options,
    backend=st.none(),
    workers=st.one_of(st.none(), st.integers(1, 2000)),
    chunksize=st.none(),
    single=st.booleans(),
)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """What a probe may see: CPU and GIL shares of an item, native helpers included."""
    wall_s = draw(seconds)
    cpu_s = wall_s * draw(st.one_of(st.floats(0, 1), st.floats(1, 64)))
    gil_s = wall_s * draw(st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1)))
    return Observation(draw(st.integers(0, 10**6)), wall_s, cpu_s, gil_s, draw(travels))


def slower(later_s: float, sooner_s: float) -> bool:
    """Whether one prediction is greater than another by more than rounding."""
    return later_s > sooner_s * (1 + 1e-9) + 1e-12


@given(observations(), machines, counts, options, crews)
def test_workers_are_at_least_one_and_at_most_the_items_and_the_limit(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs
) -> None:
    made = plan(seen, machine, left, asked, costs)
    assert made.workers >= 1
    items = max(1, seen.items) if left is None else left
    running = not seen.items  # the first one, beside those left
    assert made.workers <= max(1, items + running)
    assert asked.workers is None or made.workers <= asked.workers


@given(observations(), machines, st.integers(1, 1024), counts, free_options, crews)
def test_more_cpus_never_predict_slower(
    seen: Observation, machine: Machine, more: int, left: int | None, asked: Options, costs: Costs
) -> None:
    larger = machine._replace(cpus=machine.cpus + more)
    small_s = plan(seen, machine, left, asked, costs).predicted_s
    large_s = plan(seen, larger, left, asked, costs).predicted_s
    assert not [name for name in small_s if slower(large_s[name], small_s[name])]
    assert not slower(min(large_s.values()), min(small_s.values()))


@given(observations(), machines, counts, st.integers(2, 2000), st.integers(1, 2000), crews)
def test_more_workers_than_two_never_predict_slower(
    seen: Observation, machine: Machine, left: int | None, few: int, more: int, costs: Costs
) -> None:
    tight_s = plan(seen, machine, left, Options(workers=few), costs).predicted_s
    loose_s = plan(seen, machine, left, Options(workers=few + more), costs).predicted_s
    assert not [name for name in tight_s if slower(loose_s[name], tight_s[name])]


@given(observations(), machines, counts, free_options, crews)
def test_a_machine_without_a_gil_never_chooses_processes(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs
) -> None:
    shared = asked._replace(single=False)
    made = plan(seen, machine._replace(gil=False), left, shared, costs)
    assert made.backend != PROCESSES


@given(observations(), machines, counts, free_options, crews)
def test_items_that_must_not_run_beside_each_other_never_go_to_threads(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs
) -> None:
    made = plan(seen, machine, left, asked._replace(single=True), costs)
    assert made.backend != THREADS


@given(observations(), machines, counts, free_options, st.sampled_from([COLD, WARM]))
def test_where_processes_cannot_gain_they_are_not_chosen_however_little_it_takes_to_travel(
    seen: Observation, machine: Machine, left: int | None, options: Options, costs: Costs
) -> None:
    at_best = plan(seen._replace(travel=FREE), machine, left, options, costs)
    if at_best.backend in (PROCESSES, HYBRID) and machine.cpus > 1:
        assert processes_may_gain(seen, machine, left, costs)


@given(observations(), machines, counts, free_options, st.floats(0, 1))
def test_without_a_gil_its_share_of_an_item_changes_nothing(
    seen: Observation, machine: Machine, left: int | None, asked: Options, share: float
) -> None:
    machine = machine._replace(gil=False)
    held = seen._replace(gil_s=share * seen.wall_s)
    made, other = plan(seen, machine, left, asked, WARM), plan(held, machine, left, asked, WARM)
    assert (made.backend, made.workers) == (other.backend, other.workers)
    assert made.predicted_s == other.predicted_s


@given(observations(), machines, counts, free_options, crews, st.floats(0, 10))
def test_a_dearer_start_never_makes_processes_look_better(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs, more: float
) -> None:
    dearer = costs._replace(crew_start_s=costs.crew_start_s + more)
    before, after = (plan(seen, machine, left, asked, cost) for cost in (costs, dearer))
    assert not slower(before.predicted_s[PROCESSES], after.predicted_s[PROCESSES])
    assert after.backend != PROCESSES or before.backend == PROCESSES
    assert after.predicted_s[THREADS] == before.predicted_s[THREADS]


@given(observations(), machines, counts, free_options, crews)
def test_a_job_that_may_not_travel_never_goes_to_processes(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs
) -> None:
    for stays in (None, LOCKED):
        made = plan(seen._replace(travel=stays), machine, left, asked, costs)
        assert made.backend != PROCESSES
        assert made.predicted_s[PROCESSES] == NEVER


@given(observations(), machines, counts, free_options, crews)
def test_processes_that_cannot_run_here_are_never_chosen(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs
) -> None:
    machine = machine._replace(processes_why_not="this system has no os.fork")
    made = plan(seen, machine, left, asked, costs)
    assert made.backend != PROCESSES
    assert made.predicted_s[PROCESSES] == NEVER


@given(
    observations(), machines, counts, options, crews, st.sampled_from([SERIAL, THREADS, PROCESSES])
)
def test_the_backend_asked_for_is_obeyed(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs, name: str
) -> None:
    made = plan(seen, machine, left, asked._replace(backend=name), costs)
    assert made.backend == name
    assert name in made.because


@given(observations(), machines, counts, free_options, crews)
def test_every_strategy_is_predicted_and_the_choice_is_close_to_the_least(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs
) -> None:
    made = plan(seen, machine, left, asked, costs)
    assert set(made.predicted_s) == {SERIAL, THREADS, PROCESSES, HYBRID}
    assert all(cost_s >= 0 for cost_s in made.predicted_s.values())
    chosen_s, least_s = made.predicted_s[made.backend], min(made.predicted_s.values())
    chosen_by_us = asked.backend is None
    near = WORTH * chosen_s <= least_s or chosen_s - least_s <= WORTH_S
    assert not chosen_by_us or near or WORTH**2 * chosen_s <= made.predicted_s[HYBRID]


@given(observations(), machines, counts, free_options, crews)
def test_going_parallel_saves_a_share_and_an_amount_worth_having(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs
) -> None:
    made = plan(seen, machine, left, asked, costs)
    serial_s, chosen_s = made.predicted_s[SERIAL], made.predicted_s[made.backend]
    assert made.backend == SERIAL or (
        chosen_s < WORTH * serial_s and serial_s - chosen_s > WORTH_S and made.workers > 1
    )


@given(observations(), machines, counts, options, crews)
def test_the_reason_is_one_line_that_says_something(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs
) -> None:
    because = plan(seen, machine, left, asked, costs).because
    assert because == because.strip() != ""
    assert len(because.splitlines()) == 1


@given(observations(), machines, free_options, crews)
def test_nothing_left_and_one_item_left_stay_in_the_loop(
    seen: Observation, machine: Machine, asked: Options, costs: Costs
) -> None:
    for left in (0, 1):
        made = plan(seen._replace(items=seen.items + left), machine, left, asked, costs)
        assert (made.backend, made.workers) == (SERIAL, 1)


@given(observations(), machines, free_options, crews)
def test_an_unknown_length_is_planned_as_if_as_much_were_left_as_is_done(
    seen: Observation, machine: Machine, asked: Options, costs: Costs
) -> None:
    unknown = plan(seen, machine, None, asked, costs)
    assert unknown == plan(seen, machine, max(1, seen.items), asked, costs)


@given(observations(), machines, st.integers(0, 10**7), options, crews)
def test_an_item_that_has_not_ended_is_planned_for_as_one_more_and_twice_as_long(
    seen: Observation, machine: Machine, left: int, chosen: Options, costs: Costs
) -> None:
    running = seen._replace(items=0)
    wall_s, cpu_s, gil_s = 2 * seen.wall_s, 2 * seen.cpu_s, 2 * seen.gil_s
    ended = seen._replace(items=1, wall_s=wall_s, cpu_s=cpu_s, gil_s=gil_s)
    one = plan(running, machine, left, chosen, costs)
    other = plan(ended, machine, left + 1 if left else 0, chosen, costs)  # it is left itself
    assert (one.backend, one.workers) == (other.backend, other.workers)
    assert one.predicted_s == other.predicted_s
    assert one.observation == running


@given(observations(), machines, counts, free_options, crews)
def test_a_plan_is_a_function_of_its_arguments_alone(
    seen: Observation, machine: Machine, left: int | None, asked: Options, costs: Costs
) -> None:
    made = plan(seen, machine, left, asked, costs)
    assert made == plan(seen, machine, left, asked, costs)
    assert made.observation == seen


# what the items do, for the table


def waits(wall_s: float, cpu_s: float = 0.0) -> Observation:
    """Items that wait, but for `cpu_s` of Python code."""
    return Observation(10, wall_s, cpu_s, cpu_s)


def python(wall_s: float, travel: Travel | None = FREE) -> Observation:
    """Items of pure Python: on the CPU, with the GIL, all the time."""
    return Observation(10, wall_s, wall_s, wall_s, travel)


def native(wall_s: float) -> Observation:
    """Items that compute with the GIL released, as zlib and hashlib do."""
    return Observation(10, wall_s, wall_s, 0.02 * wall_s)


def inside(wall_s: float, cpus: float) -> Observation:
    """Items that already keep several CPUs busy, as a BLAS with its own threads does."""
    return Observation(10, wall_s, cpus * wall_s, 0.01 * wall_s, FREE)


ONE, TWO, MANY, HUGE = Machine(1), Machine(2), Machine(64), Machine(1024)
NO_GIL, NO_GIL_MANY = Machine(2, gil=False), Machine(64, gil=False)
NO_PROCESSES = Machine(2, processes_why_not="this system has no os.fork")

TABLE: list[tuple[str, Observation, Machine, int | None, Options, Costs, str, tuple[int, int]]] = [
    # items that wait
    ("400 items that wait 5 ms, two CPUs: as many threads as are polite",
     waits(5 * MS), TWO, 400, ANY, COLD, THREADS, (64, 100)),
    ("the same on one CPU: waiting needs none",
     waits(5 * MS), ONE, 400, ANY, COLD, THREADS, (64, 100)),
    ("the same on 1024 CPUs: the other side is no wider for it",
     waits(5 * MS), HUGE, 400, ANY, COLD, THREADS, (64, 400)),
    ("the same without a GIL",
     waits(5 * MS), NO_GIL, 400, ANY, COLD, THREADS, (64, 100)),
    ("the same when the caller allows 8 workers",
     waits(5 * MS), TWO, 400, Options(workers=8), COLD, THREADS, (8, 8)),
    ("the same when the caller allows 500: more than 140 cost more to start than they save",
     waits(5 * MS), TWO, 400, Options(workers=500), COLD, THREADS, (120, 155)),
    ("the same when the caller allows one: there is no choice",
     waits(5 * MS), TWO, 400, Options(workers=1), COLD, SERIAL, (1, 1)),
    ("five items that wait 50 ms: a thread each",
     waits(50 * MS), TWO, 5, ANY, COLD, THREADS, (5, 5)),
    ("two long waits: a thread each",
     waits(2 * S), TWO, 2, ANY, COLD, THREADS, (2, 2)),
    ("a thousand waits of 1 us: over before threads are up",
     waits(1 * US), TWO, 1000, ANY, COLD, SERIAL, (1, 1)),
    ("waits of 5 ms of unknown number, ten done: for ten more",
     waits(5 * MS), TWO, None, ANY, COLD, THREADS, (10, 10)),
    ("items that wait 9 of 10 ms, the rest Python: threads, as many as share one GIL",
     waits(10 * MS, 1 * MS), TWO, 400, ANY, COLD, THREADS, (9, 20)),
    ("waits of 1 s that may also travel, 64 CPUs: still polite threads, not 256 processes",
     waits(1 * S)._replace(travel=FREE), MANY, 1000, ANY, COLD, THREADS, (100, 100)),
    ("waits with much Python in them, 256 CPUs: no more than is polite, by any means",
     waits(100 * MS, 30 * MS)._replace(travel=FREE), Machine(256), 2000, ANY, WARM, THREADS,
     (3, 100)),
    # items that hold the GIL while they wait (a C library that does not let go)
    ("200 items that sleep 5 ms with the GIL: only processes overlap them",
     Observation(10, 5 * MS, 0.0, 5 * MS, FREE), TWO, 200, ANY, COLD, PROCESSES, (2, 8)),
    # pure Python
    ("300 items of 3 ms of pure Python on two CPUs: two processes",
     python(3 * MS), TWO, 300, ANY, COLD, PROCESSES, (2, 2)),
    ("the same on a machine without a GIL: two threads",
     python(3 * MS), NO_GIL, 300, ANY, COLD, THREADS, (2, 2)),
    ("the same on one CPU: nothing helps",
     python(3 * MS), ONE, 300, ANY, COLD, SERIAL, (1, 1)),
    ("the same where the function writes globals: it stays",
     python(3 * MS, LOCKED), TWO, 300, ANY, COLD, SERIAL, (1, 1)),
    ("the same where processes cannot run",
     python(3 * MS), NO_PROCESSES, 300, ANY, COLD, SERIAL, (1, 1)),
    ("a function that writes globals, without a GIL: threads share them",
     python(3 * MS, LOCKED), NO_GIL, 300, ANY, COLD, THREADS, (2, 2)),
    ("10 000 items of 3 ms on 64 CPUs: a process each CPU",
     python(3 * MS), MANY, 10_000, ANY, COLD, PROCESSES, (64, 64)),
    ("300 items of 3 ms on 64 CPUs, cold: fewer, since each costs its start",
     python(3 * MS), MANY, 300, ANY, COLD, PROCESSES, (12, 40)),
    ("the same without a GIL: threads are cheaper to start, so all of them",
     python(3 * MS), NO_GIL_MANY, 300, ANY, COLD, THREADS, (64, 64)),
    ("a million items of 10 ms on 1024 CPUs: all of them",
     python(10 * MS), HUGE, 10**6, ANY, COLD, PROCESSES, (900, 1024)),
    ("two items of 2 s: a process each",
     python(2 * S), TWO, 2, ANY, COLD, PROCESSES, (2, 2)),
    ("two items of 2 s on 64 CPUs: no more processes than items",
     python(2 * S), MANY, 2, ANY, COLD, PROCESSES, (2, 2)),
    ("two items of 2 ms: not worth a crew, cold or warm",
     python(2 * MS), TWO, 2, ANY, WARM, SERIAL, (1, 1)),
    ("100 000 items of 40 ns: 4 ms of work",
     python(40 * NS), TWO, 100_000, ANY, COLD, SERIAL, (1, 1)),
    ("a million items of 200 ns without a GIL: what threads share costs as much",
     python(200 * NS, None), NO_GIL, 1_000_000, ANY, COLD, SERIAL, (1, 1)),
    ("a million items of 2 us without a GIL",
     python(2 * US, None), NO_GIL, 1_000_000, ANY, COLD, THREADS, (2, 2)),
    ("the caller asks for threads all the same",
     python(3 * MS), TWO, 300, Options(backend=THREADS), COLD, THREADS, (2, 2)),
    ("the caller asks for the loop all the same",
     python(3 * MS), TWO, 300, Options(backend=SERIAL), COLD, SERIAL, (1, 1)),
    # cold crews and warm ones
    ("35 ms of Python with a cold crew: done before it is up",
     python(1 * MS), TWO, 35, ANY, COLD, SERIAL, (1, 1)),
    ("35 ms of Python with a warm crew: two processes",
     python(1 * MS), TWO, 35, ANY, WARM, PROCESSES, (2, 2)),
    ("200 ms of Python with a cold crew: worth it",
     python(1 * MS), TWO, 200, ANY, COLD, PROCESSES, (2, 2)),
    ("4 ms of Python with a warm crew: not worth waking it",
     python(1 * MS), TWO, 4, ANY, WARM, SERIAL, (1, 1)),
    # native code that lets go of the GIL
    ("50 items of 20 ms of zlib: two threads",
     native(20 * MS), TWO, 50, ANY, COLD, THREADS, (2, 2)),
    ("the same on 64 CPUs: as many threads as share what little GIL they need",
     native(20 * MS), MANY, 500, ANY, COLD, THREADS, (40, 64)),
    ("the same on one CPU",
     native(20 * MS), ONE, 50, ANY, COLD, SERIAL, (1, 1)),
    ("50 items that are parallel inside already: the loop",
     inside(20 * MS, 2), TWO, 50, ANY, COLD, SERIAL, (1, 1)),
    ("items that keep 4 of 64 CPUs busy: about 16 threads of them",
     inside(20 * MS, 4), MANY, 500, ANY, COLD, THREADS, (14, 17)),
    ("native code in short calls, half of it under the GIL: processes",
     Observation(10, 5 * MS, 5 * MS, 3.5 * MS, FREE), TWO, 400, ANY, COLD, PROCESSES, (2, 2)),
    # what travelling costs
    ("200 items of 10 ms that return 64 MB each: the way costs more than the work",
     python(10 * MS, Travel(5 * MS, 5 * MS, 64 * MB)), TWO, 200, ANY, COLD, SERIAL, (1, 1)),
    ("20 items of 2 s that return 64 MB each: the way is a small part",
     python(2 * S, Travel(5 * MS, 5 * MS, 64 * MB)), TWO, 20, ANY, COLD, PROCESSES, (2, 2)),
    ("items of 10 us that cost 30 us to pickle",
     python(10 * US, Travel(30 * US, 30 * US, 2000)), TWO, 10**6, ANY, WARM, SERIAL, (1, 1)),
    ("64 CPUs and 10 ms items that cost 2 ms to pickle: as many as can be fed",
     python(10 * MS, Travel(2 * MS, 2 * MS, 0)), MANY, 10_000, ANY, COLD, PROCESSES, (6, 6)),
    # what is left
    ("nothing left", python(3 * MS), TWO, 0, ANY, COLD, SERIAL, (1, 1)),
    ("one item left", python(3 * S), TWO, 1, ANY, COLD, SERIAL, (1, 1)),
    ("nothing measured yet but a first item of 1 s that still runs, 30 left",
     Observation(0, 1 * S, 1 * S, 1 * S, FREE), TWO, 30, ANY, COLD, PROCESSES, (2, 2)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "machine", "left", "asked", "costs", "backend", "workers"),
    [pytest.param(*row[1:], id=row[0]) for row in TABLE],
)
def test_the_choice_is(
    seen: Observation,
    machine: Machine,
    left: int | None,
    asked: Options,
    costs: Costs,
    backend: str,
    workers: tuple[int, int],
) -> None:
    made = plan(seen, machine, left, asked, costs)
    assert made.backend == backend, made
    fewest, most = workers
    assert fewest <= made.workers <= most, made


REASONS: list[tuple[Plan, list[str]]] = [
    (plan(waits(5 * MS), TWO, 400, ANY, COLD), ["wait 100%", "5 ms", "threads", "400 items"]),
    (plan(python(3 * MS), TWO, 300, ANY, COLD), ["compute", "holding the GIL", "processes"]),
    (plan(python(3 * MS), NO_GIL, 300, ANY, COLD), ["there is no GIL", "threads"]),
    (plan(native(20 * MS), TWO, 50, ANY, COLD), ["outside the GIL", "threads"]),
    (plan(inside(20 * MS, 2), TWO, 50, ANY, COLD), ["already parallel inside", "2.0 CPUs"]),
    (plan(python(3 * MS, LOCKED), TWO, 300, ANY, COLD), ["processes are out", "global 'seen'"]),
    (plan(python(3 * MS), NO_PROCESSES, 300, ANY, COLD), ["cannot run here", "no os.fork"]),
    (plan(python(40 * NS), TWO, 100_000, ANY, COLD), ["4 ms of work", "costs less than starting"]),
    (plan(waits(5 * MS), TWO, 400, Options(workers=1), COLD), ["one worker"]),
    (plan(python(3 * MS), TWO, 9, Options(backend=THREADS), COLD), ["the caller chose threads"]),
]


@pytest.mark.parametrize(("made", "words"), REASONS)
def test_the_reason_names_what_decided(made: Plan, words: list[str]) -> None:
    assert [word for word in words if word not in made.because] == [], made.because


def test_somewhere_between_a_cold_and_a_warm_start_the_choice_turns_once() -> None:
    def backend(crew_start_s: float) -> str:
        costs = WARM._replace(crew_start_s=crew_start_s)
        return plan(python(1 * MS), TWO, 60, ANY, costs).backend

    chosen = [backend(start * MS) for start in range(100)]
    turn = chosen.index(SERIAL)
    assert 0 < turn < 100
    assert chosen == [PROCESSES] * turn + [SERIAL] * (100 - turn)


def test_a_warm_crew_is_worth_less_work_than_a_cold_one() -> None:
    def least(costs: Costs) -> int:
        """The fewest items of 1 ms for which processes are chosen."""
        return next(
            count
            for count in range(1000)
            if plan(python(1 * MS), TWO, count, ANY, costs).backend == PROCESSES
        )

    assert least(WARM) < least(COLD) / 5
    assert least(COLD) < 2 * COLD.crew_start_s / (1 * MS)


@pytest.mark.parametrize("machine", [TWO, HUGE, Machine(100_000), Machine(1024, gil=False)])
@pytest.mark.parametrize("seen", [waits(5 * MS), python(3 * MS), native(20 * MS)])
def test_planning_is_quick_on_the_largest_machine(seen: Any, machine: Machine) -> None:
    took = []
    for _ in range(5):
        began_s = time.thread_time()
        plan(seen, machine, 10**7, Options(workers=10**6), COLD)
        took.append(time.thread_time() - began_s)
    assert min(took) < 20 * MS


def test_a_prediction_is_never_nonsense_for_items_too_quick_to_be_measured() -> None:
    made = plan(Observation(10, 0.0, 0.0, 0.0, FREE), TWO, 10**9, ANY, WARM)
    assert made.backend == SERIAL
    possible_s = [cost_s for name, cost_s in made.predicted_s.items() if name != HYBRID]
    assert all(math.isfinite(cost_s) for cost_s in possible_s)
