"""Hybrids: worker processes of many threads each, for items that wait and compute.

What every backend does is tested with the others (`backend` in test_map and elsewhere); here is
what is different when the workers of a call share processes.
"""

from __future__ import annotations

import contextvars
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import autopar
import faulty
import work
from autopar import Report, TransportError, WorkerCrashed, auto_map, backends, observe, shutdown
from autopar._decide.costs import COLD, WARM
from autopar._decide.doubt import LEAST_ITEMS
from autopar._decide.planner import HYBRID, PROCESSES, THREADS, WORTH, plan
from autopar._decide.width import first_width
from autopar._engine import grounds, knowledge, memory
from autopar._engine.call import Call
from autopar._engine.grounds import Grounds
from autopar._model import Job, Machine, Observation, Options, Plan, Travel
from autopar._observe.machine import machine
from autopar._platform import gil_enabled
from conftest import FETCH_AND_PARSE, children, eventually, misled, shot

MS = 1e-3
CPUS = machine().cpus
VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("VARIABLE", default=0)


def hybrid(fn: Any, items: Any, **options: Any) -> list[Any]:
    return auto_map(fn, items, backend="hybrid", **options)


def fetch_and_parse(x: int) -> int:
    time.sleep(8 * MS)
    work.spin(0.7 * MS)
    return x


def place(seconds: float) -> tuple[int, int]:
    time.sleep(seconds)
    return os.getpid(), threading.get_native_id()


def set_variable(x: int) -> tuple[int, int]:
    before = VARIABLE.get()
    VARIABLE.set(x)
    time.sleep(2 * MS)
    return before, VARIABLE.get()


def say(x: int) -> int:
    time.sleep(MS)
    sys.stdout.write(f"item {x}\n")  # `print` writes it in parts, and another thread's between
    return x


def nested(x: int) -> list[int]:
    return auto_map(fetch_and_parse, range(x, x + 3))


