"""Queues hand every message to one, in order, wherever they travel and whoever dies."""

from __future__ import annotations

import os
import pickle
import queue
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import primitives_work as work
from autopar import Event, JoinableQueue, Queue, RawArray, SimpleQueue, auto_map
from conftest import eventually

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

KINDS: list[Callable[[], Any]] = [Queue, JoinableQueue, SimpleQueue]
KILLS = int(os.environ.get("AUTOPAR_KILLS", "200"))


@pytest.mark.parametrize("make", KINDS)
def test_messages_come_in_the_order_they_were_put(make: Callable[[], Any]) -> None:
    messages = make()
    assert messages.empty()

    def put_all() -> None:
        for number in range(500):
            messages.put((number, b"x" * random.randrange(10_000)))

    pid = work.forked(put_all)
    assert [messages.get()[0] for _ in range(500)] == list(range(500))
    assert os.waitpid(pid, 0)[1] == 0
    assert messages.empty()


def test_a_bounded_queue_blocks_and_times_out_as_the_standard_one() -> None:
    messages = Queue(2)
    messages.put(1)
    assert (messages.qsize(), messages.full(), messages.empty()) == (1, False, False)
    messages.put_nowait(2)
    assert messages.full()
    with pytest.raises(queue.Full):
        messages.put_nowait(3)
    with pytest.raises(queue.Full):
        messages.put(3, timeout=0.05)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(messages.put, 3)
        assert messages.get() == 1
        future.result(30)
    assert [messages.get(), messages.get_nowait()] == [2, 3]
    with pytest.raises(queue.Empty):
        messages.get_nowait()
    with pytest.raises(queue.Empty):
        messages.get(timeout=0.05)


def test_workers_put_and_get() -> None:
    asked, answered = Queue(), SimpleQueue()
    for number in range(20):
        asked.put(number)
    auto_map(lambda _: answered.put(asked.get() ** 2), range(20), backend="processes", workers=2)
    assert sorted(answered.get() for _ in range(20)) == [number**2 for number in range(20)]
    assert pickle.loads(pickle.dumps(asked)) is asked


def test_join_waits_until_all_is_done() -> None:
    messages, done = JoinableQueue(), RawArray("i", 1)

    def work_off() -> None:
        for _ in range(10):
            messages.get()
            done[0] += 1
            messages.task_done()

    for number in range(10):
        messages.put(number)
    pid = work.forked(work_off)
    messages.join()
    assert done[0] == 10
    assert os.waitpid(pid, 0)[1] == 0
    with pytest.raises(ValueError, match="too many times"):
        messages.task_done()


def test_large_messages_arrive_whole_and_their_memory_is_given_back() -> None:
    messages = Queue()
    array = np.random.default_rng(0).random((500, 500))
    file = f"/proc/self/fd/{messages._block.arena.fd}"
    for turn in range(10):
        messages.put({"turn": turn, "array": array, "bytes": bytes(3_000_000)})
        messages.put(turn)
        got = messages.get()
        assert got["turn"] == turn
        assert np.array_equal(got["array"], array)
        assert got["array"].flags.writeable
        assert os.stat(file).st_blocks * 512 < 10_000_000
        assert messages.get() == turn
    assert os.stat(file).st_blocks * 512 < 2_000_000


def test_what_cannot_be_sent_is_refused_at_once() -> None:
    messages = Queue()
    with pytest.raises((TypeError, pickle.PicklingError)):
        messages.put(threading.Lock())
    messages.put(1)
    assert messages.get() == 1


def test_a_closed_queue_is_closed_here_alone() -> None:
    messages = Queue()
    messages.put(1)
    messages.close()
    messages.join_thread()
    with pytest.raises(ValueError, match="closed"):
        messages.put(2)
    with pytest.raises(ValueError, match="closed"):
        messages.get()


def test_a_killed_consumer_leaves_the_messages_to_others() -> None:
    messages, waiting = Queue(), Event()

    def consume() -> None:
        waiting.set()
        messages.get()

    pid = work.forked(consume)
    assert waiting.wait(30)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(messages.get, True, 30)
        messages.put("still here")
        assert future.result(30) == "still here"


@pytest.mark.timeout(60 + KILLS)
def test_killed_producers_and_consumers_never_wedge_the_others() -> None:
    """Every message is whole; of those that were put, only what the killed had got is missing."""
    messages: Any = JoinableQueue(5)
    board = RawArray("q", 2)  # how many were put at least, and got by those not killed

    def produce() -> None:
        random.seed(os.getpid())
        while True:
            messages.put(bytes([random.randrange(256)]) * random.choice([10, 300, 9000]))
            board[0] += 1

    def consume() -> None:
        while True:
            got = messages.get()
            assert got == got[:1] * len(got)
            board[1] += 1
            messages.task_done()

    kinds = [produce, produce, consume, consume]
    pids = [work.forked(kind) for kind in kinds]
    try:
        for _ in range(KILLS // 4):
            time.sleep(random.random() * 0.003)  # a moment, not a meeting
            at = random.randrange(len(pids))
            os.kill(pids[at], signal.SIGKILL)
            assert os.waitpid(pids[at], 0)[1] == signal.SIGKILL  # and it had not failed before
            pids[at] = work.forked(kinds[at])
            put, got = board
            assert eventually(lambda put=put, got=got: board[0] > put and board[1] > got, 30)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    for _ in range(messages.qsize()):
        messages.get(timeout=30)
    assert messages.empty()
    messages.put(b"")
    assert messages.get(timeout=30) == b""
