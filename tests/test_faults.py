"""Workers that die, items that never end, and what becomes of everything else."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import faulty
import work
from autopar import (
    AutoparError,
    OptionTypeError,
    OptionValueError,
    Report,
    TaskTimeout,
    WorkerCrashed,
    auto_map,
    observe,
    shutdown,
)
from conftest import APART, children, eventually, is_alive, misled, shot

CRASHES = {
    "SIGKILL": -9,
    "SIGSEGV": -11,
    "SIGTERM": -15,
    "_exit(0)": 0,
    "_exit(3)": 3,
    "thread's _exit": 5,
}
# Where the calling process may run items, they end the caller, as they would in the loop.
CALLS = [
    *((options, "raise") for options in APART),
    ("processes", "return"),
    ("cpu", "return"),
    ("cpu", "group"),
    ("auto", "return"),
    ("auto", "group"),
    ("io in processes", "group"),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "processes": {"backend": "processes"},
    "cpu": {"kind": "cpu"},
    "auto": {"kind": "auto"},
    "io in processes": {"kind": "io", "backend": "processes"},
}


@pytest.fixture(params=["cold", "warm"])
def start(request: pytest.FixtureRequest) -> str:
    """With a crew that has to be started, and with one that waits."""
    if request.param == "cold":
        shutdown()
    else:
        auto_map(abs, range(4), backend="processes", workers=2)
    how: str = request.param
    return how


@pytest.fixture
def marks(tmp_path: Path) -> faulty.Marks:
    """Counts how often each item is begun and ended, whatever process runs it."""
    return faulty.Marks(tmp_path / "marks", 120)


def outcome(call: Callable[[], list[Any]]) -> tuple[list[Any], list[BaseException]]:
    """What a call returned, and the exceptions it told of in whatever way."""
    try:
        got = call()
    except ExceptionGroup as group:
        return [], list(group.exceptions)
    except AutoparError as error:
        return [], [error]
    return got, [value for value in got if isinstance(value, Exception)]


def steps(marks: faulty.Marks, how: str, at: int, times: int = 1000) -> list[faulty.Step]:
    """120 quick items, one of which does harm."""
    items = [faulty.Step(index, marks.path) for index in range(120)]
    items[at] = items[at]._replace(how=how, times=times)
    return items


@pytest.mark.parametrize(("options", "errors"), CALLS)
@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_costs_one_item_and_nothing_is_computed_twice(
    crash: str, options: str, errors: str, start: str, marks: faulty.Marks
) -> None:
    items = steps(marks, crash, 70)
    call = OPTIONS[options] | {"errors": errors}
    got, failures = outcome(lambda: auto_map(faulty.step, items, **call))
    (failure,) = failures
    assert isinstance(failure, WorkerCrashed)
    assert (failure.index, failure.exitcode) == (70, CRASHES[crash])
    assert "item 70" in str(failure)
    assert marks.ended()[:70] == [1] * 70
    assert marks.begun()[70] == 1
    assert max(marks.begun()) == 1
    if errors != "raise":
        assert marks.ended()[71:] == [1] * 49
    if errors == "return":
        assert got[:70] + got[71:] == [*range(70), *range(71, 120)]
    assert auto_map(abs, range(-9, 0), backend="processes") == [*range(9, 0, -1)]


@pytest.mark.parametrize("errors", ["return", "group"])
@pytest.mark.parametrize("backend", ["threads", "processes", "serial", None])
def test_an_item_that_exits_ends_its_worker_where_exceptions_are_kept(
    backend: str | None, errors: str, marks: faulty.Marks
) -> None:
    items = steps(marks, "sys.exit(3)", 70)
    call = {"backend": backend, "errors": errors}
    _got, failures = outcome(lambda: auto_map(faulty.step, items, **call))  # type: ignore[call-overload,no-any-return]
    (failure,) = failures
    assert isinstance(failure, WorkerCrashed)
    assert (failure.index, failure.exitcode) == (70, 3)
    assert isinstance(failure.__cause__, SystemExit)
    assert marks.ended() == [int(index != 70) for index in range(120)]


def test_an_item_that_exits_exits_the_caller_as_in_the_loop(
    backend: str, marks: faulty.Marks
) -> None:
    with pytest.raises(SystemExit) as caught:
        auto_map(faulty.step, steps(marks, "sys.exit(3)", 70), backend=backend)
    assert caught.value.code == 3


@pytest.mark.parametrize("crash", ["SIGKILL", "_exit(0)"])
@pytest.mark.parametrize("chunksize", [None, 1, 40])
def test_an_argument_that_ends_its_worker_when_unpickled_is_named(
    crash: str, chunksize: int | None, start: str
) -> None:
    items = [*range(50), faulty.Bomb(crash), *range(50)]
    got = auto_map(faulty.same, items, backend="processes", chunksize=chunksize, errors="return")
    assert isinstance(got[50], WorkerCrashed)
    assert (got[50].index, got[50].exitcode) == (50, CRASHES[crash])
    assert got[:50] + got[51:] == [*range(50), *range(50)]


@pytest.mark.parametrize("crash", ["SIGKILL", "_exit(0)"])
@pytest.mark.parametrize("chunksize", [None, 1, 40])
def test_a_result_that_ends_its_worker_when_pickled_is_named(
    crash: str, chunksize: int | None, start: str
) -> None:
    items = [*range(50), (crash, os.getpid()), *range(50)]
    got = auto_map(faulty.fused, items, backend="processes", chunksize=chunksize, errors="return")
    assert isinstance(got[50], WorkerCrashed)
    assert (got[50].index, got[50].exitcode) == (50, CRASHES[crash])
    assert got[:50] + got[51:] == [*range(50), *range(50)]


@pytest.mark.parametrize("crash", ["SIGKILL", "SIGSEGV", "_exit(0)"])
def test_an_initializer_that_always_ends_its_worker_ends_the_call(crash: str, start: str) -> None:
    with pytest.raises(WorkerCrashed) as caught:
        auto_map(abs, range(9), backend="processes", initializer=faulty.harm, initargs=(crash,))
    assert caught.value.index is None
    assert caught.value.exitcode == CRASHES[crash]
    assert "before it had an item" in str(caught.value)
    assert auto_map(abs, range(-9, 0), backend="processes") == [*range(9, 0, -1)]


def test_an_initializer_that_ends_one_worker_is_run_in_another(tmp_path: Path, start: str) -> None:
    mark = str(tmp_path / "mark")
    got = auto_map(
        abs, range(-9, 0), backend="processes", initializer=faulty.harm_once, initargs=(mark,)
    )
    assert got == [*range(9, 0, -1)]


@pytest.mark.parametrize("how", ["raise", "SIGKILL", "_exit(0)"])
@pytest.mark.parametrize("options", ["processes", "cpu", "auto"])
def test_an_item_gets_as_many_tries_as_it_may_have(
    how: str, options: str, start: str, marks: faulty.Marks
) -> None:
    items = steps(marks, how, 70, times=2)
    assert auto_map(faulty.step, items, retries=2, **OPTIONS[options]) == [*range(120)]
    assert marks.begun() == [3 if index == 70 else 1 for index in range(120)]


@pytest.mark.parametrize("how", ["raise", "SIGKILL"])
@pytest.mark.parametrize("options", ["processes", "auto"])
def test_an_item_fails_after_its_last_try(
    how: str, options: str, start: str, marks: faulty.Marks
) -> None:
    items = steps(marks, how, 70)
    got = auto_map(faulty.step, items, retries=2, errors="return", **OPTIONS[options])  # type: ignore[call-overload]
    assert type(got[70]) is (ValueError if how == "raise" else WorkerCrashed)
    assert got[:70] + got[71:] == [*range(70), *range(71, 120)]
    assert marks.begun() == [3 if index == 70 else 1 for index in range(120)]


@pytest.mark.parametrize("errors", ["raise", "return"])
def test_exceptions_are_retried_by_every_backend(
    backend: str, errors: str, marks: faulty.Marks
) -> None:
    items = steps(marks, "raise", 70, times=1)
    options = {"backend": backend, "errors": errors}
    assert auto_map(faulty.step, items, retries=1, **options) == [*range(120)]  # type: ignore[call-overload]
    assert marks.begun() == [2 if index == 70 else 1 for index in range(120)]


def test_crashes_and_exceptions_of_one_item_share_its_tries(marks: faulty.Marks) -> None:
    items = steps(marks, "SIGKILL", 7, times=1)
    assert auto_map(faulty.step, items, backend="processes", retries=1) == [*range(120)]
    items = [faulty.Step(0, marks.path, "raise"), *items[8:]]
    with pytest.raises(ValueError, match="as asked"):
        auto_map(faulty.step, items, backend="processes", retries=3)
    assert marks.begun()[0] == 1 + 4


@pytest.mark.parametrize("hang", ["spin", "sleep", "lock", "deaf", "child"])
@pytest.mark.parametrize("options", ["processes", "cpu", "auto"])
@pytest.mark.parametrize("errors", ["raise", "return"])
def test_an_item_past_its_time_is_ended_with_its_worker_and_no_other_is_lost(
    hang: str, options: str, errors: str, marks: faulty.Marks
) -> None:
    items = steps(marks, hang, 70)
    call = OPTIONS[options] | {"errors": errors, "timeout": 0.3}
    got, failures = outcome(lambda: auto_map(faulty.step, items, **call))
    (failure,) = failures
    assert isinstance(failure, TaskTimeout)
    assert (failure.index, failure.timeout, failure.ended) == (70, 0.3, True)
    assert isinstance(failure, TimeoutError)
    assert "item 70" in str(failure)
    assert max(marks.begun()) == 1
    assert marks.ended()[:70] == [1] * 70
    if errors == "return":
        assert got[:70] + got[71:] == [*range(70), *range(71, 120)]
    assert auto_map(abs, range(-9, 0), backend="processes") == [*range(9, 0, -1)]


@pytest.mark.parametrize("chunksize", [None, 1, 30])
def test_the_time_of_an_item_begins_when_it_does(chunksize: int | None) -> None:
    """Thirty items of 30 ms in one chunk take longer than the time of each."""
    options: dict[str, Any] = {"backend": "processes", "workers": 1, "chunksize": chunksize}
    assert auto_map(work.nap, [0.03] * 30, timeout=0.5, **options) == [0.03] * 30


def test_a_worker_halted_when_its_item_had_just_ended_serves_no_other_call_halted() -> None:
    options: dict[str, Any] = {"backend": "processes", "workers": 1}
    shutdown()
    auto_map(work.nap, [0.0], **options)
    helper = next(pid for pid in children() if children(pid))
    os.kill(helper, signal.SIGSTOP)  # so that the order to halt comes after the item's end
    threading.Timer(0.6, os.kill, (helper, signal.SIGCONT)).start()
    assert auto_map(work.nap, [0.4], timeout=0.2, **options) == [0.4]
    assert auto_map(work.nap, [0.1] * 10, **options) == [0.1] * 10


@pytest.mark.parametrize("options", [{"kind": "io"}, {"backend": "threads"}])
@pytest.mark.parametrize("errors", ["raise", "return"])
def test_a_late_item_in_a_thread_is_given_up_and_the_others_are_not(
    options: dict[str, Any], errors: str
) -> None:
    release = threading.Event()

    def wait(x: int) -> int:
        if x == 70:
            release.wait()
        return x

    call = options | {"errors": errors, "timeout": 0.2, "workers": 3}
    got, failures = outcome(lambda: auto_map(wait, range(120), **call))
    release.set()
    (failure,) = failures
    assert isinstance(failure, TaskTimeout)
    assert (failure.index, failure.ended) == (70, False)
    assert "may still be running" in str(failure)
    if errors == "return":
        assert got[:70] + got[71:] == [*range(70), *range(71, 120)]


def test_more_late_items_than_threads_do_not_stop_the_call() -> None:
    release = threading.Event()
    got = auto_map(
        lambda x: release.wait() if x % 2 else x,
        range(12),
        "io",
        workers=2,
        timeout=0.05,
        errors="return",
    )
    release.set()
    assert [x for x in got if not isinstance(x, TaskTimeout)] == [0, 2, 4, 6, 8, 10]
    assert [x.index for x in got if isinstance(x, TaskTimeout)] == [1, 3, 5, 7, 9, 11]


def test_late_items_of_a_function_that_cannot_leave_this_process_are_given_up() -> None:
    release = threading.Event()  # does not pickle
    got = auto_map(
        lambda x: release.wait() if x in (0, 5, 6) else x, range(9), timeout=0.1, errors="return"
    )
    release.set()
    assert [x.index for x in got if isinstance(x, TaskTimeout)] == [0, 5, 6]
    assert [x for x in got if not isinstance(x, TaskTimeout)] == [1, 2, 3, 4, 7, 8]


@pytest.mark.parametrize("options", [{}, {"kind": "io", "workers": 2}])
def test_a_thread_in_the_stead_of_a_lost_one_runs_the_initializer_too(
    options: dict[str, Any],
) -> None:
    release, local = threading.Event(), threading.local()

    def begin() -> None:
        local.begun = True

    def wait(x: int) -> bool:
        if x in (2, 5):
            release.wait()
        return bool(local.begun)

    got = auto_map(wait, range(9), timeout=0.1, errors="return", initializer=begin, **options)
    release.set()
    assert [x for x in got if not isinstance(x, TaskTimeout)] == [True] * 7


@pytest.mark.parametrize("options", ["processes", "auto"])
def test_a_late_item_gets_another_try(options: str, marks: faulty.Marks) -> None:
    items = steps(marks, "sleep", 70, times=1)
    got = auto_map(faulty.step, items, timeout=0.3, retries=1, **OPTIONS[options])
    assert got == [*range(120)]
    assert marks.begun() == [2 if index == 70 else 1 for index in range(120)]


def test_a_late_item_in_a_thread_gets_another_try() -> None:
    tries: list[int] = []
    release = threading.Event()

    def wait_once(x: int) -> int:
        tries.append(x)
        if x == 7 and tries.count(7) == 1:
            release.wait()
        return x

    assert auto_map(wait_once, range(20), "io", timeout=0.1, retries=1) == [*range(20)]
    release.set()
    assert tries.count(7) == 2


def test_an_abandoned_thread_does_not_hold_up_the_end_of_the_program() -> None:
    script = """
