"""Worker processes, forked by a clean helper, each with a socket of its own.

Guarantees: what a worker holds is known at every moment; a worker that dies costs the item it was
running and nothing else; a task no worker has begun can be taken back and given to another.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..._errors import BackendUnavailable, TransportError, WorkerCrashed
from ..._model import Job
from ..._platform import can_fork_helpers
from ..._transport import wire
from ..._transport.failures import thaw
from ..._transport.wire import Head
from ..chunk import Failure, Traits
from .helper import ROSTER, Helper, Remote, Sent

if TYPE_CHECKING:
    from ..protocol import Desk

MESSAGE_S = 50e-6  # what a task's way costs a worker
TASK_S = 20e-3  # a task is meant to run at most this long
ALONE_S = 50e-3  # items longer than this are not sent before the worker is free for them
STILLBORN = 3  # so many workers may die before one is ready


class Processes:
    """The backend of worker processes."""

    name = "processes"
    traits = Traits(shares_memory=False, escapes_gil=True, kills_items=True)

    def check(self) -> None:
        """Raises `BackendUnavailable` where processes cannot be forked by a helper."""
        why = can_fork_helpers()
        if why is not None:
            raise BackendUnavailable(self.name, why, "Use backend='threads' or kind='auto'.")

    @property
    def warm(self) -> bool:
        """Whether workers are waiting."""
        return ROSTER.warm

    def prepare(self, *, by_value: bool = False) -> None:
        """Starts the helper, so that a crew opens sooner."""
        with self._started():
            helper = ROSTER.helper()
        if by_value:
            helper.load("cloudpickle")

    def open(self, job: Job, desk: Desk, workers: int) -> ProcessCrew:
        """A crew of `workers`; raises `TransportError` when the job does not travel."""
        self.check()
        with self._started():
            return ProcessCrew(job, desk, workers)

    @contextmanager
    def _started(self) -> Iterator[None]:
        """Turns the system's refusal to start the helper into our own."""
        try:
            yield
        except (OSError, TypeError, ValueError) as error:
            why = f"its helper could not be started with {sys.executable!r} ({error})"
            raise BackendUnavailable(self.name, why, "Use backend='threads'.") from error

    def shutdown(self, *, wait: bool = True) -> None:
        """Ends the helper and the workers that no call is using."""
        ROSTER.close(wait=wait)


