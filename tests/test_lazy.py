"""`auto_imap`: results one after another, and no more read than there is use for."""

from __future__ import annotations

import gc
import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import faulty
import work
from autopar import Barrier, TaskTimeout, WorkerCrashed, auto_imap, observe
from autopar._engine.flow import Flow
from autopar._engine.inbox import Entry
from autopar._observe.machine import machine
from autopar._platform import gil_enabled
from conftest import APART, BACKENDS, eventually, misled

WAYS = [{"kind": "auto"}, {"kind": "cpu"}, {"kind": "io"}, {"backend": "hybrid"}]
ways = pytest.mark.parametrize("way", WAYS, ids=str)
orders = pytest.mark.parametrize("ordered", [True, False])


@pytest.fixture
def marks(tmp_path: Path) -> faulty.Marks:
    """Counts how often each item is begun and ended, whatever process runs it."""
    return faulty.Marks(tmp_path / "marks", 120)


# the same meaning


@given(items=st.lists(st.integers(-100, 100), max_size=60), ordered=st.booleans())
def test_it_is_the_builtin_map(items: list[int], ordered: bool) -> None:
    for kind in ("auto", "io"):
        found = list(auto_imap(work.double, iter(items), kind, ordered=ordered))
        expected = [2 * item for item in items]
        assert (found if ordered else sorted(found)) == (expected if ordered else sorted(expected))


