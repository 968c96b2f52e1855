"""Turns at the GIL: shorter ones, and one for the director when it would get none.

While something is prepared beside a thread that computes, turns are made shorter.

A thread that computes gives the GIL up when it has had it for the interpreter's switch interval,
5 ms, and whoever imports modules or makes system calls beside it has to ask anew after each. An
import of cloudpickle was measured to take 20 ms alone, 900 ms beside a thread that computes, and
75 ms with turns of 0.2 ms.

Who gives the GIL up by itself, often and for microseconds (numpy on small arrays, rows of sqlite),
may keep others from it altogether: each time, those who wait are woken too late, and begin anew to
count the time after which they may ask for it. 0.4 s were seen, a whole call, in which the director
had no turn. So whoever runs items looks between two chunks whether the director is late, and if so
sleeps for a moment.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time

TURN_S = 0.2e-3
LATE_S = 6e-3  # whoever asks for the GIL has it after 5 ms, unless it is given up all the time
GIVE_S = 0.5e-3  # one that waits is awake by then, if there is a CPU for it


class QuickTurns:
    """A context in which turns are short, for all threads of this interpreter.

    Guarantees: afterwards they are as long as they were, unless somebody has set them meanwhile.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._usual_s = self._quick_s = 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._usual_s = self._quick_s = sys.getswitchinterval()
                if self._usual_s > TURN_S:
                    sys.setswitchinterval(TURN_S)
                    self._quick_s = sys.getswitchinterval()  # as the interpreter rounds it

    def __exit__(self, *_exc: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restore()

    def _restore(self) -> None:
        if sys.getswitchinterval() == self._quick_s != self._usual_s:
            sys.setswitchinterval(self._usual_s)

    def after_fork(self) -> None:
        """In a child: the threads that were inside are not there."""
        if self._inside:
            self._restore()
        self._forget()


class Courtesy:
    """When the director is to be back, and whether others should let it in."""

    def __init__(self) -> None:
        self._due_s = math.inf

    def leave(self, for_s: float = 0.0) -> None:
        """Notes that the director is about to wait, for so long at most."""
        self._due_s = time.perf_counter() + for_s + LATE_S

    def be_back(self) -> None:
        """Notes that it has the GIL again."""
        self._due_s = math.inf

    def give_way(self) -> None:
        """Sleeps for a moment if it is late."""
        if time.perf_counter() > self._due_s:
            time.sleep(GIVE_S)


quick_turns = QuickTurns()
os.register_at_fork(after_in_child=quick_turns.after_fork)
