"""`auto_reduce`: results combined in the order of the items, as they come, and not kept."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import decorated
import faulty
import work
from autopar import OptionTypeError, OptionValueError, Retry, WorkerCrashed, auto_reduce
from conftest import children, eventually, shot
from programs import Program

WAYS = [{"kind": "auto"}, {"kind": "cpu"}, {"kind": "io"}, {"backend": "hybrid"}]
ways = pytest.mark.parametrize("way", WAYS, ids=str)


@pytest.fixture
def marks(tmp_path: Path) -> faulty.Marks:
    """Counts how often each item is begun and ended, whatever process runs it."""
    return faulty.Marks(tmp_path / "marks", 120)


def steps(marks: faulty.Marks, how: str = "", at: int = 0, times: int = 1000) -> list[faulty.Step]:
    """120 quick items, one of which may do harm."""
    items = [faulty.Step(index, marks.path) for index in range(120)]
    items[at] = items[at]._replace(how=how, times=times)
    return items


def pair(left: Any, right: Any) -> Any:
    """Neither associative nor commutative: shows what was combined with what, and when."""
    return (left, right)


@given(items=st.lists(st.integers(-9, 9), max_size=40), initial=st.none() | st.integers())
def test_it_is_reduce_over_the_loop(items: list[int], initial: int | None) -> None:
    start = () if initial is None else (initial,)
    for kind in ("auto", "io"):
        try:
            expected = functools.reduce(pair, [work.double(item) for item in items], *start)
        except TypeError as error:
            with pytest.raises(TypeError) as caught:
                auto_reduce(work.double, iter(items), pair, *start, kind=kind)
            assert str(caught.value) == str(error)
        else:
            assert auto_reduce(work.double, iter(items), pair, *start, kind=kind) == expected


@pytest.mark.parametrize(
    "options",
    [*WAYS, *({"backend": name} for name in ("serial", "threads", "processes"))],
    ids=str,
)
def test_each_item_is_run_once_and_combined_in_order(
    options: dict[str, Any], marks: faulty.Marks
) -> None:
    expected = functools.reduce(pair, range(120), "start")
    assert auto_reduce(faulty.step, steps(marks), pair, "start", **options) == expected
    assert marks.begun() == marks.ended() == [1] * 120


def test_none_is_a_start() -> None:
    assert auto_reduce(work.double, [1], pair, None) == (None, 2)
    assert auto_reduce(work.double, [], pair, None) is None


@ways
def test_it_combines_in_the_calling_thread(way: dict[str, Any]) -> None:
    threads = set()

    def add(left: int, right: int) -> int:
        threads.add(threading.get_ident())
        return left + right

    assert auto_reduce(work.slow_double, range(60), add, 0, **way) == sum(range(0, 120, 2))
    assert threads == {threading.get_ident()}


@ways
def test_results_are_not_kept_nor_read_far_ahead(way: dict[str, Any]) -> None:
    work.Counted.most = read = ahead = 0

    def add(left: int, _right: work.Counted) -> int:
        nonlocal ahead
        ahead = max(ahead, read - left)
        return left + 1

    def items() -> Iterator[int]:
        nonlocal read
        for _ in range(5_000):
            read += 1
            yield read

    assert auto_reduce(work.Counted, items(), add, 0, **way) == 5_000
    assert 0 < work.Counted.most < 1_000
    assert ahead < 1_000


def test_the_decorator_has_it_too() -> None:
    assert decorated.double.reduce([1, 2, 3], pair) == ((2, 4), 6)
    assert decorated.double.reduce([1, 2], pair, 0, kind="io", buffersize=2) == ((0, 2), 4)
    assert decorated.double.reduce([], pair, initial=7) == 7
    assert decorated.double.with_(seed=3, chunksize=2).reduce([1, 2], pair) == (2, 4)


# failures


@ways
def test_what_an_item_raises_is_raised_with_its_name(way: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        auto_reduce(work.reciprocal, [4, 2, 0, 1], pair, **way)
    assert "reciprocal() for item 2" in "".join(caught.value.__notes__)


class Endless:
    """Numbers without an end, which tell when they are closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            self.closed.set()


