"""How calls share the CPUs of this process: fairly, in turns, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import work
from autopar import auto_map, shutdown
from autopar._engine import budget
from autopar._engine.budget import PATIENCE_S, TURN_S, Share
from conftest import children


class Pool:
    """Calls in a simulated time, each with as many workers as it was granted."""

    def __init__(self, cpus: int, calls: int) -> None:
        self.cpus = cpus
        self.now_s = 1000.0
        self.shares = [Share(lambda: None) for _ in range(calls)]
        self.hired = [0] * calls
        self.worked_s = [0.0] * calls

    def tick(self, tick_s: float = 0.02, wanted: int = 100) -> None:
        for at, share in enumerate(self.shares):
            self.worked_s[at] += self.hired[at] * tick_s
            self.hired[at] = share.settle(
                self.cpus, wanted, self.hired[at], self.now_s, demand=False
            )
        self.now_s += tick_s

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for share in self.shares:
            share.give_back()


@pytest.fixture(autouse=True)
def nobody_else() -> Iterator[None]:
    assert not budget._shares
    yield
    assert not budget._shares


@given(cpus=st.integers(1, 64))
def test_a_call_alone_has_every_cpu(cpus: int) -> None:
    with Pool(cpus, 1) as pool:
        pool.tick()
        assert pool.hired == [cpus]


@given(cpus=st.integers(1, 32), calls=st.integers(1, 40), ticks=st.integers(1, 60))
def test_workers_never_outnumber_the_cpus_while_turns_end(
    cpus: int, calls: int, ticks: int
) -> None:
    with Pool(cpus, calls) as pool:
        for _ in range(ticks):
            pool.tick()
            assert sum(pool.hired) <= cpus


@given(cpus=st.integers(1, 8), calls=st.integers(2, 20))
def test_calls_get_about_the_same(cpus: int, calls: int) -> None:
    with Pool(cpus, calls) as pool:
        for _ in range(int(40 * calls * TURN_S / 0.02 / cpus)):
            pool.tick()
        assert min(pool.worked_s) > 0.3 * max(pool.worked_s)


def test_a_call_that_ends_leaves_its_workers_to_the_others() -> None:
    with Pool(4, 2) as pool:
        for _ in range(3):
            pool.tick()
        assert pool.hired == [2, 2]
        pool.shares.pop(0).give_back()
        pool.hired.pop(0)
        pool.tick()
        pool.tick()
        assert pool.hired == [4]


def test_who_gives_back_wakes_who_waits() -> None:
    woken = []
    first, second = Share(lambda: woken.append(1)), Share(lambda: woken.append(2))
    assert first.settle(1, 1, 0, 0.0, demand=False) == 1
    assert second.settle(1, 1, 0, 0.0, demand=False) == 0
    first.give_back()
    assert (woken, second.due) == ([2], True)
    assert second.settle(1, 1, 0, 0.0, demand=False) == 1
    assert not second.due
    second.give_back()


def test_when_no_turn_ends_for_long_another_call_is_let_in() -> None:
    """Those at work may wait for items of a call that waits for its turn."""
    first, second = Share(lambda: None), Share(lambda: None)
    assert first.settle(1, 1, 0, 0.0, demand=False) == 1
    assert second.settle(1, 1, 0, 0.0, demand=False) == 0
    late_s = PATIENCE_S + 0.01
    assert first.settle(1, 1, 1, late_s, demand=False) == 0  # and its item goes on
    assert second.settle(1, 1, 0, late_s, demand=False) == 1
    first.give_back()
    second.give_back()


@given(wanted=st.integers(1, 100))
def test_what_the_caller_demands_is_granted(wanted: int) -> None:
    other, share = Share(lambda: None), Share(lambda: None)
    other.settle(2, 2, 0, 0.0, demand=False)
    assert share.settle(2, wanted, 0, 0.0, demand=True) == wanted
    other.give_back()
    share.give_back()


def test_calls_of_many_threads_wait_for_each_other_without_hanging() -> None:
    """More calls than CPUs, each with an item that ends only when all have begun."""
    shutdown()
    calls = 6
    together = threading.Barrier(calls)
    most = 0

    def meet() -> None:
        together.wait()
        # Where faults matter, processes are what it takes with and without a GIL.
        assert auto_map(work.spin, [0.01] * 10, "cpu", retries=1) == [0.01] * 10

    threads = [threading.Thread(target=meet) for _ in range(calls)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, len([pid for helper in children() for pid in children(helper)]))
        threads[0].join(0.01)
        threads = [thread for thread in threads if thread.is_alive()]
    from autopar._observe.machine import machine

    assert 1 <= most <= machine().cpus + 1


@given(cpus=st.integers(1, 64), more=st.integers(0, 100), calls=st.integers(1, 12))
def test_calls_that_must_have_their_workers_leave_the_others_a_cpu(
    cpus: int, more: int, calls: int
) -> None:
    """However many they have: others need not wait until it is plain that no turn will end."""
    with Pool(cpus, 1 + calls) as pool:
        greedy, *others = pool.shares
        assert greedy.settle(cpus, cpus + more, 0, 1000.0, demand=True) == cpus + more
        for share in others:  # one after another, each until it has what it wanted
            assert share.settle(cpus, 1, 0, 1000.0, demand=False) == 1
            share.give_back()
