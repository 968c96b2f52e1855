"""What every call means, whatever runs it."""

from __future__ import annotations

import bisect
import gc
import itertools
import random
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import work
from autopar import (
    OptionTypeError,
    OptionValueError,
    Plan,
    TransportError,
    auto_foreach,
    auto_map,
    auto_starmap,
    observe,
    plan,
)
from autopar._platform import gil_enabled
from conftest import BACKENDS, eventually, misled


def test_results_are_those_of_the_loop_in_order(backend: str) -> None:
    assert auto_map(work.double, range(1000), backend=backend) == [2 * x for x in range(1000)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_any_number_of_items_will_do(backend: str, count: int) -> None:
    assert auto_map(work.double, range(count), backend=backend) == [2 * x for x in range(count)]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    items=st.lists(st.one_of(st.integers(), st.text(), st.floats(allow_nan=False)), max_size=60),
    workers=st.integers(1, 5),
    chunksize=st.one_of(st.none(), st.integers(1, 70)),
    how=st.sampled_from(["list", "tuple", "generator", "iterator"]),
)
def test_workers_chunks_and_kind_of_iterable_change_nothing(
    backend: str, items: list[Any], workers: int, chunksize: int | None, how: str
) -> None:
    shapes = {
        "list": list,
        "tuple": tuple,
        "generator": lambda xs: (x for x in xs),
        "iterator": iter,
    }
    got = auto_map(
        work.double, shapes[how](items), backend=backend, workers=workers, chunksize=chunksize
    )
    assert got == [2 * x for x in items]


@pytest.mark.parametrize("items", [{1, 2, 3}, {"a": 1, "b": 2}, "text", b"bytes", frozenset({5})])
def test_any_iterable_will_do(backend: str, items: Any) -> None:
    assert auto_map(work.double, items, backend=backend) == [2 * x for x in items]


def test_every_item_is_evaluated_exactly_once(backend: str, tmp_path: Path) -> None:
    paths = [str(tmp_path / str(number)) for number in range(200)]
    auto_map(work.stamp, paths, backend=backend)
    assert [Path(path).read_bytes() for path in paths] == [b"x"] * 200


@pytest.mark.parametrize("kind", ["auto", "cpu", "io"])
def test_every_kind_evaluates_each_item_exactly_once(kind: Any, tmp_path: Path) -> None:
    paths = [str(tmp_path / str(number)) for number in range(200)]
    assert auto_map(work.stamp, paths, kind) == paths
    assert [Path(path).read_bytes() for path in paths] == [b"x"] * 200


def test_a_failure_is_raised_as_itself_and_names_its_item(backend: str) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        auto_map(work.reciprocal, [4, 2, 0, 1], backend=backend)
    notes = "\n".join(caught.value.__notes__)
    assert "item 2" in notes
    assert "reciprocal" in notes


def test_the_first_failure_in_item_order_is_raised(backend: str) -> None:
    items = [0.02] * 10 + [0.0] * 10

    def fails(pair: tuple[int, float]) -> int:
        index, seconds = pair
        time.sleep(seconds)
        if index in (3, 15):
            raise ValueError(index)
        return index

    with pytest.raises(ValueError) as caught:
        auto_map(fails, list(enumerate(items)), backend=backend, workers=4)
    assert caught.value.args == (3,)


def test_a_failure_that_pickle_cannot_rebuild_arrives_as_itself(backend: str) -> None:
    with pytest.raises(work.TwoArguments) as caught:
        auto_map(work.fail_oddly, range(20), backend=backend)
    assert (caught.value.first, caught.value.second) == (7, "eight")


def test_errors_can_be_returned_in_their_items_places(backend: str) -> None:
    got = auto_map(work.reciprocal, [4, 0, 2, 0], backend=backend, errors="return")
    assert [got[0], got[2]] == [0.25, 0.5]
    assert [type(got[1]), type(got[3])] == [ZeroDivisionError, ZeroDivisionError]


def test_errors_can_be_grouped_after_everything_has_run(backend: str, tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        auto_map(work.reciprocal, [4, 0, 2, 0], backend=backend, errors="group")
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError] * 2
    assert "item 3" in caught.value.exceptions[1].__notes__[-1]


@pytest.mark.parametrize("errors", ["return", "group"])
def test_without_failures_every_error_policy_gives_the_results(backend: str, errors: Any) -> None:
    assert auto_map(work.double, range(9), backend=backend, errors=errors) == [*range(0, 18, 2)]


