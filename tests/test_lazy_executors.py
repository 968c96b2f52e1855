"""Lazy maps on an executor that the caller brought, and that stays the caller's."""

from __future__ import annotations

import asyncio
import gc
import itertools
import multiprocessing
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import work
from autopar import aimap, auto_imap, auto_map, auto_reduce, observe, parallel
from conftest import eventually
from loops import listed
from primitives_work import end_standard_helpers

orders = pytest.mark.parametrize("ordered", [True, False])


@pytest.fixture(scope="module")
def executors() -> Iterator[dict[str, Executor]]:
    """One of threads, and one of processes: what a test leaves of them, the next one uses."""
    with ThreadPoolExecutor(3) as threads, pool() as processes:
        yield {"threads": threads, "processes": processes}
    end_standard_helpers()


@pytest.fixture(params=["threads", "processes"])
def executor(request: pytest.FixtureRequest, executors: dict[str, Executor]) -> Executor:
    """Each of them in turn."""
    return executors[request.param]


def pool() -> ProcessPoolExecutor:
    """The standard library's."""
    return ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))


class Watched(ThreadPoolExecutor):
    """Keeps what it has submitted."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.futures: list[Future[Any]] = []

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = super().submit(*args, **kwargs)
        self.futures.append(future)
        return future


class Endless:
    """Brief naps without an end, which tell how many were read, and when they are closed."""

    def __init__(self) -> None:
        self.read = 0
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[float]:
        try:
            while True:
                self.read += 1
                yield 0.002
        finally:
            self.closed.set()


# the same meaning


@orders
def test_each_item_is_evaluated_once_and_gives_its_result(
    executor: Executor, ordered: bool
) -> None:
    found = list(auto_imap(work.slow_double, range(100), backend=executor, ordered=ordered))
    assert (found if ordered else sorted(found)) == [*range(0, 200, 2)]
    assert list(auto_imap(work.double, [], backend=executor)) == []


def test_all_lazy_maps_take_one(executor: Executor) -> None:
    async def main() -> list[Any]:
        return await listed(aimap(work.double, range(20), backend=executor))

    assert asyncio.run(main()) == [*range(0, 40, 2)]
    assert auto_reduce(work.double, range(20), max, backend=executor) == 38
    decorated = parallel(work.double)
    assert list(decorated.imap(range(20), backend=executor)) == [*range(0, 40, 2)]


def test_it_is_reported_by_its_name() -> None:
    with ThreadPoolExecutor(3) as executor, observe() as seen:
        list(auto_imap(work.double, range(20), backend=executor))
    (made,) = seen.reports
    assert (made.backend, made.workers, made.items) == ("ThreadPoolExecutor", 3, 20)
    assert "the caller chose it" in made.because


@pytest.mark.parametrize("lazy", [True, False])
def test_no_more_items_run_at_once_than_are_allowed(lazy: bool) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def count(_item: object) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    with ThreadPoolExecutor(8) as executor:
        mapped: Any = auto_imap if lazy else auto_map
        list(mapped(count, range(50), backend=executor, workers=2))
    assert most <= 2


@pytest.mark.parametrize("option", ["timeout", "seed", "initializer"])
def test_what_is_asked_of_workers_that_are_its_own_is_refused(option: str) -> None:
    options: dict[str, Any] = {option: print if option == "initializer" else 1}
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match=option):
        auto_imap(work.double, [1], backend=executor, **options)


# no more than there is use for


@pytest.mark.parametrize("buffersize", [None, 3])
def test_the_iterable_is_read_only_as_far_as_results_are_taken(
    executor: Executor, buffersize: int | None
) -> None:
    items = Endless()
    results = auto_imap(work.nap, items, backend=executor, buffersize=buffersize, workers=2)
    for _ in range(5):
        next(results)
    time.sleep(0.1)  # for it to read on, if it did
    assert items.read <= 5 + (buffersize or 2 * 2)
    results.close()  # type: ignore[attr-defined]


def test_an_iterable_that_blocks_does_not_hold_back_what_is_there(executor: Executor) -> None:
    given_out: queue.Queue[float] = queue.Queue()
    results = auto_imap(work.nap, iter(given_out.get, None), backend=executor)
    for seconds in (0.0, 0.001, 0.0):
        given_out.put(seconds)
        assert next(results) == seconds
    given_out.put(0.0)  # lets its reader go
    results.close()  # type: ignore[attr-defined]
    given_out.put(0.0)


# the end


@pytest.mark.parametrize("how", ["closed", "gone", "failed"])
def test_when_nobody_takes_results_any_more_what_has_not_begun_is_cancelled(how: str) -> None:
    go, begun = threading.Event(), []

    def wait(item: int) -> int:
        if item:
            begun.append(item)
            go.wait(30)
        return item

    def consume(results: Iterator[int]) -> None:
        assert next(results) == 0
        assert eventually(lambda: begun and len(executor.futures) == 3)
        if how == "failed":
            raise RuntimeError("enough")

    with Watched(1) as executor:
        results = auto_imap(wait, itertools.count(), backend=executor)
        if how == "failed":
            with pytest.raises(RuntimeError, match="enough"):
                consume(results)
        else:
            consume(results)
        if how == "closed":
            results.close()  # type: ignore[attr-defined]
        del results
        gc.collect()
        assert eventually(executor.futures[-1].cancelled)
        go.set()
        assert executor.submit(work.double, 2).result(30) == 4
        assert begun == [1]


def test_the_iterable_is_closed_at_the_end(executor: Executor) -> None:
    items = Endless()
    results: Any = auto_imap(work.nap, iter(items), backend=executor)
    for _ in range(20):
        next(results)
    results.close()
    assert items.closed.wait(10)


# faults


def test_an_exception_comes_in_its_place_and_ends_it(executor: Executor) -> None:
    results = auto_imap(work.reciprocal, [4, 2, 0, 1], backend=executor)
    assert [next(results), next(results)] == [0.25, 0.5]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "reciprocal() for item 2" in "".join(caught.value.__notes__)
    with pytest.raises(StopIteration):
        next(results)


def test_exceptions_can_be_results(executor: Executor) -> None:
    found: Any = list(auto_imap(work.reciprocal, [2, 0, 4], backend=executor, errors="return"))
    assert [found[0], found[2]] == [0.5, 0.25]
    assert isinstance(found[1], ZeroDivisionError)


def test_an_item_may_be_tried_again(executor: Executor, tmp_path: Path) -> None:
    marks = [str(tmp_path / str(number)) for number in range(3)]
    assert list(auto_imap(work.fail_once, marks, backend=executor, retries=1)) == marks


@pytest.mark.usefixtures("executors")  # whose end is that of helpers, too
@pytest.mark.parametrize("errors", ["raise", "return"])
def test_a_pool_that_breaks_ends_it(errors: Any) -> None:
    items = itertools.chain(["good"] * 5, ["kill"], itertools.repeat("good"))
    found: list[Any] = []
    with pool() as executor, pytest.raises(BrokenProcessPool):
        for each in auto_imap(work.die_slowly, items, backend=executor, errors=errors):
            found.append(each)
    lost = [each for each in found if each != "good"]
    assert all(isinstance(each, BrokenProcessPool) for each in lost)
    assert not lost or errors == "return"


@pytest.mark.parametrize("errors", ["raise", "return"])
@pytest.mark.parametrize("late", [False, True])
def test_one_that_was_shut_down_ends_it(errors: Any, late: bool) -> None:
    executor = ThreadPoolExecutor(2)
    results = auto_imap(work.nap, itertools.repeat(0.002), backend=executor, errors=errors)
    if late:
        assert [next(results) for _ in range(20)] == [0.002] * 20
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(results)


def test_items_that_it_was_told_to_cancel_end_it() -> None:
    executor = ThreadPoolExecutor(1)
    results = auto_imap(work.nap, itertools.repeat(0.002), backend=executor)
    next(results)
    executor.shutdown(cancel_futures=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(results)
