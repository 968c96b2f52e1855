"""What came of tasks, told to the desk: results, those that do not load, arguments, estates."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..._errors import TaskTimeout, TransportError, WorkerCrashed
from ..._model import Job
from ..._transport import wire
from ..._transport.wire import Head
from .remote import Remote, Sent

if TYPE_CHECKING:
    from ..protocol import Desk


class Settling:
    """One crew's account with the desk.

    together: items run beside each other in one process.
    """

    def __init__(self, job: Job, desk: Desk, *, together: bool = False) -> None:
        self._together = together
        self._job = job
        self._desk = desk

    def result(self, head: Head, message: wire.Parcel) -> None:
        """Settles what a worker has sent of a task; a result that does not load fails alone."""
        began_s = time.monotonic()
        body, buffers = wire.content(message)
        try:
            values = pickle.loads(body, buffers=buffers)
        except BaseException as error:
            self._salvage(head, body, buffers, error)
            return
        self._desk.moved_s += time.monotonic() - began_s
        self._desk.settle(head.start, values, head.wall_s, head.cpu_s)

    def _salvage(
        self, head: Head, body: memoryview, buffers: list[memoryview], error: BaseException
    ) -> None:
        """Puts errors in the places of the results that do not load, and keeps the others."""
        from ..._transport import guilty, salvage

        what = (guilty.RESULT, head.start, head.size)
        found = salvage.salvage(*what, body, buffers, error)
        for index, value in enumerate(found.values, head.start):
            if index in found.refused:
                self._desk.fail(index, found.refused[index])
            else:
                self._desk.settle(index, [value], 0.0, 0.0)

    def argument(self, start: int, items: Sequence[object], error: BaseException) -> bool:
        """Sees to items that would not travel: one of them is guilty.

        True when the crew can go on; else the desk has been told that it cannot do the job.
        """
        from ..._transport import guilty

        refusal = error
        if not isinstance(refusal, TransportError):
            refusal = guilty.refusal_among(guilty.ARGUMENT, start, items, error)
        index = refusal.index
        if index is None:  # each goes well alone
            self.singly(Sent(start, items))
        elif self._job.strict:
            at = index - start
            self._desk.reject(index, items[at], refusal)
            self._desk.give_back(start, items[:at])
            self._desk.give_back(index + 1, items[at + 1 :])
        else:
            self._desk.give_back(start, items)
            self._desk.refuse(refusal)
            return False
        return True

    def singly(self, sent: Sent) -> None:
        """Gives items back that are to be tried one by one, to find the one that does harm."""
        for index, item in enumerate(sent.rest, sent.at):
            self._desk.give_back(index, [item])

    def estate(self, remote: Remote, code: int | None) -> bool:
        """Settles the task a dead worker had begun; whether an item was found that it died of."""
        sent, index = remote.tasks[0], remote.at_work_on
        if remote.loading and len(sent.items) > 1:
            self.singly(remote.tasks.popleft())
            return True
        saved = remote.cell.saved(sent.at)
        if saved:
            self._desk.settle(sent.at, saved, 0.0, 0.0)
            remote.answered(len(saved))
        if index is None:
            return False
        item = sent.items[index - sent.start]
        timeout_s, halted = self._job.timeout_s, remote.halted
        late = timeout_s is not None and halted is not None and halted[0] == index
        error = TaskTimeout(index, timeout_s or 0, True) if late else WorkerCrashed(index, code)
        if self._together:
            error.add_note("Other items ran in the same process: any of them may be the cause.")
        remote.answered(1)
        self._desk.lose(index, item, error, remote.tries + 1)
        return True