def threads_of(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        return 0


# where items run


def test_a_hybrid_runs_items_in_many_threads_of_a_few_processes() -> None:
    places = set(hybrid(place, [0.02] * 400, workers=16))
    processes = {pid for pid, _thread in places}
    assert len(processes) == min(2, autopar._observe.machine.machine().cpus)
    assert os.getpid() not in processes
    assert 4 * len(processes) <= len(places) <= 16


def test_workers_are_an_upper_bound(tmp_path: Path) -> None:
    for workers in (1, 2, 3, 7):
        assert len(set(hybrid(place, [0.005] * 40, workers=workers))) <= workers


def test_after_a_call_its_threads_end_and_its_processes_serve_the_next_call() -> None:
    first = {pid for pid, _thread in hybrid(place, [0.01] * 64, workers=32)}
    assert eventually(lambda: {threads_of(pid) for pid in first} == {1})
    second = {pid for pid, _thread in auto_map(place, [0.01] * 8, backend="processes", workers=2)}
    assert first & second, (first, second, {pid: threads_of(pid) for pid in first})


def test_a_large_function_is_sent_once_a_process() -> None:
    assert {times for _pid, times in hybrid(Counted(), range(200), workers=20)} == {1}


class Counted:
    """Counts how often it is unpickled in a process."""

    times = 0

    def __call__(self, _item: object) -> tuple[int, int]:
        time.sleep(MS)
        return os.getpid(), Counted.times

    def __setstate__(self, _state: object) -> None:
        Counted.times += 1

    def __getstate__(self) -> dict[str, Any]:
        return {"something": 1}


# the user's world


def test_each_thread_has_a_copy_of_the_callers_context() -> None:
    token = VARIABLE.set(7)
    try:
        got = hybrid(set_variable, range(100, 160), workers=8)
    finally:
        VARIABLE.reset(token)
    assert [after for _before, after in got] == [*range(100, 160)]
    assert {before for before, _after in got} <= {7, *range(100, 160)}
    assert 7 in {before for before, _after in got}
    assert VARIABLE.get() == 0


def test_what_items_print_is_there_when_the_call_returns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(5):
        hybrid(say, range(60), workers=12)
        lines = capsys.readouterr().out.splitlines()
        assert sorted(lines) == sorted(f"item {x}" for x in range(60))


def test_maps_inside_a_hybrid_work() -> None:
    assert hybrid(nested, range(12), workers=6) == [[x, x + 1, x + 2] for x in range(12)]


# faults


@pytest.fixture
def marks(tmp_path: Path) -> faulty.Marks:
    return faulty.Marks(tmp_path / "marks", 120)


def steps(marks: faulty.Marks, how: str, at: int, times: int = 1000) -> list[faulty.Step]:
    return [
        faulty.Step(index, marks.path, how if index == at else "", times, 0.002)
        for index in range(120)
    ]


@pytest.mark.parametrize("crash", ["SIGKILL", "SIGSEGV", "_exit(0)", "_exit(3)"])
def test_a_crash_costs_what_ran_in_that_process_and_nothing_else(
    crash: str, marks: faulty.Marks
) -> None:
    got = hybrid(faulty.step, steps(marks, crash, 70), workers=8, errors="return")
    lost = [index for index, value in enumerate(got) if isinstance(value, WorkerCrashed)]
    assert 70 in lost
    assert len(lost) <= 4 + 1  # the threads of one process
    assert all(got[index].index == index for index in lost)
    assert "any of them may be the cause" in "".join(got[70].__notes__)
    assert [value for index, value in enumerate(got) if index not in lost] == [
        index for index in range(120) if index not in lost
    ]
    begun = marks.begun()
    assert max(begun) == 1
    assert {index for index in range(120) if not begun[index]} <= {*lost}  # on its way to a thread
    assert hybrid(abs, range(-9, 0)) == [*range(9, 0, -1)]


@pytest.mark.parametrize("crash", ["SIGKILL", "_exit(0)"])
def test_a_crash_is_raised(crash: str, marks: faulty.Marks) -> None:
    with pytest.raises(WorkerCrashed) as caught:
        hybrid(faulty.step, steps(marks, crash, 70), workers=8)
    assert caught.value.index is not None
    assert max(marks.begun()) == 1
    assert hybrid(abs, range(-9, 0)) == [*range(9, 0, -1)]


def test_a_failure_before_a_process_has_opened_its_job_does_not_leave_it_without() -> None:
    """What has not been begun is taken back then, and the job was among it."""
    shutdown()
    pid, _thread = hybrid(place, [0.001], workers=1)[0]
    os.kill(pid, signal.SIGSTOP)
    waker = threading.Timer(0.3, os.kill, (pid, signal.SIGCONT))
    waker.start()
    with pytest.raises(TransportError) as caught:
        hybrid(work.double, [0, 1, work.Unpicklable(2)], workers=1, chunksize=3, retries=1)
    assert caught.value.index == 2
    waker.join()


def test_what_was_lost_with_another_item_is_tried_again(marks: faulty.Marks) -> None:
    items = steps(marks, "SIGKILL", 70, times=1)
    assert hybrid(faulty.step, items, workers=8, retries=2) == [*range(120)]


def test_killed_from_outside_again_and_again_nothing_hangs_and_nothing_is_wrong() -> None:
    stop = threading.Event()
    ours = {os.getpid()}

    def kill() -> None:
        while not stop.wait(0.05):
            found = [pid for pid in children() if threads_of(pid) > 2 and pid not in ours]
            if found:
                shot(found[-1])

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        got = hybrid(fetch_and_parse, range(250), workers=16, retries=20)
    finally:
        stop.set()
        killer.join()
    assert got == [*range(250)]


def test_an_exception_is_its_items_own() -> None:
    got = hybrid(work.reciprocal, [1, 2, 0, 4] * 20, workers=8, errors="return")
    assert [type(value) for value in got] == [float, float, ZeroDivisionError, float] * 20


def test_with_few_descriptors_left_there_are_fewer_threads() -> None:
    script = f"""
import os, resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_hybrid import place
from autopar import auto_map
auto_map(abs, range(9), backend="hybrid")
most = max(map(int, os.listdir("/proc/self/fd"))) + 20
resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(len(auto_map(place, [0.001] * 200, backend="hybrid", workers=64)))
"""
    ran = subprocess.run(
        [sys.executable, "-"], input=script, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "200\n", "")


def be_impatient(_item: object) -> int:
    """As if each of this process's sockets had been silent for a minute, again and again."""
    for name in os.listdir("/proc/self/fd"):
        try:
            number = os.dup(int(name))
        except OSError:
            continue
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            os.close(number)
            continue
        with socket.socket(fileno=number) as sock:
            if sock.type == socket.SOCK_SEQPACKET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 20_000))
    time.sleep(0.3)
    return os.getpid()


