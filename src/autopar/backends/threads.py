"""Threads of this process that draw from the desk directly; nothing is made per item.

Threads are kept for a while after a call, because starting one costs about 0.1 ms and waking one
a tenth of that.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._model import Job
from .chunk import Traits, runner

if TYPE_CHECKING:
    from .protocol import Desk

CLAIM_S = 2e-6  # what drawing a chunk costs
CHUNK_S = 2e-3  # a chunk is meant to run at most this long
IDLE_S = 30.0  # a thread nobody needs ends
PARKED = 128  # threads kept at most


class Threads:
    """The backend of threads."""

    name = "threads"
    traits = Traits(shares_memory=True, escapes_gil=False, kills_items=False)

    def check(self) -> None:
        """Threads are always there."""

    def open(self, job: Job, desk: Desk, workers: int) -> ThreadCrew:
        """A crew of `workers` threads."""
        crew = ThreadCrew(job, desk)
        crew.resize(workers)
        return crew

    def shutdown(self, *, wait: bool = True) -> None:
        """Ends the threads that no call is using."""
        _PARKING.close(wait=wait)


class ThreadCrew:
    """The threads of one call."""

    def __init__(self, job: Job, desk: Desk) -> None:
        self._job = job
        self._run = runner(job)
        self._desk = desk
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._wanted = 0
        self._alive = 0
        self._running = 0
        self._closed = False

    @property
    def ready(self) -> int:
        """Threads at work."""
        return self._alive

    @property
    def busy(self) -> bool:
        """Some thread holds items."""
        return self._running > 0

    def wait(self, timeout_s: float) -> None:
        """Waits: the threads do everything themselves."""
        self._desk.wait_change(timeout_s)

    def step(self) -> None:
        """Nothing to do."""

    def resize(self, workers: int) -> None:
        """Has this many threads; those too many end after their chunk."""
        with self._lock:
            self._wanted = workers
            missing = workers - self._alive
            self._alive += max(0, missing)
        for _ in range(missing):
            _PARKING.run(self._serve)

    def retire(self) -> None:
        """Draws no more."""
        self._closed = True

    def close(self, *, kill: bool = False) -> None:
        """Lets the threads go; a thread cannot be killed, it ends after its item."""
        self._closed = True

    def _serve(self) -> None:
        """One thread's part of the call."""
        try:
            context = self._context.copy()
            context.run(self._work)
        except BaseException as error:
            self._desk.refuse(error)
        finally:
            with self._lock:
                self._alive -= 1

    def _work(self) -> None:
        if self._job.initializer is not None:
            self._job.initializer(*self._job.initargs)
        desk, run, clock = self._desk, self._run, time.perf_counter
        while not (self._closed or desk.over or self._alive > self._wanted):
            chunk = desk.draw(max(1, self._wanted), CLAIM_S, CHUNK_S)
            if chunk is None:
                desk.wait(0.5)
                continue
            self._running += 1
            began_s = clock()
            try:
                values = [run(item) for item in chunk.todo]
            except BaseException as error:
                desk.abandon(chunk.start, chunk, error)
            else:
                desk.finish(chunk, values, clock() - began_s)
            finally:
                self._running -= 1


class _Parking:
    """Threads that wait for something to do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parked: list[_Hand] = []

    def run(self, task: Callable[[], None]) -> None:
        """Has a thread, a waiting one if there is one, call `task`."""
        with self._lock:
            hand = self._parked.pop() if self._parked else None
        if hand is None:
            _Hand(self, task).start()
        else:
            hand.give(task)

    def park(self, hand: _Hand) -> bool:
        """Notes that a thread waits; False when enough do."""
        with self._lock:
            if len(self._parked) >= PARKED:
                return False
            self._parked.append(hand)
            return True

    def leave(self, hand: _Hand) -> bool:
        """Whether a thread that has waited long may end; not if it was just given a task."""
        with self._lock:
            if hand not in self._parked:
                return False
            self._parked.remove(hand)
            return True

    def close(self, *, wait: bool) -> None:
        """Ends the waiting threads."""
        with self._lock:
            hands, self._parked = self._parked, []
        for hand in hands:
            hand.give(None)
        for hand in hands if wait else ():
            hand.join()

    def forget(self) -> None:
        """In a child that the user forked there are no threads."""
        self._lock = threading.Lock()
        self._parked = []


class _Hand(threading.Thread):
    """A thread that runs one task after another."""

    def __init__(self, parking: _Parking, task: Callable[[], None]) -> None:
        super().__init__(name="autopar", daemon=True)
        self._parking = parking
        self._task: Callable[[], None] | None = task
        self._bell = threading.Lock()
        self._bell.acquire()

    def give(self, task: Callable[[], None] | None) -> None:
        """Wakes the waiting thread with a task, or None to end it."""
        self._task = task
        self._bell.release()

    def run(self) -> None:
        """Runs tasks until there has been none for a while."""
        while self._task is not None:
            task, self._task = self._task, None
            task()
            del task
            if not self._parking.park(self):
                return
            while not self._bell.acquire(timeout=IDLE_S):
                if self._parking.leave(self):
                    return


_PARKING = _Parking()
run_in_thread = _PARKING.run
os.register_at_fork(after_in_child=_PARKING.forget)
