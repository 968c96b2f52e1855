"""What a watched thread is said to do: real threads, quiet and beside busy processes.

Verdicts are statistics of a few milliseconds: a majority has to be right, and for code that only
computes nearly all. (That one waits no longer than it does is exact but for this: the watching
thread may lose its CPU while it has the GIL, and the watched one then waits for both.)
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopar._model import Observation
from autopar._observe.watch import WAITS, Progress, Subject, Watch, stolen_from
from autopar._platform import MachineTimes, gil_enabled
from conftest import misled, open_descriptors

ROUNDS = 9
GIVE_UP_S = 20.0

BUFFER = bytes(range(256)) * 4096  # 1 MB
TEXT = json.dumps({str(number): [number] * 5 for number in range(300)})
WITH_GIL = ctypes.PyDLL(None)  # its functions keep the GIL while they run
WITHOUT_GIL = ctypes.CDLL(None)


def loop() -> None:
    total = 0
    for number in range(20_000):
        total += number * number % 7


def parse() -> None:
    json.loads(TEXT)


def sha256() -> None:
    hashlib.sha256(BUFFER).digest()


def deflate() -> None:
    zlib.compress(BUFFER[: 1 << 18], 6)


def nap() -> None:
    time.sleep(2e-3)


def long_nap() -> None:
    time.sleep(0.2)


def receive() -> None:
    ours, _theirs = SOCKETS
    select.select([ours], [], [], 2e-3)


def nap_with_gil() -> None:
    WITH_GIL.usleep(2000)


def nap_in_c() -> None:
    WITHOUT_GIL.usleep(2000)


def download_and_parse() -> None:
    """One part computes, four parts wait."""
    time.sleep(0.8e-3)
    until_s = time.thread_time() + 0.2e-3
    while time.thread_time() < until_s:
        pass


SOCKETS: tuple[socket.socket, socket.socket]


@pytest.fixture(autouse=True, scope="module")
def sockets() -> Iterator[None]:
    global SOCKETS
    SOCKETS = socket.socketpair()
    yield
    for end in SOCKETS:
        end.close()


@pytest.fixture(params=[0, 2], ids=["quiet", "beside two busy processes"])
def neighbours(request: pytest.FixtureRequest) -> Iterator[int]:
    """Processes that spin meanwhile, as on a busy machine."""
    spin = "import sys; print(flush=True)\nwhile sys.stdin is not None: pass"
    busy = [
        subprocess.Popen([sys.executable, "-S", "-c", spin], stdout=subprocess.PIPE)
        for _ in range(request.param)
    ]
    for process in busy:
        assert process.stdout is not None
        process.stdout.readline()
    yield request.param
    for process in busy:
        process.kill()
        assert process.stdout is not None
        process.stdout.close()
        process.wait()


class Runner:
    """The thread that runs items, and how far it has come; it is the one that is watched."""

    def __init__(self, item: Callable[[], None]) -> None:
        self.item = item
        self.subject = Subject()
        self.ended = threading.Lock()
        self.ended.acquire()
        self.busy_s = self.first_s = self.longest_s = 0.0
        self.items = 0
        self.seen: Observation | None = None

    def progress(self) -> Progress:
        return Progress(self.items, self.busy_s, self.first_s, self.longest_s)

    def run(self) -> Observation:
        """Runs items in the calling thread until another thread has made up its mind."""
        self.began_s = time.perf_counter()
        watcher = threading.Thread(target=self.watch)
        watcher.start()
        while self.seen is None and time.perf_counter() - self.began_s < GIVE_UP_S:
            began_s = time.perf_counter()
            self.item()
            took_s = time.perf_counter() - began_s
            self.first_s = self.first_s or took_s
            self.longest_s = max(self.longest_s, took_s)
            self.busy_s += took_s
            self.items += 1
        self.ended.release()
        watcher.join()
        assert self.seen is not None, "no verdict"
        return self.seen

    def watch(self) -> None:
        """What the director's thread does with a watch."""
        watch = Watch(self.subject, self.progress(), self.began_s)
        try:
            while not watch.knock(self.ended):
                if watch.clear():
                    self.seen = watch.observation(self.progress())
                    return
        finally:
            watch.close()


def watched(item: Callable[[], None], rounds: int = ROUNDS) -> list[Observation]:
    """What each of some fresh watches said of items that run over and over."""
    item()  # the first call is an outlier
    return [Runner(item).run() for _ in range(rounds)]


def waiting(seen: Observation) -> float:
    return 1 - seen.cpu_s / seen.wall_s


def holding(seen: Observation) -> float:
    return seen.gil_s / seen.wall_s


def mostly(verdicts: list[bool]) -> bool:
    return sum(verdicts) > len(verdicts) / 2


def shares(seen: list[Observation]) -> str:
    return " ".join(f"{waiting(one):.2f}/{holding(one):.2f}" for one in seen)


@pytest.mark.parametrize("item", [loop, parse, sha256, deflate])
def test_what_computes_is_hardly_ever_said_to_wait(
    item: Callable[[], None], neighbours: int
) -> None:
    def trial() -> str | None:
        seen = watched(item)
        return None if sum(waiting(one) > WAITS for one in seen) <= ROUNDS // 4 else shares(seen)

    assert not misled(trial)


@pytest.mark.parametrize("item", [nap, receive, nap_in_c, nap_with_gil])
def test_what_waits_is_said_to_wait(item: Callable[[], None], neighbours: int) -> None:
    def trial() -> str | None:
        seen = watched(item)
        return None if mostly([waiting(one) > WAITS for one in seen]) else shares(seen)

    assert not misled(trial)


