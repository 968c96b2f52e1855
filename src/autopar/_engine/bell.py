"""A bell that one thread waits for: to hear it takes one turn at the GIL."""

from __future__ import annotations

import threading


class Bell:
    """Wakes who waits for it; rung meanwhile, it is heard at once by who waits next."""

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def wait(self, timeout_s: float) -> None:
        """Returns when it has been rung, or after `timeout_s`."""
        self._silence.acquire(timeout=timeout_s)

    def ring(self) -> None:
        """Wakes who waits, or who will."""
        try:
            self._silence.release()
        except RuntimeError:  # it has been rung
            pass
