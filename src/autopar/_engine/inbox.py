"""A ledger that stays open: tasks come one by one, and each result goes to whoever waits for it.

Guarantees: whoever waits is told outside the ledger's lock, so that what they do then (a callback
that submits the next task) may use it; every task that was put is begun and then settled once, or
was withdrawn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from .._retry import NEVER, Retry
from ..backends.chunk import Chunk, Failure
from .accounts import Account
from .desk import Desk


class Ticket(Protocol):
    """Who waits for a task's result."""

    def begin(self) -> bool:
        """Note that a worker is about to have the task; False when it is not wanted any more."""
        ...

    def settle(self, value: Any) -> None:
        """Take the result."""
        ...

    def fail(self, error: BaseException) -> None:
        """Take the exception there was instead."""
        ...


class _Begun:
    """Who waits for a task that was begun, and is to be begun again elsewhere."""

    def __init__(self, ticket: Ticket) -> None:
        self.settle, self.fail = ticket.settle, ticket.fail

    def begin(self) -> bool:
        """See `Ticket`."""
        return True


class Entry(NamedTuple):
    """A task that was put, and who waits for it.

    batch: those of the same one may be handed out together. A worker gives what it has of them
    back when it has done them all, so that none may be needed before the others have ended.
    account: of the task's function; what it comes to is added there.
    """

    ticket: Ticket
    task: Any
    batch: object = None
    account: Account | None = None


class Inbox:
    """The tasks that no worker has had, in order; the source of an `OpenDesk`.

    at: the index of the next task to be taken, which gets it then.
    begun: who waits for those that were taken, and the account, by index.
    """

    error: BaseException | None = None
    cut = True  # there is nothing to read

    def __init__(self) -> None:
        self.at = 0
        self.ended = False
        self.begun: dict[int, tuple[Ticket, Account | None]] = {}
        self.waiting: deque[Entry] = deque()

    @property
    def ready(self) -> int:
        """Tasks that can be taken now."""
        return len(self.waiting)

    @property
    def unread(self) -> int:
        """Tasks not taken, as far as anybody knows."""
        return len(self.waiting)

    def take(self, count: int) -> tuple[int, list[Any]]:
        """The index of the next task, and at most `count` of its batch, but those nobody wants."""
        start, waiting, batch = self.at, self.waiting, None
        tasks: list[Any] = []
        while waiting and len(tasks) < count:
            if tasks and (batch is None or waiting[0].batch is not batch):
                break
            ticket, task, batch, account = waiting.popleft()
            if ticket.begin():
                self.begun[start + len(tasks)] = ticket, account
                tasks.append(task)
        self.at += len(tasks)
        return start, tasks

    def first(self) -> None:
        """No task is like the others."""

    def end(self) -> None:
        """No more will come."""
        self.ended = True


