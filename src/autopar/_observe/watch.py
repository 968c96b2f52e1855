"""Watching a thread from outside: does it compute or wait, and does it hold the GIL?

A second thread reads the kernel's counters of the first, and knocks: it sleeps a moment and then
needs the GIL again. A sleep costs one voluntary context switch; a second one means that the GIL
was taken. Waiting for a CPU costs none, so the answer stays right on a busy machine, where
comparing durations is wrong by a factor of two (measured: 5 ms of knocking separates code that
holds the GIL, at least 0.96 of the knocks, from code that does not, at most 0.10).
"""

from __future__ import annotations

import sys
import threading
import time
from typing import NamedTuple

from .._model import Observation
from .._platform import (
    MachineTimes,
    ThreadClock,
    cpu_clock,
    gil_enabled,
    machine_times,
    own_switches,
)

KNOCK_S = 200e-6
KNOCKS = 12  # enough when none has timed out
TIMED_OUT_S = 4e-3  # a knock that had to force the holder out (the switch interval is 5 ms)
WINDOW_S = 5e-3  # least time a verdict is made from...
ASLEEP_S = 1.5e-3  # ...but of a thread that has done nothing but wait since
ASLEEP = 0.95  # of that time, at least
EXPLAINED_S = 4e-3  # of it spent computing or waiting, not queueing for a CPU...
LONGEST_S = 0.25  # ...unless that takes too long
LONG_S = 25e-3  # doubtful shares are watched this long
COUNTED_S = 0.01  # CPU time is counted in so many seconds where all CPUs are concerned...
STOLEN_S = 0.1  # ...so where a host may have stolen some, doubtful shares are watched this long
BRIEF = 0.15  # a larger share of the CPU time under the GIL makes threads fight over it
HOLDS = 0.6  # a thread that waits and yet leaves the GIL free for less than the rest holds it
TOUCHES = 0.1  # a thread computes to speak of, beside its waiting, from this part of it on
COMPUTES = 0.75  # a thread on the CPU for this share of the time does not wait to speak of
_IMPORT = "<frozen importlib._bootstrap>"  # where modules are imported
WAITS = 0.4  # items that wait for more than this share are worth many threads


class Progress(NamedTuple):
    """How far the watched thread has come.

    items: finished; busy_s: seconds they took; first_s, longest_s: the first's, the longest's.
    """

    items: int
    busy_s: float
    first_s: float = 0.0
    longest_s: float = 0.0


def stolen_from(cpu_s: float, machine: MachineTimes) -> float:
    """Seconds for which its CPU was taken from a thread that computed for `cpu_s`.

    machine: what was used and stolen meanwhile, on all CPUs together. Whoever computes is taken to
    lose the same share; the kernel counts what is stolen neither as computing nor as queueing, so
    it would look like waiting.
    """
    if machine.stolen_s <= 0 or cpu_s <= 0:
        return 0.0
    used_s = max(machine.used_s, cpu_s, COUNTED_S)  # of a short time, it may be all in the next
    return min(machine.stolen_s, cpu_s * machine.stolen_s / used_s)


class Subject:
    """The thread that is watched; made by itself."""

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.native_id = threading.get_native_id()
        self._clock = cpu_clock(self.ident)

    def cpu_s(self) -> float:
        """CPU seconds it has used; where nobody can ask that of a thread, the process's."""
        if self._clock is None:
            return time.process_time()
        try:
            return time.clock_gettime(self._clock)
        except OSError:  # it has ended
            return 0.0

    def imports(self) -> bool:
        """Whether it is importing a module now, as far as can be told.

        Not without a GIL, as its frames then come and go while they are looked at.
        """
        if not gil_enabled():
            return False
        frame = sys._current_frames().get(self.ident)  # pyright: ignore[reportPrivateUsage]
        while frame is not None:
            if frame.f_code.co_filename == _IMPORT:
                return True
            frame = frame.f_back
        return False


