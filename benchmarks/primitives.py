"""What do locks, queues and values cost, beside those of the standard library?

A line an operation, a column a system. In each round every system has its turn at each line, in
random order, so that what is compared was measured moments apart; a figure is the median of its
rounds, and a ratio the median of the ratios inside the rounds. faster-fifo has queues only, and is
left out where it is not installed.

    python benchmarks/primitives.py [--rounds 9] [--only WORD ...] [--no-manager]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from queue import Queue
from typing import Any, NamedTuple

import autopar

MB = bytes(1 << 20)
OURS, PROCESSES = "autopar", "multiprocessing"


class Line(NamedTuple):
    """An operation.

    run: does it `times` times with a system's primitives, in the seconds it gives.
    """

    name: str
    times: int
    run: Callable[[Any, int], float]


# The systems: whatever has the names that a line asks for.


class Threading:
    """The standard library's for threads."""

    Lock, RLock, Semaphore = threading.Lock, threading.RLock, threading.Semaphore
    Event, Condition, Queue = threading.Event, threading.Condition, Queue


class FasterFifo:
    """Only queues, and bounded ones."""

    def __init__(self) -> None:
        self._queue = import_module("faster_fifo").Queue

    def Queue(self) -> Any:
        return self._queue(max_size_bytes=8 << 20)


@contextmanager
def systems(manager: bool) -> Iterator[dict[str, Any]]:
    """Those that are there."""
    found = {OURS: autopar, PROCESSES: multiprocessing.get_context("fork"), "threading": Threading}
    with ExitStack() as stack:
        if manager:
            found["Manager"] = stack.enter_context(multiprocessing.Manager())
        try:
            found["faster-fifo"] = FasterFifo()
        except ImportError:
            pass
        yield found


# The lines. What is missing in a system raises AttributeError.


