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


def wait_and_compute(_item: object) -> tuple[float, float]:
    """Takes 6 ms, one of them under the GIL; when it began and when it ended."""
    began_s = time.monotonic()
    time.sleep(0.005)
    spin(0.001)
    return began_s, time.monotonic()


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


def join(meeting: Any) -> tuple[int, int]:
    """Where it ran, once all have come who are to meet."""
    meeting.wait(30)
    return whereabouts(None)


def stamp(path: str) -> str:
    """Leaves a mark of its evaluation, so that evaluations can be counted across processes."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"x")
    os.close(fd)
    return path


def stamp_and_spin(path: str, seconds: float) -> float:
    """Leaves its mark, and computes."""
    stamp(path)
    return spin(seconds)


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


class Settled(int):
    """A number that refuses to travel."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("this object stays at home")


def spin_and_count(x: int) -> int:
    spin(0.005)
    return int(x)


def wait_and_count(x: int) -> int:
    time.sleep(0.008)
    spin(0.0005)
    return int(x)


def wrap_unpicklable(x: int) -> Unpicklable:
    spin(0.002)
    return Unpicklable(x)


def unwrap(box: Unpicklable) -> int:
    spin(0.002)
    return box.x


def module_path(_item: object) -> list[str]:
    return sys.path


seen: list[int] = []


def name_type(item: object) -> str:
    """For items that may be anything, and need not travel back."""
    return type(item).__name__


def where_and_append(item: list[int]) -> int:
    """Writes to its item, as a loop's body may."""
    item.append(os.getpid())
    return os.getpid()


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


def pause_at_600(x: int) -> int:
    time.sleep(0.01 if x == 600 else 0)
    return x


class Thing:
    """Can be referred to weakly, and travels."""

    def __init__(self, x: int) -> None:
        self.x = x


def other_thing(thing: Thing) -> Thing:
    time.sleep(0.001)
    if thing.x < 0:
        raise ValueError("a thing below zero")
    return Thing(thing.x + 1)


def identity(x: Any) -> Any:
    return x


def spread(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def interrupt() -> None:
    raise KeyboardInterrupt


def compute(count: int) -> int:
    total = 0
    for number in range(count):
        total += number * number % 7
    return total


def computed_in(count: int) -> int:
    """The process that computes so long."""
    compute(count)
    return os.getpid()


def waited_in(seconds: float) -> int:
    """The process that waits so long."""
    time.sleep(seconds)
    return os.getpid()


def span(seconds: float) -> tuple[float, float]:
    """When a wait began and ended."""
    began_s = time.monotonic()
    time.sleep(seconds)
    return began_s, time.monotonic()


def computing_span(count: int) -> tuple[float, float]:
    began_s = time.monotonic()
    compute(count)
    return began_s, time.monotonic()


def slow_double(x: int) -> int:
    time.sleep(0.005)
    return 2 * x


def make_lock() -> Any:
    return threading.Lock()


_local = threading.local()


def prepare(word: str) -> None:
    """An initializer: what it leaves, only its own worker sees."""
    _local.word = word


def prepared(_item: object) -> str:
    time.sleep(0.002)
    return str(_local.word)


def fail_late_or_soon(x: int) -> int:
    if x == 3:
        time.sleep(0.1)
    if x in (3, 7):
        raise ValueError(f"item {x}")
    return x


def fail_once(path: str) -> str:
    """Fails the first time it is called with this path."""
    if not os.path.exists(path):
        stamp(path)
        raise ConnectionError("not yet")
    return path


class Called:
    """Can be called."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __call__(self, y: int) -> int:
        return self.x + y


class Values(list[int]):
    """Has methods in C, and can be referred to weakly."""


class Counted:
    """Knows how many of its kind there are, and the most there have been."""

    alive = most = 0
    lock = threading.RLock()

    def __init__(self, _item: object) -> None:
        self._count(1)

    def __del__(self) -> None:
        self._count(-1)

    @staticmethod
    def _count(more: int) -> None:
        with Counted.lock:
            Counted.alive += more
            Counted.most = max(Counted.most, Counted.alive)

    def __reduce__(self) -> tuple[Any, ...]:
        return Counted, (None,)
