"""How many threads wait at once: the ramp, alone, against simulated servers, and at work."""

from __future__ import annotations

import heapq
import math
import random
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopar import auto_map, observe, shutdown
from autopar._decide.width import (
    FIRST,
    ROUND_S,
    STALL_S,
    Tally,
    Width,
    first_width,
    next_look,
    next_width,
)
from conftest import eventually

limits = st.integers(1, 5000)

# laws

looks_taken = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 20), st.floats(0, 10), st.floats(0, 2)),
    max_size=60,
)


def after(
    width: Width, looks: list[tuple[int, int, float, float]]
) -> Iterator[tuple[Width, Tally, float]]:
    """The states of a ramp that sees so many items end, of which some failed, so long each."""
    tally, now_s = width.since, width.since_s
    for ended, failed, item_s, elapsed_s in looks:
        now_s += elapsed_s
        tally = Tally(
            tally.ended + ended, tally.failed + min(failed, ended), tally.busy_s + ended * item_s
        )
        width = next_width(width, tally, now_s)
        yield width, tally, now_s


@given(st.one_of(st.none(), st.integers(0, 10**6)), limits, st.integers(0, 10**6))
def test_it_starts_with_what_is_left_up_to_32_and_the_limit(
    left: int | None, limit: int, done: int
) -> None:
    width = first_width(left, limit, Tally(done), 5.0)
    assert width.threads == max(1, min(FIRST if left is None else left, FIRST, limit))
    assert (width.since.ended, width.since_s) == (done, 5.0)


@given(limits, st.one_of(st.none(), st.integers(0, 200)), st.integers(0, 200), looks_taken)
def test_it_never_leaves_the_range_from_one_to_the_limit(
    limit: int, left: int | None, learned: int, looks: list[tuple[int, int, float, float]]
) -> None:
    for width, _, _ in after(first_width(left, limit, Tally(7), 0.0, learned), looks):
        assert 1 <= width.threads <= limit
        assert width.limit == limit


@given(st.integers(2, 5000), looks_taken)
def test_when_nothing_finishes_any_more_it_grows_up_to_the_limit(
    limit: int, looks: list[tuple[int, int, float, float]]
) -> None:
    """From any state at all: the items at work may wait for one that has not started."""
    start = first_width(None, limit, Tally(), 0.0), Tally(), 0.0
    *_, (width, tally, now_s) = start, *after(start[0], looks)
    patience_s = max([STALL_S, *(4 * item_s for _, _, item_s, _ in looks)])
    for _ in range(2 * int(math.log2(limit)) + 6):
        now_s += 1.01 * patience_s
        width = next_width(width, tally, now_s)
    assert width.threads == limit


def test_while_the_first_items_all_block_it_grows_within_a_third_of_a_second() -> None:
    width, now_s = first_width(None, 1000, Tally(), 0.0), 0.0
    seen = [width.threads]
    while width.threads < 1000:
        now_s += 1.01 * STALL_S
        width = next_width(width, Tally(), now_s)
        seen.append(width.threads)
    assert seen == [32, 64, 128, 256, 512, 1000]
    assert now_s < 0.33


def test_a_moment_without_a_completion_is_no_reason_to_grow() -> None:
    width = first_width(None, 100, Tally(), 0.0)
    assert next_width(width, Tally(), 0.5 * ROUND_S).threads == 32


# against simulated servers


class Server:
    """Serves `slots` at once in `answer_s` each; m of them, all at (slots / m) ** strain of it.

    asked: somebody has seen how long one answer takes when nobody else asks.
    """

    def __init__(
        self, answer_s: float, slots: float, strain: float = 0.0, *, asked: bool = False
    ) -> None:
        self.answer_s, self.slots, self.strain = answer_s, slots, strain
        self.asked = asked

    def pace(self, present: int) -> float:
        """The speed at which each of so many is served."""
        over = present / self.slots
        return 1.0 if over <= 1 else over ** -(1 + self.strain)


def ramp(
    server: Server, limit: int, count: int, vary: float = 0.2
) -> Iterator[tuple[Width, int, float]]:
    """The states of a ramp that looks every 2 ms, with the items done by then, and when."""
    chance = random.Random(f"{limit} {count} {server.answer_s}")
    width, tally, now_s = first_width(count, limit, Tally(), 0.0), Tally(), 0.0
    width = width._replace(alone_s=server.answer_s if server.asked else 0.0)
    running: list[tuple[float, float]] = []  # what will have been served when it ends, and begun
    served_s, begun = 0.0, 0
    while tally.ended < count:
        look_s = now_s + 2e-3
        while now_s < look_s and tally.ended < count:
            while len(running) < width.threads and begun < count:
                takes_s = server.answer_s * chance.uniform(1 - vary, 1 + vary)
                heapq.heappush(running, (served_s + takes_s, now_s))
                begun += 1
            pace = server.pace(len(running))
            step_s = min(look_s - now_s, max(0.0, running[0][0] - served_s) / pace)
            now_s, served_s = now_s + step_s, served_s + step_s * pace
            while running and running[0][0] <= served_s + 1e-12:
                _, began_s = heapq.heappop(running)
                tally = Tally(tally.ended + 1, 0, tally.busy_s + now_s - began_s)
        width = next_width(width, tally, now_s)
        yield width, tally.ended, now_s