@ways
@orders
def test_each_item_is_evaluated_once_and_gives_its_result(
    way: dict[str, Any], ordered: bool
) -> None:
    found = list(auto_imap(work.slow_double, range(150), ordered=ordered, **way))
    assert (found if ordered else sorted(found)) == [*range(0, 300, 2)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_means_can_be_chosen(backend: str) -> None:
    places = set(auto_imap(work.slow_whereabouts, range(30), backend=backend))
    here = work.whereabouts(None)
    if backend == "serial":
        assert places == {here}
    elif backend == "threads":
        assert {process for process, _ in places} == {here[0]}
        assert here not in places
    else:
        assert here[0] not in {process for process, _ in places}


def test_a_hybrid_is_many_threads_of_a_few_processes() -> None:
    """As many as can be at work at once, they meet."""
    meeting = Barrier(8)
    with observe() as seen:
        found = auto_imap(work.join, [meeting] * 24, backend="hybrid", workers=8, buffersize=24)
        places = set(found)
    assert len(places) == 8
    assert 1 <= len({process for process, _ in places}) <= machine().cpus
    assert os.getpid() not in {process for process, _ in places}
    (plan,) = seen.reports[0].plans
    assert (plan.backend, plan.workers) == ("hybrid", 8)
    assert plan.processes == len({process for process, _ in places})


def test_items_whose_nature_changes_are_followed() -> None:
    items = [0.0] * 3000 + [0.004] * 60 + [0.0] * 3000 + [0.004] * 60
    assert list(auto_imap(work.nap, items)) == items


@pytest.mark.usefixtures("queue_shown")
@orders
def test_threads_that_have_shown_that_they_queue_make_way_for_a_hybrid(
    ordered: bool, tmp_path: Path
) -> None:
    def trial() -> object:
        marks = faulty.Marks(tmp_path / "marks", 1500)
        items = [faulty.Step(at, marks.path, work_s=0.0005, nap_s=0.008) for at in range(1500)]
        with observe() as seen:
            found = list(auto_imap(faulty.step, iter(items), ordered=ordered))
        assert (found if ordered else sorted(found)) == [*range(1500)]
        assert marks.ended() == [1] * 1500
        means = [plan.backend for plan in seen.reports[0].plans]
        well = means[-2:] == (["threads", "hybrid"] if gil_enabled() else ["threads"])
        return None if well else str(seen.reports[0])

    assert not misled(trial)


@orders
def test_an_item_that_does_not_travel_to_where_the_others_are_is_run_here(ordered: bool) -> None:
    def trial() -> object:
        items = [at if at % 100 < 98 else work.Settled(at) for at in range(400)]
        with observe() as seen:
            found = list(auto_imap(work.spin_and_count, iter(items), ordered=ordered))
        assert (found if ordered else sorted(found)) == [*range(400)]
        (report,) = seen.reports
        means = {plan.backend for plan in report.plans}
        well = "processes" in means or machine().cpus < 2 or not gil_enabled()
        return None if well else str(report)

    assert not misled(trial)


@pytest.mark.usefixtures("queue_shown")
@orders
def test_an_item_that_does_not_travel_to_a_hybrid_is_run_here(ordered: bool) -> None:
    def trial() -> object:
        items = [at if at % 100 < 98 else work.Settled(at) for at in range(1500)]
        with observe() as seen:
            found = list(auto_imap(work.wait_and_count, iter(items), ordered=ordered))
        assert (found if ordered else sorted(found)) == [*range(1500)]
        (report,) = seen.reports
        well = "hybrid" in {plan.backend for plan in report.plans} or not gil_enabled()
        return None if well else str(report)

    assert not misled(trial)


@pytest.mark.usefixtures("queue_shown")
def test_no_more_run_at_once_than_there_may_be_workers_while_a_hybrid_takes_over() -> None:
    with observe() as seen:
        spans = list(auto_imap(span, range(1500), workers=6))
    ends = sorted([(began_s, 1) for began_s, _ in spans] + [(ended_s, -1) for _, ended_s in spans])
    assert max(itertools.accumulate(change for _at_s, change in ends)) <= 6, str(seen.reports[0])


def span(_item: object) -> tuple[float, float]:
    began_s = time.monotonic()  # one clock for all processes
    time.sleep(0.002)
    work.spin(0.0005)
    return began_s, time.monotonic()


@pytest.mark.usefixtures("queue_shown")
def test_a_hybrid_that_has_taken_over_ends_when_nobody_takes_results_any_more(
    tmp_path: Path,
) -> None:
    def trial() -> object:
        marks = faulty.Marks(tmp_path / "marks", 3000)
        items = [faulty.Step(at, marks.path, work_s=0.0005, nap_s=0.008) for at in range(3000)]
        with observe() as seen:
            found = auto_imap(faulty.step, items)
            assert [next(found) for _ in range(1500)] == [*range(1500)]
            del found
        gc.collect()
        assert eventually(lambda: begun_within(marks, 0.1) == 0)
        assert sum(marks.begun()) < 2000
        well = seen.reports[0].plans[-1].backend == ("hybrid" if gil_enabled() else "threads")
        return None if well else str(seen.reports[0])

    assert not misled(trial)


def begun_within(marks: faulty.Marks, seconds: float) -> int:
    before = sum(marks.begun())
    time.sleep(seconds)
    return sum(marks.begun()) - before


@pytest.mark.usefixtures("queue_shown")
@pytest.mark.parametrize(
    "options",
    [{"errors": "return"}, {"retries": 1}, {"timeout": 60}, {"initializer": gc.collect}],
    ids=lambda options: next(iter(options)),
)
def test_there_is_no_hybrid_where_faults_matter_or_each_worker_is_prepared(
    options: dict[str, Any],
) -> None:
    with observe() as seen:
        assert len(list(auto_imap(span, range(600), **options))) == 600
    assert "hybrid" not in {plan.backend for plan in seen.reports[0].plans}


@ways
def test_an_exception_comes_in_its_place_and_ends_it(way: dict[str, Any]) -> None:
    results = auto_imap(work.reciprocal, [4, 2, 0, 1], **way)
    assert [next(results), next(results)] == [0.25, 0.5]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "reciprocal() for item 2" in "".join(caught.value.__notes__)
    with pytest.raises(StopIteration):
        next(results)


@ways
def test_exceptions_can_be_results(way: dict[str, Any]) -> None:
    found = list(auto_imap(work.reciprocal, [2, 0, 4], errors="return", **way))
    assert [found[0], found[2]] == [0.5, 0.25]
    assert isinstance(found[1], ZeroDivisionError)


@ways
def test_an_item_may_be_tried_again(way: dict[str, Any], tmp_path: Any) -> None:
    marks = [str(tmp_path / str(number)) for number in range(3)]
    assert list(auto_imap(work.fail_once, marks, retries=1, **way)) == marks


@ways
def test_what_the_iterable_raises_comes_after_the_results_before_it(way: dict[str, Any]) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no sixth")

    results = auto_imap(work.slow_double, items(), **way)
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(LookupError, match="no sixth"):
        next(results)


@pytest.mark.parametrize(
    "options",
    [
        {"buffersize": 0},
        {"errors": "group"},
        {"backend": "hybrid", "timeout": 1},
        {"backend": "hybrid", "initializer": abs},
        {"backend": "hybrid", "seed": 1},
        {"workers": 0},
        {"kind": "gpu"},
        {"timeout": -1},
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        auto_imap(work.double, [1], **options)


# no more than there is use for


@ways
@orders
@pytest.mark.parametrize("buffersize", [None, 3])
def test_the_iterable_is_read_only_as_far_as_results_are_taken(
    way: dict[str, Any], ordered: bool, buffersize: int | None
) -> None:
    read = 0

    def items() -> Iterator[float]:
        nonlocal read
        for _ in range(400):
            read += 1
            yield 0.002

    results = auto_imap(work.nap, items(), ordered=ordered, buffersize=buffersize, workers=4, **way)
    for _ in range(5):
        next(results)
    time.sleep(0.1)  # for it to read on, if it did
    assert read <= 5 + (buffersize or 3 * 4)
    results.close()  # type: ignore[attr-defined]


def test_the_first_result_comes_at_once() -> None:
    read = itertools.count()
    results = auto_imap(work.double, iter(lambda: next(read), None))
    assert next(results) == 0
    assert next(read) == 1


@ways
def test_an_iterable_that_blocks_does_not_hold_back_what_is_there(way: dict[str, Any]) -> None:
    given_out: queue.Queue[float] = queue.Queue()
    for _ in range(5):
        given_out.put(0.005)
    results = auto_imap(work.nap, iter(given_out.get, None), **way)
    assert [next(results) for _ in range(5)] == [0.005] * 5
    given_out.put(0.0)
    assert next(results) == 0.0
    given_out.put(0.0)  # lets its reader go
    results.close()  # type: ignore[attr-defined]
    given_out.put(0.0)


def test_many_items_are_held_in_little_memory() -> None:
    script = """
import resource
from autopar import auto_imap
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(auto_imap(abs, range(1000)))
before = most()
total = sum(1 for _ in auto_imap(abs, iter(range(1_000_000))))
total += sum(1 for _ in auto_imap(abs, iter(range(20_000)), "io"))
assert total == 1_020_000
print(most() - before < 8000)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


# the end


@ways
@pytest.mark.parametrize("how", ["closed", "gone", "failed"])
def test_when_nobody_takes_results_any_more_all_ends(way: dict[str, Any], how: str) -> None:
    closed = threading.Event()

    def items() -> Iterator[float]:
        try:
            while True:
                yield 0.002
        finally:
            closed.set()

    def consume(results: Iterator[float]) -> None:
        for number, _ in enumerate(results):
            if number == 20:
                raise RuntimeError("enough")

    results = auto_imap(work.nap, items(), **way)
    if how == "failed":
        with pytest.raises(RuntimeError, match="enough"):
            consume(results)
    else:
        for _ in range(20):
            next(results)
    if how == "closed":
        results.close()  # type: ignore[attr-defined]
    del results
    gc.collect()
    assert closed.wait(10)


@ways
def test_a_program_that_leaves_it_open_ends(way: dict[str, Any]) -> None:
    script = f"""
import itertools, time
from autopar import auto_imap
results = auto_imap(time.sleep, itertools.repeat(0.002), **{way!r})
for _ in range(20):
    next(results)
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=script,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


# faults


@pytest.mark.skipif(not APART, reason="there are no worker processes here")
def test_a_worker_that_dies_costs_its_item() -> None:
    items = ["good"] * 5 + ["kill"] + ["good"] * 5
    found = list(auto_imap(work.die_slowly, items, "cpu", errors="return"))
    assert [item for item in found if item != "good"] == [found[5]]
    assert isinstance(found[5], WorkerCrashed)


def test_a_crash_in_a_hybrid_costs_what_ran_in_that_process(marks: faulty.Marks) -> None:
    steps = [faulty.Step(index, marks.path, nap_s=0.002) for index in range(120)]
    steps[70] = steps[70]._replace(how="SIGKILL")
    found = list(auto_imap(faulty.step, steps, backend="hybrid", workers=8, errors="return"))
    lost = [index for index, value in enumerate(found) if isinstance(value, WorkerCrashed)]
    assert 70 in lost
    assert len(lost) <= 8
    assert [value for value in found if not isinstance(value, WorkerCrashed)] == [
        index for index in range(120) if index not in lost
    ]
    assert max(marks.begun()) == 1
    assert "any of them may be the cause" in "".join(found[70].__notes__)


def test_what_a_crash_in_a_hybrid_has_cost_may_be_tried_again(marks: faulty.Marks) -> None:
    steps = [faulty.Step(index, marks.path, nap_s=0.002) for index in range(120)]
    steps[70] = steps[70]._replace(how="SIGKILL", times=1)
    found = list(auto_imap(faulty.step, steps, backend="hybrid", workers=8, retries=1))
    assert found == [*range(120)]
    assert marks.begun()[70] == 2


@pytest.mark.parametrize("errors", ["raise", "return"])
def test_workers_that_cannot_be_had_end_it(errors: Any) -> None:
    options: dict[str, Any] = {"initializer": os._exit, "initargs": (3,), "errors": errors}
    with pytest.raises(WorkerCrashed) as caught:
        list(auto_imap(work.double, itertools.count(), backend="processes", **options))
    assert not hasattr(caught.value, "__notes__")  # it is no item's
    options["initializer"] = refuse
    with pytest.raises(RuntimeError, match="3"):
        list(auto_imap(work.double, itertools.count(), backend="threads", **options))


def refuse(why: object) -> None:
    raise RuntimeError(why)


@pytest.mark.skipif(not APART, reason="there are no worker processes here")
def test_an_item_that_runs_past_its_time_is_ended() -> None:
    found = list(auto_imap(work.nap, [0.0, 60.0, 0.0], "cpu", timeout=0.5, errors="return"))
    assert [found[0], found[2]] == [0.0, 0.0]
    assert isinstance(found[1], TaskTimeout)


def test_a_thread_that_runs_past_its_time_is_given_up() -> None:
    over = threading.Event()
    try:
        found = list(auto_imap(over.wait, [0.0, 30.0, 0.0], "io", timeout=0.3, errors="return"))
    finally:
        over.set()
    assert [found[0], found[2]] == [False, False]
    assert isinstance(found[1], TaskTimeout)


def test_that_no_thread_can_be_started_any_more_is_raised_after_what_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put = Flow.put

    def put_some(flow: Flow, entries: Sequence[Entry]) -> bool:
        if entries[0].task[1] == (5,):
            raise RuntimeError("can't start new thread")
        return put(flow, entries)

    monkeypatch.setattr(Flow, "put", put_some)
    found = auto_imap(work.double, range(9), "io")
    assert [next(found) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(RuntimeError, match="start new thread"):
        next(found)
