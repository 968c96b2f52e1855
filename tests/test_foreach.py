"""`auto_foreach`: a map for what it does, which keeps nothing."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import decorated
import faulty
import work
from autopar import (
    AutoExecutor,
    OptionTypeError,
    OptionValueError,
    Retry,
    TaskTimeout,
    WorkerCrashed,
    auto_foreach,
    observe,
)
from conftest import eventually
from programs import Program


@pytest.fixture
def marks(tmp_path: Path) -> faulty.Marks:
    """Counts how often each item is begun and ended, whatever process runs it."""
    return faulty.Marks(tmp_path / "marks", 120)


def steps(marks: faulty.Marks, how: str = "", *at: int, times: int = 1000) -> list[faulty.Step]:
    """120 quick items, some of which do harm."""
    items = [faulty.Step(index, marks.path) for index in range(120)]
    return [item._replace(how=how, times=times) if item.index in at else item for item in items]


# the same meaning


@pytest.mark.parametrize("lazy", [False, True], ids=["list", "iterator"])
@pytest.mark.parametrize("options", [{}, {"errors": "group"}, {"retries": 1}, {"chunksize": 7}])
def test_each_item_is_run_once_and_nothing_comes_back(
    backend: str, lazy: bool, options: dict[str, Any], marks: faulty.Marks
) -> None:
    items = steps(marks)
    given = iter(items) if lazy else items
    assert auto_foreach(faulty.step, given, backend=backend, **options) is None  # type: ignore[func-returns-value]
    assert marks.begun() == marks.ended() == [1] * 120


@pytest.mark.parametrize("kind", ["auto", "cpu", "io"])
def test_the_kind_may_be_said_and_nothing_may_be_there_to_do(
    kind: Any, marks: faulty.Marks
) -> None:
    with observe() as seen:
        auto_foreach(faulty.step, steps(marks), kind)
        auto_foreach(faulty.step, iter(()), kind)
    assert marks.ended() == [1] * 120
    assert [report.kind for report in seen.reports] == [kind] * 2
    assert [report.items for report in seen.reports] == [120, 0]


def test_what_it_does_here_is_done_here() -> None:
    seen: list[int] = []
    auto_foreach(seen.append, range(500))
    assert seen == [*range(500)]


def test_several_iterables_are_several_arguments() -> None:
    seen: list[tuple[str, int]] = []
    auto_foreach(lambda *args: seen.append(args), "abc", itertools.count())
    assert seen == [("a", 0), ("b", 1), ("c", 2)]


def test_the_decorator_has_it_too(marks: faulty.Marks) -> None:
    kept: list[int] = []
    decorated.parallel(kept.append).foreach([1, 2, 3])
    assert kept == [1, 2, 3]
    decorated.parallel(kind="cpu")(faulty.step).foreach(steps(marks), errors="group")
    assert marks.ended() == [1] * 120


def test_an_executor_of_the_callers_can_run_it(marks: faulty.Marks) -> None:
    with AutoExecutor(2, kind="cpu") as executor:
        auto_foreach(faulty.step, steps(marks), backend=executor)
        auto_foreach(work.wrap_unpicklable, range(9), backend=executor)
        assert marks.ended() == [1] * 120
        with pytest.raises(ExceptionGroup) as caught:
            auto_foreach(work.reciprocal, [1, 0, 2], backend=executor, errors="group")
    assert len(caught.value.exceptions) == 1


def test_a_seed_is_taken(tmp_path: Path) -> None:
    def draw(path: Path) -> None:
        import random

        path.write_text(str(random.random()))

    names = [tmp_path / str(number) for number in range(6)]
    auto_foreach(draw, names, backend="processes", seed=1)
    first = [name.read_text() for name in names]
    auto_foreach(draw, names, seed=1)
    assert [name.read_text() for name in names] == first
    assert len(set(first)) == 6


# nothing is kept


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"backend": "serial"},
        {"backend": "threads"},
        {"backend": "serial", "errors": "group"},
        {"backend": "threads", "errors": "group"},
        {"kind": "io", "timeout": 20.0},
    ],
    ids=str,
)
def test_results_go_as_they_come(options: dict[str, Any]) -> None:
    work.Counted.most = 0
    auto_foreach(work.Counted, (item for item in range(20_000)), **options)
    assert 0 < work.Counted.most < 10_000
    assert eventually(lambda: work.Counted.alive == 0)


@pytest.mark.parametrize("means", ["processes", "hybrid"])
@pytest.mark.parametrize("errors", ["raise", "group"])
def test_results_do_not_travel(means: str, errors: Any) -> None:
    auto_foreach(work.wrap_unpicklable, range(300), backend=means, errors=errors)


def test_a_result_that_does_not_travel_keeps_no_work_from_processes() -> None:
    def place(seconds: float) -> threading.Lock:
        work.spin(seconds)
        return threading.Lock()

    with observe() as seen:
        auto_foreach(place, [0.02] * 40, "cpu", workers=2)
    assert "does not pickle" not in seen.reports[0].because


# failures


def test_the_first_failure_is_raised_and_none_behind_it_starts(
    backend: str, marks: faulty.Marks
) -> None:
    with pytest.raises(ValueError, match="as asked") as caught:
        auto_foreach(faulty.step, steps(marks, "raise", 70, 90), backend=backend, workers=2)
    assert "step() for item 70" in "".join(caught.value.__notes__)
    assert marks.ended()[:71] == [1] * 70 + [0]


def test_all_failures_are_raised_together_when_all_has_been_run(
    backend: str, marks: faulty.Marks
) -> None:
    with pytest.raises(ExceptionGroup, match="2 of 120 items failed") as caught:
        auto_foreach(faulty.step, steps(marks, "raise", 70, 20), backend=backend, errors="group")
    notes = ["".join(error.__notes__) for error in caught.value.exceptions]
    assert ["item 20" in notes[0], "item 70" in notes[1]] == [True, True]
    assert marks.ended() == [int(index not in (20, 70)) for index in range(120)]


def test_what_the_iterable_raises_is_raised(backend: str, marks: faulty.Marks) -> None:
    def items() -> Iterator[faulty.Step]:
        yield from steps(marks)[:50]
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        auto_foreach(faulty.step, items(), backend=backend)
    assert marks.ended() == [1] * 50 + [0] * 70


@pytest.mark.parametrize("errors", ["raise", "group"])
def test_a_crash_costs_its_item(errors: Any, marks: faulty.Marks) -> None:
    items = steps(marks, "SIGKILL", 70)
    with pytest.raises((WorkerCrashed, ExceptionGroup)) as caught:
        auto_foreach(faulty.step, items, backend="processes", errors=errors)
    error = caught.value
    if isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
        assert sum(marks.ended()) == 119
    assert isinstance(error, WorkerCrashed)
    assert error.index == 70
    assert max(marks.begun()) == 1


def test_faults_can_be_tried_again_and_ended(marks: faulty.Marks) -> None:
    items = steps(marks, "SIGKILL", 30, times=1)
    items[60] = items[60]._replace(how="raise", times=2)
    auto_foreach(faulty.step, items, backend="processes", retries=Retry(2, backoff=0.001))
    assert marks.begun() == [{30: 2, 60: 3}.get(index, 1) for index in range(120)]
    items = steps(marks, "sleep", 70)
    with pytest.raises(TaskTimeout):
        auto_foreach(faulty.step, items, backend="processes", timeout=0.2)


@pytest.mark.parametrize("means", ["serial", "threads", "processes", "hybrid"])
def test_ctrl_c_ends_it(means: str) -> None:
    script = f"""
from autopar import auto_foreach
import itertools
def nap(x):
    if x == 5:
        print("five", flush=True)
    time.sleep(0.01)
auto_foreach(nap, itertools.count(), backend={means!r}, workers=2)
"""
    with Program(script) as program:
        program.read_and_wait("five")
        os.kill(program.pid, signal.SIGINT)
        _out, errors = program.process.communicate(timeout=30)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1


def test_what_cannot_be_meant_is_refused() -> None:
    ran: list[int] = []
    with pytest.raises(OptionValueError, match="errors='return' is for results"):
        auto_foreach(ran.append, [1], errors="return")  # type: ignore[call-overload]
    with pytest.raises(OptionTypeError, match="fn must be callable"):
        auto_foreach(3, [1])  # type: ignore[call-overload]
    assert not ran
