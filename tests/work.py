"""Functions the tests run: importable, so that they travel to processes by name."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from typing import Any


def double(x: Any) -> Any:
    return 2 * x


def spin(seconds: float) -> float:
    """Computes under the GIL for about `seconds` of CPU time."""
    until = time.thread_time() + seconds
    count = 0
    while time.thread_time() < until:
        for i in range(200):
            count += i * i % 7
    return seconds


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def reciprocal(x: float) -> float:
    return 1 / x


def whereabouts(_item: object) -> tuple[int, int]:
    """The process and the thread that run an item."""
    return os.getpid(), threading.get_ident()


def slow_whereabouts(_item: object) -> tuple[int, int]:
    spin(0.002)
    return os.getpid(), threading.get_ident()


def stamp(path: str) -> str:
    """Leaves a mark of its evaluation, so that evaluations can be counted across processes."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"x")
    os.close(fd)
    return path


def die(how: Any) -> Any:
    """Ends the process in the way asked for, or returns the item."""
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segv":
        import ctypes

        ctypes.string_at(0)
    if how == "exit0":
        os._exit(0)
    if how == "exit3":
        os._exit(3)
    return how


def die_slowly(how: Any) -> Any:
    """As `die`, after a while, so that other items are done by then."""
    spin(0.002)
    return die(how)


class TwoArguments(Exception):
    """An exception that pickle alone cannot rebuild."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__(f"{first} and {second}")
        self.first, self.second = first, second


def fail_oddly(x: int) -> int:
    if x == 7:
        raise TwoArguments(x, "eight")
    return x


class Unpicklable:
    """Refuses to travel."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("this object stays at home")


def wrap_unpicklable(x: int) -> Unpicklable:
    spin(0.002)
    return Unpicklable(x)


def unwrap(box: Unpicklable) -> int:
    spin(0.002)
    return box.x


def module_path(_item: object) -> list[str]:
    return sys.path


seen: list[int] = []


def remember(x: int) -> int:
    """Writes to a global list, as a loop's body may."""
    spin(0.002)
    seen.append(x)
    return x


def touch(item: list[int]) -> int:
    """Changes its item."""
    spin(0.002)
    item.append(1)
    return len(item)


def start_worker(path: str) -> None:
    stamp(path)


def refuse_to_start() -> None:
    raise RuntimeError("no worker for you")
