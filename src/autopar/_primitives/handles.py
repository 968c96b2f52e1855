"""What may be closed by one worker while another goes on with it.

A process that is handed a pipe or a queue has one of its own: it may close it, and its end closes
it. For the same program to run on threads, a worker on a thread has handles of its own, too:

- an argument of its target, and what is sent through a pipe or put into a queue, is another handle
  on the same thing;
- an attribute of a subclass of `Worker` is one handle that both hold, and closed when both have
  closed it, or ended.
"""

from __future__ import annotations

import threading
from typing import Any


class Handle:
    """One hold on something shared, or one that workers share."""

    __slots__ = ("_closed", "_holders", "_mutex")

    def __init__(self) -> None:
        self._closed = False
        self._holders: set[Any] = set()  # the threads, and None for who made it
        self._mutex = threading.Lock()

    @property
    def closed(self) -> bool:
        """Whether this handle is closed."""
        return self._closed

    def another(self) -> Handle:
        """A handle on the same thing, open where this one is."""
        raise NotImplementedError

    def close(self) -> None:
        """Gives the handle up for the worker that calls; a second time does nothing."""
        thread = threading.current_thread()
        with self._mutex:
            self._give_up(thread if thread in self._holders else None)

    def hold(self, worker: object) -> None:
        """Has the handle stay open until `worker` has closed it, too."""
        with self._mutex:
            self._holders |= {None, worker}

    def let_go(self, worker: object) -> None:
        """Gives the handle up for a worker that holds it; nothing where it has closed it."""
        with self._mutex:
            if worker in self._holders:
                self._give_up(worker)

    def _give_up(self, holder: object) -> None:
        self._holders.discard(holder)
        if not self._closed and not self._holders:
            self._closed = True
            self._release()

    def _release(self) -> None:
        """What closing is to this kind of handle."""
        raise NotImplementedError


def handed(value: Any) -> Any:
    """`value`, or where that is a handle, another one."""
    return value.another() if isinstance(value, Handle) else value
