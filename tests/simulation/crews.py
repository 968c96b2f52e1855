"""Workers of simulated time, and the ledger they draw from; chunks are cut by autopar's rule.

The backends' behaviour in few words: threads draw for themselves, processes are sent up to two
tasks each over one feeder, and what waits behind an item that runs long is taken back.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

from autopar._decide.chunks import chunk_size
from autopar.backends.processes.crew import ALONE_S, MESSAGE_S, TASK_S
from autopar.backends.serial import AIR_S, GROWTH
from autopar.backends.threads import CHUNK_S, CLAIM_S

from .kernel import SLICE_S, Clock, Lock, Station
from .shapes import Shape

PIECE_S = 2e-3  # items that only compute are simulated together, up to this long


class Chunk:
    """Consecutive items; `at` is the first that has not begun."""

    def __init__(self, start: int, end: int) -> None:
        self.start = self.at = start
        self.end = end
        self.seen = -1  # where it stood when it was last looked at
        self.begun_s = self.cpu_s = self.queued_s = 0.0


class Ledger:
    """As the engine's desk: what is left, who holds it, and what came of it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.at = self.done = self.counted = 0
        self.busy_s = self.counted_s = self.cpu_s = self.item_s = self.longest_s = 0.0
        self.open: set[Chunk] = set()
        self.idle: list[Callable[[], None]] = []  # workers that found nothing
        self._returned: list[tuple[int, int]] = []

    @property
    def over(self) -> bool:
        """Whether all is done."""
        return self.done == self.count

    @property
    def left(self) -> int:
        """Items that nobody holds."""
        return self.count - self.at + sum(end - start for start, end in self._returned)

    def size(self, workers: int, message_s: float, longest_s: float) -> int:
        """Items of the next chunk."""
        if not self.item_s:
            return 1
        return chunk_size(self.left, workers, self.item_s, message_s, longest_s)

    def take(self, count: int) -> Chunk | None:
        """The next items, or None."""
        if self._returned:
            start, end = heapq.heappop(self._returned)
            if end - start > count:
                heapq.heappush(self._returned, (start + count, end))
                end = start + count
        else:
            start = self.at
            self.at = end = min(self.count, start + count)
        return Chunk(start, end) if end > start else None

    def give_back(self, start: int, end: int) -> None:
        """Items that have not begun."""
        if end > start:
            heapq.heappush(self._returned, (start, end))
            idle, self.idle = self.idle, []
            for wake in idle:
                wake()

    def note(self, count: int, wall_s: float, cpu_s: float | None) -> None:
        """So many items are done."""
        if cpu_s is not None:
            self.counted += count
            self.counted_s += wall_s
            self.cpu_s += cpu_s
        self.busy_s += wall_s
        self.done += count
        if count:
            mean_s = wall_s / count
            self.longest_s = max(self.longest_s, mean_s)
            weight = 1.0 if self.done == count else min(1.0, 0.2 + wall_s / 0.05)
            self.item_s += weight * (mean_s - self.item_s)

    def unstick(self) -> None:
        """Takes back what waits behind an item that has run since the last look."""
        for chunk in sorted(self.open, key=lambda chunk: chunk.start):
            stuck, chunk.seen = chunk.at < chunk.end and chunk.seen == chunk.at, chunk.at
            if stuck:
                start, end, chunk.end = chunk.at, chunk.end, chunk.at
                self.give_back(start, end)