import time
from autopar import auto_map, TaskTimeout
got = auto_map(lambda x: time.sleep(1000) if x == 3 else x, range(9), "io", timeout=0.1, errors="return")
print([type(x).__name__ for x in got if not isinstance(x, int)])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=script,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("['TaskTimeout']\n", "")


def test_a_single_item_has_its_time_too() -> None:
    with pytest.raises(TaskTimeout):
        auto_map(time.sleep, [1000], timeout=0.1)


def test_what_an_ended_item_had_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPAR_TEST_PID", str(tmp_path / "pid"))
    with pytest.raises(TaskTimeout):
        auto_map(faulty.grandchild, [1000], backend="processes", timeout=0.5)
    program = int((tmp_path / "pid").read_text())
    assert eventually(lambda: not is_alive(program))


@pytest.mark.parametrize("bad", [0, -1, float("nan")])
def test_a_time_that_cannot_be_meant_is_refused(bad: float) -> None:
    with pytest.raises(OptionValueError, match="timeout"):
        auto_map(abs, [1], timeout=bad)


def test_options_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(OptionTypeError, match="timeout"):
        auto_map(abs, [1], timeout="1")  # type: ignore[call-overload]
    with pytest.raises(OptionTypeError, match="retries"):
        auto_map(abs, [1], retries=1.5)  # type: ignore[call-overload]
    with pytest.raises(OptionValueError, match="retries"):
        auto_map(abs, [1], retries=-1)
    with pytest.raises(OptionValueError, match="max_worker_memory"):
        auto_map(abs, [1], max_worker_memory=0)
    with pytest.raises(OptionValueError, match="serial"):
        auto_map(abs, [1], backend="serial", timeout=1)


