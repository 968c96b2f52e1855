"""Calls inside calls, and beside each other: right, without deadlock, and within the machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import nested
import work
from autopar import WorkerCrashed, auto_map, observe, shutdown
from conftest import children, eventually, misled
from nested import Nest, grow, grow_in_a_loop, spin_until

CPUS = len(os.sched_getaffinity(0))
CPU, IO, AUTO = {"kind": "cpu"}, {"kind": "io"}, {"kind": "auto"}
PROCESSES, TWO = {"backend": "processes"}, {"backend": "processes", "workers": 2}
NESTS = {
    "cpu in cpu": (CPU, CPU),
    "io in io": (IO, IO),
    "cpu in io": (IO, CPU),
    "io in cpu": (CPU, IO),
    "auto in auto": (AUTO, AUTO),
    "processes in processes": (PROCESSES, PROCESSES),
    "cpu in io in cpu": (CPU, IO, CPU),
    "io in cpu in io": (IO, CPU, IO),
    "cpu in cpu in cpu": (CPU, CPU, CPU),
    "auto in auto in auto": (AUTO, AUTO, AUTO),
    "processes in processes in processes": (PROCESSES, PROCESSES, PROCESSES),
}
CALLERS = 20
SPARE = 2  # workers that are on their way out while others are on their way in


class Watched:
    """The most processes seen at once: workers (who have no children) and all of them."""

    workers = 0
    everybody = 0

    def look(self) -> None:
        """Counts those below this process."""
        seen = children()
        parents = {pid for pid in seen if children(pid)}
        self.everybody = max(self.everybody, len(seen))
        # A helper between two workers has no child either; it is one process more or less.
        self.workers = max(self.workers, len(seen) - max(1, len(parents)))


@contextmanager
def watched() -> Iterator[Watched]:
    """Counts processes from a thread, beginning with none."""
    shutdown()
    seen, over = Watched(), threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            seen.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("names", NESTS)
def test_a_map_inside_a_map_gives_what_the_loops_give(names: str) -> None:
    nest = Nest(NESTS[names], 1)
    with watched() as seen:
        assert grow(nest) == grow_in_a_loop(nest)
    # Each worker that makes calls of its own may have a helper, and a worker to run its items.
    assert seen.everybody <= 1 + CPUS * (1 + 2 * (len(nest.levels) - 1)) + SPARE


@pytest.mark.parametrize("levels", [2, 3])
def test_nested_processes_have_as_many_workers_as_was_said_and_no_more(levels: int) -> None:
    nest = Nest((TWO,) * levels, 1)
    with watched() as seen:
        assert grow(nest) == grow_in_a_loop(nest)
    meant = sum(2**level + 2 ** (level + 1) for level in range(levels))
    assert seen.everybody <= meant + SPARE


def test_a_wide_map_in_each_of_many_threads_of_a_map_shares_the_cpus() -> None:
    def outer(_: int) -> list[float]:
        return auto_map(work.spin, [0.003] * 10, "cpu")

    with watched() as seen:
        assert auto_map(outer, range(16), "io", workers=16) == [[0.003] * 10] * 16
    assert seen.workers <= CPUS + SPARE


def at_once(call: Callable[[], list[Any]], count: int = CALLERS) -> list[list[Any]]:
    """What `call` gives to each of so many threads that begin together."""
    start = threading.Barrier(count)

    def begin(_: int) -> list[Any]:
        start.wait()
        return call()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


@pytest.mark.parametrize("options", [CPU, AUTO, IO, PROCESSES], ids=str)
def test_twenty_threads_that_call_at_once_get_their_results(options: dict[str, Any]) -> None:
    shutdown()
    for _ in range(2):  # cold, warm
        got = at_once(lambda: auto_map(grow, [Nest((), n) for n in range(12)], **options))
        assert got == [[*range(12)]] * CALLERS


@pytest.mark.parametrize("options", [CPU, AUTO, PROCESSES], ids=str)
def test_twenty_calls_at_once_have_no_more_workers_than_cpus(options: dict[str, Any]) -> None:
    with watched() as seen:
        at_once(lambda: auto_map(spin_until, [0.005] * 25, **options))
    assert seen.workers <= CPUS + SPARE


@pytest.mark.parametrize("options", [CPU, AUTO], ids=str)
def test_twenty_calls_at_once_all_get_on(options: dict[str, Any]) -> None:
    def trial() -> list[float] | None:
        began_s = time.monotonic()
        ended = at_once(lambda: auto_map(spin_until, [0.005] * 25, **options))
        took_s = max(map(max, ended)) - began_s
        waited_s = [min(call) - began_s for call in ended]
        return None if max(waited_s) < 0.9 * took_s else sorted(waited_s)

    assert not misled(trial)  # else somebody stood in a queue for the others


@pytest.mark.parametrize("options", [CPU, AUTO], ids=str)
def test_twenty_calls_at_once_take_hardly_longer_than_one_with_all_their_items(
    options: dict[str, Any],
) -> None:
    items = [0.005] * 8

    def trial() -> float | None:
        began_s = time.monotonic()
        auto_map(spin_until, items * CALLERS, **options)
        alone_s = time.monotonic() - began_s
        began_s = time.monotonic()
        at_once(lambda: auto_map(spin_until, items, **options))
        ratio = (time.monotonic() - began_s) / alone_s
        return None if ratio < 4 else ratio

    auto_map(spin_until, items, **options)
    assert not misled(trial)


@pytest.mark.parametrize("count", [4, 7])
def test_of_a_few_long_items_no_more_run_at_once_than_there_are_cpus(count: int) -> None:
    """The one in the calling thread counts: three on two CPUs would leave a fourth to run alone."""
    shutdown()
    with observe() as seen:
        got = auto_map(nested.begin_and_end, [0.3] * count)
    for began_s, _ended_s in got:
        at_once = sum(began <= began_s < ended for began, ended in got)
        assert at_once <= CPUS, (sorted(got), str(seen.reports[0]))


def test_an_error_in_an_inner_map_comes_through_all_levels_as_itself() -> None:
    def outer(numbers: list[int]) -> list[float]:
        return auto_map(work.reciprocal, numbers, "cpu")

    with pytest.raises(ZeroDivisionError) as caught:
        auto_map(outer, [[1, 2], [4, 0], [5]], "cpu")
    notes = caught.value.__notes__
    assert any("reciprocal() for item 1" in note for note in notes)
    assert any("outer() for item 1" in note for note in notes)


def test_a_crash_in_an_inner_map_is_the_inner_items() -> None:
    def outer(items: list[Any]) -> list[Any]:
        got = auto_map(work.die_slowly, items, backend="processes", errors="return")
        return [x.index if isinstance(x, WorkerCrashed) else x for x in got]

    assert auto_map(outer, [[7, 8], [7, "kill", 8]], backend="processes") == [[7, 8], [7, 1, 8]]


def test_warm_inner_crews_end_with_the_outer_ones() -> None:
    nest = Nest((PROCESSES, PROCESSES), 1)
    assert grow(nest) == grow_in_a_loop(nest)
    shutdown()
    assert eventually(lambda: not children())


def test_more_callers_than_threads_in_an_outer_pool_do_not_deadlock() -> None:
    def outer(n: int) -> int:
        return sum(auto_map(nested.spin_until, [0.0] * 3, "cpu")) > 0 and n

    for kind in ("io", "cpu", "auto"):
        assert auto_map(outer, range(60), kind) == [*range(60)]
