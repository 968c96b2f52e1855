"""One process pool in a process of its own: the script that times it.

    python _pools.py POOL

The script imports the pool's package, says so, and then does what each line that it reads asks:
`prepare` or `arrays`, which are answered without a time, or the name of a line of `pool.py`, a
number of repetitions and a chunk size. The pool is opened by the first of them that needs it.

Spawned workers import this module again, so it imports little.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import _pool_work as work

WORKERS = 2
MANY = 1000
BUSY_ITEMS = 8
ROUND_TRIPS = 200  # in one measurement of the floor's many

Map = Callable[[Callable[[Any], Any], Sequence[Any], int], list[Any]]
Open = Callable[[], AbstractContextManager[Map]]

# A pool is a function that imports its package, as its user would, and returns what opens it.


def autopar() -> Open:
    from autopar import auto_map, shutdown

    @contextmanager
    def opened() -> Iterator[Map]:
        def run(fn: Callable[[Any], Any], items: Sequence[Any], _chunk: int) -> list[Any]:
            return auto_map(fn, items, backend="processes", workers=WORKERS)

        yield run
        shutdown()

    return opened


def executor(method: str) -> Open:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    @contextmanager
    def opened() -> Iterator[Map]:
        with ProcessPoolExecutor(WORKERS, get_context(method)) as pool:
            yield lambda fn, items, chunk: list(pool.map(fn, items, chunksize=chunk))

    return opened


def pool(method: str) -> Open:
    from multiprocessing import get_context

    @contextmanager
    def opened() -> Iterator[Map]:
        with get_context(method).Pool(WORKERS) as crew:
            yield lambda fn, items, chunk: crew.map(fn, items, chunksize=chunk)

    return opened


def loky() -> Open:
    from loky import get_reusable_executor

    @contextmanager
    def opened() -> Iterator[Map]:
        with get_reusable_executor(max_workers=WORKERS) as crew:
            yield lambda fn, items, chunk: list(crew.map(fn, items, chunksize=chunk))

    return opened


def mpire() -> Open:
    from mpire import WorkerPool

    @contextmanager
    def opened() -> Iterator[Map]:
        with WorkerPool(WORKERS, start_method="fork", keep_alive=True) as crew:

            def run(fn: Callable[[Any], Any], items: Sequence[Any], chunk: int) -> list[Any]:
                return crew.map(fn, items, chunk_size=chunk, concatenate_numpy_output=False)

            yield run

    return opened


def pebble() -> Open:
    from pebble import ProcessPool

    @contextmanager
    def opened() -> Iterator[Map]:
        with ProcessPool(WORKERS) as crew:
            yield lambda fn, items, chunk: list(crew.map(fn, items, chunksize=chunk).result())

    return opened


def loop() -> Open:
    @contextmanager
    def opened() -> Iterator[Map]:
        yield lambda fn, items, _chunk: [fn(item) for item in items]

    return opened


POOLS: dict[str, Callable[[], Open]] = {
    "autopar": autopar,
    **{
        f"executor-{method}": partial(executor, method)
        for method in ("fork", "forkserver", "spawn")
    },
    **{f"pool-{method}": partial(pool, method) for method in ("fork", "forkserver", "spawn")},
    "loky": loky,
    "mpire": mpire,
    "pebble": pebble,
}
LOOP, FLOOR = "loop", "floor"


class Pool:
    """What a line asks of a pool, timed."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self._open = loop() if name == LOOP else POOLS[name]()
        self._stack = stack
        self._run: Map | None = None
        self._array: Any = None

    def prepare(self) -> None:
        """Opens the pool and warms it."""
        for _ in range(2):
            self._map(work.nothing, range(4 * WORKERS), 1)
            self._map(work.busy, range(4 * WORKERS), 1)

    def arrays(self) -> None:
        """Makes the array to be sent, and each worker's to be sent back."""
        self._array = work.make_array()
        for _ in range(2):
            self._map(work.keep, range(2 * WORKERS), 1)

    def time(self, line: str, chunk: int) -> float:
        """Seconds that one call took."""
        fn, items = self._call(line)
        began_s = time.perf_counter()
        found = self._map(fn, items, chunk)
        if line == "out":
            found = [work.touch(found[0])]
        took_s = time.perf_counter() - began_s
        if line in ("in", "out") and found[0] != work.ARRAY_BYTES / 8 / work.PAGE_NUMBERS:
            raise ValueError(f"the array did not arrive as it was: {found}")
        return took_s

    def _call(self, line: str) -> tuple[Callable[[Any], Any], list[Any]]:
        # One item more than the one in question: autopar runs a single one in the calling thread.
        if line == "cold-first":
            return work.nothing, [0, 1]
        if line == "many":
            return work.nothing, list(range(MANY))
        if line == "in":
            return work.touch, [self._array, None]
        if line == "out":
            return work.give, [True, False]
        return work.busy, list(range(BUSY_ITEMS))

    def _map(self, fn: Callable[[Any], Any], items: Sequence[Any], chunk: int) -> list[Any]:
        if self._run is None:
            self._run = self._stack.enter_context(self._open())
        return self._run(fn, items, chunk)