def test_a_process_does_not_end_for_want_of_work_while_one_of_its_threads_has_some() -> None:
    shutdown()
    assert len(hybrid(be_impatient, range(20), workers=8)) == 20
    shutdown()


@pytest.mark.parametrize(
    "option",
    [{"timeout": 1.0}, {"seed": 1}, {"max_worker_memory": 1 << 30}, {"initializer": print}],
    ids=lambda option: next(iter(option)),
)
def test_what_is_said_of_one_worker_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="share no process"):
        hybrid(abs, range(9), **option)


# when there is one


@pytest.mark.usefixtures("queue_shown")
def test_threads_that_have_shown_that_they_queue_make_way_for_a_hybrid_and_the_next_call_begins_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        grounds, "DOUBT_S", 100.0
    )  # what else is found meanwhile is not this test's

    def trial() -> tuple[str, str] | None:
        marks = faulty.Marks(tmp_path / "marks", 1000)
        items = [faulty.Step(at, marks.path, work_s=0.0005, nap_s=0.008) for at in range(1000)]
        monkeypatch.setattr(memory.learned, "_known", {})
        with observe() as seen:
            for _ in range(2):
                assert auto_map(faulty.step, items) == [*range(1000)]
        assert marks.ended() == [2] * 1000
        first, second = seen.reports
        if not gil_enabled():  # then there is none to queue for
            well = {first.backend, second.backend} == {"threads"}
        elif well := [plan.backend for plan in first.plans][:2] == ["threads", "hybrid"]:
            assert second.plans[0].backend == "hybrid", str(second)
            assert "as in its last call" in second.plans[0].because
            assert "in 2 processes" in str(second)
        return None if well else (str(first), str(second))

    assert not misled(trial)


@pytest.mark.usefixtures("queue_shown")
@pytest.mark.parametrize(
    "options",
    [{"errors": "return"}, {"retries": 1}, {"seed": 1}, {"initializer": len, "initargs": ("",)}],
    ids=lambda options: next(iter(options)),
)
def test_there_is_none_where_something_is_said_of_each_worker(options: dict[str, Any]) -> None:
    with observe() as seen:
        assert auto_map(fetch_and_parse, range(200), **options) == [*range(200)]
    assert "hybrid" not in {plan.backend for plan in seen.reports[0].plans}


