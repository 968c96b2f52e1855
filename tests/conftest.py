"""What the behaviour tests share: every backend in turn, and a watch on what is left behind."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import settings

import autopar
from autopar._decide.doubt import Stretch
from autopar._engine import crowding, grounds, memory
from autopar._model import Observation, Travel
from autopar._platform import gil_enabled
from autopar._primitives import arena

# How long an example takes says nothing on a busy machine. In CI the examples are always the same,
# so that what it says of a change is about the change; every other run tries new ones.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=3000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "here")
)

BACKENDS = ("serial", "threads", "processes", "hybrid")
# With kind="cpu" alone, items are in processes where there is a GIL, and else in threads: one that
# ends its process ends the program there.
CPU_ALONE = "processes" if gil_enabled() else "threads"
APART = ("cpu", "processes") if gil_enabled() else ("processes",)  # have items in processes here


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn."""
    name: str = request.param
    return name


# Items that wait, and compute so much that threads which run them queue for the GIL.
FETCH_AND_PARSE = Observation(
    5, 8.5e-3, 0.5e-3, 0.5e-3, Travel(20e-6, 20e-6, payload_bytes=100), alone_s=0.53e-3
)


@pytest.fixture
def queue_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads are found to queue for the GIL as soon as anybody looks, and nothing is remembered.

    Whether a CPU has nothing to do meanwhile, for how long, and what others do with it, is not for
    a test to say.
    """
    parsing = FETCH_AND_PARSE._replace(cpu_s=2.5e-3, gil_s=2.5e-3, alone_s=2.6e-3)

    def shown(_seen: Observation, _threads: int, stretch: Stretch) -> Observation | None:
        return parsing if stretch.counted > 4 else None

    for asking in (grounds, crowding):
        monkeypatch.setattr(asking, "crowded", shown)
        monkeypatch.setattr(asking, "spare", lambda _stretch, _cpus: True)
        monkeypatch.setattr(asking, "by_others", lambda _stretch: 0.0)
    monkeypatch.setattr(memory.learned, "_known", {})


@pytest.fixture(autouse=True, scope="session")
def nothing_is_left_behind() -> Iterator[None]:
    """After all tests and a shutdown there are no more descriptors, threads or children."""
    autopar.auto_map(abs, range(3), backend="processes")
    autopar.shutdown()
    autopar.Lock()  # the memory that small primitives of a process share stays,
    multiprocessing.RawValue("i")  # as that of the standard library's
    _uvloop_once()
    gc.collect()
    before = open_descriptors()
    yield
    autopar.shutdown()
    arena.forget_sent()
    gc.collect()
    assert eventually(lambda: not children()), f"children are left: {children()}"
    assert eventually(lambda: open_descriptors() <= before)  # the last crew may still be let go
    assert eventually(lambda: not [t for t in threading.enumerate() if t.name == "autopar"])


def _uvloop_once() -> None:
    """Has uvloop, where it is there, make the pipe that it keeps for the whole process."""
    with suppress(ImportError):
        import uvloop

        loop = uvloop.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def open_descriptors() -> int:
    """Descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))


def children(pid: int | None = None) -> list[int]:
    """Live processes below this one (or `pid`), zombies left out."""
    found = []
    for task in _tasks(os.getpid() if pid is None else pid):
        for child in task:
            found += [child, *children(child)]
    return found


def _tasks(pid: int) -> Iterator[list[int]]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                yield [int(word) for word in file.read().split() if is_alive(int(word))]
        except FileNotFoundError:
            continue


def shot(pid: int) -> bool:
    """Kills a process; False where it has ended since it was seen."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def misled(trial: Callable[[], object], of: int = 4) -> str:
    """What each of a few trials gave, or "" as soon as one came out well, which gives None.

    For what autopar finds out by measuring: beside other programs one measurement may mislead, and
    the next does not. What holds whatever is measured, a trial itself asserts.
    """
    found = []
    for _ in range(of):
        gave = trial()
        if gave is None:
            return ""
        found.append(str(gave))
    return "\n\n".join(found)


def eventually(holds: object, within_s: float = 10.0) -> bool:
    """Whether `holds()` becomes true; only its truth counts, not how soon."""
    assert callable(holds)
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.005)
    return bool(holds())
