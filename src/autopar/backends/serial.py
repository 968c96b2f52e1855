"""The caller's own thread, one item after another.

The thread runs consecutive chunks inside one list comprehension, the quickest loop there is, and
comes up for air between two chunks: to note how long the last took, to let the engine's thread
have the interpreter when it asks, to stop when others take over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .._model import Job
from .chunk import Chunk, Lent, Traits, runner

if TYPE_CHECKING:
    from .protocol import CallerDesk

AIR_S = 1e-3  # come up for air about this often
GROWTH = 4  # a chunk has at most this many times the items of the one before


class Sample(NamedTuple):
    """An item that was run, and what came of it."""

    item: Any
    result: Any


class GivenUp(BaseException):
    """The item a thread was running was given up, and the thread with it."""


class Serial:
    """The backend of one worker: the caller."""

    name = "serial"
    traits: Traits = Traits(shares_memory=True, escapes_gil=False, kills_items=False)

    def check(self) -> None:
        """The caller's thread is always there."""

    def open(self, job: Job, desk: CallerDesk, read: Callable[[int], None]) -> Caller:
        """A crew of one; `read` is told how many items the caller will draw next."""
        return Caller(job, desk, read)


class Caller:
    """The caller's thread as a worker.

    sample: the first item and its result, once there is one.
    items: how many it has finished.
    pause: held by the engine's thread when it needs the interpreter.
    read: is told how many items it will draw next.
    first_s: how long the first item took; it is often an outlier (imports, caches).
    """

    def __init__(self, job: Job, desk: CallerDesk, read: Callable[[int], None]) -> None:
        self.sample: Sample | None = None
        self.first_s: float = 0.0
        self.items: int = 0
        self.retired = False
        self.pause: threading.Lock = threading.Lock()
        self._job = job
        self._thread: int | None = None  # where items were run last
        self._run = runner(job)
        self._desk = desk
        self.read = read
        self._count = 1
        self._chunk: Chunk | None = None
        self._short: tuple[Lent, float] | None = None  # a chunk that has ended early

    def work(self) -> None:
        """Runs items until retired, or until there is none to draw.

        Raises only what the initializer raised, or an item that is no `Exception`
        (KeyboardInterrupt, SystemExit).
        """
        self._begin()
        self._chunk = self._draw()
        if self._job.singly:
            self._work_singly()
        elif self._job.silent:
            self._work_silently()
        while self._chunk is not None:
            start = self._chunk.start
            try:
                values = [run(item) for run, todo in self._chunks() for item in todo]
            except BaseException as error:
                failed, self._chunk = self._chunk, None
                self._desk.abandon(start, failed, error)
                if not isinstance(error, Exception):
                    raise
                return
            self._desk.settle_followed(start, values)
            self._cut_short(start + len(values))

    def _work_singly(self) -> None:
        """Settles item by item, so that one that is given up or tried again takes none along.

        Raises `GivenUp` once its own was given up for being late: another thread runs the rest.
        """
        while (chunk := self._chunk) is not None:
            if chunk.wait_s:
                self._desk.rest(chunk, lambda: self.retired)
            began_s = time.perf_counter()
            try:
                values = [self._run(item) for item in chunk.todo]
            except BaseException as error:
                if not self._desk.abandon(chunk.start, chunk, error):
                    raise GivenUp from None
                if not isinstance(error, Exception):
                    raise
            else:
                took_s = time.perf_counter() - began_s
                if not self._desk.finish(chunk, values, took_s):
                    raise GivenUp
                self.items += 1
                self.first_s = self.first_s or took_s
                self.sample = self.sample or Sample(
                    chunk.items[0], None if self._job.silent else values[0]
                )
            self._chunk = self._draw()

    def _work_silently(self) -> None:
        """Settles chunk by chunk, so that results do not gather that nobody wants."""
        while (chunk := self._chunk) is not None:
            end = chunk.start
            try:
                for run, todo in self._chunks():
                    chunk = self._chunk or chunk  # the one whose items these are
                    values = [run(item) for item in todo]
                    end = chunk.start + len(values)
                    self._desk.settle_followed(chunk.start, values)
                self._cut_short(end)
            except BaseException as error:
                self._chunk = None
                self._desk.abandon(chunk.start, chunk, error)
                if not isinstance(error, Exception):
                    raise

    @property
    def chunk(self) -> Chunk | None:
        """What is being run."""
        return self._chunk

    def _begin(self) -> None:
        """Runs the initializer before a thread's first item, as every worker does."""
        job, thread = self._job, threading.get_ident()
        fresh, self._thread = thread != self._thread, thread
        if fresh and not self.retired and job.initializer is not None:
            job.initializer(*job.initargs)

    def _chunks(self) -> Iterator[tuple[Callable[[Any], Any], Iterator[Any]]]:
        """This chunk and those that follow it without a gap, each with what runs its items."""
        chunk = self._chunk
        while chunk is not None:
            began = time.perf_counter()
            yield (self._run if self.sample else self._run_first), chunk.todo
            took_s = time.perf_counter() - began
            if isinstance(chunk, Lent) and chunk.ended_early:
                self._short, self._chunk = (chunk, took_s), None
                return
            self.items += chunk.count - chunk.stolen
            self._grow(chunk.count, took_s)
            following = self._follow(chunk, took_s)
            self._chunk = following
            if following is None or following.start != chunk.end:
                return
            chunk = following

    def _cut_short(self, end: int) -> None:
        """Notes where the items have ended, if they did so before their number was reached."""
        if self._short is not None:
            (chunk, took_s), self._short = self._short, None
            self.items += end - chunk.start
            self._desk.cut_short(chunk, end, took_s)

    def _follow(self, chunk: Chunk, took_s: float) -> Chunk | None:
        if self.pause.locked():
            with self.pause:
                pass
        self._desk.give_way()
        if self.retired:
            return self._desk.follow(chunk, took_s, 0)
        self.read(self._count)
        following = self._desk.follow(chunk, took_s, self._count)
        return self._draw() if following is None and chunk.stolen else following

    def _draw(self) -> Chunk | None:
        if self.retired:
            return None
        self.read(self._count)
        return self._desk.draw_count(self._count)

    def _grow(self, count: int, took_s: float) -> None:
        if self._count == 1 and not self.first_s:
            self.first_s = took_s
        elif took_s < AIR_S / 2:
            if count >= self._count:  # else there were no more to be had
                self._count *= GROWTH
        elif took_s > 2 * AIR_S:
            self._count = max(1, int(self._count * AIR_S / took_s))

    def _run_first(self, item: Any) -> Any:
        result = self._run(item)
        self.sample = Sample(item, None if self._job.silent else result)
        return result
