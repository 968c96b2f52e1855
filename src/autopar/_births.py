"""Threads that were started and do not run yet, and the end of the interpreter.

A brief call is over before its threads run. If the interpreter ends then, it takes away what they
begin with, and CPython 3.11 was seen to crash. So the end waits for them, and from then on threads
are only started for calls that the main thread makes, as handlers of `atexit` do: those of threads
that nobody waits for would go on starting some until the very end.
"""

from __future__ import annotations

import atexit
import os
import threading
import time

BIRTH_S = 0.5  # a thread that was started runs by then, if it ever does


class Births:
    """All threads of autopar's in this process that are about to run."""

    def __init__(self) -> None:
        self.ending = False
        self._expected: set[object] = set()
        self._registered = False

    def expect(self, thread: object, *, late: bool = False) -> None:
        """Notes that a thread is about to be started.

        late: for a call that began after the interpreter began to end.
        Raises: RuntimeError where it must not be.
        """
        if not self._registered:
            self._registered = True
            atexit.register(self._end)
        self._expected.add(thread)
        if self.ending and not late and threading.current_thread() is not threading.main_thread():
            self.note(thread)
            raise RuntimeError("the interpreter is ending")

    def note(self, thread: object) -> None:
        """Notes that it runs, or will not."""
        self._expected.discard(thread)

    def wait(self) -> None:
        """Returns when all of them run."""
        until_s = time.monotonic() + BIRTH_S
        while self._expected and time.monotonic() < until_s:
            time.sleep(0.1e-3)

    def forget(self) -> None:
        """In a child that was forked there are none."""
        self._expected.clear()

    def _end(self) -> None:
        self.ending = True
        self.wait()


births = Births()
os.register_at_fork(after_in_child=births.forget)