class World:
    """The machine while it runs one call.

    running: items being run; most: the most there ever were.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.clock = Clock()
        self.ledger = Ledger(len(shape.items))
        self.cpus = Station(self.clock, lambda present: min(1.0, shape.cpus / present))
        server = shape.server
        self.server = server and Station(self.clock, server.pace, 2 * server.slots)
        self.running = self.most = 0
        self.home = Home()
        self.alike = not any(item.wait_s for item in shape.items)


class Home:
    """A process: its GIL, and the CPU seconds it has used."""

    def __init__(self) -> None:
        self.gil = Lock()
        self.shared = False  # between threads that run items
        self.cpu_s = 0.0


class Worker:
    """One thread that runs chunks.

    spent: seconds waited, computed under the GIL and outside of it.
    """

    def __init__(self, world: World, home: Home) -> None:
        self.world, self.home = world, home
        self.chunk: Chunk | None = None
        self.spent = [0.0, 0.0, 0.0]
        self._clock = world.clock
        self._items = world.shape.items
        self._phase, self._since_s = 0, 0.0
        self._gil_s = self._free_s = self._slice_s = 0.0
        self._turns = 1

    def spent_by_now(self) -> list[float]:
        """As `spent`, what it is at counted."""
        spent = list(self.spent)
        if self.chunk is not None:
            spent[self._phase] += self._clock.now_s - self._since_s
        return spent

    def run(self, chunk: Chunk) -> None:
        """Begins a chunk; `ended` is called after it."""
        world = self.world
        self.chunk = chunk
        world.ledger.open.add(chunk)
        world.running += 1
        world.most = max(world.most, world.running)
        chunk.begun_s = self._clock.now_s
        self._next()

    def ended(self, chunk: Chunk, wall_s: float) -> None:
        """A chunk is done."""
        raise NotImplementedError

    def _next(self) -> None:
        chunk = self.chunk
        assert chunk is not None
        if chunk.at == chunk.end:
            self.world.ledger.open.discard(chunk)
            self.world.running -= 1
            self.chunk = None
            self.ended(chunk, self._clock.now_s - chunk.begun_s)
            return
        wait_s, self._gil_s, self._free_s = self._items[chunk.at]
        chunk.at += 1
        self._turns = 1
        self._enter(0)
        if not wait_s:
            self._add_alike(chunk)
            self._compute()
        elif self.world.server:
            self.world.server.enter(wait_s, self._waited)
        else:
            self._clock.after(wait_s, self._waited)

    def _add_alike(self, chunk: Chunk) -> None:
        """Adds the next items to one that only computes, while they are short."""
        if not self.world.alike:
            return
        while chunk.at < chunk.end and self._gil_s + self._free_s < PIECE_S:
            _wait_s, gil_s, free_s = self._items[chunk.at]
            if gil_s + free_s > PIECE_S:
                break
            self._gil_s += gil_s
            self._free_s += free_s
            self._turns += bool(free_s)  # who does not let go of the GIL need not come back to it
            chunk.at += 1

    def _enter(self, phase: int) -> None:
        self._phase, self._since_s = phase, self._clock.now_s

    def _waited(self) -> None:
        self.spent[0] += self._clock.now_s - self._since_s
        self._compute()

    def _compute(self) -> None:
        if self.world.shape.gil and self.home.shared:
            if self._gil_s:
                self._gil_s += self._turns * self.world.shape.true.gil_switch_s
            self._enter(0)
            self.home.gil.acquire(self._hold)
        else:
            self._enter(1)
            self._slice_s = self._gil_s
            self.world.cpus.enter(self._gil_s, self._computed)

    def _hold(self) -> None:
        self._enter(1)
        self._slice_s = min(self._gil_s, SLICE_S)
        self.world.cpus.enter(self._slice_s, self._held)

    def _held(self) -> None:
        self._used(self._slice_s)
        self._gil_s -= self._slice_s
        gil = self.home.gil
        if self._gil_s > 1e-9:
            if gil.queue:
                self._enter(0)
                gil.queue.append(self._hold)
                gil.release()
            else:
                self._hold()
            return
        gil.release()
        self._free()

    def _computed(self) -> None:
        self._used(self._slice_s)
        self._free()

    def _free(self) -> None:
        if not self._free_s:
            self._next()
            return
        self._enter(2)
        self.world.cpus.enter(self._free_s, self._freed)

    def _freed(self) -> None:
        self._used(self._free_s)
        self._next()

    def _used(self, cpu_s: float) -> None:
        """Notes that so much of the CPU was used, and that the rest of the time was a queue."""
        chunk = self.chunk
        assert chunk is not None
        self.spent[self._phase] += cpu_s
        self.home.cpu_s += cpu_s
        chunk.cpu_s += cpu_s
        chunk.queued_s += self._clock.now_s - self._since_s - cpu_s


class Caller(Worker):
    """The calling thread: its chunks grow while they are short."""

    def __init__(self, world: World) -> None:
        super().__init__(world, world.home)
        self.retired = False
        self.first_s = 0.0
        self.items = 0
        self._size = 1

    def go(self) -> None:
        """Draws a chunk, unless others have taken over or there is none."""
        if self.retired or self.chunk is not None:
            return
        chunk = self.world.ledger.take(self._size)
        if chunk is None:
            self.world.ledger.idle.append(self.go)
        else:
            self.run(chunk)

    def ended(self, chunk: Chunk, wall_s: float) -> None:
        """Notes it, and goes on."""
        count = chunk.end - chunk.start
        self.items += count
        self.world.ledger.note(count, wall_s, None)
        if self._size == 1 and not self.first_s:
            self.first_s = wall_s
        elif wall_s < AIR_S / 2:
            self._size *= GROWTH
        elif wall_s > 2 * AIR_S:
            self._size = max(1, int(self._size * AIR_S / wall_s))
        self.go()


# threads


class Thread(Worker):
    """A thread that draws for itself."""

    def __init__(self, crew: Threads) -> None:
        super().__init__(crew.world, crew.world.home)
        self._crew = crew

    def go(self) -> None:
        """Draws a chunk, unless it is not wanted any more."""
        crew, ledger = self._crew, self.world.ledger
        if crew.closed or crew.alive > crew.wanted:
            crew.alive -= 1
            return
        chunk = ledger.take(ledger.size(max(1, crew.wanted), CLAIM_S, CHUNK_S))
        if chunk is None:
            ledger.idle.append(self.go)
        else:
            crew.running += 1
            self.run(chunk)

    def ended(self, chunk: Chunk, wall_s: float) -> None:
        """Notes it, and goes on."""
        self._crew.running -= 1
        self.world.ledger.note(chunk.end - chunk.start, wall_s, chunk.cpu_s)
        self.go()


class Threads:
    """The threads beside the caller's."""

    def __init__(self, world: World, wanted: int) -> None:
        self.world = world
        self.wanted = self.alive = 0
        self.closed = False
        self.running = 0
        self._free_s = 0.0  # when whoever starts threads has started them all
        world.home.shared = True
        self.resize(wanted)

    @property
    def ready(self) -> int:
        """Threads at work."""
        return self.alive

    @property
    def busy(self) -> bool:
        """Whether some hold items."""
        return self.running > 0

    def resize(self, wanted: int) -> None:
        """Starts as many as are missing, one after another."""
        clock = self.world.clock
        self.wanted = wanted
        while self.alive < wanted:
            self.alive += 1
            start_s = max(self._free_s, clock.now_s) + self.world.shape.true.thread_start_s
            self._free_s = start_s
            clock.after(start_s - clock.now_s, Thread(self).go)

    def fit(self, wanted: int) -> None:
        """They are as many as the plan has them."""

    def close(self) -> None:
        """Has them draw no more."""
        self.closed = True


