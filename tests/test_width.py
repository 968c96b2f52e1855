"""How many threads wait at once: the ramp, alone, against simulated servers, and at work."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopar import auto_map
from autopar._decide.width import FIRST, GROWTH, ROUND_S, STALL_S, Width, first_width, next_width

limits = st.integers(1, 5000)

# laws


@given(st.one_of(st.none(), st.integers(0, 10**6)), limits, st.integers(0, 10**6))
def test_it_starts_with_what_is_left_up_to_32_and_the_limit(
    left: int | None, limit: int, done: int
) -> None:
    width = first_width(left, limit, done, 5.0)
    assert width.threads == max(1, min(FIRST if left is None else left, FIRST, limit))
    assert (width.done, width.since_s) == (done, 5.0)


@given(
    limits,
    st.one_of(st.none(), st.integers(0, 200)),
    st.lists(st.tuples(st.integers(0, 300), st.floats(0, 10), st.floats(0, 2)), max_size=60),
)
def test_it_never_leaves_the_range_from_one_to_the_limit(
    limit: int, left: int | None, looks: list[tuple[int, float, float]]
) -> None:
    width, done, now_s = first_width(left, limit, 7, 0.0), 7, 0.0
    for finished, item_s, elapsed_s in looks:
        done, now_s = done + finished, now_s + elapsed_s
        width = next_width(width, done, item_s, now_s)
        assert 1 <= width.threads <= limit
        assert width.limit == limit


@given(limits, st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1)), max_size=30))
def test_looking_twice_at_the_same_moment_changes_nothing(
    limit: int, looks: list[tuple[int, float]]
) -> None:
    width, done, now_s = first_width(None, limit, 0, 0.0), 0, 0.0
    for finished, elapsed_s in looks:
        done, now_s = done + finished, now_s + elapsed_s
        width = next_width(width, done, 0.01, now_s)
        assert next_width(width, done, 0.01, now_s) == width


@given(
    st.integers(2, 5000),
    st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1), st.floats(0, 0.5)), max_size=30),
)
def test_when_nothing_finishes_any_more_it_grows_up_to_the_limit(
    limit: int, looks: list[tuple[int, float, float]]
) -> None:
    """From any state at all: the items at work may wait for one that has not started."""
    width, done, now_s, item_s = first_width(None, limit, 0, 0.0), 0, 0.0, 0.0
    for finished, item_s, elapsed_s in looks:
        done, now_s = done + finished, now_s + elapsed_s
        width = next_width(width, done, item_s, now_s)
    rounds = 0
    while width.threads < limit:
        was = width.threads
        now_s += 1.01 * max(STALL_S, 2 * item_s)
        width = next_width(width, done, item_s, now_s)
        assert width.threads == min(GROWTH * was, limit)
        rounds += 1
    assert rounds <= math.log2(limit) + 1


def test_while_the_first_items_all_block_it_grows_within_tens_of_milliseconds() -> None:
    width, now_s = first_width(None, 1000, 0, 0.0), 0.0
    seen = [width.threads]
    while width.threads < 1000:
        now_s += 1.01 * ROUND_S
        width = next_width(width, 0, 0.0, now_s)
        seen.append(width.threads)
    assert list(dict.fromkeys(seen)) == [32, 64, 128, 256, 512, 1000]
    assert now_s < 0.3


def test_a_moment_without_a_completion_is_no_reason_to_grow() -> None:
    width = first_width(None, 100, 0, 0.0)
    assert next_width(width, 0, 0.0, 0.5 * ROUND_S).threads == 32


# against simulated servers


class Server:
    """Answers after `answer_s`; beyond `capacity` at once, requests share what there is."""

    def __init__(self, answer_s: float, capacity: float) -> None:
        self.answer_s, self.capacity = answer_s, capacity

    def latency_s(self, at_once: int) -> float:
        return self.answer_s * max(1.0, at_once / self.capacity)


def ramp(
    server: Server, limit: int, looks: int = 4000, every_s: float = 2e-3
) -> Iterator[tuple[Width, int]]:
    """The states of a ramp that looks every 2 ms, with the number of items done so far."""
    width, now_s, done = first_width(None, limit, 0, 0.0), 0.0, 0
    latency_s = 0.0
    running: list[tuple[float, float]] = []
    for _ in range(looks):
        while running and running[0][0] <= now_s:
            _end_s, latency_s = heapq.heappop(running)
            done += 1
        while len(running) < width.threads:
            takes_s = server.latency_s(width.threads)
            # threads start one after another, so they never finish in one instant
            heapq.heappush(running, (now_s + takes_s * (1 + len(running) * 1e-4), takes_s))
        width = next_width(width, done, latency_s, now_s)
        yield width, done
        now_s += every_s


@pytest.mark.parametrize("limit", [33, 64, 100, 1000, 4000])
@pytest.mark.parametrize("answer_s", [1e-3, 5e-3, 20e-3, 100e-3])
def test_while_throughput_scales_it_reaches_the_limit_in_few_steps(
    limit: int, answer_s: float
) -> None:
    widths = [width.threads for width, _done in ramp(Server(answer_s, 10**6), limit)]
    steps = list(dict.fromkeys(widths))
    assert steps == sorted(steps)
    assert steps[-1] == limit
    assert len(steps) <= math.log2(limit / FIRST) + 2


@pytest.mark.parametrize("limit", [100, 1000])
@pytest.mark.parametrize("capacity", [4, 10, 20, 30])
@pytest.mark.parametrize("answer_s", [1e-3, 5e-3])
def test_when_the_server_is_full_it_settles_near_what_the_server_takes(
    answer_s: float, capacity: int, limit: int
) -> None:
    widths = [width for width, _done in ramp(Server(answer_s, capacity), limit)]
    assert widths[-1].settled
    assert widths[-1].threads <= 1.25 * FIRST + 1
    assert len({width.threads for width in widths[-1000:]}) == 1


@pytest.mark.parametrize("capacity", [100, 200, 400])
def test_a_wider_server_is_followed_until_it_is_full(capacity: int) -> None:
    widths = [width.threads for width, _done in ramp(Server(5e-3, capacity), 5000)]
    assert capacity <= widths[-1] <= 5 * capacity


def test_longer_items_alone_do_not_stop_the_ramp() -> None:
    """Latency rises with every round, but so does throughput: heavy tails look like this."""
    width = first_width(None, 1000, 0, 0.0)
    done, now_s, item_s = 0, 0.0, 0.001
    while width.threads < 1000:
        done, now_s, item_s = done + 2 * width.threads, now_s + 0.02, item_s * 1.6
        width = next_width(width, done, item_s, now_s)
        assert not width.settled


def test_throughput_that_stops_growing_alone_does_not_stop_the_ramp() -> None:
    """The items are as quick as ever: too few finished to tell, or the caller was slow."""
    width, done, now_s = first_width(None, 1000, 0, 0.0), 0, 0.0
    while width.threads < 1000:
        done, now_s = done + 50, now_s + 0.02
        width = next_width(width, done, 0.001, now_s)
        assert not width.settled


# at work


@pytest.mark.parametrize(("workers", "quick"), [(2, 3), (33, 1), (65, 0), (100, 50), (200, 0)])
@pytest.mark.parametrize("options", [{"backend": "threads"}, {"kind": "io"}])
def test_as_many_items_as_workers_may_wait_for_each_other(
    workers: int, quick: int, options: dict[str, Any]
) -> None:
    """DESIGN: an item that blocks never keeps others from starting, up to `workers` at once."""
    barrier = threading.Barrier(workers, timeout=5)

    def meet(item: int) -> int:
        if item >= quick:
            barrier.wait()
        return item

    items = range(quick + workers)
    assert auto_map(meet, items, workers=workers, **options) == list(items)


def test_threads_that_would_fight_for_the_gil_are_only_wanted_when_nothing_comes_back() -> None:
    width = first_width(1000, 100, 0, 0.0)._replace(enough=40)
    done, now_s = 0, 0.0
    for _ in range(10):
        done, now_s = done + width.threads, now_s + 0.005
        width = next_width(width, done, 0.005, now_s)
    assert width.threads == 40
    for _ in range(10):
        now_s += 1.01 * max(STALL_S, 0.01)
        width = next_width(width, done, 0.005, now_s)
    assert width.threads == 100
