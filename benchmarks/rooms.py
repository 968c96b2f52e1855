"""What do `autopar.threads` and `autopar.processes` cost, beside threading and multiprocessing?

    python benchmarks/rooms.py [--rounds 15] [--only lock]

Each line is timed by turns, ours and theirs in random order, in every round; a ratio is the median
of the ratios inside the rounds, so that what is compared was measured a moment apart. 1.00 is as
quick, 2.00 is half as quick. There is no plain loop to compare with: nothing here is computed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import queue
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from autopar import processes, threads

ROUND_S = 0.02  # about how long one turn of a line takes


@dataclass(frozen=True)
class Line:
    """One thing that is timed in all rooms: `make(room)` gives what to call `times` times."""

    name: str
    make: Callable[[Any], Callable[[int], None]]
    rooms: tuple[str, ...] = ("threads", "processes")


def repeat(step: Callable[[], Any]) -> Callable[[int], None]:
    def run(times: int) -> None:
        for _ in range(times):
            step()

    return run


def lock_with(room: Any) -> Callable[[int], None]:
    lock = room.Lock()

    def run(times: int) -> None:
        for _ in range(times):
            with lock:
                pass

    return run


def rlock_with(room: Any) -> Callable[[int], None]:
    lock = room.RLock()

    def run(times: int) -> None:
        for _ in range(times):
            with lock:
                pass

    return run


def lock_acquire(room: Any) -> Callable[[int], None]:
    lock = room.Lock()

    def run(times: int) -> None:
        for _ in range(times):
            lock.acquire()
            lock.release()

    return run


def semaphore_with(room: Any) -> Callable[[int], None]:
    semaphore = room.Semaphore(2)

    def run(times: int) -> None:
        for _ in range(times):
            with semaphore:
                pass

    return run


def condition_notify(room: Any) -> Callable[[int], None]:
    condition = room.Condition()

    def run(times: int) -> None:
        for _ in range(times):
            with condition:
                condition.notify()

    return run


def event_wait(room: Any) -> Callable[[int], None]:
    event = room.Event()
    event.set()
    return repeat(event.wait)


def made(name: str) -> Callable[[Any], Callable[[int], None]]:
    return lambda room: repeat(getattr(room, name))


def put_get(name: str) -> Callable[[Any], Callable[[int], None]]:
    def make(room: Any) -> Callable[[int], None]:
        line = getattr(room, name)()

        def run(times: int) -> None:
            for number in range(times):
                line.put(number)
                line.get()

        return run

    return make


def value_add(room: Any) -> Callable[[int], None]:
    value = room.Value("i", 0)

    def run(times: int) -> None:
        for _ in range(times):
            with value.get_lock():
                value.value += 1

    return run


def pipe_there(room: Any) -> Callable[[int], None]:
    reader, writer = room.Pipe(duplex=False)

    def run(times: int) -> None:
        for number in range(times):
            writer.send(number)
            reader.recv()

    return run


def start_join(room: Any) -> Callable[[int], None]:
    def run(times: int) -> None:
        for _ in range(times):
            worker = room.Process(target=nothing)
            worker.start()
            worker.join()

    return run


def nothing() -> None:
    """What a worker does here."""


class Threading:
    """threading and queue under multiprocessing's names."""

    Lock, RLock, Semaphore = threading.Lock, threading.RLock, threading.Semaphore
    Condition, Event, Process = threading.Condition, threading.Event, threading.Thread
    Queue, JoinableQueue, SimpleQueue = queue.Queue, queue.Queue, queue.SimpleQueue


LINES = (
    Line("Lock: with", lock_with),
    Line("Lock: acquire, release", lock_acquire),
    Line("RLock: with", rlock_with),
    Line("Semaphore: with", semaphore_with),
    Line("Condition: with, notify", condition_notify),
    Line("Event: wait for a set one", event_wait),
    Line("Queue: put, get", put_get("Queue")),
    Line("SimpleQueue: put, get", put_get("SimpleQueue")),
    Line("Value: with its lock, += 1", value_add, ("processes",)),
    Line("Pipe: send, recv", pipe_there, ("processes",)),
    Line("Lock()", made("Lock")),
    Line("Event()", made("Event")),
    Line("Worker: start, join", start_join),
)
ROOMS = {"threads": (threads, Threading), "processes": (processes, multiprocessing)}


def timed(run: Callable[[int], None], times: int) -> float:
    began_s = time.perf_counter()
    run(times)
    return (time.perf_counter() - began_s) / times


def enough(run: Callable[[int], None]) -> int:
    """How often fills a turn."""
    times = 1
    while timed(run, times) * times < ROUND_S / 4:
        times *= 2
    return times * 2


def measured(line: Line, room: str, rounds: int) -> tuple[float, float, float]:
    """Seconds of ours, of theirs, and the ratio: medians."""
    pair = [line.make(each) for each in ROOMS[room]]
    times = min(map(enough, pair))
    seen: list[tuple[float, float]] = []
    for _ in range(rounds):
        order = random.sample((0, 1), 2)
        took = {which: timed(pair[which], times) for which in order}
        seen.append((took[0], took[1]))
    ours, theirs = (statistics.median(each) for each in zip(*seen, strict=True))
    return ours, theirs, statistics.median(one / other for one, other in seen)


def table(rounds: int, only: str) -> Iterator[str]:
    for room in ROOMS:
        yield f"\n{room:30}{'ours, us':>12}{'theirs, us':>12}{'ratio':>8}"
        for line in LINES:
            if room in line.rooms and only.lower() in line.name.lower():
                ours, theirs, ratio = measured(line, room, rounds)
                yield f"{line.name:30}{ours * 1e6:12.3f}{theirs * 1e6:12.3f}{ratio:8.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="a part of a line's name")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {multiprocessing.get_start_method()}")
    for row in table(options.rounds, options.only):
        print(row, flush=True)


if __name__ == "__main__":
    main()