# processes


class Remote(Worker):
    """A worker in another process, with the tasks it was sent."""

    def __init__(self, crew: Apart, home: Home) -> None:
        super().__init__(crew.world, home)
        self.tasks: deque[Chunk] = deque()
        self.arrived: deque[Chunk] = deque()
        self.ready = False
        self._crew = crew

    def begin(self) -> None:
        """It is ready for work."""
        self.ready = True
        self._crew.give(self)

    def receive(self, chunk: Chunk) -> None:
        """A task has come."""
        if chunk in self.tasks:  # not taken back on its way
            self.arrived.append(chunk)
            self._turn()

    def _turn(self) -> None:
        if self.chunk is None and self.arrived:
            self._unpack(self.arrived.popleft())

    def _unpack(self, chunk: Chunk) -> None:
        """What a task's way costs on this side, under this process's GIL."""
        shape, home, count = self.world.shape, self.home, chunk.end - chunk.start
        cost_s = count * shape.pack_s
        if not home.shared:
            self.chunk = chunk  # it is taken, though its items have not begun
            self.world.cpus.enter(cost_s, lambda: self.run(chunk))
            return
        cost_s += shape.true.lane_s

        def hold() -> None:
            self.world.cpus.enter(cost_s, begin)

        def begin() -> None:
            if shape.gil:
                home.gil.release()
            self.run(chunk)

        self.chunk = chunk
        if shape.gil:
            home.gil.acquire(hold)
        else:
            hold()

    def ended(self, chunk: Chunk, wall_s: float) -> None:
        """Notes it, and has more sent."""
        ledger = self.world.ledger
        ledger.note(chunk.end - chunk.start, wall_s - chunk.queued_s, chunk.cpu_s)
        self.tasks.remove(chunk)
        self._turn()
        self._crew.give(self)


