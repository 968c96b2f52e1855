"""A call that turns out to be, or becomes, something else than it was planned for."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import work
from autopar import Observation, Report, auto_map, observe
from autopar._decide.costs import WARM
from autopar._decide.doubt import (
    LEAST_ITEMS,
    Stretch,
    by_others,
    crowded,
    doubtful,
    grown_heavy,
    hindered,
    spare,
)
from autopar._decide.planner import plan
from autopar._engine.call import Call
from autopar._engine.director import Director, Glance
from autopar._engine.grounds import Grounds
from autopar._engine.knowledge import Knowledge
from autopar._model import Job, Machine, Options, Plan, Travel
from autopar._observe.watch import Subject
from autopar._platform import gil_enabled
from autopar.backends.threads import ThreadCrew
from conftest import CPU_ALONE, misled
from faulty import Marks, mark

SUITS = {  # what leaves a mark of each item computes a little, too
    "computes": {CPU_ALONE, "hybrid"},  # its processes use all CPUs, too
    "waits": {"threads", "hybrid"},
    "trivial": {"serial"},
}
LASTS_S = {"computes": 0.003, "waits": 0.005, "trivial": 0.0}


class Changing:
    """A function that does one thing for its first items, and then another; it counts each."""

    def __init__(self, marks: Marks, first: str, then: str, change_at: int) -> None:
        self.path = marks.path
        self.first, self.then, self.change_at = first, then, change_at

    def __call__(self, x: int) -> int:
        nature = self.first if x < self.change_at else self.then
        if nature == "computes":
            work.spin(LASTS_S[nature])
        elif nature == "waits":
            time.sleep(LASTS_S[nature])
        mark(self.path, x, ended=True)
        return x


def watched(fn: Any, items: Any, **options: Any) -> Report:
    """How a call ran whose results are its items."""
    with observe() as seen:
        assert auto_map(fn, items, **options) == [*items]
    return seen.reports[0]


CHANGES = [
    ("computes", "waits"),
    ("waits", "computes"),
    ("trivial", "waits"),
    ("trivial", "computes"),
]


@pytest.mark.parametrize(("first", "then"), CHANGES)
def test_a_call_follows_its_items_when_their_nature_changes(
    first: str, then: str, tmp_path: Path
) -> None:
    before, after = (20_000 if first == "trivial" else 200), (1200 if then == "computes" else 600)

    def trial() -> Report | None:
        marks = Marks(tmp_path / "marks", before + after)
        # A hundred threads that compute hold up whoever looks at them for half a second each time.
        report = watched(Changing(marks, first, then, before), range(before + after), workers=16)
        assert marks.ended() == [1] * (before + after)
        begins_well = first == "trivial" or report.plans[0].backend in SUITS[first]
        follows = report.backend in SUITS[then]
        side_by_side = then != "waits" or report.workers > 2  # more than there are CPUs
        return None if begins_well and follows and side_by_side else report

    assert not misled(trial)


class Growing:
    """A function whose results become large; it counts each item."""

    def __init__(self, marks: Marks, change_at: int) -> None:
        self.path, self.change_at = marks.path, change_at

    def __call__(self, x: int) -> bytes:
        work.spin(0.002)
        mark(self.path, x, ended=True)
        return bytes(x if x < self.change_at else 8_000_000)


def test_a_call_stops_moving_results_that_have_become_large(tmp_path: Path) -> None:
    """They take longer to move than to make: ten times as long as the loop, if nobody looked."""

    def trial() -> Report | None:
        marks = Marks(tmp_path / "marks", 350)
        with observe() as seen:
            sizes = [len(result) for result in auto_map(Growing(marks, 150), range(350))]
        assert sizes == [*range(150), *[8_000_000] * 200]
        assert marks.ended() == [1] * 350
        report = seen.reports[0]
        moved = report.plans[0].backend == "processes" and len(report.plans) > 1
        return None if moved or CPU_ALONE != "processes" else report

    assert not misled(trial)


WAITING = Observation(items=10, wall_s=0.01, cpu_s=0.0002, gil_s=0.0002)
NATIVE = Observation(items=10, wall_s=0.01, cpu_s=0.01, gil_s=0.0001)
PYTHON = Observation(items=10, wall_s=0.01, cpu_s=0.01, gil_s=0.01)
MIXED = Observation(items=10, wall_s=0.01, cpu_s=0.002, gil_s=0.002)

AS_PLANNED = [
    ("threads", WAITING, Stretch(0.1, 320, 3.2, 0.064, 0.07)),
    ("threads", MIXED, Stretch(0.1, 50, 3.2, 0.1, 0.1)),  # the GIL is what bounds them
    ("threads", NATIVE, Stretch(0.1, 20, 0.2, 0.2, 0.2)),
    ("processes", PYTHON, Stretch(0.1, 20, 0.2, 0.2, 0.005, counted=20)),
    ("processes", PYTHON, Stretch(0.1, 10, 0.2, 0.1, 0.005, counted=10)),  # on a busy machine
    ("processes", MIXED, Stretch(0.1, 80, 0.8, 0.16, 0.005, counted=80)),
    ("threads", WAITING, Stretch(0.1, 320, 3.2, 0.064, 0.1)),  # beside a busy thread of others
]
OTHERWISE = [
    ("threads", WAITING, Stretch(0.1, 10, 3.2, 0.1, 0.1)),
    ("threads", WAITING, Stretch(0.5, 20, 10.0, 0.06, 0.1)),  # on a busy machine
    ("threads", NATIVE, Stretch(0.1, 10, 0.2, 0.1, 0.1)),
    ("processes", PYTHON, Stretch(0.1, 20, 0.2, 0.002, 0.005, counted=20)),
    ("processes", PYTHON._replace(cpu_s=0.006), Stretch(0.1, 40, 0.4, 0.004, 0.005, counted=40)),
    ("processes", MIXED, Stretch(0.1, 80, 0.8, 0.008, 0.005, counted=80)),
    ("processes", PYTHON, Stretch(0.1, 4000, 0.04, 0.04, 0.09, counted=4000)),
    ("processes", PYTHON, Stretch(1.0, 20, 2.0, 2.0, 0.01, counted=20)),
]


@pytest.mark.parametrize(("backend", "seen", "stretch"), AS_PLANNED)
def test_what_goes_as_planned_is_not_doubted(
    backend: str, seen: Observation, stretch: Stretch
) -> None:
    assert not doubtful(seen, backend, stretch, gil=True)


@pytest.mark.parametrize(("backend", "seen", "stretch"), OTHERWISE)
def test_what_goes_otherwise_is_doubted(backend: str, seen: Observation, stretch: Stretch) -> None:
    assert doubtful(seen, backend, stretch, gil=True)


def test_that_an_item_which_had_not_ended_went_on_is_not_doubted() -> None:
    """Another look would see the beginning of another one, and no more."""
    long = Stretch(1.0, 20, 2.0, 2.0, 0.01, counted=20)
    assert doubtful(PYTHON, "processes", long, gil=True)
    assert not doubtful(PYTHON._replace(items=0), "processes", long, gil=True)


@pytest.mark.parametrize(("backend", "seen", "stretch"), OTHERWISE)
def test_a_few_items_say_nothing(backend: str, seen: Observation, stretch: Stretch) -> None:
    few = LEAST_ITEMS - 1
    assert not doubtful(seen, backend, stretch._replace(items=few, counted=few), gil=True)


def test_many_items_of_the_calling_thread_beside_few_of_processes_say_nothing() -> None:
    """While the workers of a first call load its modules, the calling thread runs most items."""
    stretch = Stretch(0.1, 40, 0.04, 0.04, 0.1, counted=4)
    assert not doubtful(PYTHON, "processes", stretch, gil=True)
    assert not doubtful(PYTHON, "processes", stretch._replace(counted=0, cpu_s=0.0), gil=True)


NO_GIL = Machine(2, gil=False)
CONTENDED = [  # by a lock of its own, by brief turns, by memory
    (NATIVE, Machine(2), Stretch(0.1, 10, 0.2, 0.1, 0.1, 0.11, 10)),
    (NATIVE, Machine(2), Stretch(0.1, 9, 0.2, 0.13, 0.13, 0.14, 9)),
    (NATIVE, Machine(8), Stretch(0.1, 20, 0.8, 0.2, 0.2, 0.2, 20)),
    (NATIVE, NO_GIL, Stretch(0.1, 8, 0.2, 0.2, 0.2, 0.2, 8)),
    (NATIVE, NO_GIL, Stretch(0.1, 10, 0.2, 0.1, 0.1, 0.1, 10)),  # by waiting for a lock there
    (PYTHON, NO_GIL, Stretch(0.1, 5, 0.2, 0.2, 0.2, 0.0, 5)),
]
UNHINDERED = [
    (NATIVE, Machine(2), Stretch(0.1, 20, 0.2, 0.2, 0.2, 0.2, 20)),
    (NATIVE, Machine(2), Stretch(0.1, 10, 0.2, 0.1, 0.1, 0.2, 10)),  # others have the CPUs
    (NATIVE, Machine(2), Stretch(0.1, 10, 0.2, 0.1, 0.1, 0.0, 10)),  # nobody says who has them
    (NATIVE, Machine(2), Stretch(0.1, 4, 0.2, 0.1, 0.1, 0.1, 4)),  # items have grown
    (NATIVE, Machine(1), Stretch(0.1, 10, 0.1, 0.1, 0.1, 0.1, 10)),
    (NATIVE, NO_GIL, Stretch(0.1, 10, 0.2, 0.1, 0.1, 0.2, 10)),  # on a busy machine
    (NATIVE, NO_GIL, Stretch(0.1, 10, 0.2, 0.1, 0.1, 0.0, 10)),  # nobody says who has the CPUs
    (NATIVE, NO_GIL, Stretch(0.1, 40, 0.2, 0.0, 0.0, 0.1, 40)),  # they wait by now
    (NATIVE, NO_GIL, Stretch(0.1, 19, 0.2, 0.2, 0.2, 0.2, 19)),
    (NATIVE, NO_GIL, Stretch(1.0, 20, 2.0, 2.0, 2.0, 2.0, 20)),  # items have grown
    (WAITING, Machine(2), Stretch(0.1, 320, 3.2, 0.064, 0.07, 0.1, 320)),
    (NATIVE, Machine(2), Stretch(0.1, 3, 0.2, 0.1, 0.1, 0.1, LEAST_ITEMS - 1)),
]


@pytest.mark.parametrize(("seen", "machine", "stretch"), CONTENDED)
def test_threads_that_hold_each_other_up_tell_for_how_long(
    seen: Observation, machine: Machine, stretch: Stretch
) -> None:
    found = hindered(seen, 8, stretch, machine, machine.cpus)
    assert found == seen._replace(alone_s=stretch.wall_s / stretch.items)


@pytest.mark.parametrize(("seen", "machine", "stretch"), UNHINDERED)
def test_threads_that_get_on_do_not(seen: Observation, machine: Machine, stretch: Stretch) -> None:
    assert hindered(seen, 8, stretch, machine, machine.cpus) is None


@pytest.mark.parametrize("gil", [True, False])
def test_items_that_were_to_compute_and_wait_instead_are_doubted(gil: bool) -> None:
    waits, works = Stretch(0.1, 40, 0.2, 0.01, 0.01, 0.1, 40), Stretch(0.1, 20, 0.2, 0.2, 0.2)
    assert doubtful(NATIVE, "threads", waits, gil=gil)
    assert not doubtful(NATIVE, "threads", works._replace(counted=20), gil=gil)


QUEUEING = Stretch(0.1, 180, 5.6, 0.09, 0.1, 0.11, 180)  # 56 threads, half a millisecond each
AT_EASE = [
    (WAITING, 32, Stretch(0.1, 320, 3.2, 0.064, 0.07, 0.1, 320)),
    (MIXED, 4, Stretch(0.1, 40, 0.4, 0.08, 0.08, 0.1, 40)),  # they would use no more than they do
    (MIXED, 32, Stretch(0.1, 80, 3.2, 0.16, 0.16, 0.16, 80)),  # they use more than one GIL gives
    (MIXED, 32, Stretch(0.1, 30, 3.2, 0.06, 0.06, 0.1, 30)),  # the other side is full
    (PYTHON, 32, Stretch(0.1, 10, 3.2, 0.1, 0.1, 0.1, 10)),
    (MIXED, 32, Stretch(0.1, 3, 3.2, 0.006, 0.1, 0.1, LEAST_ITEMS - 1)),
]


def test_threads_that_wait_and_queue_for_the_gil_tell_what_an_item_costs_the_others() -> None:
    unfinished = Observation(items=0, wall_s=0.0045, cpu_s=0.0, gil_s=0.0)
    found = crowded(unfinished, 56, QUEUEING)
    assert found is not None
    assert found.cpu_s == 0.0005
    assert (
        unfinished.wall_s < found.wall_s < 5.6 / 180
    )  # longer than it lasted, shorter than in a queue
    assert found.alone_s == QUEUEING.wall_s / QUEUEING.items
    assert spare(QUEUEING, 2)
    assert not spare(QUEUEING._replace(machine_s=0.19), 2)  # others have the second CPU
    assert not spare(QUEUEING._replace(machine_s=0.0), 2)  # nobody says who has it


@pytest.mark.parametrize(("seen", "threads", "stretch"), AT_EASE)
def test_threads_that_wait_and_do_not_queue_tell_nothing(
    seen: Observation, threads: int, stretch: Stretch
) -> None:
    assert crowded(seen, threads, stretch) is None


@pytest.mark.parametrize("gil", [True, False])
def test_items_that_hold_each_other_up_go_to_processes_or_stay_in_the_loop(gil: bool) -> None:
    machine, alone = Machine(4, gil=gil), NATIVE._replace(alone_s=0.0095)
    travels = alone._replace(travel=Travel(1e-5, 1e-5, payload_bytes=100))
    stays = alone._replace(travel=Travel(why_not="it writes the global 'seen'"))
    assert plan(NATIVE, machine, 1000, Options(), WARM).backend == "threads"
    assert plan(travels, machine, 1000, Options(), WARM).backend == "processes"
    assert plan(stays, machine, 1000, Options(), WARM).backend == "serial"
    assert "hold each other up" in plan(travels, machine, 1000, Options(), WARM).because


@pytest.mark.parametrize(
    ("payload", "moved_s", "heavy"),
    [(10, 0.08, True), (10, 0.04, False), (6_000_000, 0.08, False), (10**5, 0.08, True)],
)
def test_data_is_found_to_have_grown_where_moving_it_takes_the_time(
    payload: int, moved_s: float, heavy: bool
) -> None:
    seen = PYTHON._replace(travel=Travel(1e-5, 1e-5, payload_bytes=payload))
    stretch = Stretch(0.1, 20, 0.2, 0.2, 0.09, moved_s=moved_s)
    assert grown_heavy(seen, stretch) == heavy
    assert not grown_heavy(PYTHON, stretch)


def test_without_a_gil_threads_that_compute_do_not_stand_in_each_others_way() -> None:
    for backend, seen, stretch in OTHERWISE[:3]:
        assert not doubtful(seen, backend, stretch, gil=False)


@given(
    st.builds(
        Stretch,
        *[st.floats(1e-6, 10), st.integers(0, 10**6)],
        *[st.floats(0, 10)] * 3,
        counted=st.integers(0, 10**6),
    )
)
def test_nothing_that_can_be_counted_makes_it_fail(stretch: Stretch) -> None:
    nothing = Observation(0, 0.0, 0.0, 0.0)
    for backend in "threads", "processes":
        for seen in nothing, WAITING:
            assert doubtful(seen, backend, stretch, gil=True) in (True, False)


TRIFLES = Observation(items=1000, wall_s=1e-7, cpu_s=1e-7, gil_s=1e-7)


@pytest.mark.parametrize(
    ("stretch", "alike"),
    [
        (Glance(0.01, 100_000, 0.01, 0.01), True),
        (Glance(0.01, 40_000, 0.01, 0.01), False),  # each takes longer
        (Glance(0.01, 100_000, 0.01, 0.002), False),  # they wait, or the machine is busy
        (Glance(0.01, 0, 0.0, 0.01), False),  # one takes all the time
    ],
)
def test_trifles_that_go_on_as_they_were_need_not_be_watched(
    stretch: Glance, *, alike: bool
) -> None:
    assert stretch.is_like(TRIFLES) == alike


def test_longer_items_are_watched_again_however_alike() -> None:
    """They may have come to leave the GIL alone, which a glance does not show."""
    stretch = Glance(1.0, 100, 1.0, 1.0)
    assert not stretch.is_like(PYTHON)


UNFINISHED = Observation(items=0, wall_s=0.015, cpu_s=0.015, gil_s=0.015)


def course(
    backend: str, seen: Observation, done: int, busy_s: float, first_s: float, looks: int = 1
) -> object:
    """What is found when the calling thread has done so much while processes got ready."""
    call = Call(Job(work.double), range(100), Options(), None)
    call.desk.done, call.desk.busy_s, call.caller.first_s = done, busy_s, first_s
    grounds = Grounds(call)
    return [grounds.review(Plan(backend, 2, "", {}, seen), Machine(2)) for _ in range(looks)][-1]


def test_items_are_watched_again_when_the_first_was_of_a_kind_of_its_own() -> None:
    """An import in it held the GIL, whatever the items do."""
    assert course("processes", UNFINISHED, 3, 0.116, 0.1) == "probe"
    # Not over and over: what was watched again may have been an item that had not ended, too.
    assert course("processes", UNFINISHED, 3, 0.116, 0.1, looks=2) is None
    assert course("processes", UNFINISHED, 3, 0.300, 0.1) is None  # the others are like it
    assert course("processes", UNFINISHED, 1, 0.1, 0.1) is None  # there are no others yet
    assert course("processes", UNFINISHED, 0, 0.0, 0.0) is None  # nor has it ended
    assert course("processes", PYTHON, 3, 0.116, 0.1) is None  # the plan was made from others, too


def test_what_others_used_is_what_this_process_did_not() -> None:
    stretch = Stretch(1.0, 100, 0.0, 0.0, process_s=0.8, machine_s=1.4)
    assert by_others(stretch) == pytest.approx(0.006)
    assert by_others(stretch._replace(machine_s=0.0)) == 0  # the system does not say


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that takes 50 ms to import, and was not."""
    name = f"takes_long_to_import_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("import time; time.sleep(0.05); READY = True")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_no_plan_is_made_of_what_the_first_item_imports(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, imported = Knowledge.plan, []

    def noting(self: Knowledge, seen: Observation) -> Plan:
        imported.append(hasattr(sys.modules.get(module), "READY"))
        return plan(self, seen)

    def fn(x: int) -> int:
        __import__(module)
        time.sleep(0.01)
        return x

    monkeypatch.setattr(Knowledge, "plan", noting)
    assert watched(fn, range(40)).plans
    assert imported[0] or not gil_enabled()


def test_a_thread_is_known_to_import(module: str) -> None:
    subjects, seen = [], []

    def importing() -> None:
        subjects.append(Subject())
        __import__(module)

    thread = threading.Thread(target=importing)
    thread.start()
    while thread.is_alive():
        seen += [subject.imports() for subject in subjects]
        time.sleep(0.01)
    thread.join()
    assert any(seen) == gil_enabled()
    assert not subjects[0].imports()  # it has ended
    assert not Subject().imports()


def test_items_are_run_here_when_no_thread_can_be_started_for_them_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadCrew, "step", step)
    assert auto_map(work.double, range(100), "io", chunksize=5) == [2 * x for x in range(100)]


def test_control_c_right_behind_the_start_of_a_call_ends_it_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its director must not go on to run the items that nobody waits for any more."""
    start, started, seen = Director.start, [], []

    def nap(item: int) -> None:
        time.sleep(0.05)
        seen.append(item)

    def interrupted(director: Director, *args: Any) -> None:
        start(director, *args)
        started.append(director)
        raise KeyboardInterrupt

    monkeypatch.setattr(Director, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        auto_map(nap, range(1000), "io")
    assert started[0]._ended.acquire(timeout=30)
    assert len(seen) < 1000
