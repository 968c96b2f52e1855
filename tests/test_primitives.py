"""Locks, conditions, events and barriers do their work wherever they have travelled to."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import autopar
import primitives_work as work
from autopar import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
    TransportError,
    Value,
    auto_map,
)
from autopar._primitives import arena
from conftest import eventually, open_descriptors

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

ROUTES = ("thread", "fork", "forkserver", "spawn", "auto_map", "AutoExecutor", "Pool", "Worker")
MAKERS: list[Callable[[], Any]] = [
    Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event, partial(Barrier, 2),
    partial(Value, "i"),
]  # fmt: skip
Start = Callable[..., "Future[Any]"]


class InAWorker(ThreadPoolExecutor):
    """Does what it is asked in worker processes of autopar's."""

    def submit(self, fn: Any, /, *args: Any, **_none: Any) -> Future[Any]:
        return super().submit(self._run, fn, args)

    def _run(self, fn: Any, args: Any) -> Any:
        return auto_map(work.call, [(fn, args)], backend="processes", workers=1)[0]


class InAPool(ThreadPoolExecutor):
    """Does what it is asked in worker processes of a pool of autopar's."""

    def __init__(self, pool: autopar.Pool) -> None:
        super().__init__(3)
        self._pool = pool

    def submit(self, fn: Any, /, *args: Any, **_none: Any) -> Future[Any]:
        return super().submit(self._pool.apply, fn, args)


class InAWorkerOfItsOwn(ThreadPoolExecutor):
    """Does what it is asked in a process each."""

    def submit(self, fn: Any, /, *args: Any, **_none: Any) -> Future[Any]:
        return super().submit(self._run, fn, args)

    def _run(self, fn: Any, args: Any) -> Any:
        worker = autopar.Worker(target=fn, args=args, kind="cpu")
        worker.start()
        return worker.result(30)


@pytest.fixture(scope="module")
def executors() -> Iterator[dict[str, Executor]]:
    """One that is running for each route."""
    with autopar.Pool(2, kind="cpu") as pool:
        made: dict[str, Executor] = {
            "thread": ThreadPoolExecutor(3),
            "auto_map": InAWorker(3),
            "AutoExecutor": autopar.AutoExecutor(2, kind="cpu"),
            "Pool": InAPool(pool),
            "Worker": InAWorkerOfItsOwn(3),
        }
        for method in ("fork", "forkserver", "spawn"):
            context = multiprocessing.get_context(method)
            made[method] = ProcessPoolExecutor(1, context)
            made[method].submit(os.getpid).result(30)
        yield made
        for executor in made.values():
            executor.shutdown()
    work.end_standard_helpers()


@pytest.fixture(params=ROUTES)
def start(request: pytest.FixtureRequest, executors: dict[str, Executor]) -> Start:
    """Starts a function elsewhere, and gives its future: by each route in turn."""
    return executors[request.param].submit


def test_a_lock_keeps_others_out(start: Start) -> None:
    for lock in (Lock(), RLock()):
        counter = autopar.RawValue("q")
        future = start(work.count_up, lock, counter, 2000)
        work.count_up(lock, counter, 2000)
        future.result(30)
        assert counter.value == 4000


def test_a_lock_taken_here_is_taken_there(start: Start) -> None:
    for lock in (Lock(), RLock(), Semaphore(1)):
        with lock:
            assert start(work.tries, lock).result(30) is False
        assert start(work.tries, lock).result(30) is True


def test_a_condition_wakes_those_who_wait(start: Start) -> None:
    condition, state = Condition(), autopar.RawValue("i")
    future = start(work.answer, condition, state, 30)
    for turn in range(30):
        with condition:
            state.value += 1
            condition.notify()
            assert condition.wait_for(lambda turn=turn: state.value == 2 * turn + 2, 30)
    assert future.result(30) == 60


def test_an_event_set_here_is_seen_there(start: Start) -> None:
    event, ready = Event(), Event()
    future = start(work.await_event, event, ready)
    assert ready.wait(30)
    assert not event.is_set()
    event.set()
    assert future.result(30) is True