@pytest.mark.parametrize("round_", range(5))
def test_workers_killed_at_random_moments_cost_no_more_than_the_item_they_run(
    round_: int, marks: faulty.Marks
) -> None:
    over = threading.Event()

    def shoot() -> None:
        for _ in range(5):  # more in a row than a crew takes for an accident, if none gets ready
            if over.wait(0.03 + 0.02 * round_):
                return
            workers = [pid for helper in children() for pid in children(helper)]
            for pid in workers[:1]:
                shot(pid)

    shooter = threading.Thread(target=shoot)
    shooter.start()
    items = [faulty.Step(index, marks.path, work_s=0.004) for index in range(120)]
    try:
        got = auto_map(faulty.step, items, backend="processes", errors="return")
    finally:
        over.set()
        shooter.join()
    lost = [index for index, value in enumerate(got) if isinstance(value, WorkerCrashed)]
    assert [value for value in got if not isinstance(value, WorkerCrashed)] == [
        index for index in range(120) if index not in lost
    ]
    assert max(marks.begun()) == 1
    unfinished = [index for index, count in enumerate(marks.ended()) if not count]
    assert set(unfinished) <= set(lost)  # one may have ended, and its result not been sent


def test_a_worker_that_has_grown_is_replaced_between_items() -> None:
    shutdown()
    limit = 60 << 20
    seen = auto_map(
        faulty.hoard, range(12), backend="processes", workers=2, max_worker_memory=limit
    )
    assert max(before for _pid, before in seen) <= 3
    assert len({pid for pid, _before in seen}) >= 4