class OpenDesk(Desk):
    """The ledger of tasks that come as they come; for crews of `means`, as that of a call.

    elsewhere: takes a task that does not travel to these, with the reason; None where it fails.
    """

    def __init__(
        self, means: str, *, retries: Retry = NEVER, timeout_s: float | None = None
    ) -> None:
        self._means = means
        self.elsewhere: Callable[[Entry, Exception], object] | None = None
        self._inbox = Inbox()
        super().__init__(self._inbox, None, retries=retries, timeout_s=timeout_s, keep_errors=True)
        self.ahead = 0  # nobody has to be told that there are few
        self._told: deque[tuple[Ticket, Any]] = deque()

    # who has tasks done

    def put(self, entries: Sequence[Entry], *, back: bool = False) -> bool:
        """Tasks to be done, in this order; False when no more are taken.

        back: they have been here, and come before all others.
        """
        with self._lock:
            if self._inbox.ended and not back:
                return False
            if back:
                self._inbox.waiting.extendleft(reversed(entries))
            else:
                self._inbox.waiting.extend(entries)
            self._more.notify(len(entries))  # a worker for each, and not all of them for one
            if self._wake is not None:
                self._wake()
            return True

    def waiting(self, chosen: Callable[[Any], bool]) -> int:
        """How many tasks wait for which `chosen(task)`."""
        with self._lock:
            return sum(chosen(entry.task) for entry in self._inbox.waiting)

    def end(self) -> None:
        """No more tasks will come: when those there are have been done, all is over."""
        with self._lock:
            self._inbox.end()
            self._check_over()
            self._changed()

    def withdraw(self, chosen: Callable[[Any], bool], *, begun: bool = False) -> list[Entry]:
        """The waiting tasks for which `chosen(task)`, which are not waiting here any more.

        begun: also those that were begun elsewhere, and belong here for good.
        """
        with self._lock:
            waiting = self._inbox.waiting
            gone: list[Entry] = []
            kept: list[Entry] = []
            for entry in waiting:
                stays = not chosen(entry.task) or (type(entry.ticket) is _Begun and not begun)
                (kept if stays else gone).append(entry)
            if gone:
                waiting.clear()
                waiting.extend(kept)
                self._check_over()
            return gone

    def forsake(self, error: BaseException) -> None:
        """Has every task that is not done fail with this error, and ends."""
        with self._lock:
            self._inbox.end()
            entries, begun = list(self._inbox.waiting), list(self._inbox.begun.values())
            self._inbox.waiting.clear()
            self._inbox.begun.clear()
            self.over = True
            self._changed()
        self._told.extend((ticket, Failure(error)) for ticket, _account in begun)
        self._told.extend(
            (entry.ticket, Failure(error)) for entry in entries if entry.ticket.begin()
        )
        self._tell()

    def leave(self, error: Exception) -> None:
        """Takes no more, and has what no worker is at done elsewhere: here none can be had."""
        assert self.elsewhere is not None
        with self._lock:
            self._inbox.end()
            entries = [*self._returned_entries(), *self._inbox.waiting]
            self._inbox.waiting.clear()
            self._held += len(entries)  # until others have them, or they would be nowhere
        for entry in entries:
            self.elsewhere(entry, error)
        with self._lock:
            self._held -= len(entries)
            self._check_over()

    @property
    def unsettled(self) -> int:
        """Tasks that are waiting or being run, those given back by who could not run them included."""
        given_back = sum(len(items) for _start, items in self._returned) if self._returned else 0
        return self._held + self._inbox.ready + given_back

    # what crews do, with those who wait told of it

    def settle(
        self, start: int, values: list[Any], wall_s: float, cpu_s: float | None = None
    ) -> None:
        """See `Desk.settle`."""
        super().settle(start, values, wall_s, cpu_s)
        self._tell()

    def finish(
        self, chunk: Chunk, values: list[Any], wall_s: float, cpu_s: float | None = None
    ) -> bool:
        """See `Desk.finish`."""
        ours = super().finish(chunk, values, wall_s, cpu_s)
        self._tell()
        return ours

    def abandon(self, start: int, chunk: Chunk, error: BaseException) -> bool:
        """See `Desk.abandon`."""
        ours = super().abandon(start, chunk, error)
        self._tell()
        return ours

    def fail(self, index: int, error: BaseException) -> None:
        """See `Desk.fail`."""
        super().fail(index, error)
        self._tell()

    def reject(self, index: int, item: Any, error: Exception) -> None:
        """See `Desk.reject`."""
        if self.elsewhere is None:
            self.fail(index, error)
            return
        with self._lock:
            held = self._inbox.begun.pop(index, None)
        if held is not None:  # else all were forsaken
            ticket, account = held
            self.elsewhere(Entry(_Begun(ticket), item, None, account), error)
        with self._lock:  # now, or it would be nowhere meanwhile
            self._held -= 1
            self._check_over()

    def lose(self, index: int, item: Any, error: Exception, tries: int) -> None:
        """See `Desk.lose`."""
        super().lose(index, item, error, tries)
        self._tell()

    def give_up_late(self) -> list[Chunk]:
        """See `Desk.give_up_late`."""
        late = super().give_up_late()
        self._tell()
        return late

    def _tell(self) -> None:
        told = self._told
        while told:
            try:
                ticket, value = told.popleft()
            except IndexError:  # another thread has just told the last one
                return
            if type(value) is Failure:
                ticket.fail(value.error)
            else:
                ticket.settle(value)

    # under the lock

    def _returned_entries(self) -> list[Entry]:
        """The tasks that workers have given back, which are not waiting here any more."""
        returned, self._returned = sorted(self._returned), []
        entries = []
        for start, tasks in returned:
            for index, task in enumerate(tasks, start):
                held = self._inbox.begun.pop(index, None)
                if held is not None:  # else all were forsaken
                    ticket, account = held
                    entries.append(Entry(_Begun(ticket), task, None, account))
        return entries

    def _keep(self, start: int, values: list[Any], wall_s: float, cpu_s: float | None) -> None:
        begun, account = self._inbox.begun, None
        for index, value in enumerate(values, start):
            held = begun.pop(index, None)
            if held is not None:  # else all were forsaken
                ticket, account = held
                self._told.append((ticket, value))
        if account is not None:  # tasks that travel together are of one function
            account.tally(self._means).add(len(values), wall_s, cpu_s)

    def _fail(self, index: int, error: BaseException) -> None:
        self._note(1, 0.0)
        self._settle(index, [Failure(error)])