@ways
def test_an_exception_of_combine_ends_the_workers_and_closes_the_iterable(
    way: dict[str, Any],
) -> None:
    def stumble(left: int, right: int) -> int:
        if right > 60:
            raise LookupError("enough")
        return left + right

    items = Endless()
    with pytest.raises(LookupError, match="enough") as caught:
        auto_reduce(work.slow_double, items, stumble, 0, **way)
    assert not hasattr(caught.value, "__notes__")
    assert items.closed.wait(10)


@ways
def test_what_the_iterable_raises_is_raised(way: dict[str, Any]) -> None:
    def items() -> Iterator[int]:
        yield from range(50)
        raise LookupError("no more")

    combined: list[int] = []

    def keep(_left: None, right: int) -> None:
        combined.append(right)

    with pytest.raises(LookupError, match="no more"):
        auto_reduce(work.slow_double, items(), keep, None, **way)
    assert combined == [*range(0, 100, 2)]


def test_a_worker_that_is_killed_in_the_middle_costs_its_item(marks: faulty.Marks) -> None:
    with pytest.raises(WorkerCrashed) as caught:
        auto_reduce(faulty.step, steps(marks, "SIGKILL", 70), pair, kind="cpu", backend="processes")
    assert caught.value.index == 70
    assert max(marks.begun()) == 1


def test_and_can_be_tried_again(marks: faulty.Marks) -> None:
    items = steps(marks, "SIGKILL", 70, times=2)
    retries = Retry(2, on=WorkerCrashed, backoff=0.01)
    got = auto_reduce(faulty.step, items, pair, backend="processes", retries=retries)
    assert got == functools.reduce(pair, range(120))
    assert marks.begun() == [3 if index == 70 else 1 for index in range(120)]


def test_workers_killed_at_random_cost_no_more_than_tries(marks: faulty.Marks) -> None:
    over = threading.Event()

    def shoot() -> None:
        before = 0
        while not over.wait(0.1):
            begun = sum(marks.begun())
            if begun > before:  # or new ones might die again and again before they have any
                before = begun
                for pid in [pid for helper in children() for pid in children(helper)][:1]:
                    shot(pid)

    shooter = threading.Thread(target=shoot)
    shooter.start()
    items = [step._replace(work_s=0.004) for step in steps(marks)]
    try:
        got = auto_reduce(faulty.step, items, pair, backend="processes", retries=50)
    finally:
        over.set()
        shooter.join()
    assert got == functools.reduce(pair, range(120))


@pytest.mark.parametrize("where", ["item", "combine"])
@ways
def test_ctrl_c_ends_it_and_leaves_nobody(way: dict[str, Any], where: str) -> None:
    script = f"""
from autopar import auto_reduce
import itertools
def nap(x):
    time.sleep(0.01 if x < 20 or {where == "combine"} else 1000)
    return x
def combine(left, right):
    if right == 10:
        print("ten", flush=True)
    if {where == "combine"} and right == 10:
        time.sleep(1000)
    return right
auto_reduce(nap, itertools.count(), combine, workers=2, **{way!r})
"""
    with Program(script) as program:
        program.read_and_wait("ten")
        os.killpg(program.pid, signal.SIGINT)
        _out, errors = program.process.communicate(timeout=30)
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert errors.count("Traceback") == 1
        assert eventually(lambda: not program.tree())


# what cannot be meant


def test_what_cannot_be_meant_is_refused_before_anything_runs() -> None:
    for name in ("ordered", "errors", "chunksize"):
        with pytest.raises(OptionTypeError, match=f"no option {name!r}"):
            auto_reduce(work.double, [1], pair, **{name: 1})  # type: ignore[call-overload]
    with pytest.raises(OptionTypeError, match="combine must be callable"):
        auto_reduce(work.double, [1], 3)  # type: ignore[call-overload]
    with pytest.raises(OptionValueError, match="share no process"):
        auto_reduce(work.double, [1], pair, backend="hybrid", timeout=1)
