"""One worker, seen from the caller: its socket, its cell, and the tasks it holds."""

from __future__ import annotations

import _socket
import os
from collections import deque
from collections.abc import Sequence
from typing import Any

from ..._transport import wire
from ..._transport.cell import (
    BASE,
    IDLE,
    INDEX,
    LOADING,
    MEMORY,
    SINCE,
    TRIES,
    Cell,
    new_file,
)


class Sent:
    """A task on its way: its items, and how many of them have been answered."""

    __slots__ = ("at", "items", "start")

    start: int
    at: int
    items: Sequence[Any]

    def __init__(self, start: int, items: Sequence[Any]) -> None:
        self.start = self.at = start
        self.items = items

    @property
    def rest(self) -> Sequence[Any]:
        """The items that have not been answered."""
        return self.items[self.at - self.start :]


class Remote:
    """One worker: a process, or a lane of one, another thread in it.

    home: the one whose process it is in; a process's first worker is its own home.
    sock: its socket. back: the worker's own end of that; tasks it has not begun can be taken back
        from there, whatever has become of the worker.
    awake: it has started, and taken a job before.
    ready: it has taken the job it was given. spare: the job was taken back before it did.
    unsent: the job goes with its first task. opened: the job it has opened last, in bytes; none
        where it could be slow to open again.
    leaving: it will end by itself, because it holds too much memory.
    halted: the item it was halted for, because that has run too long; and since when.
    """

    sock: _socket.socket
    back: _socket.socket

    def __init__(self, number: int, home: Remote | None = None) -> None:
        self.number = number
        self._home = home  # never itself: what it holds is to go with the last who refers to it
        self.sock, self.back = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        self.sock.settimeout(0)
        self.cell_fd: int = new_file()
        self.cell: Cell = Cell(self.cell_fd)
        self.cell.numbers[INDEX] = IDLE
        self.awake = False
        self.ready = False
        self.spare = False
        self.unsent = False
        self.opened = b""
        self.leaving = False
        self.halted: tuple[int, float] | None = None
        self.tasks: deque[Sent] = deque()

    def take_back(self) -> wire.Parcel | None:
        """The first message the worker has not begun with, taken from its queue."""
        try:
            return wire.receive(self.back, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def answered(self, count: int) -> Sent:
        """Notes that `count` more items of the first task have been answered."""
        sent = self.tasks[0]
        sent.at += count
        if sent.at >= sent.start + len(sent.items):
            self.tasks.popleft()
        return sent

    @property
    def loading(self) -> bool:
        """Whether it is taking in the items of its first task."""
        return self.cell.numbers[INDEX] == LOADING

    @property
    def at_work_on(self) -> int | None:
        """The item it is running; None between two. Right once every answer has been read."""
        if not self.tasks:
            return None
        first, numbers = self.tasks[0], self.cell.numbers
        if self.loading:
            return first.start
        index, done = numbers[INDEX], max(first.at, numbers[BASE])
        return index if done <= index < first.start + len(first.items) else None

    @property
    def since_s(self) -> float:
        """When the item it runs began, by the monotonic clock."""
        return self.cell.seconds[SINCE]

    @property
    def tries(self) -> int:
        """Earlier tries of the item it runs."""
        return 0 if self.loading else self.cell.numbers[TRIES]

    @property
    def memory_bytes(self) -> int:
        """The most memory it was seen to hold; 0 before its first results."""
        return self.cell.numbers[MEMORY]

    @property
    def home(self) -> Remote:
        """The one whose process it is in."""
        return self._home or self

    def close(self) -> None:
        """Ends the connection; a worker between tasks ends."""
        self.sock.close()
        self.back.close()
        if self.cell_fd >= 0:
            os.close(self.cell_fd)
            self.cell_fd = -1