class Watch:
    """A window of time over which one thread is watched.

    The kernel's counters are only read once the thread was seen to leave the CPU or the GIL
    alone: reading them lets go of the GIL, and getting it back from a thread that computes takes
    5 ms each time.
    """

    def __init__(self, subject: Subject, progress: Progress, began_s: float) -> None:
        self._subject = subject
        self._start = progress
        self._began_s = began_s
        self._gil = gil_enabled()
        self._counters: ThreadClock | None = None
        self._open()
        self.knocks = self.taken = self.timed_out = 0

    def begin_again(self) -> None:
        """Begins the window again; what was knocked stays."""
        if self._counters is None:
            self._open()
        else:
            self._count()

    def _open(self) -> None:
        self._from_s = time.perf_counter()
        self._cpu_s = self._subject.cpu_s()
        self._process_s = time.process_time()
        self._own_s = time.thread_time()

    def _count(self) -> None:
        """Begins the window again, now with the kernel's counters."""
        self.close()
        self._counters = ThreadClock(self._subject.ident, self._subject.native_id)
        self._times = self._counters.read(switches=True)
        self._watcher = ThreadClock(threading.get_ident(), threading.get_native_id())
        self._watcher_s = self._watcher.read().runqueue_s or 0.0
        self._machine = machine_times()
        self._open()

    def close(self) -> None:
        """Gives the counters back."""
        if self._counters is not None:
            self._counters.close()
            self._watcher.close()

    def knocked_at_birth(self, started_s: float) -> None:
        """Counts the wait for the GIL that began the calling thread's life as a knock.

        started_s: when the thread was started.
        """
        if self._gil:
            self.knocks += 1
            self.taken += bool(own_switches())
            self.timed_out += self.taken and self._from_s - started_s > TIMED_OUT_S
        if not self.taken:
            self._count()

    def knock(self, over: threading.Lock) -> bool:
        """Sleeps a moment and notes whether the GIL was taken; true when `over` was released."""
        pause_s = KNOCK_S * (0.5 + self.knocks * 0.618 % 1)  # in step with nothing
        before = own_switches()
        began_s = time.perf_counter()
        if over.acquire(timeout=pause_s):
            return True
        waited_s = time.perf_counter() - began_s - pause_s
        after = own_switches()
        if self._gil:
            self.knocks += 1
            self.timed_out += waited_s > TIMED_OUT_S
            if before is None or after is None:
                self.taken += waited_s > TIMED_OUT_S / 2
            else:
                self.taken += after - before > 1
        return False

    @property
    def elapsed_s(self) -> float:
        """Seconds watched so far."""
        return time.perf_counter() - self._from_s

    def clear(self) -> bool:
        """Whether enough has been seen for a verdict."""
        elapsed_s = self.elapsed_s
        if elapsed_s < WINDOW_S:
            return elapsed_s >= ASLEEP_S and self._only_waits(elapsed_s)
        if self._counters is None and self._subject.cpu_s() - self._cpu_s < COMPUTES * elapsed_s:
            self._count()
            return False
        cpu_s, blocked_s, _native_s = self._shares()
        if cpu_s + blocked_s < EXPLAINED_S and elapsed_s < LONGEST_S:
            return False  # it has been queueing for a CPU, or nobody can tell yet
        if elapsed_s < STOLEN_S and self._contradicts(cpu_s, blocked_s):
            return False
        if not self._gil or self.timed_out >= 2 or elapsed_s >= LONG_S:
            return True
        if blocked_s > 2 * cpu_s and not self.taken:
            return self.knocks >= KNOCKS // 3
        share = self.taken / max(1, self.knocks)
        return self.knocks >= KNOCKS and not BRIEF / 2 < share < 3 * BRIEF

    def _only_waits(self, elapsed_s: float) -> bool:
        """Whether it has done nothing but wait, and left the GIL alone: that needs no long look.

        It may be the first item alone that waits. What the next ones do shows that soon enough.
        """
        if self._counters is None or self.taken or self.knocks < KNOCKS // 3:
            return False
        if self._times.voluntary is None:  # then it may have waited for a CPU
            return False
        _cpu_s, blocked_s, native_s = self._shares()
        return blocked_s > ASLEEP * elapsed_s and native_s < TOUCHES * elapsed_s

    def _contradicts(self, cpu_s: float, blocked_s: float) -> bool:
        """Whether it seems to wait, and yet computes and has the GIL whenever somebody asks."""
        waits = blocked_s > WAITS * (cpu_s + blocked_s) and blocked_s < cpu_s / TOUCHES
        return waits and self.taken > HOLDS * self.knocks

    def observation(self, progress: Progress) -> Observation:
        """What has been seen, per item."""
        wall_s = self._item_s(progress)
        cpu_s, blocked_s, native_s = self._shares()
        used_s = max(cpu_s + blocked_s, 1e-9)
        elapsed_s = max(self.elapsed_s, 1e-9)
        item_s = wall_s * min(1.0, used_s / elapsed_s)
        own_s = item_s * cpu_s / used_s
        held_s = self._held(item_s, own_s, cpu_s / elapsed_s)
        helpers = native_s > 0.3 * max(cpu_s, 0.1 * elapsed_s) and held_s < 0.5 * item_s
        native = native_s / used_s if helpers else 0.0
        items = progress.items - self._start.items
        cpu_s = own_s + item_s * native
        return Observation(items, item_s, cpu_s, held_s, longest_s=progress.longest_s)

    def _item_s(self, progress: Progress) -> float:
        """Seconds an item takes, one that is still running counted as soon as it is a long one."""
        items = progress.items - self._start.items
        busy_s = progress.busy_s - self._start.busy_s
        now_s = time.perf_counter()
        running_s = now_s - self._began_s - progress.busy_s
        if items > 2 and not self._start.items:
            items, busy_s = items - 1, busy_s - progress.first_s
        mean_s = busy_s / items if items else 0.0
        if running_s > 2 * mean_s:
            return max(mean_s, (busy_s + running_s) / (items + 1))
        return mean_s

    def _held(self, item_s: float, own_s: float, cpu_share: float) -> float:
        """Seconds of an item under the GIL."""
        if not self._gil or not self.knocks:
            return 0.0
        share = self.taken / self.knocks
        if own_s < 0.5 * item_s:
            return share * item_s if share > HOLDS else own_s
        held = min(1.0, share / max(cpu_share, 0.05))
        return own_s if held > BRIEF else held * own_s

    def _stolen(self) -> MachineTimes:
        """What all CPUs did in the window."""
        now, was = machine_times(), self._machine
        return MachineTimes(now.used_s - was.used_s, now.stolen_s - was.stolen_s)

    def _shares(self) -> tuple[float, float, float]:
        """Seconds of CPU, of waiting, and of other threads' CPU in the window."""
        elapsed_s = self.elapsed_s
        cpu_s = self._subject.cpu_s() - self._cpu_s
        own_s = time.thread_time() - self._own_s
        blocked_s = 0.0
        if self._counters is not None:
            times, was = self._counters.read(switches=True), self._times
            queued_s = (times.runqueue_s or 0.0) - (was.runqueue_s or 0.0)
            if times.voluntary is None or times.voluntary != was.voluntary or times.asleep:
                blocked_s = max(0.0, elapsed_s - cpu_s - queued_s)
            holds = self.taken > HOLDS * self.knocks
            if holds:
                # It waited for the one who watches, who may have lost its CPU with the GIL in hand.
                queue_s = (self._watcher.read().runqueue_s or 0.0) - self._watcher_s
                blocked_s = max(0.0, blocked_s - own_s - queue_s)
            if 0 < blocked_s * TOUCHES < cpu_s:
                # A host takes CPUs away in bursts: all of one may have hit this thread, and who has
                # the GIL whenever somebody asks has rather lost its CPU than waited.
                stolen = self._stolen()
                lost_s = stolen.stolen_s if holds else stolen_from(cpu_s, stolen)
                blocked_s = max(0.0, blocked_s - lost_s)
        native_s = max(0.0, time.process_time() - self._process_s - cpu_s - own_s)
        return cpu_s, blocked_s, native_s
