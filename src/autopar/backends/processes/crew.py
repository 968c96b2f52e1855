"""The worker processes of one call.

Guarantees: what a worker holds is known at every moment; a worker that dies costs the item it was
running and nothing else; a task no worker has begun can be taken back and given to another; an
item that runs past its time is ended with its worker, and no other item is.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..._errors import WorkerCrashed
from ..._model import Job
from ..._transport import wire, world
from ..._transport.cell import LIMIT
from ..._transport.failures import thaw
from ..._transport.wire import Head
from . import lanes
from .bell import Bell
from .late import Late
from .remote import Remote, Sent
from .roster import ROSTER
from .settling import Settling

if TYPE_CHECKING:
    from ..protocol import Desk
    from .helper import Helper

MESSAGE_S = 50e-6  # what a task's way costs a worker
TASK_S = 20e-3  # a task is meant to run at most this long
ALONE_S = 50e-3  # items longer than this are not sent before the worker is free for them
STILLBORN = 3  # so many more than a crew may die one after another before one is ready
UNBLAMED = 20  # so many may die one after another without an item that could be blamed
MOVE_S = 20e-3  # a task that its worker has not come to for so long is moved to another


class ProcessCrew:
    """The worker processes of one call.

    split: how many processes the workers are lanes of; 0 when each has one of its own.
    load_s: seconds that the job took to load in the worker that was ready last; 0 until one was.
    """

    _jobs = 0

    def __init__(self, job: Job, desk: Desk, workers: int, native: int, split: int = 0) -> None:
        ProcessCrew._jobs += 1
        self._number = ProcessCrew._jobs
        self._job = job
        self._desk = desk
        self._settling = Settling(job, desk, together=split > 0)
        self._parcel, self._content = _pack_job(self._number, job, native)
        self._wanted, self._split = workers, split
        self._lanes = 0  # so many were opened
        self._narrow = False  # no more can be
        self.load_s: float = 0.0
        self._sent_s = 0.0  # when a task was last sent
        self._late = None if job.timeout_s is None else Late(job.timeout_s, self._take)
        self._retired = False
        self._stillborn = 0
        self._unblamed = 0
        self._limit = desk.limit
        self._remotes: dict[int, Remote] = {}  # by descriptor
        self._poll = select.poll()
        self._bell = Bell()
        self._poll.register(self._bell, select.POLLIN)
        self._helper: Helper | None = None
        self._news = -1  # the helper's descriptor
        desk.listen(self._bell.ring)
        self._hire()

    # what the engine asks

    @property
    def ready(self) -> int:
        """Workers that have taken the job."""
        return sum(remote.ready for remote in self._remotes.values())

    @property
    def hired(self) -> int:
        """Processes that no other call can have."""
        return len(self._homes)

    @property
    def busy(self) -> bool:
        """Some worker holds items."""
        return any(remote.tasks for remote in self._remotes.values())

    @property
    def memory_bytes(self) -> tuple[int, int]:
        """What the workers were seen to hold together, and the most of one; or zeros."""
        each = [remote.memory_bytes for remote in self._homes]
        return sum(each), max(each, default=0)

    def wait(self, timeout_s: float) -> None:
        """Returns when a worker has answered or died, or the desk has something new."""
        self._poll.poll(timeout_s * 1e3)

    def step(self) -> None:
        """Takes in what has come, sees to the dead and the late, and gives tasks out."""
        for fd, _event in self._poll.poll(0):
            if fd == self._bell.fileno():
                self._bell.hush()
            elif fd in self._remotes:
                self._take(self._remotes[fd])
        self._bury()
        if self._late is not None and self._helper is not None:
            self._late.watch(list(self._remotes.values()), self._helper)
        self._give()

    def resize(self, workers: int) -> None:
        """Has this many workers; those too many go when they have finished what they run."""
        self._wanted = workers
        if workers < len(self._remotes):
            self._shed()
        self._hire()
        self._widen()

    def replace(self, lost: int) -> None:
        """Nothing to do: workers that are ended for being late are replaced at once."""

    def retire(self) -> None:
        """Draws no more; gives back what no worker has begun."""
        self._retired = True
        for remote in list(self._remotes.values())[::-1]:  # lanes, and then where they belong
            self._recall(remote)

    def close(self, *, kill: bool = False) -> None:
        """Lets the workers go: idle ones wait for the next call, the others are ended."""
        self._desk.listen(None)
        if not kill:
            self.retire()
        homes, remotes = self._homes, list(self._remotes.values())
        if self._split:
            for home in homes:
                self._take(home)  # what its lanes have printed before their last results
        busy = {remote.home for remote in remotes if not _is_idle(remote)}
        idle = [home for home in homes if home not in busy]
        others = [home for home in homes if home in busy]
        self._remotes.clear()
        if self._helper is not None:
            self._helper.kill(others)
            ROSTER.give(self._helper, idle)
            ROSTER.leave(self._helper)
        for remote in remotes:
            if remote not in idle:
                remote.close()
        self._parcel.close()
        self._bell.close()

    # workers

    @property
    def _homes(self) -> list[Remote]:
        """The first worker of each process."""
        return [remote for remote in self._remotes.values() if remote.home is remote]

    def _hire(self) -> None:
        """Has as many processes as are wanted."""
        missing = (self._split or self._wanted) - self.hired
        if missing <= 0 or self._retired or self._desk.over:
            return
        helper, remotes = ROSTER.borrow(missing, self._helper)
        if helper is not self._helper:
            if self._helper is not None:
                ROSTER.leave(self._helper)
            if self._news >= 0:  # of a helper that is gone; its number may be the new one's
                self._poll.unregister(self._news)
            self._helper, self._news = helper, helper.fileno()
            self._poll.register(self._news, select.POLLIN)
        for remote in remotes:
            self._employ(remote)
            self._enlist(remote)
        self._widen()

    def _widen(self) -> None:
        """Has as many lanes as are wanted: in each process, at best before its first task."""
        if not self._split or self._narrow or self._retired:
            return
        for home in lanes.missing(self._remotes.values(), self._wanted):
            self._lanes += 1
            lane = lanes.opened(home, -self._lanes, self._number)
            if lane is None:
                self._narrow = True
                return
            self._enlist(lane)

    def _enlist(self, remote: Remote) -> None:
        remote.cell.numbers[LIMIT] = self._desk.limit
        self._remotes[remote.sock.fileno()] = remote
        self._poll.register(remote.sock.fileno(), select.POLLIN)

    def _employ(self, remote: Remote) -> None:
        """Sends a worker the job; it has nothing else to read.

        One that has started long ago is sent it with its first task: it need not be woken twice,
        and not at all if others have all there is to do.
        """
        remote.ready = remote.spare = False
        remote.unsent = remote.awake and not self._split
        if not remote.unsent:
            wire.send(remote.sock, self._parcel)

    def _employ_again(self) -> None:
        """Sends processes the job again that it was taken back from, and opens their lanes."""
        for home in self._homes:
            if home.spare:
                self._employ(home)
        self._widen()

    def _shed(self) -> None:
        """Lets workers go while there are too many: those without work, and soon the last ones."""
        if self._split:
            return  # they cost little, and go together
        for remote in list(self._remotes.values())[self._wanted :]:
            self._recall(remote)
        idle = [remote for remote in self._remotes.values() if _is_idle(remote)]
        # Those whose job was taken back go first, and all of them.
        idle.sort(key=lambda remote: (not remote.spare, remote.ready))
        gone = idle[: max(len(self._remotes) - self._wanted, sum(remote.spare for remote in idle))]
        for remote in gone:
            self._dismiss(remote)
        if gone and self._helper is not None:
            ROSTER.give(self._helper, gone)

    def _dismiss(self, remote: Remote) -> None:
        fd = remote.sock.fileno()
        del self._remotes[fd]
        self._poll.unregister(fd)

    def _bury(self) -> None:
        """Sees to workers that have died."""
        helper = self._helper
        if helper is None or helper.ending:
            return
        helper.listen()
        self._stillborn += helper.gone and bool(self._remotes)
        dead = [home for home in self._homes if helper.gone or home.number in helper.ended]
        for home in dead:
            code = helper.ended.pop(home.number, None)
            for remote in [one for one in self._remotes.values() if one.home is home][::-1]:
                self._take(remote)  # what it had sent before
                self._dismiss(remote)
                self._mourn(remote, code)
        self._hire()

    def _mourn(self, remote: Remote, code: int | None) -> None:
        """Saves what a dead worker has done, fails the item it was running, gives the rest back."""
        self._recall(remote)
        blamed = remote.leaving
        if remote.tasks:
            blamed = self._settling.estate(remote, code) or blamed
        for sent in remote.tasks:
            self._desk.give_back(sent.at, sent.rest)
        if blamed:
            self._unblamed = 0
        elif remote.home is remote and remote.ready:
            self._unblamed += 1
        elif remote.home is remote and code is not None:  # else it is the helper that died
            self._stillborn += 1
        remote.tasks.clear()
        remote.close()
        if self._stillborn > STILLBORN + self._wanted or self._unblamed > UNBLAMED:
            self._retired = True
            self._desk.refuse(WorkerCrashed(None, code))

    # tasks

    def _give(self) -> None:
        """Sends tasks to the workers that have fewer than they should."""
        if self._retired:
            return
        if self._desk.limit < self._limit:
            self._limit = self._desk.limit
            for remote in list(self._remotes.values())[::-1]:
                remote.cell.numbers[LIMIT] = self._limit
                self._recall(remote)  # the desk forgets what must not start, and keeps the rest
        spare = any(remote.spare for remote in self._remotes.values())
        if spare and self._split:
            self._employ_again()
        elif spare or len(self._remotes) > self._wanted:
            self._shed()
        able = [remote for remote in self._remotes.values() if _can_work(remote)][: self._wanted]
        self._fill(able)
        idle = [remote for remote in able if _is_idle(remote)]
        if idle:
            self._rebalance(idle)

    def _fill(self, able: Sequence[Remote]) -> None:
        """Gives each worker its first task before any its second, as long as there are any."""
        for held in range(self._depth()):
            for remote in able:
                if len(remote.tasks) == held and not self._send_next(remote):
                    return

    def _depth(self) -> int:
        return 1 if self._desk.item_s > ALONE_S else 2

    def _send_next(self, remote: Remote) -> bool:
        """Sends the next task, if it can be sent; False when there is none now."""
        taken = self._desk.take(max(1, self._wanted), MESSAGE_S, TASK_S)
        if taken is None:
            return False
        start, items = taken
        wall_s = len(items) * self._desk.item_s
        head = Head(wire.TASK, self._number, start, len(items), wall_s, 0.0, self._tries(taken))
        began_s = time.monotonic()
        try:
            message = wire.parcel(head, items)
        except Exception as error:
            self._refuse_argument(start, items, error)
            return not self._retired
        try:
            self._send_task(remote, message)
        except BlockingIOError:
            self._desk.give_back(start, items)
            return True
        remote.tasks.append(Sent(start, items))
        self._sent_s = time.monotonic()
        self._desk.moved_s += self._sent_s - began_s
        return True

    def _send_task(self, remote: Remote, task: wire.Parcel) -> None:
        """Sends a task, behind the job if that has not been sent.

        In one message if the job is the worker's last one again: nothing of it is to be imported
        then, and the task, which cannot be taken back meanwhile, is begun at once.
        """
        if remote.unsent:
            known = bool(self._content) and remote.opened == self._content
            both = wire.joined(self._parcel, task) if known else None
            wire.send(remote.sock, both or self._parcel)
            remote.unsent = False
            if both is not None:
                return
        wire.send_and_close(remote.sock, task)

    def _tries(self, taken: tuple[int, Sequence[Any]]) -> int:
        """Earlier tries of an item; one that has had some comes alone."""
        return self._desk.tries(taken[0]) if len(taken[1]) == 1 else 0

    def _rebalance(self, idle: Sequence[Remote]) -> None:
        """Takes a task back from the worker with the most that have not begun."""
        fullest = max(self._remotes.values(), key=lambda remote: len(remote.tasks))
        if not fullest.tasks:
            return
        if not fullest.ready:
            lately = time.monotonic() - self._sent_s < MOVE_S
            if lately and len(fullest.tasks) < 2 and not any(remote.ready for remote in idle):
                return  # none of them would come to it sooner
            self._recall(fullest)
            if fullest.spare:
                self._employ(fullest)
                self._widen()
        elif len(fullest.tasks) < 2 or not self._recall_one(fullest):
            return
        for remote in idle:
            present = remote.sock.fileno() in self._remotes  # a lane may have been closed
            if present and self._send_next(remote):
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
        for part in wire.parted(message):
            self._retract(remote, wire.head_of(part))
        return True

    def _retract(self, remote: Remote, head: Head) -> None:
        """Sees to a message that was taken back."""
        remote.spare |= head.kind == wire.JOB  # not unset by the task taken back after it
        if head.kind == wire.LANE:
            self._close_lane(head.start)
        for sent in remote.tasks:
            if head.kind == wire.TASK and sent.start == head.start:
                remote.tasks.remove(sent)
                self._desk.give_back(sent.start, sent.items)
                break

    def _close_lane(self, number: int) -> None:
        """Does without a lane that its process has not opened, and will not."""
        for lane in [lane for lane in self._remotes.values() if lane.number == number]:
            self._dismiss(lane)
            self._recall(lane)
            lane.close()

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
            if head.kind >= wire.OUT:
                world.hear(head.kind, wire.loads(message))
            elif head.job != self._number:
                message.close()
            else:
                self._answer(remote, head, message)

    def _answer(self, remote: Remote, head: Head, message: wire.Parcel) -> None:
        done = head.kind in (wire.READY, wire.RESULT, wire.FAILURE) or head.tries > 0
        if done and not remote.ready:
            self._note_ready(remote.home)
        if head.kind == wire.RESULT:
            remote.answered(head.size)
            self._settling.result(head, message)
        elif head.kind == wire.READY:
            self.load_s = head.wall_s
            message.close()
        elif head.kind == wire.FAILURE:
            remote.answered(1)
            self._desk.fail(head.start, thaw(wire.loads(message)))
        elif head.kind == wire.REST:
            message.close()
            sent = remote.answered(head.size)
            start, rest = head.start, sent.items[head.start - sent.start :]
            if head.tries:  # the first of it is to be tried again after a wait
                self._desk.postpone(start, rest[0], head.tries)
                start, rest = start + 1, rest[1:]
            self._desk.give_back(start, rest)
        elif head.kind == wire.NARROW:
            message.close()
            self._narrow = True
            self._close_lane(head.start)
        elif head.kind == wire.LEAVING:
            message.close()
            remote.leaving = True
            self._recall(remote)
        elif head.size:
            sent = remote.answered(head.size)
            error = thaw(wire.loads(message))
            self._refuse_argument(head.start, sent.items, error)
        else:
            self._retired = True
            self._recall(remote)
            self._desk.refuse(thaw(wire.loads(message)))

    def _note_ready(self, home: Remote) -> None:
        """Notes that a process has opened the job, for it has said so, or done some of it."""
        for remote in self._remotes.values():
            if remote.home is home:
                remote.ready = remote.awake = True
                remote.opened = self._content
        self._stillborn = 0

    def _refuse_argument(self, start: int, items: Sequence[Any], error: BaseException) -> None:
        if not self._settling.argument(start, items, error):
            self._retired = True


def _is_free(remote: Remote) -> bool:
    """Whether a worker has nothing to do, but to open its job perhaps."""
    return not (remote.tasks or remote.leaving or remote.halted)


def _is_idle(remote: Remote) -> bool:
    """Whether a worker can serve another call now."""
    return (remote.ready or remote.spare or remote.unsent) and _is_free(remote)


def _can_work(remote: Remote) -> bool:
    """Whether a worker may be given tasks: one that was awake before gets some with the job."""
    return remote.awake and not (remote.spare or remote.leaving) and remote.halted is None


def _pack_job(number: int, job: Job, threads: int) -> tuple[wire.Parcel, bytes]:
    """The message that makes a worker ready for a job, with native `threads` for each.

    And what of it a worker opens, if that is small, and quick to open again.
    """
    bounds = (job.memory_bytes, job.most_items, job.timeout_s is not None)
    retries = job.retries if job.retries.times else None
    ends = (job.keep_errors, job.silent)
    content = (job.fn, job.initializer, job.initargs, retries, *ends, *bounds)
    try:
        sealed = wire.Sealed.of(content)
        parcel = wire.plain(Head(wire.JOB, number), (world.pack(threads), sealed))
    except Exception as error:
        from ..._transport import guilty

        raise guilty.job_refusal(job, error) from error
    return parcel, sealed.body if parcel.fd < 0 and job.initializer is None else b""