def later_median(server: Server, limit: int, count: int) -> float:
    """How many threads there were, mostly, for the last third of the items."""
    return statistics.median(
        width.threads for width, done, _ in ramp(server, limit, count) if done > 2 * count / 3
    )


asked = pytest.mark.parametrize("asked", [False, True], ids=["", "asked once before"])


@asked
@pytest.mark.parametrize("limit", [33, 64, 100, 1000])
@pytest.mark.parametrize("answer_s", [1e-3, 5e-3, 20e-3, 100e-3])
def test_while_throughput_scales_it_reaches_the_limit_and_stays(
    limit: int, answer_s: float, asked: bool
) -> None:
    assert later_median(Server(answer_s, 10**6, asked=asked), limit, 30 * limit) == limit


@asked
@pytest.mark.parametrize("limit", [100, 500])
@pytest.mark.parametrize("slots", [4, 8, 20])
@pytest.mark.parametrize("answer_s", [2e-3, 20e-3, 100e-3])
@pytest.mark.parametrize("strain", [0.5, 1.0])
def test_a_server_that_degrades_is_asked_for_little_more_than_it_takes(
    answer_s: float, slots: int, limit: int, strain: float, asked: bool
) -> None:
    server = Server(answer_s, slots, strain, asked=asked)
    assert slots / 3 <= later_median(server, limit, 1500 + 5 * limit) <= 2.5 * slots


@asked
@pytest.mark.parametrize("slots", [100, 200, 400])
def test_a_wider_server_is_followed_until_it_is_full(slots: int, asked: bool) -> None:
    server = Server(20e-3, slots, asked=asked)
    assert slots / 2 <= later_median(server, 5000, 20_000) <= 5 * slots


@pytest.mark.parametrize("slots", [40, 64])
@pytest.mark.parametrize("strain", [0.5, 1.0])
def test_a_server_with_a_little_room_is_asked_for_no_more_than_it_takes_after_one_try(
    slots: int, strain: float
) -> None:
    """What is tried as no item takes longer than alone is up to four times as much."""
    server = Server(20e-3, slots, strain, asked=True)
    assert slots / 3 <= later_median(server, 100, 2000) <= 1.6 * slots


def test_from_items_that_take_no_longer_than_alone_it_leaps() -> None:
    """As long as nothing is full, more threads are no risk."""
    start = first_width(None, 1000, Tally(), 0.0)
    ended = Tally(32, 0, 32 * 0.010)
    assert next_width(start._replace(alone_s=0.010), ended, 0.010).threads == 4 * FIRST
    assert next_width(start._replace(alone_s=0.005), ended, 0.010).threads == 2 * FIRST
    assert next_width(start, ended, 0.010).threads == 2 * FIRST


@pytest.mark.parametrize(("used", "fewer"), [(0.2, True), (0.8, False), (1.0, False)])
@pytest.mark.parametrize("limit", [32, 200])
def test_where_this_process_has_no_cpu_left_fewer_threads_are_not_tried(
    limit: int, used: float, fewer: bool
) -> None:
    """It is the GIL that is full then, and no server; answers come later, and as often."""
    width, tally, now_s = first_width(10_000, limit, Tally(), 0.0), Tally(), 0.0
    widths = set()
    for _ in range(60):
        now_s += 0.01
        tally = Tally(
            tally.ended + 16, 0, tally.busy_s + 0.01 * width.threads, tally.cpu_s + used * 0.01
        )
        width = next_width(width, tally, now_s)
        widths.add(width.threads)
    assert (min(widths) < FIRST) == fewer
    assert max(widths) < 4 * FIRST
    if used > 0.9:
        assert widths == {FIRST}


@given(looks_taken)
def test_there_is_nothing_to_find_before_the_next_look(
    looks: list[tuple[int, int, float, float]],
) -> None:
    """Who is told when a round is over misses nothing that looks in between would find."""
    for width, tally, now_s in after(first_width(None, 500, Tally(), 0.0), looks):
        ended, at_s = next_look(width)
        if tally.ended < ended and now_s < at_s:
            almost = tally._replace(ended=ended - 1)
            assert next_width(width, almost, (now_s + at_s) / 2).threads == width.threads


@pytest.mark.parametrize("answer_s", [2e-3, 20e-3, 200e-3])
@pytest.mark.parametrize("count", [50, 100, 200, 500])
def test_short_lists_take_two_rounds_longer_than_they_have_to_at_most(
    answer_s: float, count: int
) -> None:
    """And the looks between them, and what it takes to see that nothing comes back."""
    *_, (_, _, took_s) = ramp(Server(answer_s, 10**6), 100, count, vary=0.0)
    rounds = math.ceil(count / 100) + 2
    assert took_s <= rounds * (answer_s + 4e-3) + min(2 * STALL_S, answer_s)