@pytest.mark.parametrize("errors", ["raise", "return", "group"])
@pytest.mark.parametrize("kind", ["auto", "cpu", "io"])
def test_every_kind_and_error_policy_gives_the_results(kind: Any, errors: Any) -> None:
    assert auto_map(work.double, range(300), kind, errors=errors) == [*range(0, 600, 2)]


def test_what_the_iterable_raises_comes_after_the_items_before_it(
    backend: str, tmp_path: Path
) -> None:
    paths = [str(tmp_path / str(number)) for number in range(5)]

    def items() -> Iterator[str]:
        yield from paths
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        auto_map(work.stamp, items(), backend=backend)
    assert [Path(path).read_bytes() for path in paths] == [b"x"] * 5


def test_an_earlier_failing_item_wins_over_the_iterable(backend: str) -> None:
    def items() -> Iterator[int]:
        yield from (1, 0)
        raise LookupError

    with pytest.raises(ZeroDivisionError):
        auto_map(work.reciprocal, items(), backend=backend)


def test_an_iterable_that_is_slower_than_its_items_may_be_long(backend: str) -> None:
    def slow() -> Iterator[int]:
        for x in range(700):
            time.sleep(0.0006)
            yield x

    assert auto_map(work.pause_at_600, slow(), backend=backend, workers=1) == [*range(700)]


def test_an_endless_iterable_ends_with_the_first_failure(backend: str) -> None:
    with pytest.raises(ZeroDivisionError):
        auto_map(work.reciprocal, itertools.count(-50), backend=backend)


def test_an_iterator_is_read_by_the_calling_thread(backend: str) -> None:
    readers = set()

    def items() -> Iterator[float]:
        for _ in range(60):
            readers.add(threading.get_ident())
            yield 0.001

    auto_map(work.nap, items(), backend=backend, workers=4)
    assert readers == {threading.get_ident()}


def test_threads_work_at_once_and_processes_are_other_processes() -> None:
    assert len(set(auto_map(work.slow_whereabouts, range(60), backend="processes", workers=2))) == 2
    barrier = threading.Barrier(4)
    assert auto_map(lambda _: barrier.wait(10) >= 0, range(4), "io", workers=4) == [True] * 4


def test_items_that_wait_for_each_other_can_meet() -> None:
    barrier = threading.Barrier(3)
    assert len(auto_map(lambda _: barrier.wait(20), range(6))) == 6


