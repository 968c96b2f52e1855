"""Threads of this process that draw from the desk directly; nothing is made per item.

A thread that finds nothing to draw leaves, where nothing will come by itself: to wake up many only to
tell them that all is over takes turns at the GIL from whoever runs the next call. What is given back
after that is for others, which `step` has come.

Threads are kept for a while after a call, because starting one costs about 0.1 ms and waking one
a tenth of that.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from .._births import births
from .._model import Job
from .._native import bounded
from .chunk import Chunk, Traits, runner

if TYPE_CHECKING:
    from .protocol import Desk

CLAIM_S = 2e-6  # what drawing a chunk costs
CHUNK_S = 2e-3  # a chunk is meant to run at most this long
IDLE_S = 30.0  # a thread nobody needs ends
PARKED = 128  # threads kept at most


class Threads:
    """The backend of threads."""

    name = "threads"
    traits: Traits = Traits(shares_memory=True, escapes_gil=False, kills_items=False)

    def check(self) -> None:
        """Threads are always there."""

    def open(self, job: Job, desk: Desk, workers: int, native: int = 0) -> ThreadCrew:
        """A crew of `workers`; each may use `native` threads of BLAS and the like, 0 for any."""
        crew = ThreadCrew(job, desk, native)
        crew.resize(workers)
        return crew

    def run(self, task: Callable[[], None]) -> None:
        """Has a thread call `task`."""
        _PARKING.run(task)

    def shutdown(self, *, wait: bool = True) -> None:
        """Ends the threads that no call is using."""
        _PARKING.close(wait=wait)


class ThreadCrew:
    """The threads of one call."""

    def __init__(self, job: Job, desk: Desk, native: int) -> None:
        self._job = job
        self._native = native
        self._bounds: list[bounded] = []
        self._run = runner(job)
        self._desk = desk
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._again = threading.Condition(self._lock)  # more are wanted, or none any more
        self._wanted = 0
        self._alive = 0
        self._resting = 0
        self._at_work = self._most = self._running = 0
        self._left = False  # some found nothing to do, and may be needed yet
        self._closed = False
        self._late = births.ending

    @property
    def ready(self) -> int:
        """The most threads that were at work at once: to start one takes a while."""
        return self._most

    hired = 0  # threads are no call's alone
    load_s: float = 0.0
    memory_bytes: tuple[int, int] = (0, 0)  # they share the caller's

    @property
    def busy(self) -> bool:
        """Some thread holds items."""
        return self._running > 0

    def wait(self, timeout_s: float) -> None:
        """Waits: the threads do everything themselves."""
        self._desk.wait_change(timeout_s)

    def step(self) -> None:
        """Has as many threads as are wanted, if some have left and there is something to do again."""
        if self._left and not (self._closed or self._desk.drained):
            self.resize(self._wanted)

    def resize(self, workers: int) -> None:
        """Has this many threads; those too many end, or rest, after their chunk."""
        with self._lock:
            self._wanted = workers
            self._again.notify_all()
            missing = workers - self._alive
            if missing > 0 and self._desk.drained:
                self._left = True
                return
            self._left = False
            self._alive += max(0, missing)
        if missing > 0:
            since = _PARKING.closed
            try:
                _PARKING.run(lambda: self._serve(missing - 1, since), since, late=self._late)
            except RuntimeError:  # the interpreter is ending: no more threads
                with self._lock:
                    self._alive -= missing
                    if not self._alive:
                        raise

    def replace(self, lost: int) -> None:
        """Starts threads in the stead of those whose items were given up."""
        with self._lock:
            self._alive -= lost
            self._at_work -= lost
            self._running -= lost
        self.resize(self._wanted)

    def retire(self) -> None:
        """Draws no more."""
        self._closed = True
        with self._lock:
            self._again.notify_all()
        if self._job.retries.waits:
            self._desk.tell()  # those that wait before another try leave that to others

    def close(self, *, kill: bool = False) -> None:
        """Lets the threads go; a thread cannot be killed, it ends after its item."""
        self.retire()
        with self._lock:
            bounds, self._bounds = self._bounds, []
        for bound in bounds:
            bound.release()  # now: its thread may come to it when the call is over

    def _serve(self, more: int = 0, since: int = 0) -> None:
        """One thread's part of the call; before it, it starts so many more, as if at `since`.

        To start a thread is to wait for it, and beside threads that compute each wait takes turns
        of the GIL: whoever conducts the call would stand in that queue, and conduct nothing.
        """
        self._start(more, since)
        given_up = False
        with self._lock:
            self._at_work += 1
            if not self._desk.over:  # or it comes too late to be of use
                self._most = max(self._most, self._at_work)
        try:
            with self._bound():
                given_up = self._context.copy().run(self._work)
        except BaseException as error:
            self._desk.refuse(error)
        finally:
            if not given_up:
                with self._lock:
                    self._alive -= 1
                    self._at_work -= 1
                    self._left = True

    def _start(self, more: int, since: int) -> None:
        started = 0
        try:
            while started < more and not (self._closed or self._desk.over):
                _PARKING.run(self._serve, since, late=self._late)
                started += 1
        except RuntimeError:
            pass  # the system has no more threads for us
        with self._lock:
            self._alive -= more - started

    def _bound(self) -> AbstractContextManager[None]:
        """Where a thread runs items, as to what native libraries may do in it."""
        bound = bounded(self._native)
        with self._lock:
            if not self._native or self._closed:
                return nullcontext()
            self._bounds.append(bound)
        return bound

    def _work(self) -> bool:
        """Runs chunks until nobody needs this thread; true when it was given up meanwhile."""
        desk = self._desk
        if self._job.initializer is not None and not (self._closed or desk.over):
            self._job.initializer(*self._job.initargs)
        while not (self._closed or desk.over):
            if self._alive - self._resting > self._wanted and not self._rest():
                break
            chunk = desk.draw(max(1, self._wanted), CLAIM_S, CHUNK_S)
            if chunk is None and self._may_leave():
                break
            if chunk is None:
                desk.wait(0.5)
            elif not self._run_chunk(chunk):
                return True
            else:
                desk.give_way()
        if not (self._closed or desk.over):
            desk.pass_on()
        return False

    def _may_leave(self) -> bool:
        """Whether this thread has nothing more to do, for all that can be seen.

        An initializer is run once in each worker, so one that had it stays.
        """
        return self._job.initializer is None and self._desk.drained

    def _rest(self) -> bool:
        """Waits until this thread is wanted again; False when it may end instead (`_may_leave`)."""
        if self._job.initializer is None:
            return False
        with self._again:
            self._resting += 1
            self._again.wait_for(lambda: self._closed or self._alive - self._resting < self._wanted)
            self._resting -= 1
        return True

    def _run_chunk(self, chunk: Chunk) -> bool:
        """Runs a chunk; False when it was given up meanwhile, and the thread with it."""
        desk, run = self._desk, self._run
        with self._lock:
            self._running += 1
        if chunk.wait_s:
            desk.rest(chunk, lambda: self._closed)
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        try:
            values = [run(item) for item in chunk.todo]
        except BaseException as error:
            ours = desk.abandon(chunk.start, chunk, error)
        else:
            cpu_s = time.thread_time() - began_cpu_s
            ours = desk.finish(chunk, values, time.perf_counter() - began_s, cpu_s)
        if ours:
            with self._lock:
                self._running -= 1
        return ours


class _Parking:
    """Threads that wait for something to do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parked: list[_Hand] = []
        self.closed = 0  # how often: threads that were at work then end after it

    def run(
        self, task: Callable[[], None], since: int | None = None, *, late: bool = False
    ) -> None:
        """Has a thread, a waiting one if there is one, call `task`.

        since: what `closed` was when somebody wanted it, if that is a while ago.
        late: see `Births.expect`.
        Raises: RuntimeError when there can be no more threads.
        """
        since = self.closed if since is None else since
        with self._lock:
            hand = self._parked.pop() if self._parked else None
        if hand is not None:
            hand.give(task, since)
            return
        hand = _Hand(self, task, since)
        births.expect(hand, late=late)
        try:
            hand.start()
        except RuntimeError:
            births.note(hand)
            raise

    def park(self, hand: _Hand) -> bool:
        """Notes that a thread waits; False when enough do."""
        with self._lock:
            if len(self._parked) >= PARKED or hand.closed < self.closed:
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
            self.closed += 1
        for hand in hands:
            hand.give(None, self.closed)
        for hand in hands if wait else ():
            hand.join()

    def forget(self) -> None:
        """In a child that the user forked there are no threads."""
        self._lock = threading.Lock()
        self._parked = []


class _Hand(threading.Thread):
    """A thread that runs one task after another."""

    def __init__(self, parking: _Parking, task: Callable[[], None], since: int) -> None:
        super().__init__(name="autopar", daemon=True)
        self._parking = parking
        self._task: Callable[[], None] | None = task
        self.closed = since
        self._bell = threading.Lock()
        self._bell.acquire()

    def give(self, task: Callable[[], None] | None, since: int) -> None:
        """Wakes the waiting thread with a task, or None to end it."""
        self.closed = since
        self._task = task
        self._bell.release()

    def run(self) -> None:
        """Runs tasks until there has been none for a while."""
        births.note(self)
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
os.register_at_fork(after_in_child=_PARKING.forget)