@pytest.mark.usefixtures("queue_shown")
def test_where_only_its_start_speaks_against_one_its_helper_is_started_for_the_next_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else a function that is called again and again would never get there."""
    monkeypatch.setattr(grounds, "CROWD_S", 0.0)
    monkeypatch.setattr(grounds, "DOUBT_S", 100.0)
    monkeypatch.setattr(knowledge, "COLD", COLD._replace(takeover_s=100.0))
    path = faulty.Marks(tmp_path / "marks", 120).path
    items = [faulty.Step(at, path, nap_s=0.02) for at in range(120)]

    def trial() -> Report | None:
        shutdown()
        monkeypatch.setattr(memory.learned, "_known", {})
        with observe() as seen:
            assert auto_map(faulty.step, items) == [*range(120)]
        assert "hybrid" not in {plan.backend for plan in seen.reports[0].plans}
        if not gil_enabled() or CPUS < 2:
            return None
        if not eventually(backends.helped):
            return seen.reports[0]
        with observe() as seen:
            assert auto_map(faulty.step, items) == [*range(120)]
        return None if seen.reports[0].plans[0].backend == "hybrid" else seen.reports[0]

    assert not misled(trial)
    shutdown()


def test_a_short_call_is_not_worth_the_start_of_one() -> None:
    """130 to 260 ms were measured, beside threads that compute on the same two CPUs."""
    assert plan(FETCH_AND_PARSE, Machine(2), 100, Options(), COLD).backend == THREADS
    assert plan(FETCH_AND_PARSE, Machine(2), 100, Options(), WARM).backend == HYBRID


def test_what_others_compute_for_each_item_speaks_against_one() -> None:
    """A server on the same machine has as much to do, however it is asked."""
    beside = FETCH_AND_PARSE._replace(others_s=FETCH_AND_PARSE.cpu_s)
    assert plan(beside, Machine(2), 2000, Options(), WARM).backend == THREADS
    assert plan(beside, Machine(16), 2000, Options(), WARM).backend == HYBRID


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 1.5])
def test_what_one_has_shown_is_worth_more_than_what_was_thought_of_it(share: float) -> None:
    shown = FETCH_AND_PARSE._replace(apart_s=share * FETCH_AND_PARSE.alone_s)
    made = plan(shown, Machine(4), 100_000, Options(), WARM)
    assert made.predicted_s[HYBRID] == pytest.approx(share * made.predicted_s[THREADS], rel=0.05)
    assert made.backend == (HYBRID if share < WORTH else THREADS)


def stretch_of(plan: Plan, items: int, seconds: float) -> Observation:
    """What is remembered of a call of so many items after the first had come back."""
    call = Call(Job(work.double), range(1000), Options(), None)
    grounds_of_it = Grounds(call)
    grounds_of_it.begin(plan)
    call.desk.done += LEAST_ITEMS
    grounds_of_it.review(plan, Machine(2))
    call.desk.done, call.began_s = call.desk.done + items, call.began_s - seconds
    call.desk.busy_s = 1.0
    grounds_of_it.remember(plan, first_width(None, 32, call.desk.tally(), 0.0))
    learned = memory.learned.get(work.double, 0)
    assert learned is not None
    return learned.seen


@pytest.mark.usefixtures("queue_shown")
def test_what_threads_and_a_hybrid_have_shown_is_kept_for_the_next_call() -> None:
    threads = stretch_of(Plan("threads", 32, "", {}, FETCH_AND_PARSE), 100, 0.5)
    assert threads.alone_s == pytest.approx(0.005, rel=0.2)
    hybrid = stretch_of(Plan("hybrid", 32, "", {}, threads, 2), 100, 0.3)
    assert hybrid.alone_s == threads.alone_s
    assert hybrid.apart_s == pytest.approx(0.003, rel=0.2)
    few = stretch_of(Plan("hybrid", 32, "", {}, threads, 2), 40, 0.3)  # hardly one for each
    assert few.apart_s == 0
    waits_alone = FETCH_AND_PARSE._replace(alone_s=0.0)  # there is nothing to choose between
    assert stretch_of(Plan("threads", 32, "", {}, waits_alone), 100, 0.5) == waits_alone._replace(
        items=104
    )


@pytest.mark.parametrize("costs", [COLD, WARM], ids=["cold", "warm"])
@pytest.mark.parametrize("cpus", [2, 4, 16])
def test_the_count_of_each_follows_from_the_share_of_the_gil(cpus: int, costs: Any) -> None:
    made = plan(FETCH_AND_PARSE, Machine(cpus), 5000, Options(), costs)
    assert made.backend == HYBRID
    assert 2 <= made.processes <= cpus
    in_each = made.workers / made.processes
    assert in_each >= 2
    # So many threads that one process's GIL is in use most of the time, and not many more.
    assert 0.3 < in_each * FETCH_AND_PARSE.gil_s / FETCH_AND_PARSE.wall_s < 3
    assert made.predicted_s[THREADS] > 1.3 * made.predicted_s[HYBRID]
    assert made.predicted_s[PROCESSES] > made.predicted_s[HYBRID]


@pytest.mark.parametrize(
    ("why", "seen", "machine"),
    [
        ("one CPU", FETCH_AND_PARSE, Machine(1)),
        ("threads have not shown it", FETCH_AND_PARSE._replace(alone_s=0.0), Machine(8)),
        ("no GIL", FETCH_AND_PARSE, Machine(8, gil=False)),
        ("no processes", FETCH_AND_PARSE, Machine(8, processes_why_not="none here")),
        ("does not travel", FETCH_AND_PARSE._replace(travel=Travel(why_not="a lock")), Machine(8)),
        ("computes", FETCH_AND_PARSE._replace(cpu_s=8 * MS, gil_s=8 * MS), Machine(8)),
        (
            "hardly computes",
            FETCH_AND_PARSE._replace(cpu_s=1e-5, gil_s=1e-5, alone_s=8e-5),
            Machine(8),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_there_is_none_where_it_gains_nothing(
    why: str, seen: Observation, machine: Machine
) -> None:
    assert plan(seen, machine, 2000, Options(), WARM).backend != HYBRID, why
