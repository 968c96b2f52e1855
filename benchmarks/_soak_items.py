"""What the items of `soak.py` do, and the ledger that counts their evaluations.

Importable, so that functions travel to processes by name. The ledger is a file mapped by every
process: two bytes an item, the evaluations begun and those ended, which survive whoever is killed.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from autopar import auto_map

SIZES_S = 0.05  # the longest item
HANG_S = 30.0  # far beyond every timeout; a hanging item ends when its call has

_worker = threading.local()  # the ledgers whose initializer has run in this worker


class Ledger:
    """Counts of one call's evaluations: `begun` and `ended`, and whether the call is over."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    @staticmethod
    def create(path: Path, count: int) -> None:
        """An empty ledger for so many items."""
        path.write_bytes(bytes(2 * count + 1))

    def begin(self, index: int) -> int:
        """Notes that an evaluation has begun: the how-manieth of its item."""
        self._map[1 + 2 * index] += 1
        return self._map[1 + 2 * index]

    def end(self, index: int) -> None:
        """Notes that an evaluation is about to return."""
        self._map[2 + 2 * index] += 1

    @property
    def over(self) -> bool:
        """Whether the call has returned."""
        return bool(self._map[0])

    def close(self) -> tuple[bytes, bytes]:
        """Says that the call is over; how often each item was begun, and ended."""
        self._map[0] = 1
        counts = self._map[:]
        return counts[1::2], counts[2::2]


# A worker keeps the ledgers of the calls it is likely to hear of again.
open_ledger = functools.lru_cache(maxsize=8)(Ledger)


class Work(NamedTuple):
    """What every item of a call does.

    seed: of the durations; item_s: their mean; how: "spin", "nap" or "both"; spread: "even",
    "random" or "heavy"; payload: bytes that come back from each; faults: by index; tries: failures
    of a flaky item; inner: options of a map inside each item, or None; started: whether an
    initializer has to have run.
    """

    path: str
    seed: int
    item_s: float
    how: str
    spread: str
    payload: int
    faults: dict[int, str]
    tries: int
    inner: dict[str, Any] | None
    started: bool

    def __call__(self, item: Any) -> Any:
        return run(self, item)

    def method(self, item: Any) -> Any:
        """A bound method, as users pass them."""
        return run(self, item)


def run(work: Work, item: Any) -> Any:
    """One item: counted, timed, and failing if it was chosen to."""
    index = item if isinstance(item, int) else item[0]
    ledger = open_ledger(work.path)
    attempt = ledger.begin(index)
    if work.started and work.path not in getattr(_worker, "started", ()):
        raise RuntimeError("no initializer has run in this worker")
    spend(work, index)
    if work.inner is not None:
        assert auto_map(abs, range(-9, 0), **work.inner) == [*range(9, 0, -1)]
    fault = work.faults.get(index)
    value = value_of(work, index)
    if fault is not None:
        value = FAULTS[fault](value, Moment(work, ledger, index, attempt))
    ledger.end(index)
    return value


def value_of(work: Work, index: int) -> tuple[int, bytes]:
    """What an item has to give."""
    return index * 7 + work.seed % 5, bytes([index % 251]) * work.payload


def spend(work: Work, index: int) -> None:
    """Takes the item's time, computing or waiting."""
    dice = random.Random(work.seed * 100_003 + index)
    mean_s = work.item_s
    if work.spread == "random":
        mean_s = dice.uniform(0, 2 * mean_s)
    elif work.spread == "heavy":
        mean_s = min(SIZES_S, mean_s * 0.3 * dice.paretovariate(1.2))
    if work.how in ("spin", "both"):
        until_s = time.thread_time() + mean_s / (2 if work.how == "both" else 1)
        while time.thread_time() < until_s:
            pass
    if work.how in ("nap", "both"):
        time.sleep(mean_s / (2 if work.how == "both" else 1))


def nap(seconds: float) -> None:
    """An item of the calls that only make workers warm."""
    time.sleep(seconds)


def start(path: str) -> None:
    """The initializer: leaves a sign in the worker that runs it."""
    _worker.started = {*getattr(_worker, "started", ()), path}


class Moment(NamedTuple):
    """Where a fault strikes."""

    work: Work
    ledger: Ledger
    index: int
    attempt: int


class Odd(Exception):
    """An exception that pickle alone cannot rebuild."""

    def __init__(self, index: int, reason: object) -> None:
        super().__init__(f"{index} for {reason}")
        self.index, self.reason = index, reason


class Midway(Exception):
    """What an iterable raises."""


class Homebody:
    """Refuses to be pickled."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("stays at home")


def _raise(value: Any, at: Moment) -> Any:
    raise ValueError(f"item {at.index}")


def _odd(value: Any, at: Moment) -> Any:
    raise Odd(at.index, threading.Lock() if at.index % 2 else "no reason")


def _flaky(value: Any, at: Moment) -> Any:
    if at.attempt <= at.work.tries:
        raise ConnectionError(f"try {at.attempt} of item {at.index}")
    return value


def _sys_exit(value: Any, at: Moment) -> Any:
    sys.exit(at.index)


def _kill(value: Any, at: Moment) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(HANG_S)


def _os_exit(value: Any, at: Moment) -> Any:
    os._exit(3)


def _segfault(value: Any, at: Moment) -> Any:
    ctypes.string_at(0)


def _hang(value: Any, at: Moment) -> Any:
    until_s = time.monotonic() + HANG_S
    while not at.ledger.over and time.monotonic() < until_s:
        time.sleep(0.01)
    raise TimeoutError("hung")


def _homebody(value: Any, at: Moment) -> Any:
    return Homebody(value)


FAULTS: dict[str, Callable[[Any, Moment], Any]] = {
    "raise": _raise,
    "odd": _odd,
    "flaky": _flaky,
    "sys.exit": _sys_exit,
    "kill": _kill,
    "os._exit": _os_exit,
    "segfault": _segfault,
    "hang": _hang,
    "unpicklable result": _homebody,
}


def callable_of(shape: str, work: Work) -> Callable[[Any], Any]:
    """The work as users write functions."""
    if shape == "lambda":
        return lambda item: run(work, item)
    if shape == "closure":

        def closure(item: Any) -> Any:
            return run(work, item)

        return closure
    if shape == "unpicklable":
        lock = threading.Lock()

        def locked(item: Any) -> Any:
            assert lock is not None
            return run(work, item)

        return locked
    if shape == "partial":
        return functools.partial(run, work)
    return work.method if shape == "method" else work


def items_of(
    source: str, count: int, payload: int, midway: int | None, homebody: int | None
) -> Any:
    """The iterable: each item is its index, or its index and a payload."""

    def item(index: int) -> Any:
        if index == homebody:
            return (index, Homebody(index))
        return (index, bytes(payload)) if payload else index

    def generate() -> Iterator[Any]:
        for index in range(count):
            if index == midway:
                raise Midway(index)
            yield item(index)

    if source == "range":
        return range(count)
    return [item(index) for index in range(count)] if source == "list" else generate()