def test_no_more_items_run_at_once_than_workers() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def item(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    auto_map(item, range(60), "io", workers=5)
    assert most <= 5
    auto_map(item, range(60), workers=5)
    assert most <= 5


@pytest.mark.parametrize("count", [2, 3, 10])
def test_items_may_wait_for_each_other(count: int) -> None:
    """As in a thread pool of a hundred, even if the loop would wait for ever."""
    barrier = threading.Barrier(count)
    for kind in ("auto", "io"):
        assert sorted(auto_map(lambda _: barrier.wait(20), range(count), kind)) == [*range(count)]


@pytest.mark.skipif(not gil_enabled(), reason="there is no GIL to queue for")
@pytest.mark.usefixtures("queue_shown")
def test_a_change_of_course_has_no_more_items_at_once_than_workers() -> None:
    """Threads make way for a hybrid without overlap."""
    with observe() as seen:
        spans = auto_map(work.wait_and_compute, range(600), workers=6)
    plans = [plan.backend for plan in seen.reports[0].plans]
    assert plans[:2] == ["threads", "hybrid"], seen.reports[0]
    began, ended = sorted(span[0] for span in spans), sorted(span[1] for span in spans)
    for index, moment in enumerate(began):
        assert index + 1 - bisect.bisect_right(ended, moment) <= 6


def test_one_slow_item_does_not_hold_the_others_up(backend: str) -> None:
    done: list[float] = []

    def item(seconds: float) -> float:
        time.sleep(seconds)
        done.append(seconds)
        return seconds

    if backend == "threads":
        auto_map(item, [0.5] + [0.0] * 200, backend=backend, workers=2)
        assert done[-1] == 0.5
    else:
        assert auto_map(work.nap, [0.2] + [0.0] * 50, backend=backend)[0] == 0.2


def test_an_initializer_runs_once_in_each_worker(tmp_path: Path) -> None:
    for name in ("threads", "processes"):
        mark = tmp_path / name
        auto_map(
            work.nap,
            [0.01] * 20,
            "io" if name == "threads" else "auto",
            backend=name,
            workers=3,
            initializer=work.start_worker,
            initargs=(str(mark),),
        )
        assert 1 <= len(mark.read_bytes()) <= 3


@pytest.mark.parametrize("name", ["threads", "processes"])
def test_an_initializer_that_fails_ends_the_call(name: str) -> None:
    with pytest.raises(RuntimeError, match="no worker for you"):
        auto_map(
            work.nap,
            [0.01] * 20,
            "io" if name == "threads" else "auto",
            backend=name,
            initializer=work.refuse_to_start,
        )


def test_starmap_spreads_the_arguments(backend: str) -> None:
    assert auto_starmap(pow, [(2, 3), (3, 2), (10, 0)], backend=backend) == [8, 9, 1]


def test_any_executor_can_be_the_backend() -> None:
    with ThreadPoolExecutor(3) as executor, observe() as seen:
        assert auto_map(work.double, range(500), backend=executor) == [*range(0, 1000, 2)]
        assert seen.reports[0].backend == "ThreadPoolExecutor"
        with pytest.raises(ZeroDivisionError):
            auto_map(work.reciprocal, [3, 2, 1, 0, 1], backend=executor)
        got = auto_map(work.reciprocal, [1, 0], backend=executor, errors="return")
        assert isinstance(got[1], ZeroDivisionError)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Only what nobody refers to any more goes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def all_gone(things: list[weakref.ref[Any]]) -> bool:
    if not gil_enabled():  # what another thread has held goes when that has looked
        gc.collect()
    return not any(thing() for thing in things)


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(
    ("backend", "options"),
    [
        *[(name, {}) for name in BACKENDS],
        *[(name, {"errors": "return"}) for name in BACKENDS],
        *[(name, {"timeout": 30}) for name in ("threads", "processes")],
        *[(None, {"kind": kind}) for kind in ("auto", "cpu", "io")],
    ],
    ids=str,
)
def test_nothing_of_a_call_outlives_its_results(
    backend: str | None, options: dict[str, Any]
) -> None:
    """What is large goes at once, not when the garbage is collected."""
    gone: list[weakref.ref[Any]] = []

    def things() -> Iterator[work.Thing]:
        for x in range(40):
            thing = work.Thing(x)
            gone.append(weakref.ref(thing))
            yield thing

    results = auto_map(work.other_thing, things(), backend=backend, **options)
    assert [thing.x for thing in results] == list(range(1, 41))
    assert eventually(lambda: all_gone(gone))
    gone += [weakref.ref(thing) for thing in results]
    del results
    assert eventually(lambda: all_gone(gone))


@pytest.mark.usefixtures("no_collection")
def test_nothing_of_a_call_outlives_its_exception(backend: str) -> None:
    things = [work.Thing(x) for x in (1, 2, -1, 3)] * 10
    gone = [weakref.ref(thing) for thing in things]
    with pytest.raises(ValueError, match="below zero") as caught:
        auto_map(work.other_thing, things, backend=backend)
    del things, caught
    assert eventually(lambda: all_gone(gone))


def test_calls_from_many_threads_do_not_mix() -> None:
    def call(number: int) -> bool:
        items = [(number, i) for i in range(200)]
        return auto_map(work.double, items, random.choice(["auto", "cpu", "io"])) == [
            2 * item for item in items
        ]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(call, range(24)))


def test_a_map_inside_a_map_works(backend: str) -> None:
    assert auto_map(_inner, range(4), backend=backend, workers=2) == [_inner(x) for x in range(4)]


def _inner(x: int) -> list[int]:
    return auto_map(work.double, range(x, x + 20))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"kind": "gpu"}, OptionValueError),
        ({"kind": 3}, OptionTypeError),
        ({"backend": "quantum"}, OptionValueError),
        ({"backend": 4}, OptionTypeError),
        ({"workers": 0}, OptionValueError),
        ({"workers": 1.5}, OptionTypeError),
        ({"workers": True}, OptionTypeError),
        ({"chunksize": -1}, OptionValueError),
        ({"chunksize": "2"}, OptionTypeError),
        ({"errors": "ignore"}, OptionValueError),
        ({"initializer": 3}, OptionTypeError),
        ({"initargs": [1]}, OptionTypeError),
    ],
)
def test_bad_options_are_refused_before_anything_runs(
    wrong: dict[str, Any], error: type[Exception]
) -> None:
    ran = []
    with pytest.raises(error) as caught:
        auto_map(ran.append, [1, 2, 3], **wrong)
    assert next(iter(wrong)) in str(caught.value)
    assert ran == []
    assert isinstance(caught.value, ValueError | TypeError)