class Apart:
    """Processes, of one worker each or of many threads."""

    def __init__(self, world: World, wanted: int, split: int = 0, *, over: bool = False) -> None:
        """over: they take over from threads, beside which they start."""
        self.world = world
        self.wanted = 0
        self.closed = False
        self.remotes: list[Remote] = []
        self._homes: list[Home] = []
        self._split = split
        shape = world.shape
        late_s = shape.true.takeover(shape.whole_cpus) if over else shape.true.crew_start_s
        self._from_s = world.clock.now_s + late_s
        self._feed: deque[tuple[Remote, Chunk]] = deque()
        self._feeding = False
        self._up_s: list[float] = []  # when each process will be
        self.resize(wanted)

    @property
    def ready(self) -> int:
        """Workers that can be sent items."""
        return sum(remote.ready for remote in self.remotes)

    @property
    def busy(self) -> bool:
        """Whether some hold items."""
        return any(remote.tasks for remote in self.remotes)

    def resize(self, wanted: int) -> None:
        """Starts what is missing: processes, or threads in those there are."""
        self.wanted = wanted
        while len(self._homes) < (self._split or wanted):
            self._start_home()
        costs = self.world.shape.true
        for at in range(len(self.remotes), wanted):
            number = at % len(self._homes)
            home = self._homes[number]
            start_s = costs.lane_start_s if at >= len(self._homes) else 0.0
            self._up_s[number] = max(self._up_s[number], self.world.clock.now_s) + start_s
            remote = Remote(self, home)
            self.remotes.append(remote)
            self.world.clock.after(self._up_s[number] - self.world.clock.now_s, remote.begin)

    def _start_home(self) -> None:
        self._from_s = max(self._from_s, self.world.clock.now_s)
        self._from_s += self.world.shape.true.worker_start_s
        home = Home()
        home.shared = self._split > 0
        self._homes.append(home)
        self._up_s.append(self._from_s)

    def fit(self, wanted: int) -> None:
        """Has as many processes as are wanted now."""
        if not self._split and wanted > self.wanted:
            self.resize(wanted)

    def close(self) -> None:
        """Has them sent no more, and takes back what they have not begun."""
        self.closed = True
        for remote in self.remotes:
            while self._take_back(remote):
                pass

    def give(self, remote: Remote) -> None:
        """Sends a worker the tasks it should have."""
        ledger = self.world.ledger
        if self.closed or not remote.ready:
            return
        while len(remote.tasks) < (1 if ledger.item_s > ALONE_S else 2):
            chunk = ledger.take(ledger.size(self.wanted, MESSAGE_S, TASK_S))
            if chunk is None:
                break
            self._send(remote, chunk)
        if not remote.tasks:
            fullest = max(self.remotes, key=lambda one: len(one.tasks))
            ledger.idle.append(lambda: self.give(remote))
            if len(fullest.tasks) > 1:
                self._take_back(fullest)

    def _take_back(self, remote: Remote) -> bool:
        """Gives the ledger back the last task that a worker has not begun."""
        for chunk in list(remote.tasks)[::-1]:
            if chunk is not remote.chunk:
                remote.tasks.remove(chunk)
                if chunk in remote.arrived:
                    remote.arrived.remove(chunk)
                self.world.ledger.give_back(chunk.start, chunk.end)
                return True
        return False

    def _send(self, remote: Remote, chunk: Chunk) -> None:
        remote.tasks.append(chunk)
        self._feed.append((remote, chunk))
        if not self._feeding:
            self._feeding = True
            self._feed_next()

    def _feed_next(self) -> None:
        """The next message; there is one thread that sends them, and packs what is in them."""
        if not self._feed:
            self._feeding = False
            return
        remote, chunk = self._feed.popleft()
        if chunk not in remote.tasks:
            self._feed_next()
            return
        shape = self.world.shape
        cost_s = shape.true.message_s + (chunk.end - chunk.start) * shape.pack_s

        def sent() -> None:
            remote.receive(chunk)
            self._feed_next()

        self.world.cpus.enter(cost_s, sent)
