"""How many items travel together: laws of one chunk, and whole runs simulated."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopar._decide.chunks import chunk_size

lefts = st.integers(1, 10**8)
workers = st.integers(1, 1024)
item_times = st.one_of(st.just(0.0), st.floats(1e-9, 100))
messages = st.floats(0, 0.01)
limits = st.floats(1e-4, 1)


@given(lefts, workers, item_times, messages, limits)
def test_a_chunk_holds_one_item_at_least_and_what_is_left_at_most(
    left: int, count: int, item_s: float, message_s: float, longest_s: float
) -> None:
    assert 1 <= chunk_size(left, count, item_s, message_s, longest_s) <= left


@given(st.one_of(st.none(), lefts), workers, item_times, messages, limits)
def test_no_chunk_of_several_items_is_meant_to_run_longer_than_allowed(
    left: int | None, count: int, item_s: float, message_s: float, longest_s: float
) -> None:
    size = chunk_size(left, count, item_s, message_s, longest_s)
    assert size == 1 or size * item_s <= longest_s * (1 + 1e-9)


@given(lefts, lefts, workers, item_times, messages, limits)
def test_chunks_shrink_as_less_is_left(
    left: int, more: int, count: int, item_s: float, message_s: float, longest_s: float
) -> None:
    late = chunk_size(left, count, item_s, message_s, longest_s)
    early = chunk_size(left + more, count, item_s, message_s, longest_s)
    assert late <= early


@given(lefts, workers, workers, item_times, messages, limits)
def test_more_workers_never_mean_larger_chunks(
    left: int, count: int, more: int, item_s: float, message_s: float, longest_s: float
) -> None:
    few = chunk_size(left, count, item_s, message_s, longest_s)
    many = chunk_size(left, count + more, item_s, message_s, longest_s)
    assert many <= few


@given(lefts, workers, st.floats(1e-9, 1), st.floats(1e-6, 0.01), limits)
def test_a_chunk_runs_much_longer_than_its_way_where_it_may(
    left: int, count: int, item_s: float, message_s: float, longest_s: float
) -> None:
    size = chunk_size(left, count, item_s, message_s, longest_s)
    at_its_end = size == left
    as_long_as_allowed = (size + 1) * item_s > longest_s * (1 - 1e-9)  # but for rounding
    assert at_its_end or as_long_as_allowed or (size + 1) * item_s >= 5 * message_s


@given(st.integers(2, 10**6), st.integers(2, 64))
def test_each_worker_gets_several_chunks_when_moving_them_costs_nothing(
    left: int, count: int
) -> None:
    size = chunk_size(left, count, 1e-3, 0.0, float("inf"))
    assert size <= max(1, left / (2 * count))


@given(workers, item_times, messages, limits)
def test_an_unknown_number_of_items_is_cut_as_large_as_the_way_needs_and_no_larger(
    count: int, item_s: float, message_s: float, longest_s: float
) -> None:
    unknown = chunk_size(None, count, item_s, message_s, longest_s)
    endless = chunk_size(10**15, count, item_s, message_s, longest_s)
    assert 1 <= unknown <= endless


@given(st.integers(1, 10**5), st.integers(1, 64), st.floats(1e-6, 1), messages, limits)
def test_the_chunks_of_a_run_cover_every_item(
    count: int, width: int, item_s: float, message_s: float, longest_s: float
) -> None:
    sizes, left = [], count
    while left and len(sizes) < 200:
        sizes.append(chunk_size(left, width, item_s, message_s, longest_s))
        left -= sizes[-1]
    assert sizes == sorted(sizes, reverse=True)
    assert left >= 0


# whole runs

MEANS = [  # of a chunk's way, and the longest chunk: those of threads, processes and executors
    pytest.param(2e-6, 2e-3, id="threads"),
    pytest.param(50e-6, 20e-3, id="processes"),
    pytest.param(300e-6, 50e-3, id="executors"),
]
WIDTHS = [2, 3, 4, 8, 16, 64]
CALLS = [(20_000, 1e-6), (20_000, 1e-4), (400, 3e-3), (400, 1e-4), (150, 0.1)]


def sizes(
    count: int, width: int, item_s: float, message_s: float, longest_s: float
) -> Callable[[int], int]:
    """The size of the next chunk when `at` items have been given out."""
    return lambda at: chunk_size(count - at, width, item_s, message_s, longest_s)


def finish_s(
    durations: Sequence[float], width: int, message_s: float, size: Callable[[int], int]
) -> float:
    """When `width` workers are done that each draw the next chunk as soon as they are free."""
    free_at, at = [0.0] * width, 0
    while at < len(durations):
        count = size(at)
        took_s = message_s + sum(durations[at : at + count])
        heapq.heapreplace(free_at, free_at[0] + took_s)
        at += count
    return max(free_at)


def ideal_s(durations: Sequence[float], width: int) -> float:
    """The same for single items whose way costs nothing: the best that keeps their order."""
    return finish_s(durations, width, 0.0, lambda at: 1)


def mean(durations: Sequence[float]) -> float:
    return sum(durations) / len(durations)


def chunked_s(durations: Sequence[float], width: int, message_s: float, longest_s: float) -> float:
    size = sizes(len(durations), width, mean(durations), message_s, longest_s)
    return finish_s(durations, width, message_s, size)


@pytest.mark.parametrize(("message_s", "longest_s"), MEANS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("count", "item_s"), CALLS)
def test_equal_items_finish_close_to_their_share_of_the_work(
    count: int, item_s: float, width: int, message_s: float, longest_s: float
) -> None:
    durations = [item_s] * count
    share_s = max(sum(durations) / width, item_s)
    assert (
        chunked_s(durations, width, message_s, longest_s) <= 1.2 * share_s + 9 * message_s + item_s
    )


@pytest.mark.parametrize(("message_s", "longest_s"), MEANS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("count", "item_s"), CALLS)
def test_a_long_last_item_has_nothing_to_wait_for_but_its_turn(
    count: int, item_s: float, width: int, message_s: float, longest_s: float
) -> None:
    durations = [item_s] * (count - 1) + [2 * item_s * count / width]
    took_s = chunked_s(durations, width, message_s, longest_s)
    assert took_s <= 1.2 * ideal_s(durations, width) + 9 * message_s


@pytest.mark.parametrize(("message_s", "longest_s"), MEANS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("count", "item_s"), CALLS)
def test_a_long_first_item_does_not_keep_half_the_work_behind_it(
    count: int, item_s: float, width: int, message_s: float, longest_s: float
) -> None:
    durations = [2 * item_s * count / width] + [item_s] * (count - 1)
    took_s = chunked_s(durations, width, message_s, longest_s)
    assert took_s <= 1.3 * ideal_s(durations, width) + 9 * message_s


def lognormal(count: int, item_s: float, sigma: float, seed: int) -> Iterator[float]:
    """Durations whose logarithms are normal: a few take many times the mean."""
    chance = random.Random(seed)
    for _ in range(count):
        yield item_s * chance.lognormvariate(-sigma * sigma / 2, sigma)


@pytest.mark.parametrize(("message_s", "longest_s"), MEANS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("item_s", [1e-5, 1e-3, 1e-2])
def test_uneven_items_usually_finish_within_one_long_item_of_the_ideal(
    item_s: float, sigma: float, width: int, message_s: float, longest_s: float
) -> None:
    """Usually: several long items that follow each other may share a chunk, in some calls."""
    fine, calls = 0, 20
    for seed in range(calls):
        durations = list(lognormal(50 * (seed + 1), item_s, sigma, seed))
        took_s = chunked_s(durations, width, message_s, longest_s)
        most_s = 1.25 * ideal_s(durations, width) + max(durations) + 12 * message_s
        fine += took_s <= most_s
    assert fine >= calls - 2


@pytest.mark.parametrize("width", WIDTHS)
def test_unlike_equal_shares_a_slow_stretch_of_items_is_spread_over_the_workers(width: int) -> None:
    count, item_s = 64 * width, 1e-3
    durations = [5 * item_s] * (count // width) + [item_s] * (count - count // width)
    shares_s = finish_s(durations, width, 50e-6, lambda at: count // width)
    assert chunked_s(durations, width, 50e-6, 20e-3) < 1.5 * ideal_s(durations, width)
    assert chunked_s(durations, width, 50e-6, 20e-3) < shares_s


@pytest.mark.parametrize("message_s", [2e-6, 50e-6])
@pytest.mark.parametrize("item_s", [1e-6, 1e-5, 1e-4])
def test_the_ways_of_all_chunks_together_cost_little_beside_the_work(
    item_s: float, message_s: float
) -> None:
    count, width, at, chunks = 100_000, 2, 0, 0
    while at < count:
        at += chunk_size(count - at, width, item_s, message_s, 20e-3)
        chunks += 1
    assert chunks * message_s < 0.05 * count * item_s
