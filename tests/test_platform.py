"""Each question about the system has one answer, and it is the right one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from autopar import _platform
from autopar._platform import ThreadClock
from conftest import misled


@contextlib.contextmanager
def running(work: Callable[[threading.Event], object]) -> Iterator[threading.Thread]:
    """A thread in the middle of `work(stop)`, ended and joined on the way out."""
    stop, begun = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        work(stop)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(10)
    try:
        yield thread
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


@contextlib.contextmanager
def watched(work: Callable[[threading.Event], object]) -> Iterator[ThreadClock]:
    with running(work) as thread:
        assert thread.ident is not None
        assert thread.native_id is not None
        clock = ThreadClock(thread.ident, thread.native_id)
        try:
            yield clock
        finally:
            clock.close()


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Twice as many spinning processes as there are CPUs."""
    spin = [sys.executable, "-S", "-c", "while True: pass"]
    spinners = [subprocess.Popen(spin) for _ in range(2 * _platform.affinity())]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def spin(stop: threading.Event) -> None:
    while not stop.is_set():
        pass


def sleep(stop: threading.Event) -> None:
    while not stop.wait(0.005):
        pass


def over(clock: ThreadClock, seconds: float) -> tuple[float, float, float, int]:
    """(wall, cpu, ready without a CPU, voluntary switches) of the watched thread over some time.

    Ready without a CPU is a thread in the run queue, and one whose CPU the host has taken away.
    """
    machine = _platform.machine_times()
    began, before = time.perf_counter(), clock.read(switches=True)
    time.sleep(seconds)
    wall, after = time.perf_counter() - began, clock.read(switches=True)
    stolen = _platform.machine_times().stolen_s - machine.stolen_s
    assert before.cpu_s is not None
    assert after.cpu_s is not None
    assert before.runqueue_s is not None
    assert after.runqueue_s is not None
    assert before.voluntary is not None
    assert after.voluntary is not None
    return (
        wall,
        after.cpu_s - before.cpu_s,
        after.runqueue_s - before.runqueue_s + stolen,
        after.voluntary - before.voluntary,
    )


def test_a_spinning_thread_is_seen_to_compute_and_not_to_wait():
    def trial() -> tuple[float, float, float] | None:
        with watched(spin) as clock:
            wall, cpu, queued, _ = over(clock, 0.3)
        # what it neither computed nor queued for is the little it left the watcher the GIL
        well = cpu > 0.02 and wall - cpu - queued < 0.3 * wall
        return None if well else (wall, cpu, queued)

    assert not misled(trial)


def test_a_sleeping_thread_is_seen_to_wait():
    def trial() -> tuple[float, float, int] | None:
        with watched(sleep) as clock:
            wall, cpu, _, voluntary = over(clock, 0.3)
        return None if cpu < 0.3 * wall and voluntary >= 5 else (wall, cpu, voluntary)

    assert not misled(trial)


@pytest.mark.usefixtures("busy_machine")
def test_on_a_busy_machine_a_spinning_thread_still_does_not_seem_to_wait():
    def trial() -> tuple[float, float, float] | None:
        with watched(spin) as clock:
            wall, cpu, queued, _ = over(clock, 1.0)
        # it had to queue: CPU time alone would look like waiting
        well = queued > 0.1 * wall and wall - cpu - queued < 0.3 * wall
        return None if well else (wall, cpu, queued)

    assert not misled(trial)


@pytest.mark.usefixtures("busy_machine")
def test_on_a_busy_machine_a_sleeping_thread_still_seems_to_wait():
    def trial() -> tuple[float, float, int] | None:
        with watched(sleep) as clock:
            wall, cpu, _, voluntary = over(clock, 0.5)
        return None if cpu < 0.1 * wall and voluntary >= 5 else (wall, cpu, voluntary)

    assert not misled(trial)


def test_the_cpu_time_is_fresh_within_a_scheduler_tick():
    late = []
    clock = ThreadClock(threading.get_ident(), threading.get_native_id())
    for _ in range(200):
        until = time.perf_counter() + 0.0007
        while time.perf_counter() < until:
            pass
        before = time.thread_time()
        seen = clock.read().cpu_s
        assert seen is not None
        late.append(before - seen)
    clock.close()
    assert max(late) <= 1e-4


def test_times_never_run_backwards():
    with watched(sleep) as clock:
        seen = [clock.read() for _ in range(1000)]
    assert seen == sorted(seen)


def test_switches_are_read_only_on_request():
    with watched(sleep) as clock:
        assert clock.read()[2:] == (None, None)
        assert None not in clock.read(switches=True)
        assert clock.read()[2:] == (None, None)


def test_a_thread_that_waits_is_asleep_and_the_one_that_reads_its_own_state_is_not():
    def wait(stop: threading.Event) -> None:
        stop.wait()

    with watched(wait) as clock:
        deadline = time.monotonic() + 10
        while not clock.read(switches=True).asleep:  # it may not have come to its wait yet
            assert time.monotonic() < deadline
    own = ThreadClock(threading.get_ident(), threading.get_native_id())
    assert own.read(switches=True).asleep is False
    own.close()


