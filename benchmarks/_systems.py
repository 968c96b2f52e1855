"""Who is measured: autopar, and what a patient person would tune by hand.

A system is a context manager that opens whatever it needs and gives a `map(fn, items)`. It stays
open between the calls of one process, so later calls find the pool warm.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

Map = Callable[[Callable[[Any], Any], list[Any]], list[Any]]
Open = Callable[[], AbstractContextManager[Map]]

CPUS = len(os.sched_getaffinity(0))
WIDTHS = (2, 4, 8, 16, 32, 64, 100)
GRIDS = ((2, 8), (2, 16), (2, 32), (4, 8), (4, 16), (4, 32))  # processes x threads
SHARES = (1, 4, 16)  # chunks a process


@contextmanager
def autopar() -> Iterator[Map]:
    from autopar import auto_map, shutdown

    yield auto_map
    shutdown()


@contextmanager
def serial() -> Iterator[Map]:
    yield lambda fn, items: [fn(item) for item in items]


@contextmanager
def threads(workers: int) -> Iterator[Map]:
    with ThreadPoolExecutor(workers) as pool:
        yield lambda fn, items: list(pool.map(fn, items))


@contextmanager
def executor(workers: int, share: int | None) -> Iterator[Map]:
    """A ProcessPoolExecutor; `share` chunks a process, or an item a chunk."""
    # A plain fork is the quickest start there is, and these processes have no threads to fear.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:

        def run(fn: Callable[[Any], Any], items: list[Any]) -> list[Any]:
            chunk = 1 if share is None else max(1, len(items) // (share * workers))
            return list(pool.map(fn, items, chunksize=chunk))

        yield run


@contextmanager
def pool(workers: int, chunk: int | None) -> Iterator[Map]:
    """A multiprocessing.Pool; its own chunk size for None."""
    with multiprocessing.get_context("fork").Pool(workers) as crew:
        yield lambda fn, items: crew.map(fn, items, chunksize=chunk)


@contextmanager
def by_hand(processes: int, width: int) -> Iterator[Map]:
    """Processes that each run a pool of threads over every n-th item."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, context, _open_threads, (width,)) as outer:

        def run(fn: Callable[[Any], Any], items: list[Any]) -> list[Any]:
            results: list[Any] = [None] * len(items)
            parts = [items[first::processes] for first in range(processes)]
            for first, part in enumerate(outer.map(partial(_in_threads, fn), parts)):
                results[first::processes] = part
            return results

        yield run


_inner: Executor | None = None


def _open_threads(width: int) -> None:
    global _inner
    _inner = ThreadPoolExecutor(width)


def _in_threads(fn: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    assert _inner is not None
    return list(_inner.map(fn, items))


@contextmanager
def joblib(workers: int, backend: str) -> Iterator[Map]:
    from joblib import Parallel, delayed

    with Parallel(n_jobs=workers, backend=backend) as parallel:

        def run(fn: Callable[[Any], Any], items: list[Any]) -> list[Any]:
            return list(parallel(delayed(fn)(item) for item in items))

        yield run


@contextmanager
def mpire(workers: int, start: str) -> Iterator[Map]:
    from mpire import WorkerPool

    with WorkerPool(n_jobs=workers, start_method=start, keep_alive=True) as crew:
        yield lambda fn, items: crew.map(fn, items, concatenate_numpy_output=False)


SYSTEMS: dict[str, Open] = {
    "autopar": autopar,
    "serial": serial,
    **{f"threads-{width}": partial(threads, width) for width in WIDTHS},
    **{f"executor-{share}": partial(executor, CPUS, share) for share in SHARES},
    "executor-each": partial(executor, CPUS, None),
    **{f"executor-x{n}": partial(executor, n, None) for n in (8, 16)},
    "pool": partial(pool, CPUS, None),
    "pool-each": partial(pool, CPUS, 1),
    **{f"{p}x{t}": partial(by_hand, p, t) for p, t in GRIDS},
    "loky": partial(joblib, CPUS, "loky"),
    "joblib-threads": partial(joblib, CPUS, "threading"),
    "joblib-threads-32": partial(joblib, 32, "threading"),
    "mpire": partial(mpire, CPUS, "fork"),
    "mpire-threads-32": partial(mpire, 32, "threading"),
}

# Who has a chance on what; `--all` measures everybody on everything. Two processes cannot win
# where the work sleeps, nor a hundred threads where it holds the GIL.
FAMILIES: dict[str, tuple[str, ...]] = {
    "trivial": ("serial", "threads-2", "executor-1", "executor-4", "pool", "mpire"),
    "python": (
        "serial", "threads-2", "executor-1", "executor-4", "executor-16", "executor-each",
        "pool", "pool-each", "loky", "mpire",
    ),
    "native": (
        "serial", "threads-2", "threads-4", "threads-8", "executor-4", "executor-each",
        "pool", "loky", "joblib-threads", "mpire",
    ),
    "waits": (
        "threads-16", "threads-32", "threads-64", "threads-100", "2x16", "2x32", "4x16", "4x32",
        "joblib-threads-32", "mpire-threads-32",
    ),
    "mixed": (
        "threads-8", "threads-16", "threads-32", "threads-64", "executor-x8", "executor-x16",
        "2x8", "2x16", "2x32", "4x8", "4x16", "loky", "joblib-threads-32",
    ),
}  # fmt: skip

QUICK: dict[str, tuple[str, ...]] = {
    "trivial": ("serial", "pool"),
    "python": ("serial", "executor-4", "pool"),
    "native": ("serial", "threads-2", "threads-4", "pool"),
    "waits": ("threads-32", "threads-64", "threads-100", "4x16"),
    "mixed": ("threads-16", "threads-64", "2x16", "4x16", "executor-x16"),
}