class Meddler:
    """Notes what it is called with, and changes the list that is being run over."""

    def __init__(self, items: list[int], changes: dict[int, tuple[str, int]]) -> None:
        self.items, self.changes = items, changes
        self.seen: list[int] = []

    def __call__(self, item: int) -> int:
        how, number = self.changes.get(len(self.seen), ("", 0))
        self.seen.append(item)
        if how == "cut":
            del self.items[number:]
        elif how == "grow":
            self.items.extend(range(number))
        elif how == "replace" and self.items:
            self.items[number % len(self.items)] = -1
        elif how == "insert":
            self.items.insert(0, -2)
        return -item


@pytest.mark.skipif(not gil_enabled(), reason="without a GIL a chunk of a list is a copy")
@given(
    count=st.integers(0, 400),
    changes=st.dictionaries(
        st.integers(0, 500),
        st.tuples(st.sampled_from(["cut", "grow", "replace", "insert"]), st.integers(0, 400)),
        max_size=8,
    ),
    kept=st.booleans(),
)
def test_a_list_that_is_changed_meanwhile_is_run_over_as_by_the_loop(
    count: int, changes: dict[int, tuple[str, int]], kept: bool
) -> None:
    """In the calling thread; workers have copies of what they were given."""
    theirs, ours = list(range(count)), list(range(count))
    looped, mapped = Meddler(theirs, changes), Meddler(ours, changes)
    expected = [looped(item) for item in theirs]
    if kept:
        assert auto_map(mapped, ours, backend="serial") == expected
    else:
        auto_foreach(mapped, ours, backend="serial")
    assert mapped.seen == looped.seen
    assert ours == theirs


def test_what_cannot_be_called_or_iterated_is_refused() -> None:
    with pytest.raises(TypeError):
        auto_map(3, [1, 2])  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        auto_map(work.double, 3)  # type: ignore[call-overload]


def test_a_plan_runs_only_the_probe(tmp_path: Path) -> None:
    paths = [str(tmp_path / str(number)) for number in range(2000)]

    def item(path: str) -> str:
        time.sleep(0.005)
        return work.stamp(path)

    def trial() -> Plan | None:
        chosen = plan(item, paths)
        if chosen.backend not in ("threads", "hybrid"):
            return chosen
        assert chosen.predicted_s[chosen.backend] < chosen.predicted_s["serial"]
        return None

    assert not misled(trial)
    assert len(list(tmp_path.iterdir())) < 100


def test_what_would_not_travel_stays_in_shared_memory() -> None:
    boxes = [work.Unpicklable(x) for x in range(60)]
    with observe() as seen:
        assert auto_map(work.unwrap, boxes) == list(range(60))
        assert [box.x for box in auto_map(work.wrap_unpicklable, range(60))] == list(range(60))
        assert auto_map(work.unwrap, boxes, "cpu") == list(range(60))
    assert "processes" not in [report.backend for report in seen.reports]
    if gil_enabled():  # else nobody asks: threads are best anyway
        assert "this object stays at home" in seen.reports[-1].because


@pytest.mark.parametrize("function", [work.unwrap, work.wrap_unpicklable])
def test_explicit_processes_refuse_what_does_not_travel(function: Any) -> None:
    items: list[Any] = [1, 2, work.Unpicklable(3)] if function is work.unwrap else [1, 2, 3]
    with pytest.raises((TransportError, AttributeError)):
        auto_map(function, items, backend="processes")


def test_a_function_that_writes_its_surroundings_keeps_doing_so() -> None:
    work.seen.clear()
    auto_map(work.remember, range(40))
    assert sorted(work.seen) == list(range(40))
    total = 0

    def count(x: int) -> None:
        nonlocal total
        work.spin(0.002)
        total += x

    auto_map(count, range(40))
    assert total == sum(range(40))


@pytest.mark.parametrize("options", [{}, {"errors": "return"}, {"kind": "io"}])
def test_a_function_that_changes_its_items_changes_the_callers(options: Any) -> None:
    items: list[list[int]] = [[] for _ in range(40)]
    assert auto_map(work.touch, items, **options) == [1] * 40
    assert items == [[1]] * 40
