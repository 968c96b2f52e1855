"""One answer per question about this system and this interpreter.

Relies on: Linux's /proc where it is mounted. Elsewhere an answer may be None, never a guess.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import NamedTuple


def gil_enabled() -> bool:
    """Whether the global interpreter lock is on now: an import can switch it on at any time."""
    ask: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return ask is None or ask()


def affinity() -> int:
    """CPUs the calling thread may run on, at least 1."""
    # process_cpu_count is 3.13's; it also obeys PYTHON_CPU_COUNT and -X cpu_count.
    count: Callable[[], int | None] | None = getattr(os, "process_cpu_count", None)
    if count is not None:
        return count() or 1
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def start_methods() -> tuple[str, ...]:
    """The ways a process can be started here, in multiprocessing's words."""
    if sys.platform in ("emscripten", "wasi"):
        return ()
    return ("fork", "spawn", "forkserver") if hasattr(os, "fork") else ("spawn",)


@functools.cache
def can_fork_helpers() -> str | None:
    """A sentence saying why this system cannot carry the process crew, or None when it can."""
    try:
        import _socket as socket  # the part in C: all of `socket` takes ten times as long
    except ImportError:
        return "this interpreter has no sockets"
    for name in ("fork", "posix_spawn"):
        if not hasattr(os, name):
            return f"this system has no os.{name}"
    for name in ("AF_UNIX", "SOCK_SEQPACKET"):
        if not hasattr(socket, name):
            return f"this system has no socket.{name}"
    return _try_packets(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _try_packets(family: int, kind: int) -> str | None:
    """Why the kernel refuses a pair of packet sockets, or None (macOS names them, yet refuses)."""
    import _socket
    import errno

    try:
        ours, theirs = _socket.socketpair(family, kind)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
            return None  # it has them; just now it is short of descriptors or memory
        return f"this system has no Unix sockets that keep packets apart ({error})"
    ours.close()
    theirs.close()
    return None


class ThreadTimes(NamedTuple):
    """What a thread has used since it began; None where the system has no answer.

    cpu_s: CPU seconds.
    runqueue_s: seconds spent ready to run, queueing for a CPU.
    voluntary: voluntary context switches; None also when not asked for.
    asleep: whether it waits right now, neither on a CPU nor queueing for one; as `voluntary`.
    """

    cpu_s: float | None
    runqueue_s: float | None = None
    voluntary: int | None = None
    asleep: bool | None = None


class ThreadClock:
    """Watches one thread of this process from outside: a read costs about 2 µs.

    Guarantees: a read after the thread has ended gives its last known times, and never those of
    another thread that got its number.
    Relies on: /proc/self/task files kept open, which belong to the task and not to its number.
    """

    # CPU time comes from the thread's clock, which the kernel brings up to date when it is read.
    # The same number in schedstat is only as fresh as the last scheduler tick: for a thread that
    # spins it was measured 5 ms late, as long as a whole probe.

    def __init__(self, ident: int, native_id: int) -> None:
        """`ident` and `native_id` are the thread's, as `threading.Thread` has them."""
        self._schedstat = _open(f"/proc/self/task/{native_id}/schedstat")
        self._status = _open(f"/proc/self/task/{native_id}/status")
        # The C library reads freed memory when asked for the clock of a thread that has ended, so
        # ask once, and only where nothing says that it has.
        ended = self._status is None and os.path.exists("/proc/self/task")
        self._clock = None if ended else cpu_clock(ident)
        self._last = ThreadTimes(None)

    def read(self, *, switches: bool = False) -> ThreadTimes:
        """The thread's times until now, with its voluntary switches (5 µs more) on request."""
        cpu_s, runqueue_s, voluntary, asleep = self._last
        if self._clock is not None:
            try:
                cpu_s = time.clock_gettime(self._clock)
            except OSError:
                pass  # the thread has ended
        if (delays := _pread(self._schedstat)) and (fields := delays.split())[2:] != [b"0"]:
            # "0 0 0" is how a kernel that does not count says so
            runqueue_s = int(fields[1]) * 1e-9
            if self._clock is None:
                cpu_s = int(fields[0]) * 1e-9
        if switches and (status := _pread(self._status)):
            voluntary = _voluntary(status, voluntary)
            asleep = b"\nState:\tR" not in status
        self._last = ThreadTimes(cpu_s, runqueue_s, voluntary, asleep)
        return self._last if switches else ThreadTimes(cpu_s, runqueue_s)

    def close(self) -> None:
        """Give the descriptors back; later reads repeat what is known."""
        files = (self._schedstat, self._status)
        self._schedstat = self._status = None
        for file in files:
            if file is not None:
                os.close(file)


class MachineTimes(NamedTuple):
    """CPU seconds of all CPUs together, in steps of a hundredth.

    used_s: that something ran. stolen_s: that something wanted to run and could not, because the
    machine is a virtual one and its host had other things to do.
    """

    used_s: float
    stolen_s: float


NOTHING_STOLEN = MachineTimes(0.0, 0.0)


def machine_times() -> MachineTimes:
    """The machine's CPU times since it began; zeros where the system does not say.

    The first line of Linux's /proc/stat: 8 µs with two CPUs, and more with many, as the kernel
    makes the whole file for each reader.
    """
    file = _open("/proc/stat")
    line = (_pread(file) or b"").partition(b"\n")[0].split()
    if file is not None:
        os.close(file)
    if line[:1] != [b"cpu"] or len(line) < 9:
        return NOTHING_STOLEN
    user, nice, system, _idle, _io, irq, softirq, stolen = map(int, line[1:9])
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return MachineTimes((user + nice + system + irq + softirq) * tick_s, stolen * tick_s)


def own_switches() -> int | None:
    """Voluntary context switches of the calling thread, or None where nobody counts them."""
    count = _own_switches()
    return None if count is None else count()


@functools.cache
def _own_switches() -> Callable[[], int] | None:
    try:
        import resource
    except ImportError:
        return None
    who = getattr(resource, "RUSAGE_THREAD", None)
    usage = resource.getrusage
    return None if who is None else lambda: usage(who).ru_nvcsw


def peak_bytes() -> int:
    """The most memory this process has held; 0 where nobody counts."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cpu_clock(ident: int) -> int | None:
    """The clock of a living thread's CPU time, for `time.clock_gettime`; None without one."""
    clock_of: Callable[[int], int] | None = getattr(time, "pthread_getcpuclockid", None)
    if clock_of is None:
        return None
    try:
        return clock_of(ident)
    except OSError:
        return None


def _voluntary(status: bytes, unknown: int | None) -> int | None:
    _, found, rest = status.partition(b"\nvoluntary_ctxt_switches:")
    return int(rest.split(None, 1)[0]) if found else unknown


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None


def _pread(file: int | None) -> bytes | None:
    if file is None:
        return None
    try:
        return os.pread(file, 4096, 0)
    except OSError:
        return None  # the thread has ended