class ProcessCrew:
    """The worker processes of one call."""

    _jobs = 0

    def __init__(self, job: Job, desk: Desk, workers: int) -> None:
        ProcessCrew._jobs += 1
        self._job = ProcessCrew._jobs
        self._desk = desk
        self._keep_errors = job.keep_errors
        self._parcel = _pack_job(self._job, job)
        self._wanted = workers
        self._retired = False
        self._stillborn = 0
        self._limit = desk.limit
        self._remotes: dict[int, Remote] = {}  # by descriptor
        self._poll = select.poll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._bell, select.POLLIN)
        self._helper: Helper | None = None
        self._news = -1  # the helper's descriptor
        desk.listen(self._ring)
        self._hire()

    # what the engine asks

    @property
    def ready(self) -> int:
        """Workers that have taken the job."""
        return sum(remote.ready for remote in self._remotes.values())

    @property
    def busy(self) -> bool:
        """Some worker holds items."""
        return any(remote.tasks for remote in self._remotes.values())

    def wait(self, timeout_s: float) -> None:
        """Returns when a worker has answered or died, or the desk has something new."""
        self._poll.poll(timeout_s * 1e3)

    def step(self) -> None:
        """Takes in what has come, sees to the dead, and gives tasks out."""
        for fd, _event in self._poll.poll(0):
            if fd == self._bell:
                self._unring()
            elif fd in self._remotes:
                self._take(self._remotes[fd])
        self._bury()
        self._give()

    def resize(self, workers: int) -> None:
        """Has this many workers; those too many stay until the end, without work."""
        self._wanted = workers
        self._hire()

    def retire(self) -> None:
        """Draws no more; gives back what no worker has begun."""
        self._retired = True
        for remote in self._remotes.values():
            self._recall(remote)

    def close(self, *, kill: bool = False) -> None:
        """Lets the workers go: idle ones wait for the next call, the others are ended."""
        self._desk.listen(None)
        if not kill:
            self.retire()
        idle = [r for r in self._remotes.values() if r.ready and not r.tasks]
        others = [r for r in self._remotes.values() if not r.ready or r.tasks]
        self._remotes.clear()
        if self._helper is not None:
            self._helper.kill(others)
            ROSTER.give(self._helper, idle)
        for remote in others:
            remote.close()
        self._parcel.close()
        os.close(self._bell)

    # workers

    def _hire(self) -> None:
        """Brings the crew to the wanted size."""
        missing = self._wanted - len(self._remotes)
        if missing <= 0 or self._retired or self._desk.over:
            return
        helper, remotes = ROSTER.borrow(missing)
        if helper is not self._helper:
            if self._news >= 0:  # of a helper that is gone; its number may be the new one's
                self._poll.unregister(self._news)
            self._helper, self._news = helper, helper.fileno()
            self._poll.register(self._news, select.POLLIN)
        for remote in remotes:
            remote.ready = False
            remote.job = self._job
            wire.send(remote.sock, self._parcel)
            self._remotes[remote.sock.fileno()] = remote
            self._poll.register(remote.sock.fileno(), select.POLLIN)

    def _bury(self) -> None:
        """Sees to workers that have died."""
        helper = self._helper
        if helper is None:
            return
        helper.listen()
        for fd, remote in list(self._remotes.items()):
            if remote.number in helper.ended or helper.gone:
                self._take(remote)  # what it had sent before
                del self._remotes[fd]
                self._poll.unregister(fd)
                self._mourn(remote, helper.ended.pop(remote.number, None))
        self._hire()

    def _mourn(self, remote: Remote, code: int | None) -> None:
        """Gives back what a dead worker had not run, and fails the item it was running."""
        self._recall(remote)
        if not remote.ready:
            self._stillborn += 1
            if self._stillborn > STILLBORN:
                self._retired = True
                self._desk.refuse(WorkerCrashed(None, code))
        for sent in remote.tasks:
            index = remote.cell[0]
            if not sent.at <= index < sent.start + len(sent.items):
                index = sent.at
            unsent = sent.items[sent.at - sent.start : index - sent.start]
            if unsent:  # run within the last millisecond, results lost with the worker
                self._desk.give_back(sent.at, unsent)
            self._lost(index, WorkerCrashed(index, code))
            after = sent.items[index + 1 - sent.start :]
            if after:
                self._desk.give_back(index + 1, after)
        remote.tasks.clear()
        remote.close()

    # tasks

    def _give(self) -> None:
        """Sends tasks to the workers that have fewer than they should."""
        if self._retired:
            return
        if self._desk.limit < self._limit:
            self._limit = self._desk.limit
            for remote in self._remotes.values():
                self._recall(remote)  # the desk forgets what must not start, and keeps the rest
        for remote in self._remotes.values():
            while remote.ready and len(remote.tasks) < self._depth() and self._send_next(remote):
                pass
        if any(remote.ready and not remote.tasks for remote in self._remotes.values()):
            self._rebalance()

    def _depth(self) -> int:
        return 1 if self._desk.item_s > ALONE_S else 2

    def _send_next(self, remote: Remote) -> bool:
        taken = self._desk.take(self._wanted, MESSAGE_S, TASK_S)
        if taken is None:
            return False
        start, items = taken
        head = Head(wire.TASK, self._job, start, len(items), len(items) * self._desk.item_s)
        try:
            message = wire.parcel(head, items)
        except Exception as error:
            self._refuse_argument(start, items, error)
            return False
        try:
            wire.send_and_close(remote.sock, message)
        except BlockingIOError:
            self._desk.give_back(start, items)
            return False
        remote.tasks.append(Sent(start, items))
        return True

    def _rebalance(self) -> None:
        """Takes a task back from the worker with the most that have not begun."""
        fullest = max(self._remotes.values(), key=lambda remote: len(remote.tasks))
        if len(fullest.tasks) < 2 or not self._recall_one(fullest):
            return
        for remote in self._remotes.values():
            if remote.ready and not remote.tasks and self._send_next(remote):
                return

    def _recall(self, remote: Remote) -> None:
        while self._recall_one(remote):
            pass

    def _recall_one(self, remote: Remote) -> bool:
        """Gives the desk back one task that the worker has not begun."""
        message = remote.take_back()
        if message is None:
            return False
        message.close()
        head = wire.head_of(message)
        for sent in remote.tasks:
            if head.kind == wire.TASK and sent.start == head.start:
                remote.tasks.remove(sent)
                self._desk.give_back(sent.start, sent.items)
                break
        return True

    # answers

    def _take(self, remote: Remote) -> None:
        """Takes in everything a worker has sent."""
        while True:
            try:
                message = wire.receive(remote.sock)
            except (BlockingIOError, ConnectionError):
                return
            if message is None:
                return
            head = wire.head_of(message)
            if head.job != self._job:
                message.close()
                continue
            self._answer(remote, head, message)

    def _answer(self, remote: Remote, head: Head, message: wire.Parcel) -> None:
        if head.kind == wire.READY:
            remote.ready = True
            message.close()
        elif head.kind == wire.RESULT:
            self._result(remote, head, message)
        elif head.kind == wire.FAILURE:
            self._answered(remote, 1)
            self._lost(head.start, thaw(wire.loads(message)))
        elif head.kind == wire.REST:
            sent = self._answered(remote, head.size)
            self._desk.give_back(head.start, sent.items[head.start - sent.start :])
        elif head.size:
            sent = self._answered(remote, head.size)
            error = thaw(wire.loads(message))
            self._refuse_argument(head.start, sent.items, error)
        else:
            self._retired = True
            self._desk.refuse(thaw(wire.loads(message)))

    def _result(self, remote: Remote, head: Head, message: wire.Parcel) -> None:
        self._answered(remote, head.size)
        try:
            values = wire.loads(message)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            for index in range(head.start, head.start + head.size):
                self._lost(index, TransportError("the result", index, why))
            return
        self._desk.settle(head.start, values, head.wall_s, head.cpu_s)

    def _answered(self, remote: Remote, count: int) -> Sent:
        """Notes that `count` more items of the worker's first task have been answered."""
        sent = remote.tasks[0]
        sent.at += count
        if sent.at >= sent.start + len(sent.items):
            remote.tasks.popleft()
        return sent

    def _lost(self, index: int, error: BaseException) -> None:
        """Puts an item's error in its place."""
        if self._keep_errors and isinstance(error, Exception):
            self._desk.settle(index, [Failure(error)], 0.0, 0.0)
        else:
            self._desk.fail(index, error)

    def _refuse_argument(self, start: int, items: Sequence[Any], error: BaseException) -> None:
        """Hands items that would not travel back, naming the first guilty one."""
        self._retired = True
        refusal = TransportError("an argument", _guilty(start, items), _why(error))
        refusal.__cause__ = error
        self._desk.give_back(start, items)
        self._desk.refuse(refusal)

    # the bell that wakes a waiting step

    def _ring(self) -> None:
        try:
            os.eventfd_write(self._bell, 1)
        except (BlockingIOError, OSError):
            pass  # it is ringing already, or the crew has closed

    def _unring(self) -> None:
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            pass


def _pack_job(number: int, job: Job) -> wire.Parcel:
    """The message that makes a worker ready for a job."""
    world = (
        [entry for entry in sys.path if isinstance(entry, str)],
        _folder(),
        dict(os.environ),
    )
    content = (job.fn, job.initializer, job.initargs, job.keep_errors)
    try:
        return wire.parcel(Head(wire.JOB, number), (world, wire.Sealed.of(content)))
    except Exception as error:
        raise TransportError("the function", None, _why(error)) from error


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # removed under the caller's feet
        return None


def _guilty(start: int, items: Sequence[Any]) -> int:
    """The first item that does not pickle, or else the first item."""
    for index, item in enumerate(items, start):
        try:
            wire.dumps(item)
        except Exception:
            return index
    return start


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
