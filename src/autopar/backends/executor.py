"""Any `concurrent.futures.Executor` as a backend: chunks are submitted, outcomes come back.

This is how an executor that the caller has tuned, or one of a cluster, takes part.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future
from typing import TYPE_CHECKING, Any

from .._model import Job
from .chunk import Failure, Traits, thorough

if TYPE_CHECKING:
    from .protocol import Desk

MESSAGE_S = 300e-6  # submitting a chunk to a process pool and waiting for it
CHUNK_S = 50e-3


class Executors:
    """The backend of one executor that the caller brought; the caller also ends it."""

    traits: Traits = Traits(shares_memory=False, escapes_gil=True, kills_items=False)

    def __init__(self, executor: Executor) -> None:
        self.name: str = type(executor).__name__
        self._executor = executor

    def check(self) -> None:
        """An executor that exists can be asked."""

    def open(self, job: Job, desk: Desk, workers: int) -> ExecutorCrew:
        """A crew that keeps twice `workers` chunks submitted, or once if there are more workers."""
        return ExecutorCrew(self._executor, job, desk, workers)


def workers_of(executor: Executor) -> int | None:
    """How many workers an executor has, if it lets that be seen."""
    found = getattr(executor, "_max_workers", None)
    return found if isinstance(found, int) else None


class ExecutorCrew:
    """The chunks of one call that an executor holds."""

    def __init__(self, executor: Executor, job: Job, desk: Desk, workers: int) -> None:
        self._executor, self._job, self._desk = executor, job, desk
        self._workers = workers
        self._size = workers_of(executor) or 0
        self._limit = desk.limit
        self._held: dict[Future[Any], tuple[int, Sequence[Any]]] = {}
        self._done: deque[Future[Any]] = deque()
        self._retired = False

    @property
    def ready(self) -> int:
        """Workers the executor is believed to have."""
        return self._workers

    hired = 0  # the executor is the caller's
    load_s: float = 0.0
    memory_bytes: tuple[int, int] = (0, 0)  # and so is its memory

    @property
    def busy(self) -> bool:
        """Some chunk has not come back."""
        return bool(self._held)

    def wait(self, timeout_s: float) -> None:
        """Returns when a chunk has come back, or the desk has something new."""
        if not self._held:
            self._desk.wait(timeout_s)  # what has just come is not slept through
        elif not self._done:
            self._desk.wait_change(timeout_s)

    def step(self) -> None:
        """Takes in what has come back, and submits more."""
        while self._done:
            future = self._done.popleft()
            self._settle(future, *self._held.pop(future))
        if self._desk.limit < self._limit:
            self._limit = self._desk.limit
            self._recall()  # the desk forgets what must not start, and keeps the rest
        # More than are wanted, where it has these, would be run beside each other.
        most = self._workers if self._size > self._workers else 2 * self._workers
        while not self._retired and len(self._held) < most and self._submit():
            pass

    def resize(self, workers: int) -> None:
        """Believes in this many workers."""
        self._workers = workers

    def replace(self, lost: int) -> None:
        """The executor sees to its workers itself."""

    def retire(self) -> None:
        """Submits no more, and cancels what has not begun."""
        self._retired = True
        self._recall()

    def close(self, *, kill: bool = False) -> None:
        """Lets go of the executor, which stays the caller's."""
        self.retire()

    def _submit(self) -> bool:
        taken = self._desk.take(self._workers, MESSAGE_S, CHUNK_S)
        if taken is None:
            return False
        try:
            future = self._executor.submit(run_chunk, self._job, list(taken[1]))
        except Exception as error:  # it has been shut down, or is broken
            self._desk.give_back(*taken)
            self._retired = True
            self._desk.refuse(error)
            return False
        self._held[future] = taken
        future.add_done_callback(self._came_back)
        return True

    def _came_back(self, future: Future[Any]) -> None:
        self._done.append(future)
        self._desk.tell()

    def _settle(self, future: Future[Any], start: int, items: Sequence[Any]) -> None:
        try:
            values, error, took_s = future.result()
        except CancelledError:
            self._desk.give_back(start, items)
            return
        except BaseException as broken:  # the executor's own failure, or pickle's
            self._desk.fail(start, broken)
            self._desk.give_back(start + 1, items[1:])
            return
        self._desk.settle(start, values, took_s)
        if error is not None:
            failed = start + len(values)
            self._desk.fail(failed, error)
            self._desk.give_back(failed + 1, items[len(values) + 1 :])

    def _recall(self) -> None:
        for future in list(self._held):
            future.cancel()


def run_chunk(job: Job, items: list[Any]) -> tuple[list[Any], BaseException | None, float]:
    """Results of the items before the first that failed, its exception, and the seconds taken."""
    run: Callable[[Any], Any] = thorough(job)
    values: list[Any] = []
    began_s = time.perf_counter()
    error: BaseException | None = None
    for item in items:
        try:
            value = run(item)
            values.append(None if job.silent and type(value) is not Failure else value)
        except Exception as failure:
            error = failure
            break
    return values, error, time.perf_counter() - began_s