class Floor:
    """What the kernel asks for the same: forks, one byte there and back, and memory copied."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._ends: list[int] = []
        self._source = b""

    def prepare(self) -> None:
        """Forks the workers and has them run once."""
        self._ends = [self._fork(worker) for worker in range(WORKERS)]
        self._ask(b"w")

    def arrays(self) -> None:
        """Makes what is copied."""
        self._source = bytes(work.ARRAY_BYTES)

    def time(self, line: str, _chunk: int) -> float:
        """Seconds that the least of what the line needs took."""
        if line == "round-trip":
            return self._round_trip()
        if line in ("in", "out", "copy-small"):
            return self._copy(huge=line != "copy-small")
        began_s = time.perf_counter()
        if line.startswith("cold"):
            workers = 1 if line == "cold-first" else WORKERS
            self._ends = [self._fork(worker) for worker in range(workers)]
        self._ask({"cold-first": b"1", "many": b"m"}.get(line, b"w"))
        return time.perf_counter() - began_s

    def _ask(self, order: bytes) -> None:
        """Gives every worker its share, and waits for all of them."""
        for end in self._ends:
            os.write(end, order)
        for end in self._ends:
            os.read(end, 1)

    def _round_trip(self) -> float:
        """Median seconds of one byte to a worker and one back."""
        end, took_s = self._ends[0], []
        for _ in range(ROUND_TRIPS):
            began_s = time.perf_counter()
            os.write(end, b"1")
            os.read(end, 1)
            took_s.append(time.perf_counter() - began_s)
        return sorted(took_s)[ROUND_TRIPS // 2]

    def _copy(self, *, huge: bool) -> float:
        """Seconds that it takes to copy the array into memory that nobody has used."""
        began_s = time.perf_counter()
        target = mmap.mmap(-1, work.ARRAY_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if huge:
            target.madvise(mmap.MADV_HUGEPAGE)
        target[:] = self._source
        took_s = time.perf_counter() - began_s
        target.close()
        return took_s

    def _fork(self, worker: int) -> int:
        """A worker that does its share for each byte; our end of its socket."""
        import _socket  # all of `socket` would make the fork a slower one

        ours, theirs = _socket.socketpair()
        near, far = ours.detach(), theirs.detach()
        if os.fork():
            os.close(far)
            self._stack.callback(os.close, near)
            return near
        try:
            os.close(near)
            _settle(worker)
            while order := os.read(far, 1):
                for item in range(_SHARES.get(order, 1)):
                    (work.busy if order == b"w" else work.nothing)(item)
                os.write(far, order)
        finally:
            os._exit(0)


_SHARES = {b"w": BUSY_ITEMS // WORKERS, b"m": MANY // WORKERS}


def _settle(worker: int) -> None:
    """Gives a worker of the floor a CPU of its own, where the system may put two on one."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[worker % len(cpus)]})


def main(name: str) -> None:
    # What the measured packages print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with ExitStack() as stack:
        try:
            measured = Floor(stack) if name == FLOOR else Pool(name, stack)
        except Exception as error:
            print(json.dumps({"error": _why(error)}), file=answers)
            return
        print("{}", file=answers)
        for order in sys.stdin:
            try:
                answer = _obey(measured, order.split())
            except Exception as error:
                answer = {"error": _why(error)}
            print(json.dumps(answer), file=answers)


def _obey(measured: Pool | Floor, order: list[str]) -> dict[str, object]:
    if len(order) == 1:
        getattr(measured, order[0])()
        return {}
    line, times, chunk = order[0], int(order[1]), int(order[2])
    return {"seconds": [measured.time(line, chunk) for _ in range(times)]}


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(sys.argv[1])
