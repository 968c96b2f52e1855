"""Whether a process is still alive, told by its number and its start, which no other process shares.

Relies on: Linux's /proc.
"""

from __future__ import annotations

import functools
import os
import time
from typing import NamedTuple

BELIEVED_S = 0.02  # how long an answer "alive" may be used again


class Being(NamedTuple):
    """A process: its number, and the clock tick it was started at, as numbers are used again."""

    pid: int
    start: int


# Stands for processes that cannot be told apart from here: nobody takes them for dead.
ANYBODY = Being((1 << 63) - 1, 0)

_own: Being | None = None
_seen_alive: dict[Being, float] = {}


def own() -> Being:
    """The calling process."""
    global _own
    if _own is None or _own.pid != os.getpid():
        _own = Being(os.getpid(), _status(os.getpid())[1])
    return _own


@functools.cache
def _numbering(_pid: int) -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def numbering() -> int:
    """Names the set of process numbers that this process lives in: a container has its own."""
    return _numbering(os.getpid())


def alive(being: Being) -> bool:
    """Whether a process is there and has not ended; one that is only stopped is alive.

    About 10 µs. One that has ended and was not yet waited for has ended; one that cannot be asked
    about is alive.
    """
    if being in (own(), ANYBODY):
        return True
    try:
        state, start, threads = _status(being.pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return True  # this process has no descriptor left to ask with
    # A zombie whose other threads still run is a process whose main thread alone has ended.
    return start == being.start and (state not in (b"Z", b"X") or threads > 1)


def lately_alive(being: Being) -> bool:
    """As `alive`, or as it was a moment ago: for those who are told again if it was wrong."""
    if being == own():
        return True
    now_s = time.monotonic()
    if _seen_alive.get(being, 0.0) > now_s:
        return True
    if not alive(being):
        _seen_alive.pop(being, None)
        return False
    if len(_seen_alive) > 1000:
        _seen_alive.clear()
    _seen_alive[being] = now_s + BELIEVED_S
    return True


def _status(pid: int) -> tuple[bytes, int, int]:
    """A process's state, start and number of threads. Raises: FileNotFoundError."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        fields = file.read().rpartition(b")")[2].split()  # its name may hold anything before that
    return fields[0], int(fields[19]), int(fields[17])
