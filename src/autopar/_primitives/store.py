"""What waits to be taken, in the memory of one process: the inside of a queue, and of a pipe's way.

Guarantees: first in, first out; nothing is lost or taken twice; a wait ends in time, or with
Ctrl-C, and leaves the store as it was.
Relies on: a lock written in C, held for a few steps at a time. Who waits is counted, so that
nobody is woken, at half a microsecond, where nobody waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, Full
from typing import Any

from .handles import Handle


class Store:
    """Values in their order, at most `maxsize` of them, or any number with a `maxsize` below 1."""

    def __init__(self, maxsize: int = 0) -> None:
        self.maxsize = maxsize
        self.ended: bool = False
        self.put_count: int = 0
        self._unfinished = 0
        self._items: deque[Any] = deque()
        self._mutex = threading.Lock()
        self._filled = threading.Condition(self._mutex)
        self._emptied = threading.Condition(self._mutex)
        self._finished = threading.Condition(self._mutex)
        self._getters = self._lookers = self._putters = 0

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds a value; waits for room at most `timeout` seconds, None without end.

        Raises: `queue.Full`.
        """
        if isinstance(obj, Handle):
            obj = obj.another()
        with self._mutex:
            if 0 < self.maxsize <= len(self._items) and not (
                block and self._wait_for_room(timeout)
            ):
                raise Full
            self._items.append(obj)
            self.put_count += 1
            self._unfinished += 1
            if self._lookers:
                self._filled.notify_all()  # one who only looks may be the first in line
            elif self._getters:
                self._filled.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Takes the first value; waits for one at most `timeout` seconds, None without end.

        Raises: `queue.Empty`, and `EOFError` where no more will come.
        """
        with self._mutex:
            if not self._items and not (block and self._wait_for_item(timeout)):
                raise EOFError if self.ended else Empty
            item = self._items.popleft()
            if self._putters:
                self._emptied.notify()
            return item

    def ready(self, timeout: float | None = 0.0) -> bool:
        """Whether `get` would not wait, for a value or for the end, within `timeout` seconds."""
        with self._mutex:
            if self._items or self.ended:
                return True
            self._lookers += 1
            try:
                return (
                    self._filled.wait_for(lambda: self._items or self.ended, timeout) is not False
                )
            finally:
                self._lookers -= 1

    def end(self) -> None:
        """No more values will come; those that are there can still be taken. Never waits."""
        self.ended = True
        if self._mutex.acquire(False):
            try:
                self._filled.notify_all()
            finally:
                self._mutex.release()
        else:  # perhaps by this very thread, in whose midst an end of a pipe is being collected
            try:
                threading.Thread(target=self._tell, daemon=True).start()
            except RuntimeError:
                pass  # the interpreter ends, and all who wait with it

    def _tell(self) -> None:
        with self._mutex:
            self._filled.notify_all()

    def task_done(self) -> None:
        """One of the values taken has been dealt with.

        Raises: `ValueError` when more have been than were ever put.
        """
        with self._mutex:
            if self._unfinished <= 0:
                raise ValueError("task_done() called too many times")
            self._unfinished -= 1
            if not self._unfinished:
                self._finished.notify_all()

    def join(self) -> None:
        """Waits until `task_done` has been called for every value."""
        with self._mutex:
            self._finished.wait_for(lambda: not self._unfinished)

    def qsize(self) -> int:
        """How many values are there now."""
        return len(self._items)

    def empty(self) -> bool:
        """Whether there is none now."""
        return not self._items

    def full(self) -> bool:
        """Whether there is no room for another now."""
        return 0 < self.maxsize <= len(self._items)

    def _wait_for_room(self, timeout: float | None) -> bool:
        self._putters += 1
        try:
            room: Callable[[], bool] = lambda: len(self._items) < self.maxsize  # noqa: E731
            return self._emptied.wait_for(room, timeout)
        finally:
            self._putters -= 1

    def _wait_for_item(self, timeout: float | None) -> bool:
        """Whether there is one now."""
        self._getters += 1
        try:
            self._filled.wait_for(lambda: self._items or self.ended, timeout)
            return bool(self._items)
        finally:
            self._getters -= 1
