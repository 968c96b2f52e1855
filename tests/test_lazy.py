"""`auto_imap`: results one after another, and no more read than there is use for."""

from __future__ import annotations

import gc
import itertools
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import work
from autopar import TaskTimeout, WorkerCrashed, auto_imap
from conftest import APART

KINDS = ["auto", "cpu", "io"]
kinds = pytest.mark.parametrize("kind", KINDS)
orders = pytest.mark.parametrize("ordered", [True, False])


# the same meaning


@given(items=st.lists(st.integers(-100, 100), max_size=60), ordered=st.booleans())
def test_it_is_the_builtin_map(items: list[int], ordered: bool) -> None:
    for kind in ("auto", "io"):
        found = list(auto_imap(work.double, iter(items), kind, ordered=ordered))
        expected = [2 * item for item in items]
        assert (found if ordered else sorted(found)) == (expected if ordered else sorted(expected))


@kinds
@orders
def test_each_item_is_evaluated_once_and_gives_its_result(kind: str, ordered: bool) -> None:
    found = list(auto_imap(work.slow_double, range(150), kind, ordered=ordered))
    assert (found if ordered else sorted(found)) == [*range(0, 300, 2)]


@pytest.mark.parametrize("backend", ["serial", "threads", "processes"])
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


def test_items_whose_nature_changes_are_followed() -> None:
    items = [0.0] * 3000 + [0.004] * 60 + [0.0] * 3000 + [0.004] * 60
    assert list(auto_imap(work.nap, items)) == items


@kinds
def test_an_exception_comes_in_its_place_and_ends_it(kind: str) -> None:
    results = auto_imap(work.reciprocal, [4, 2, 0, 1], kind)
    assert [next(results), next(results)] == [0.25, 0.5]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "reciprocal() for item 2" in "".join(caught.value.__notes__)
    with pytest.raises(StopIteration):
        next(results)


@kinds
def test_exceptions_can_be_results(kind: str) -> None:
    found = list(auto_imap(work.reciprocal, [2, 0, 4], kind, errors="return"))
    assert [found[0], found[2]] == [0.5, 0.25]
    assert isinstance(found[1], ZeroDivisionError)


@kinds
def test_an_item_may_be_tried_again(kind: str, tmp_path: Any) -> None:
    marks = [str(tmp_path / str(number)) for number in range(3)]
    assert list(auto_imap(work.fail_once, marks, kind, retries=1)) == marks


@kinds
def test_what_the_iterable_raises_comes_after_the_results_before_it(kind: str) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no sixth")

    results = auto_imap(work.slow_double, items(), kind)
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(LookupError, match="no sixth"):
        next(results)


@pytest.mark.parametrize(
    "options",
    [
        {"buffersize": 0},
        {"errors": "group"},
        {"backend": "hybrid"},
        {"workers": 0},
        {"kind": "gpu"},
        {"timeout": -1},
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        auto_imap(work.double, [1], **options)


# no more than there is use for


@kinds
@orders
@pytest.mark.parametrize("buffersize", [None, 3])
def test_the_iterable_is_read_only_as_far_as_results_are_taken(
    kind: str, ordered: bool, buffersize: int | None
) -> None:
    read = 0

    def items() -> Iterator[float]:
        nonlocal read
        for _ in range(400):
            read += 1
            yield 0.002

    results = auto_imap(work.nap, items(), kind, ordered=ordered, buffersize=buffersize, workers=4)
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


@kinds
def test_an_iterable_that_blocks_does_not_hold_back_what_is_there(kind: str) -> None:
    given_out: queue.Queue[float] = queue.Queue()
    for _ in range(5):
        given_out.put(0.005)
    results = auto_imap(work.nap, iter(given_out.get, None), kind)
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


@kinds
@pytest.mark.parametrize("how", ["closed", "gone", "failed"])
def test_when_nobody_takes_results_any_more_all_ends(kind: str, how: str) -> None:
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

    results = auto_imap(work.nap, items(), kind)
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


@kinds
def test_a_program_that_leaves_it_open_ends(kind: str) -> None:
    script = f"""
import itertools, time
from autopar import auto_imap
results = auto_imap(time.sleep, itertools.repeat(0.002), {kind!r})
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
