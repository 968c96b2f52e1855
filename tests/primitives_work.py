"""What the tests of primitives run in other threads and processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from typing import Any

from autopar import Lock


def forked(work: Callable[..., object], *args: Any) -> int:
    """The number of a process that does `work`, and ends without anything else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that other tests have left
        pid = os.fork()
    if pid:
        return pid
    try:
        warnings.simplefilter("ignore")
        work(*args)
        os._exit(0)
    finally:
        os._exit(1)


def end_standard_helpers() -> None:
    """Ends the processes that the standard library starts for itself and keeps."""
    for helper in (forkserver._forkserver, resource_tracker._resource_tracker):
        helper._stop()


def here(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


def call(job: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
    return job[0](*job[1])


def count_up(lock: Any, counter: Any, times: int) -> None:
    """Adds in steps that only a lock holds together."""
    for _ in range(times):
        with lock:
            value = counter.value
            counter.value = value + 1


def add(value: Any, times: int) -> None:
    for _ in range(times):
        value.add(1)


def tries(lock: Any) -> bool:
    got: bool = lock.acquire(False)
    if got:
        lock.release()
    return got


def answer(condition: Any, state: Any, turns: int) -> int:
    """Makes every odd number even, as soon as it is there."""
    for turn in range(turns):
        with condition:
            assert condition.wait_for(lambda turn=turn: state.value == 2 * turn + 1, 30)
            state.value += 1
            condition.notify()
    return int(state.value)


def await_event(event: Any, ready: Any) -> bool:
    ready.set()
    return bool(event.wait(30))


def meet(barrier: Any, times: int) -> list[int]:
    return [barrier.wait(30) for _ in range(times)]


def release(semaphore: Any, times: int) -> None:
    for _ in range(times):
        semaphore.release()


def made_here() -> Any:
    lock = Lock()
    return lock, os.getpid()


def identity(value: Any) -> Any:
    return value


def put_number(array: Any, at: int, number: int) -> int:
    array[at] = number
    return len(array)


def double(array: Any) -> None:
    import numpy as np

    np.asarray(array)[...] *= 2


def with_default(lock: Any) -> Callable[[int], bool]:
    def use(_x: int, lock: Any = lock) -> bool:
        with lock:
            return True

    return use


def echo(connection: Any) -> None:
    """Sends back what it receives, up to a None."""
    while (message := connection.recv()) is not None:
        connection.send(message)
    connection.close()