def test_longer_items_alone_do_not_stop_the_ramp() -> None:
    """Latency rises with every round, but so does throughput: heavy tails look like this."""
    width, tally, now_s, item_s = first_width(None, 1000, Tally(), 0.0), Tally(), 0.0, 0.001
    while width.threads < 1000:
        was, item_s = width.threads, item_s * 1.1
        tally = Tally(tally.ended + was, 0, tally.busy_s + was * item_s)
        now_s += item_s
        width = next_width(width, tally, now_s)
        assert width.threads >= was


def test_items_that_were_long_also_among_few_were_no_sign_of_a_full_server() -> None:
    """The first to come back are the short ones; then all take long, however many there are."""
    width, tally, now_s = first_width(None, 100, Tally(), 0.0), Tally(16, 0, 0.016), 0.002
    width = next_width(width, tally, now_s)
    for _ in range(400):
        tally = Tally(tally.ended + 16, 0, tally.busy_s + 16 * 0.03)
        now_s += 16 * 0.03 / width.threads
        width = next_width(width, tally, now_s)
    assert width.threads == 100


def test_more_threads_that_get_less_done_are_not_kept() -> None:
    """Even where items hardly seem to take longer: not all of their waiting is seen."""
    tried = first_width(None, 1000, Tally(), 0.0)
    tried = tried._replace(threads=64, base=32, rate=3200.0, item_s=0.010)
    better = next_width(tried, Tally(80, 0, 80 * 0.013), 0.020)
    worse = next_width(tried, Tally(50, 0, 50 * 0.013), 0.020)
    assert better.base == 64
    assert worse.base == 32
    assert worse.threads <= 32


def test_what_was_learned_is_not_tried_again_at_once() -> None:
    width = first_width(1000, 100, Tally(), 0.0, learned=100)
    tally = Tally()
    for at in range(1, 6):
        tally = Tally(100 * at, 0, 10.0 * at)
        width = next_width(width, tally, 0.1 * at)
        assert width.threads == 100


def test_where_most_items_fail_no_more_threads_are_tried() -> None:
    width, tally, now_s = first_width(None, 100, Tally(), 0.0), Tally(), 0.0
    for _ in range(100):
        tally = Tally(tally.ended + 16, tally.failed + 14, tally.busy_s + 0.016)
        now_s += 0.002
        width = next_width(width, tally, now_s)
        assert width.threads == FIRST


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


def test_threads_that_had_nothing_to_do_any_more_are_there_for_what_is_given_back() -> None:
    """All items are in the first thread's chunk, and each has to begin before any may end."""
    everybody = threading.Barrier(5, timeout=5)
    assert auto_map(lambda _: everybody.wait() < 5, range(5), "io", workers=5, chunksize=5)
    late, others = threading.Event(), threading.Barrier(3, timeout=5)

    def meet(item: int) -> int:
        if item == 1:
            assert late.wait(5)  # by now whoever had nothing to do has gone
        elif item > 1:
            others.wait()
            late.set()
        return item

    for _ in range(3):
        late.clear()
        assert auto_map(meet, range(5), "io", workers=4, chunksize=5) == [*range(5)]


@pytest.mark.parametrize("workers", [3, 40])
def test_a_thread_with_an_initializer_stays_when_fewer_are_tried(workers: int) -> None:
    started = []
    for _ in range(5):
        auto_map(
            time.sleep,
            [0.01] * (10 * workers),
            "io",
            workers=workers,
            initializer=lambda: started.append(threading.get_ident()),
        )
        assert len(started) <= workers
        started.clear()


def test_threads_that_would_fight_for_the_gil_are_only_wanted_when_nothing_comes_back() -> None:
    width = first_width(1000, 100, Tally(), 0.0)._replace(enough=40)
    tally, now_s = Tally(), 0.0
    for _ in range(10):
        count, now_s = width.threads, now_s + 0.005
        tally = Tally(tally.ended + count, 0, tally.busy_s + count * 0.005)
        width = next_width(width, tally, now_s)
    assert width.threads == 40
    for _ in range(10):
        now_s += 1.01 * STALL_S
        width = next_width(width, tally, now_s)
    assert width.threads == 100


@pytest.mark.parametrize("count", [12, 40, 400])
def test_the_report_says_how_many_threads_there_came_to_be(count: int) -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def wait(_: int) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1

    with observe() as seen:
        auto_map(wait, range(count), "io")
    assert most <= seen.reports[0].workers <= max(32, 2 * most)


def test_the_report_gives_no_threads_that_there_were_not() -> None:
    """A hundred might have waited, but the first ones were done too soon."""
    shutdown()
    with observe() as seen:
        auto_map(time.sleep, [0.001] * 100, "io")
    at_most = seen.reports[0].workers
    assert at_most > 2  # how many begin before the items are done is a race
    assert eventually(
        lambda: sum(t.name == "autopar" for t in threading.enumerate()) >= at_most - 1
    )