def test_a_barrier_lets_everybody_through_at_once_and_numbers_them(start: Start) -> None:
    met: list[int] = []
    barrier = Barrier(2, timeout=30)
    future = start(work.meet, barrier, 20)
    met = work.meet(barrier, 20)
    assert [{a, b} for a, b in zip(met, future.result(30))] == [{0, 1}] * 20


def test_a_semaphore_counts_for_all(start: Start) -> None:
    semaphore = Semaphore(0)
    assert not semaphore.acquire(timeout=0.01)
    future = start(work.release, semaphore, 3)
    assert all(semaphore.acquire(timeout=30) for _ in range(3))
    future.result(30)
    assert semaphore.get_value() == 0


def test_adding_to_a_value_is_one_step(start: Start) -> None:
    value = Value("q")
    futures = [start(work.add, value, 2000) for _ in range(2)]
    work.add(value, 2000)
    for future in futures:
        future.result(30)
    assert value.value == 6000


@pytest.mark.parametrize("make", MAKERS)
def test_it_comes_back_as_it_was_sent(start: Start, make: Callable[[], Any]) -> None:
    sent = make()
    back = start(work.identity, {"in": [sent]}).result(30)["in"][0]
    if isinstance(sent, (Lock, Semaphore, Condition)):
        assert back is sent
    assert pickle.dumps(back) == pickle.dumps(sent)