@pytest.mark.parametrize("item", [loop, parse])
def test_python_code_is_said_to_hold_the_gil(item: Callable[[], None], neighbours: int) -> None:
    def trial() -> str | None:
        seen = watched(item)
        return (
            None
            if mostly([(holding(one) > 0.6) == gil_enabled() for one in seen])
            else shares(seen)
        )

    assert not misled(trial)


@pytest.mark.parametrize("item", [sha256, deflate])
def test_native_code_on_large_buffers_is_said_to_leave_the_gil_free(
    item: Callable[[], None], neighbours: int
) -> None:
    def trial() -> str | None:
        seen = watched(item)
        return None if mostly([holding(one) < 0.3 for one in seen]) else shares(seen)

    assert not misled(trial)


@pytest.mark.parametrize("item", [nap, receive, nap_in_c])
def test_waiting_is_said_to_leave_the_gil_free(item: Callable[[], None], neighbours: int) -> None:
    def trial() -> str | None:
        seen = watched(item)
        return None if mostly([holding(one) < 0.3 for one in seen]) else shares(seen)

    assert not misled(trial)


def test_waiting_with_the_gil_is_told_from_waiting_without(neighbours: int) -> None:
    """Where other processes are busy it queues for a CPU too, and leaves the GIL free meanwhile.

    (That it does so is no fault, and nobody can promise a test a machine of its own.)
    """

    def trial() -> tuple[str, int] | None:
        seen = watched(nap_with_gil, 2 * ROUNDS)
        told = sum(holding(one) > 0.6 for one in seen)
        if not gil_enabled():
            return (shares(seen), 0) if told else None
        mistaken = sum(holding(one) > 0.6 for one in watched(nap_in_c, 2 * ROUNDS))
        return None if told > ROUNDS // 2 and mistaken < told / 3 else (shares(seen), mistaken)

    assert not misled(trial)


def test_items_that_wait_and_compute_are_said_to_do_both(neighbours: int) -> None:
    def trial() -> str | None:
        seen = watched(download_and_parse)
        return None if mostly([WAITS < waiting(one) < 0.95 for one in seen]) else shares(seen)

    assert not misled(trial)


@pytest.mark.parametrize(
    ("item", "clock"), [(loop, time.thread_time), (nap, time.perf_counter)], ids=["loop", "nap"]
)
def test_an_item_takes_as_long_as_it_takes_when_nothing_else_runs(
    item: Callable[[], None], clock: Callable[[], float]
) -> None:
    """The queue for a CPU is left out: what only computes takes its CPU time, wherever it runs."""

    def trial() -> tuple[float, float] | None:
        alone = []
        for _ in range(50):
            began_s = clock()
            item()
            alone.append(clock() - began_s)
        alone_s = statistics.median(alone)
        seen_s = statistics.median(one.wall_s for one in watched(item))
        return None if alone_s / 3 < seen_s < alone_s * 3 else (alone_s, seen_s)

    assert not misled(trial)


def test_a_first_item_that_is_still_running_is_judged_before_it_ends() -> None:

    def trial() -> Observation | None:
        seen = Runner(long_nap).run()
        well = seen.items == 0 and waiting(seen) > WAITS and 0 < seen.wall_s <= 0.2 * 1.5
        return None if well else seen

    assert not misled(trial)


def test_a_thread_is_judged_by_what_it_does_and_not_by_the_threads_beside_it() -> None:
    """Another thread hashes all the time, outside the GIL: the one that is watched waits."""
    stop = threading.Event()

    def hash_on() -> None:
        while not stop.is_set():
            sha256()

    def trial() -> str | None:
        seen = [Runner(nap).run() for _ in range(ROUNDS)]
        return None if mostly([holding(one) < 0.3 for one in seen]) else shares(seen)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hash_on)
        try:
            assert not misled(trial)
        finally:
            stop.set()


seconds = st.floats(0, 100)


@given(seconds, seconds, seconds)
def test_what_was_stolen_from_a_thread_is_a_part_of_all_that_was_stolen(
    cpu_s: float, used_s: float, stolen_s: float
) -> None:
    assert 0 <= stolen_from(cpu_s, MachineTimes(used_s, stolen_s)) <= stolen_s
    assert stolen_from(cpu_s, MachineTimes(used_s, 0.0)) == 0


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.01, 0.99))
def test_whoever_computes_is_stolen_from_alike(mine_s: float, other_s: float, share: float) -> None:
    """Two threads that compute for so long, on a host that gives only a share of its CPUs."""
    lost = 1 / share - 1
    machine = MachineTimes(mine_s + other_s, (mine_s + other_s) * lost)
    assert stolen_from(mine_s, machine) == pytest.approx(mine_s * lost)


def test_a_watch_that_has_seen_little_has_no_verdict() -> None:
    watch = Watch(Subject(), Progress(0, 0.0, 0.0), time.perf_counter())
    assert not watch.clear()
    watch.close()


def test_a_watch_ends_at_once_with_the_call() -> None:
    ended = threading.Lock()
    watch = Watch(Subject(), Progress(0, 0.0, 0.0), time.perf_counter())
    assert watch.knock(ended), "the lock was free: the call is over"
    assert watch.knocks == 0
    watch.close()


def test_watching_leaves_no_descriptor_open() -> None:
    watched(nap, rounds=1)
    before = open_descriptors()
    watched(nap, rounds=5)
    assert open_descriptors() == before