def timed(times: int, operation: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    for _ in range(times):
        operation()
    return time.perf_counter() - started_s


def take(lock: Any, times: int) -> float:
    started_s = time.perf_counter()
    for _ in range(times):
        with lock:
            pass
    return time.perf_counter() - started_s


def calls(lock: Any, times: int) -> float:
    started_s = time.perf_counter()
    for _ in range(times):
        lock.acquire()
        lock.release()
    return time.perf_counter() - started_s


def beside(start: Callable[..., Any], fn: Callable[..., object], *args: Any) -> float:
    """How long two take for the same, at once."""
    others = [start(target=fn, args=args) for _ in range(2)]
    started_s = time.perf_counter()
    for other in others:
        other.start()
    for other in others:
        other.join()
    return time.perf_counter() - started_s


def contended_threads(system: Any, times: int) -> float:
    return beside(threading.Thread, take, system.Lock(), times) / 2


def contended_processes(system: Any, times: int) -> float:
    apart(system)
    return beside(FORK.Process, take, system.Lock(), times) / 2


FORK = multiprocessing.get_context("fork")


def apart(system: Any) -> None:
    """Refuses a system that does not reach other processes."""
    if system is Threading:
        raise AttributeError("threads only")


@contextmanager
def other(system: Any, fn: Callable[..., object], *args: Any) -> Iterator[None]:
    """Does `fn` in another process, or in a thread where a system reaches no further."""
    kind: Any = threading.Thread if system is Threading else FORK.Process
    worker = kind(target=fn, args=args)
    worker.start()
    yield
    worker.join()


def answer_events(asked: Any, answered: Any, times: int) -> None:
    for _ in range(times):
        asked.wait()
        asked.clear()
        answered.set()


def wake_up(system: Any, times: int) -> float:
    """Half of there and back."""
    asked, answered = system.Event(), system.Event()
    with other(system, answer_events, asked, answered, times):
        started_s = time.perf_counter()
        for _ in range(times):
            asked.set()
            answered.wait()
            answered.clear()
        return (time.perf_counter() - started_s) / 2


def queue_here(message: Any) -> Callable[[Any, int], float]:
    def run(system: Any, times: int) -> float:
        messages = system.Queue()

        def once() -> None:
            messages.put(message)
            messages.get()

        once()
        return timed(times, once)

    return run


def put_all(messages: Any, message: Any, times: int) -> None:
    for _ in range(times):
        messages.put(message)


def queue_there(message: Any) -> Callable[[Any, int], float]:
    def run(system: Any, times: int) -> float:
        messages = system.Queue()
        with other(system, put_all, messages, message, times + 1):
            messages.get()
            return timed(times, messages.get)

    return run


def echo(connection: Any, times: int) -> None:
    for _ in range(times):
        connection.send(connection.recv())


def ping_pong(message: Any) -> Callable[[Any, int], float]:
    def run(system: Any, times: int) -> float:
        here, there = system.Pipe()
        with other(system, echo, there, times):

            def once() -> None:
                here.send(message)
                here.recv()

            return timed(times, once)

    return run


def add(system: Any, times: int) -> float:
    value = system.Value("q", 0)
    if hasattr(value, "add"):
        return timed(times, value.add)
    lock = value.get_lock() if hasattr(value, "get_lock") else system.Lock()

    def once() -> None:
        with lock:
            value.value += 1

    return timed(times, once)


def read(system: Any, times: int) -> float:
    value = system.Value("q", 0)
    return timed(times, lambda: value.value)


def item(system: Any, times: int) -> float:
    array = system.Array("q", [1, 2, 3])
    return timed(times, lambda: array[1])


LINES = (
    Line("with Lock", 20_000, lambda system, times: take(system.Lock(), times)),
    Line("with RLock", 20_000, lambda system, times: take(system.RLock(), times)),
    Line("with Semaphore", 20_000, lambda system, times: take(system.Semaphore(2), times)),
    Line("with Condition", 20_000, lambda system, times: take(system.Condition(), times)),
    Line("Lock acquire, release", 20_000, lambda system, times: calls(system.Lock(), times)),
    Line("with Lock, 2 threads", 20_000, contended_threads),
    Line("with Lock, 2 processes", 20_000, contended_processes),
    Line("Event wake-up", 1000, wake_up),
    Line("Queue put, get", 1000, queue_here(1)),
    Line("Queue from another", 2000, queue_there(1)),
    Line("Queue put, get 1 MB", 20, queue_here(MB)),
    Line("Queue from another 1 MB", 20, queue_there(MB)),
    Line("Pipe there and back", 1000, ping_pong(1)),
    Line("Pipe there and back 1 MB", 20, ping_pong(MB)),
    Line("Value add", 10_000, add),
    Line("Value read", 10_000, read),
    Line("Array item", 10_000, item),
)
MANAGER_SHARE = 20  # a manager takes so long that it does this part of the repeats


def measure(rounds: int, lines: list[Line], manager: bool) -> dict[str, dict[str, list[float]]]:
    """Seconds an operation, by line and system, one figure a round; NaN where there is none."""
    figures: dict[str, dict[str, list[float]]] = {line.name: {} for line in lines}
    with systems(manager) as found:
        for turn in range(rounds):
            for line in random.sample(lines, len(lines)):
                for name in random.sample(list(found), len(found)):
                    times = line.times if name != "Manager" else max(2, line.times // MANAGER_SHARE)
                    try:
                        took_s = line.run(found[name], times) / times
                    except AttributeError:
                        took_s = math.nan
                    figures[line.name].setdefault(name, []).append(took_s)
            print(f"round {turn + 1} of {rounds}", file=sys.stderr)
    return figures


def ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs))


def table(figures: dict[str, dict[str, list[float]]]) -> str:
    """Microseconds an operation, and how many times the standard library's ours is."""
    names = list(next(iter(figures.values())))
    names.sort(key=[OURS, PROCESSES, "threading", "Manager", "faster-fifo"].index)
    head = f"{'µs':26}" + "".join(f"{name:>16}" for name in names) + f"{'ratio':>8}"
    rows = [head]
    for line, by_system in figures.items():
        cells = "".join(
            f"{'-' if math.isnan(by_system[name][0]) else format(statistics.median(by_system[name]) * 1e6, '.2f'):>16}"
            for name in names
        )
        rows.append(f"{line:26}{cells}{ratio(by_system[OURS], by_system[PROCESSES]):>8.2f}")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Locks, queues and values beside others'.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="*", default=[], help="lines with one of these words")
    parser.add_argument("--no-manager", action="store_true")
    parser.add_argument("--json", help="a file for the figures of all rounds")
    given = parser.parse_args()
    lines = [line for line in LINES if not given.only or any(w in line.name for w in given.only)]
    figures = measure(given.rounds, lines, not given.no_manager)
    print(platform.python_version(), "ratio: autopar / multiprocessing")
    print(table(figures))
    if given.json:
        with open(given.json, "w") as file:
            json.dump(figures, file)


if __name__ == "__main__":
    main()