def test_what_a_worker_made_is_of_use_to_others(start: Start) -> None:
    lock, _maker = start(work.made_here).result(30)
    with lock:
        assert start(work.tries, lock).result(30) is False


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_process_of_the_standard_library_takes_it_as_an_argument(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    lock, counter = Lock(), autopar.RawValue("q")
    process = context.Process(target=work.count_up, args=(lock, counter, 500))
    process.start()
    work.count_up(lock, counter, 500)
    process.join(30)
    assert (process.exitcode, counter.value) == (0, 1000)


def test_functions_take_it_along() -> None:
    lock, value = RLock(), Value("q")

    def in_a_closure(x: int) -> int:
        with lock:
            value.value += x
        return os.getpid()

    class Holder:
        def __init__(self) -> None:
            self.locks = {"one": lock}

        def method(self, x: int) -> bool:
            with self.locks["one"]:
                return True

    items = range(40)
    pids = auto_map(in_a_closure, items, backend="processes", workers=2)
    assert os.getpid() not in pids
    assert value.value == sum(items)
    assert all(auto_map(work.with_default(lock), items, backend="processes"))
    assert all(auto_map(Holder().method, items, backend="processes"))
    assert auto_map(partial(work.tries), [lock] * 3, backend="processes") == [True] * 3


def test_items_meet_across_workers() -> None:
    barrier = Barrier(2)
    numbers = auto_map(lambda _: barrier.wait(30), range(2), backend="processes", workers=2)
    assert sorted(numbers) == [0, 1]


def test_it_is_one_object_in_a_process_so_that_a_thread_keeps_its_rlock() -> None:
    lock = RLock()
    copy = pickle.loads(pickle.dumps(lock))
    with lock, copy:
        assert copy is lock


def test_a_fork_goes_on_with_what_it_has_inherited() -> None:
    lock, counter, event = Lock(), autopar.RawValue("q"), Event()

    def child() -> None:
        event.set()
        work.count_up(lock, counter, 500)

    with lock:
        pid = work.forked(child)
        assert event.wait(30)
        assert counter.value == 0
    work.count_up(lock, counter, 500)
    assert os.waitpid(pid, 0)[1] == 0
    assert counter.value == 1000


def test_another_thread_or_process_may_release_a_lock() -> None:
    lock = Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert not lock.locked()
    lock.acquire()
    assert os.waitpid(work.forked(lock.release), 0)[1] == 0
    assert lock.acquire(timeout=30)


def test_threads_of_one_process_and_of_others_share_a_lock() -> None:
    lock, counter = Lock(), autopar.RawValue("q")
    pids = [work.forked(work.count_up, lock, counter, 300) for _ in range(2)]
    args = (lock, counter, 300)
    threads = [threading.Thread(target=work.count_up, args=args) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert counter.value == 1500


def test_only_who_has_a_lock_can_release_it() -> None:
    for kind in (ValueError, RuntimeError, AssertionError, autopar.UsageError):
        with pytest.raises(kind):
            Lock().release()
        with pytest.raises(kind):
            RLock().release()
    with pytest.raises(ValueError, match="too many"):
        BoundedSemaphore(2).release()
    with pytest.raises(RuntimeError):
        Condition().notify()
    with pytest.raises(RuntimeError):
        Condition().wait(0)
    lock = RLock()
    with lock, ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(lock.release).exception(30), RuntimeError)
        assert lock.locked()


def test_waiting_ends_in_time() -> None:
    lock, semaphore, event = Lock(), Semaphore(0), Event()
    with lock:
        assert not lock.acquire(timeout=0.05)
        assert not lock.acquire(timeout=-1)
        assert not lock.acquire(False)
    assert not semaphore.acquire(timeout=0.05)
    assert not event.wait(0.05)
    condition = Condition()
    with condition:
        assert not condition.wait(0.05)
    with pytest.raises(threading.BrokenBarrierError):
        Barrier(2).wait(0.05)


def test_a_notification_goes_to_who_came_first() -> None:
    condition, order = Condition(), list[int]()

    def wait(number: int) -> None:
        with condition:
            entered[number].set()
            condition.wait(30)
            order.append(number)

    entered = [threading.Event() for _ in range(3)]
    threads = [threading.Thread(target=wait, args=(number,)) for number in range(3)]
    for thread, inside in zip(threads, entered):
        thread.start()
        inside.wait(30)
        with condition:
            pass  # it has let go of the lock, and waits
    for number in range(3):
        with condition:
            condition.notify()
        assert eventually(lambda number=number: len(order) == number + 1)
    assert order == [0, 1, 2]


def test_a_broken_barrier_is_mended_by_a_reset() -> None:
    barrier = Barrier(2, action=lambda: 1 / 0)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(barrier.wait, 30)
        assert eventually(lambda: barrier.n_waiting == 1 or barrier.broken)
        with pytest.raises(ZeroDivisionError):
            barrier.wait(30)
        assert isinstance(future.exception(30), threading.BrokenBarrierError)
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken
    assert barrier.n_waiting == 0


def test_another_machine_is_told_why_it_cannot_have_it() -> None:
    for make in MAKERS:
        sent = pickle.dumps(make())
        elsewhere = sent.replace(arena.boot().encode(), b"0" * len(arena.boot()))
        with pytest.raises(TransportError, match="another one"):
            pickle.loads(elsewhere)


def test_what_is_gone_is_said_to_be_gone() -> None:
    program = "import autopar, pickle; print(pickle.dumps(autopar.Lock()).hex())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=50)
    with pytest.raises(TransportError, match="has ended"):
        pickle.loads(bytes.fromhex(ended.stdout.decode()))


def test_what_was_sent_and_dropped_still_arrives(executors: dict[str, Executor]) -> None:
    futures = [executors["spawn"].submit(work.tries, Lock()) for _ in range(3)]
    gc.collect()
    assert [future.result(30) for future in futures] == [True] * 3


def test_a_thousand_locks_need_no_descriptor_each_and_nothing_is_left() -> None:
    arena.forget_sent()
    gc.collect()
    files, shared = open_descriptors(), set(os.listdir("/dev/shm"))
    locks = [Lock() for _ in range(1000)]
    assert open_descriptors() - files < 20
    assert set(os.listdir("/dev/shm")) == shared
    del locks
    gc.collect()
    assert open_descriptors() <= files


def test_memory_that_others_may_have_seen_is_not_handed_out_again() -> None:
    lock = Lock()
    sent = pickle.dumps(lock)
    del lock
    others = [Lock() for _ in range(5)]
    again = pickle.loads(sent)
    with again:
        assert not any(other.locked() for other in others)