def test_a_thread_that_has_ended_keeps_its_last_times():
    with running(sleep) as thread:
        assert thread.ident is not None
        assert thread.native_id is not None
        clock = ThreadClock(thread.ident, thread.native_id)
        last = clock.read(switches=True)
    for _ in range(20):  # other threads may get its number meanwhile
        other = threading.Thread(target=sum, args=([1, 2],))
        other.start()
        other.join()
        assert clock.read(switches=True) == last
    clock.close()


def test_a_thread_that_ended_before_anyone_watched_has_no_times():
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    assert ended.ident is not None
    # a joined thread may be listed a moment longer
    while os.path.exists(f"/proc/self/task/{ended.native_id}"):
        time.sleep(0.001)
    assert ended.native_id is not None
    clock = ThreadClock(ended.ident, ended.native_id)
    assert set(clock.read(switches=True)) == {None}
    clock.close()


def test_a_closed_clock_gives_its_descriptors_back_and_may_be_read_and_closed_again():
    before = len(os.listdir("/proc/self/fd"))
    clock = ThreadClock(threading.get_ident(), threading.get_native_id())
    assert len(os.listdir("/proc/self/fd")) > before
    first = clock.read(switches=True)
    clock.close()
    clock.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert clock.read(switches=True) >= first


def test_without_proc_the_clock_of_the_thread_answers(monkeypatch):
    monkeypatch.setattr(_platform, "_open", lambda path: None)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    clock = ThreadClock(threading.get_ident(), 1)
    seen = clock.read(switches=True)
    clock.close()
    assert seen.cpu_s is not None
    assert 0 < seen.cpu_s <= time.thread_time()
    assert set(seen[1:]) == {None}


def test_a_system_that_keeps_no_times_says_none(monkeypatch):
    monkeypatch.setattr(_platform, "_open", lambda path: None)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    monkeypatch.delattr(time, "pthread_getcpuclockid")
    clock = ThreadClock(threading.get_ident(), 1)
    assert set(clock.read(switches=True)) == {None}
    clock.close()


def test_a_kernel_that_does_not_count_delays_says_none(monkeypatch):
    monkeypatch.setattr(_platform, "_pread", lambda file: b"0 0 0\n")
    clock = ThreadClock(threading.get_ident(), threading.get_native_id())
    assert clock.read().runqueue_s is None
    assert clock.read().cpu_s is not None
    clock.close()


def test_what_this_process_computes_the_machine_has_used():
    began_s, before = time.process_time(), _platform.machine_times()
    while time.process_time() - began_s < 0.2:
        pass
    after = _platform.machine_times()
    assert after.used_s - before.used_s > 0.2 - 0.05  # counted by hundredths and by ticks
    assert after.stolen_s >= before.stolen_s


@pytest.mark.parametrize("line", [b"", b"cpu  1 2 3\n", b"intr 1 2 3 4 5 6 7 8 9\n"])
def test_a_machine_that_does_not_count_what_is_stolen_has_nothing_stolen(monkeypatch, line):
    monkeypatch.setattr(_platform, "_pread", lambda file: line)
    assert _platform.machine_times() == _platform.NOTHING_STOLEN


def test_own_switches_count_the_times_this_thread_gave_up_its_cpu():
    before = _platform.own_switches()
    for _ in range(20):
        time.sleep(0.0005)
    after = _platform.own_switches()
    assert before is not None
    assert after is not None
    assert after - before >= 20


def test_own_switches_of_a_computing_thread_do_not_move():
    moved = []
    for _ in range(20):
        before = _platform.own_switches()
        sum(range(20_000))
        after = _platform.own_switches()
        assert before is not None
        assert after is not None
        moved.append(after - before)
    assert min(moved) == 0


def test_the_gil_is_asked_about_each_time(monkeypatch):
    answers = iter([True, False, True])
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: next(answers), raising=False)
    assert [_platform.gil_enabled() for _ in range(3)] == [True, False, True]
    monkeypatch.delattr(sys, "_is_gil_enabled")
    assert _platform.gil_enabled()


def test_affinity_follows_the_scheduler():
    allowed = os.sched_getaffinity(0)
    assert _platform.affinity() == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert _platform.affinity() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_start_methods_are_multiprocessings():
    assert set(_platform.start_methods()) == set(multiprocessing.get_all_start_methods())


def test_a_system_with_everything_can_fork_helpers():
    assert _platform.can_fork_helpers() is None


@pytest.mark.parametrize("missing", ["fork", "posix_spawn"])
def test_a_system_without_the_means_says_which(monkeypatch, missing):
    monkeypatch.delattr(os, missing)
    _platform.can_fork_helpers.cache_clear()
    try:
        assert missing in str(_platform.can_fork_helpers())
    finally:
        _platform.can_fork_helpers.cache_clear()


def test_a_kernel_that_refuses_packet_sockets_says_so():
    assert "sockets" in str(_platform._try_packets(1, 99))


def test_importing_it_loads_none_of_the_slow_modules():
    slow = "{'socket', 'resource', 'multiprocessing', 'ctypes', 'dataclasses', 'inspect'}"
    code = f"import sys, autopar._platform; print({slow} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "set()"
