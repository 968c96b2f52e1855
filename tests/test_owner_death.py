"""A process that is killed with a lock in its hands makes nobody hang, and nobody share it.

AUTOPAR_KILLS: how many holders are killed at random moments.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import primitives_work as work
from autopar import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    OwnerDied,
    RawArray,
    RLock,
    Semaphore,
    Value,
)
from autopar._primitives import permits

KILLS = int(os.environ.get("AUTOPAR_KILLS", "200"))
GENEROUS_S = 30.0  # for what takes a tenth of a second when nothing else runs

LOCKS: list[Callable[[], Any]] = [Lock, RLock]


@contextmanager
def process(fn: Callable[..., object], *args: Any) -> Iterator[int]:
    """A process that does `fn`; it is killed at the end, if it has not been."""
    pid = work.forked(fn, *args)
    try:
        yield pid
    finally:
        kill(pid)


def kill(pid: int) -> None:
    """Kills a process and waits for its end; of one that has been, nothing is wanted."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def hold(lock: Any, has_it: Any) -> None:
    with lock:
        has_it.set()
        signal.pause()


@contextmanager
def held_elsewhere(lock: Any) -> Iterator[int]:
    """Another process holds a lock."""
    has_it = Event()
    with process(hold, lock, has_it) as pid:
        assert has_it.wait(GENEROUS_S)
        yield pid


@pytest.mark.parametrize("make", LOCKS)
def test_a_dead_owners_lock_goes_to_one_that_waits_who_is_told(make: Callable[[], Any]) -> None:
    lock = make()
    with held_elsewhere(lock) as pid:
        assert not lock.acquire(timeout=0.2)
        kill(pid)
        with pytest.warns(OwnerDied, match=str(pid)):
            assert lock.acquire(timeout=GENEROUS_S)
        assert lock.owner_died
        lock.release()
    assert not lock.owner_died
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            with lock:
                assert not lock.owner_died
    assert not lock.locked()


def test_a_lock_comes_back_within_two_seconds_of_the_kill() -> None:
    waits_s = []
    for _ in range(5):
        lock = Lock()
        with held_elsewhere(lock) as pid:
            kill(pid)
            killed_s = time.monotonic()
            with pytest.warns(OwnerDied):
                assert lock.acquire(timeout=GENEROUS_S)
            waits_s.append(time.monotonic() - killed_s)
    assert min(waits_s) < 2  # the least: another program may have had the CPUs