def test_a_worker_too_large_from_the_first_still_runs_an_item_each() -> None:
    shutdown()  # one that waits may hold what it hoarded for another call
    seen = auto_map(
        faulty.hoard, range(4), backend="processes", workers=1, max_worker_memory=1 << 20
    )
    assert [before for _pid, before in seen] == [0] * 4


# what waits


@pytest.mark.parametrize("options", [{"errors": "return"}, {"errors": "group"}, {"retries": 1}])
def test_where_faults_matter_what_waits_runs_beside_each_other_in_processes(
    options: dict[str, Any],
) -> None:
    """However long the call: a crash in a thread of the caller would end the caller."""

    def trial(count: int) -> Report | None:
        with observe() as seen:
            pids = auto_map(faulty.nap_and_tell, range(count), **options)
        assert os.getpid() not in pids
        assert seen.reports[0].backend == "processes"
        # How many are worth while follows from what it takes to load the function in one.
        return None if count == 20 or len(set(pids)) > 2 else seen.reports[0]

    shutdown()
    for count in (20, 200, 600):
        assert not misled(functools.partial(trial, count))


def test_a_crash_among_items_that_wait_costs_one_item(marks: faulty.Marks) -> None:
    items = [item._replace(nap_s=0.01) for item in steps(marks, "_exit(0)", 70)]
    got = auto_map(faulty.step, items, errors="return")
    assert isinstance(got[70], WorkerCrashed)
    assert got[:70] + got[71:] == [*range(70), *range(71, 120)]
    assert marks.begun() == [1] * 120
