"""Simulated time: events in order, and stations where jobs share what there is.

Times are seconds, and nothing here knows of items or workers.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Generator

Then = Callable[[], None]
Task = Generator[float, None, None]  # yields for how long it sleeps

SLICE_S = 5e-3  # whoever holds the GIL gives it up after this long if somebody waits for it


class Clock:
    """The order in which things happen."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.stations: list[Station] = []
        self._events: list[tuple[float, int, Then]] = []
        self._count = 0

    def after(self, delay_s: float, then: Then) -> None:
        """Has `then` called in so many seconds; of equal times, the first come first."""
        self._count += 1
        heapq.heappush(self._events, (self.now_s + delay_s, self._count, then))

    def spawn(self, task: Task) -> None:
        """Lets a task run, from sleep to sleep."""

        def step() -> None:
            try:
                delay_s = next(task)
            except StopIteration:
                return
            self.after(delay_s, step)

        step()

    def run(self, over: Callable[[], bool], until_s: float) -> None:
        """Time goes by until `over()`, or until it is `until_s`."""
        events, stations = self._events, self.stations
        while not over():
            due_s, station = (events[0][0] if events else math.inf), None
            for one in stations:
                if one.due_s < due_s:
                    due_s, station = one.due_s, one
            if due_s >= until_s:
                assert due_s < math.inf, "nothing will happen any more"
                self.now_s = until_s
                return
            self.now_s = due_s
            if station is None:
                heapq.heappop(events)[2]()
            else:
                station.finish()


class Station:
    """Jobs that share a capacity evenly.

    pace: seconds of its work that each of so many jobs gets done in a second.
    due_s: when the next job will be done. crowded_s: how long there were more than `crowd` jobs.
    """

    def __init__(self, clock: Clock, pace: Callable[[int], float], crowd: int = 1 << 30) -> None:
        clock.stations.append(self)
        self.due_s = math.inf
        self.crowded_s = 0.0
        self._clock, self._pace, self._crowd = clock, pace, crowd
        self._paces: dict[int, float] = {}
        self._jobs: list[tuple[float, int, Then]] = []
        self._served_s = self._since_s = 0.0  # what a job that was always there got, until when
        self._count = 0

    def enter(self, work_s: float, then: Then) -> None:
        """Begins a job; `then` is called when it is done."""
        self._advance()
        self._count += 1
        heapq.heappush(self._jobs, (self._served_s + work_s, self._count, then))
        self._plan()

    def finish(self) -> None:
        """Ends the job that is due."""
        self._advance()
        then = heapq.heappop(self._jobs)[2]
        self._plan()
        then()

    def _advance(self) -> None:
        now_s, present = self._clock.now_s, len(self._jobs)
        if present:
            passed_s = now_s - self._since_s
            self._served_s += passed_s * self._paces[present]
            if present > self._crowd:
                self.crowded_s += passed_s
        self._since_s = now_s

    def _plan(self) -> None:
        present = len(self._jobs)
        if not present:
            self.due_s = math.inf
            return
        pace = self._paces.get(present)
        if pace is None:
            pace = self._paces[present] = self._pace(present)
        self.due_s = self._since_s + max(0.0, self._jobs[0][0] - self._served_s) / pace


class Lock:
    """Held by one at a time, in the order in which they came."""

    def __init__(self) -> None:
        self.held = False
        self.queue: deque[Then] = deque()

    def acquire(self, then: Then) -> None:
        """Calls `then` with the lock held."""
        if self.held:
            self.queue.append(then)
        else:
            self.held = True
            then()

    def release(self) -> None:
        """Lets the next have it."""
        if self.queue:
            self.queue.popleft()()
        else:
            self.held = False
