"""What does autopar cost when there is nothing to gain?

The price of one call with a warm crew, of one item, and of the import, each beside the plain loop
and the pools that a user would reach for. The project's configuration keeps benchmarks off:

    pytest benchmarks/test_micro.py --benchmark-enable
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from autopar import auto_map, shutdown

FEW, MANY = range(10), range(10_000)


def add_one(number: int) -> int:
    return number + 1


def loop(fn: Callable[[Any], Any], items: range) -> list[Any]:
    return [fn(item) for item in items]


def in_a_thread_pool(fn: Callable[[Any], Any], items: range) -> list[Any]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(fn, items))


def ours(**options: Any) -> Callable[[Callable[[Any], Any], range], list[Any]]:
    return lambda fn, items: auto_map(fn, items, **options)


@pytest.fixture(scope="module")
def warm_threads() -> Iterator[Callable[..., list[Any]]]:
    with ThreadPoolExecutor(2) as pool:
        yield lambda fn, items: list(pool.map(fn, items))


@pytest.fixture(scope="module")
def warm_processes() -> Iterator[Callable[..., list[Any]]]:
    # forkserver: the test process has threads by now, so a plain fork would not be safe.
    with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
        yield lambda fn, items: list(pool.map(fn, items, chunksize=max(1, len(items) // 8)))


@pytest.fixture(scope="module", autouse=True)
def _end_the_warm_crews() -> Iterator[None]:
    yield
    shutdown()


@pytest.mark.benchmark(group="1 one call of ten next-to-nothings: overhead per call")
class TestCall:
    @pytest.mark.parametrize("run", [loop, ours(), in_a_thread_pool],
                             ids=["loop", "autopar", "thread pool, opened each time"])  # fmt: skip
    def test_call(self, benchmark, run):
        assert benchmark(run, add_one, FEW) == loop(add_one, FEW)

    def test_call_of_an_open_thread_pool(self, benchmark, warm_threads):
        assert benchmark(warm_threads, add_one, FEW) == loop(add_one, FEW)

    def test_call_with_threads_forced(self, benchmark):
        run = ours(backend="threads", workers=2)
        assert benchmark(run, add_one, FEW) == loop(add_one, FEW)

    def test_call_with_processes_forced(self, benchmark):
        run = ours(backend="processes", workers=2)
        assert benchmark(run, add_one, FEW) == loop(add_one, FEW)

    def test_call_of_an_open_process_pool(self, benchmark, warm_processes):
        assert benchmark(warm_processes, add_one, FEW) == loop(add_one, FEW)


@pytest.mark.benchmark(group="2 ten thousand next-to-nothings: divide by 10 000 for an item")
class TestItems:
    @pytest.mark.parametrize("run", [loop, ours()], ids=["loop", "autopar"])
    def test_items(self, benchmark, run):
        assert benchmark(run, add_one, MANY) == loop(add_one, MANY)

    def test_items_of_an_open_thread_pool(self, benchmark, warm_threads):
        assert benchmark(warm_threads, add_one, MANY) == loop(add_one, MANY)

    def test_items_with_threads_forced(self, benchmark):
        run = ours(backend="threads", workers=2)
        assert benchmark(run, add_one, MANY) == loop(add_one, MANY)

    def test_items_with_processes_forced(self, benchmark):
        run = ours(backend="processes", workers=2)
        assert benchmark(run, add_one, MANY) == loop(add_one, MANY)

    def test_items_of_an_open_process_pool(self, benchmark, warm_processes):
        assert benchmark(warm_processes, add_one, MANY) == loop(add_one, MANY)


@pytest.mark.benchmark(group="3 a fresh interpreter and one import")
@pytest.mark.parametrize(
    "statement", ["pass", "import concurrent.futures.thread", "import autopar"]
)
def test_import(benchmark, statement):
    # Compiled modules are kept, as an installed package's are.
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", statement]
    benchmark.pedantic(
        subprocess.run, [command], {"check": True, "env": environ}, rounds=20, warmup_rounds=2
    )