@pytest.mark.filterwarnings("ignore::autopar.OwnerDied")
@pytest.mark.parametrize("make", LOCKS)
def test_exactly_one_of_many_that_wait_inherits(make: Callable[[], Any]) -> None:
    lock, told, inside = make(), Value("i"), RawArray("i", 2)

    def wait_for_it() -> None:
        with lock:
            inside[0] += 1
            inside[1] = max(inside[:])
            if lock.owner_died:
                told.add(1)
            time.sleep(0.001)
            inside[0] -= 1

    with held_elsewhere(lock) as pid:
        pids = [work.forked(wait_for_it) for _ in range(4)]
        threads = [threading.Thread(target=wait_for_it) for _ in range(3)]
        for thread in threads:
            thread.start()
        kill(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
        for thread in threads:
            thread.join(GENEROUS_S)
    assert (told.value, inside[1]) == (1, 1)


@pytest.mark.parametrize("make", LOCKS)
def test_a_stopped_owner_keeps_its_lock(make: Callable[[], Any]) -> None:
    lock, has_it, free = make(), Event(), Event()

    def hold_until_free() -> None:
        with lock:
            has_it.set()
            free.wait()

    with process(hold_until_free) as pid:
        assert has_it.wait(GENEROUS_S)
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        assert not lock.acquire(timeout=0.3)
        os.kill(pid, signal.SIGCONT)
        free.set()
        assert lock.acquire(timeout=GENEROUS_S)
        assert not lock.owner_died


def test_who_cannot_be_told_dead_or_alive_keeps_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock()
    with monkeypatch.context() as patch:
        patch.setattr(permits, "numbering", lambda: 1)  # as in a container of its own
        with held_elsewhere(lock) as pid:
            pass
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not lock.acquire(timeout=0.2)
    lock.release()
    assert lock.acquire(timeout=GENEROUS_S)
    assert not lock.owner_died


def test_who_waits_needs_no_descriptor() -> None:
    lock = Lock()

    def wait() -> None:
        lock.own_seat()
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        assert not lock.acquire(timeout=0.2)

    with held_elsewhere(lock):
        assert os.waitpid(work.forked(wait), 0)[1] == 0


def test_an_inherited_lock_is_inherited_again() -> None:
    lock = Lock()

    def inherit_and_die() -> None:
        lock.acquire()
        assert lock.owner_died
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(3):
        with held_elsewhere(lock) as pid:
            heir = work.forked(inherit_and_die)
            kill(pid)
            assert os.waitpid(heir, 0)[1] == signal.SIGKILL
        with pytest.warns(OwnerDied, match=str(heir)):
            assert lock.acquire(timeout=GENEROUS_S)
        lock.release()


def test_an_inherited_rlock_is_its_threads_own() -> None:
    lock, others = RLock(), list[bool]()
    with held_elsewhere(lock) as pid:
        kill(pid)
        with pytest.warns(OwnerDied):
            lock.acquire()
    with lock:
        thread = threading.Thread(target=lambda: others.append(lock.acquire(timeout=0.1)))
        thread.start()
        thread.join()
    assert lock.owner_died
    lock.release()
    thread = threading.Thread(target=lambda: others.append(work.tries(lock)))
    thread.start()
    thread.join()
    assert others == [False, True]


@pytest.mark.filterwarnings("ignore::autopar.OwnerDied")
def test_who_only_tries_gets_it_too_and_from_one_not_yet_waited_for() -> None:
    lock = Lock()
    with held_elsewhere(lock) as pid:
        os.kill(pid, signal.SIGKILL)
        until_s = time.monotonic() + GENEROUS_S
        while not lock.acquire(False):
            assert time.monotonic() < until_s
    assert lock.owner_died


def test_where_warnings_are_errors_nothing_is_acquired() -> None:
    lock = Lock()
    with held_elsewhere(lock) as pid, warnings.catch_warnings():
        warnings.simplefilter("error")
        kill(pid)
        with pytest.raises(OwnerDied):
            lock.acquire(timeout=GENEROUS_S)
    assert not lock.locked()
    assert not lock.owner_died


def die_at(step: int, use: Callable[[], object]) -> None:
    """Kills itself at the `step`-th call into C, or return from one, while it uses something."""
    left = [step]

    def count(_frame: Any, event: str, _arg: Any) -> None:
        if event.startswith("c_"):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    use()
    sys.setprofile(None)


def in_a_with(lock: Any) -> None:
    with lock:
        pass


def by_calls(lock: Any) -> None:
    lock.acquire()
    lock.release()


@pytest.mark.filterwarnings("ignore::autopar.OwnerDied")
@pytest.mark.parametrize("use", [in_a_with, by_calls])
@pytest.mark.parametrize("make", LOCKS)
def test_whichever_step_it_dies_at_the_lock_is_there_once(
    make: Callable[[], Any], use: Callable[[Any], None]
) -> None:
    inherited = 0
    for step in range(1, 30):
        lock = make()

        def live(lock: Any = lock, step: int = step) -> None:
            lock.own_seat()
            die_at(step, lambda: use(lock))

        ended = os.waitpid(work.forked(live), 0)[1]
        assert lock.acquire(timeout=GENEROUS_S)
        inherited += lock.owner_died
        assert os.waitpid(work.forked(only_tries, lock, False), 0)[1] == 0
        lock.release()
        assert os.waitpid(work.forked(only_tries, lock, True), 0)[1] == 0
        if ended == 0:
            break  # there are no more steps
    else:
        pytest.fail("the steps do not end")
    assert inherited >= 2


def only_tries(lock: Any, expected: bool) -> None:
    assert lock.acquire(False) is expected


@pytest.mark.timeout(60 + KILLS)
@pytest.mark.parametrize("make", LOCKS)
def test_killed_at_any_moment_nobody_hangs_and_nobody_shares(make: Callable[[], Any]) -> None:
    lock, board = make(), RawArray("q", 3)
    in_it, holds, wrong = range(3)

    def take_turns() -> None:
        me = os.getpid()
        random.seed(me)
        while True:
            with lock:
                wrong_before = board[in_it] != 0 and not lock.owner_died
                board[in_it] = me
                for _ in range(random.randrange(30)):
                    pass
                board[wrong] += wrong_before or board[in_it] != me
                board[holds] += 1
                board[in_it] = 0

    pids = [work.forked(take_turns) for _ in range(3)]
    try:
        for _ in range(KILLS // 2):
            time.sleep(random.random() * 0.004)  # a moment, not a meeting
            at = random.randrange(len(pids))
            kill(pids[at])
            seen, until_s = board[holds], time.monotonic() + GENEROUS_S
            while board[holds] == seen:
                assert time.monotonic() < until_s, "nobody gets the lock any more"
                time.sleep(0.0005)
            pids[at] = work.forked(take_turns)
    finally:
        for pid in pids:
            kill(pid)
    assert board[wrong] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert lock.acquire(timeout=GENEROUS_S)


@pytest.mark.filterwarnings("ignore::autopar.OwnerDied")
@pytest.mark.parametrize("make", [Semaphore, BoundedSemaphore])
def test_a_semaphore_taken_in_a_with_comes_back(make: Callable[[int], Any]) -> None:
    semaphore = make(2)
    with held_elsewhere(semaphore) as one, held_elsewhere(semaphore) as two:
        assert not semaphore.acquire(timeout=0.2)
        kill(one)
        assert semaphore.acquire(timeout=GENEROUS_S)
        assert not semaphore.acquire(timeout=0.2)
        kill(two)
        assert semaphore.acquire(timeout=GENEROUS_S)
    assert semaphore.get_value() == 0


def test_a_semaphore_that_is_a_signal_stays_as_it_was_left() -> None:
    semaphore = Semaphore(1)
    os.waitpid(work.forked(semaphore.acquire), 0)
    assert not semaphore.acquire(timeout=0.2)
    os.waitpid(work.forked(semaphore.release), 0)
    assert semaphore.acquire(timeout=GENEROUS_S)


def wait_in(condition: Any, inside: Any) -> None:
    with condition:
        inside.set()
        condition.wait()


def test_no_notification_is_spent_on_the_dead() -> None:
    condition, got = Condition(), list[bool]()
    pids = []
    for _ in range(2):
        inside = Event()
        pids.append(work.forked(wait_in, condition, inside))
        assert inside.wait(GENEROUS_S)
    inside = Event()

    def wait() -> None:
        with condition:
            inside.set()
            got.append(condition.wait(GENEROUS_S))

    thread = threading.Thread(target=wait)
    thread.start()
    assert inside.wait(GENEROUS_S)
    kill(pids[0])
    os.kill(pids[1], signal.SIGSTOP)
    with condition:
        condition.notify(2)  # the first is dead: one goes to the stopped one, one to the thread
        kill(pids[1])  # or is there for somebody else, now
    thread.join(GENEROUS_S)
    assert got == [True]


def test_what_woke_a_dead_one_wakes_another() -> None:
    condition, inside = Condition(), Event()
    pid = work.forked(wait_in, condition, inside)
    assert inside.wait(GENEROUS_S)
    with condition:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        condition.notify()
    kill(pid)
    with condition:
        assert condition.wait(GENEROUS_S)


def test_a_conditions_lock_comes_back() -> None:
    condition = Condition()
    with held_elsewhere(condition) as pid:
        kill(pid)
        with pytest.warns(OwnerDied):
            condition.acquire()
        assert condition.owner_died
        condition.notify_all()
        condition.release()


def test_a_barrier_does_not_count_the_dead() -> None:
    barrier = Barrier(2)
    pid = work.forked(barrier.wait)
    until_s = time.monotonic() + GENEROUS_S
    while barrier.n_waiting == 0:
        assert time.monotonic() < until_s
    kill(pid)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(GENEROUS_S)


def test_many_dead_leave_room_for_the_living() -> None:
    lock = Lock()
    for _ in range(150):
        assert os.waitpid(work.forked(work.tries, lock), 0)[1] == 0
    with held_elsewhere(lock) as pid:
        kill(pid)
        assert os.waitpid(work.forked(lock.own_seat), 0)[1] == 0
        with pytest.warns(OwnerDied):
            assert lock.acquire(timeout=GENEROUS_S)
