"""`Pool` has the interface of `multiprocessing.Pool`, over threads, processes, or both."""

from __future__ import annotations

import functools
import gc
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import work
from autopar import AutoparError, Pool, WorkerCrashed
from autopar._observe.machine import machine
from autopar._platform import gil_enabled
from conftest import APART, eventually, misled

KINDS = ["auto", "cpu", "io"]
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=KINDS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(4, kind=request.param) as opened:
        yield opened


# one call


def test_apply_gives_the_result(pool: Pool) -> None:
    assert pool.apply(pow, (2, 8)) == 256
    assert pool.apply(work.spread, (1,), {"x": 2}) == ((1,), {"x": 2})
    with pytest.raises(ZeroDivisionError):
        pool.apply(work.reciprocal, (0,))


def test_a_result_can_be_asked_for_and_waited_for(pool: Pool) -> None:
    result = pool.apply_async(work.nap, (0.3,))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    result.wait(30)
    assert (result.ready(), result.successful(), result.get()) == (True, True, 0.3)
    failed = pool.apply_async(work.reciprocal, (0,))
    failed.wait(30)
    assert not failed.successful()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failed.get()


def test_callbacks_are_told_before_the_result_is_there(pool: Pool) -> None:
    told: list[object] = []
    assert pool.apply_async(work.double, (4,), callback=told.append).get(30) == 8
    assert told == [8]
    failed = pool.apply_async(work.reciprocal, (0,), error_callback=told.append)
    failed.wait(30)
    assert isinstance(told[1], ZeroDivisionError)
    assert pool.map_async(work.double, range(5), callback=told.append).get(30) == told[2]


def test_a_callback_that_fails_is_shown_and_ends_nothing(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))
    result = pool.apply_async(work.double, (1,), callback=lambda value: value / 0)
    assert result.get(30) == 2
    assert shown == [ZeroDivisionError]
    assert pool.apply(work.double, (2,)) == 4


# many calls


@given(numbers=st.lists(st.integers(-50, 50), max_size=40), size=st.integers(1, 50))
def test_map_is_the_builtin_one(numbers: list[int], size: int) -> None:
    with Pool(3, kind="io") as pool:
        assert pool.map(work.double, numbers, size) == [2 * n for n in numbers]
        assert pool.starmap(pow, [(n, 2) for n in numbers]) == [n**2 for n in numbers]
        assert list(pool.imap(work.double, numbers, size)) == [2 * n for n in numbers]
        unordered = pool.imap_unordered(work.double, iter(numbers))
        assert sorted(unordered) == sorted(2 * n for n in numbers)


def test_what_the_first_item_that_fails_has_raised_is_raised_when_all_have_ended(
    pool: Pool,
) -> None:
    result = pool.map_async(work.fail_late_or_soon, range(10))
    with pytest.raises(ValueError, match="item 3"):
        result.get(30)
    assert not result.successful()


def test_an_iterator_goes_on_after_a_failure(pool: Pool) -> None:
    results = pool.imap(work.reciprocal, [1, 0, 2])
    assert results.next(30) == 1
    with pytest.raises(ZeroDivisionError):
        results.next(30)
    assert results.next(30) == 0.5
    with pytest.raises(StopIteration):
        results.next(30)


def test_a_result_that_is_not_there_in_time_can_be_had_later(pool: Pool) -> None:
    results = pool.imap(work.nap, [0.3])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.01)
    assert results.next(30) == 0.3


def test_an_iterable_without_an_end_is_read_a_bounded_way_ahead(pool: Pool) -> None:
    read = itertools.count()
    results = pool.imap(work.double, iter(lambda: next(read), None))
    assert [results.next(30) for _ in range(100)] == [*range(0, 200, 2)]
    time.sleep(0.05)  # for it to read on, if it did
    assert next(read) < 100 + 64


def test_what_the_iterable_raises_is_raised_in_its_place(pool: Pool) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no third")

    for results in (pool.imap(work.double, items()), pool.imap_unordered(work.double, items())):
        assert sorted([results.next(30), results.next(30)]) == [2, 4]
        with pytest.raises(LookupError, match="no third"):
            results.next(30)
        with pytest.raises(StopIteration):
            results.next(30)
    with pytest.raises(LookupError, match="no third"):
        pool.map(work.double, items())


