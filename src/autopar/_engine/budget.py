"""The CPUs that calls share: a call inside another gets what is left, at least one."""

from __future__ import annotations

import os
import sys
import threading

_lock = threading.Lock()
_taken = 0


def free(cpus: int) -> int:
    """CPUs a new call may count on."""
    if in_worker():
        return 1
    return max(1, cpus - _taken)


def in_worker() -> bool:
    """Whether this is a worker process, whose CPU is its own item's."""
    return getattr(sys.modules.get("autopar"), "_worker_process", False)


class Share:
    """What one call has taken."""

    def __init__(self) -> None:
        self._count = 0

    def take(self, count: int) -> None:
        """Takes so many instead of what was taken before."""
        global _taken
        with _lock:
            _taken += count - self._count
            self._count = count

    def give_back(self) -> None:
        """Gives all back."""
        self.take(0)


def _forget() -> None:
    global _lock, _taken
    _lock, _taken = threading.Lock(), 0


os.register_at_fork(after_in_child=_forget)