def test_an_iterable_that_blocks_does_not_hold_results_back(pool: Pool) -> None:
    more = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        more.wait(30)
        yield 2

    results = pool.imap(work.double, items())
    assert results.next(30) == 2
    more.set()
    assert results.next(30) == 4


def test_an_iterator_that_nobody_wants_any_more_closes_its_iterable(pool: Pool) -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    results = pool.imap(work.double, items())
    assert results.next(30) == 0
    del results
    gc.collect()
    assert closed.wait(30)


# the end


def test_after_close_all_is_done_and_nothing_is_taken(pool: Pool) -> None:
    result = pool.map_async(work.nap, [0.01] * 40)
    lazy = pool.imap(work.double, range(500))
    pool.close()
    for call in (pool.apply, pool.apply_async):
        with pytest.raises(ValueError, match="Pool not running"):
            call(abs, (1,))
    with pytest.raises(ValueError, match="Pool not running"):
        pool.imap(abs, [1])
    assert sum(lazy) == sum(range(0, 1000, 2))
    pool.join()
    assert result.ready()


def test_join_without_close_is_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="still running"):
        pool.join()


def test_terminate_ends_what_waits_with_an_error(pool: Pool) -> None:
    result = pool.map_async(work.nap, [0.05] * 400)
    pool.terminate()
    pool.join()
    with pytest.raises(AutoparError, match="terminated"):
        result.get(30)
    with pytest.raises(ValueError, match="Pool not running"):
        pool.__enter__()


def test_a_pool_cannot_travel(pool: Pool) -> None:
    with pytest.raises(NotImplementedError):
        pickle.dumps(pool)


@pytest.mark.parametrize(
    "options", [{"processes": 0}, {"processes": -1}, {"maxtasksperchild": 0}, {"kind": "gpu"}]
)
def test_it_refuses_what_cannot_be_meant(options: dict) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        Pool(**options)


# workers


@kinds
def test_an_initializer_prepares_each_worker(kind: str) -> None:
    with Pool(2, work.prepare, ("ready",), kind=kind) as pool:
        assert {*pool.map(work.prepared, range(30))} == {"ready"}


@pytest.mark.skipif(not APART, reason="there are no worker processes here")
@pytest.mark.parametrize("most", [1, 3])
def test_a_worker_is_replaced_after_its_number_of_calls(most: int) -> None:
    with Pool(2, maxtasksperchild=most, kind="cpu") as pool:
        workers = pool.map(work.waited_in, [0.001] * 20)
        workers += [pool.apply(os.getpid) for _ in range(4)]
    assert max(map(workers.count, workers)) <= most


def test_what_does_not_travel_to_where_the_others_are_is_done_here() -> None:
    def trial() -> object:
        items = [at if at % 100 < 98 else work.Settled(at) for at in range(400)]
        with Pool() as pool:
            assert pool.map(work.spin_and_count, items) == [*range(400)]
            (report,) = pool.reports
        apart = "processes" in {plan.backend for plan in report.plans}
        return None if apart or machine().cpus < 2 or not gil_enabled() else str(report)

    assert not misled(trial)


@pytest.mark.skipif(not APART, reason="there are no worker processes here")
def test_a_worker_that_dies_costs_one_call_and_nothing_waits_for_ever() -> None:
    with Pool(2, kind="cpu") as pool:
        bad = pool.apply_async(functools.partial(work.die, "kill"))
        good = pool.map_async(work.slow_double, range(30))
        with pytest.raises(WorkerCrashed):
            bad.get(30)
        assert good.get(30) == [*range(0, 60, 2)]


@kinds
def test_a_program_that_leaves_its_pool_open_ends(kind: str) -> None:
    script = f"""
import itertools, time
from autopar import Pool
pool = Pool(2, kind={kind!r})
results = pool.imap(abs, itertools.count())
print(next(results), pool.map(abs, [-1, -2]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.stderr) == ("0 [1, 2]\n", "")


def test_threads_of_a_pool_that_is_gone_end() -> None:
    pool = Pool(3, kind="io")
    dispatch = pool._dispatch
    assert pool.map(work.double, range(10)) == [*range(0, 20, 2)]
    del pool
    gc.collect()
    assert eventually(lambda: dispatch.wait(0.1))
