"""What the behaviour tests share: every backend in turn, and a watch on what is left behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings

import autopar

# How long an example takes says nothing on a busy machine. In CI the examples are always the same,
# so that what it says of a change is about the change; every other run tries new ones.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=3000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "here")
)

BACKENDS = ("serial", "threads", "processes")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn."""
    name: str = request.param
    return name


@pytest.fixture(autouse=True, scope="session")
def nothing_is_left_behind() -> Iterator[None]:
    """After all tests and a shutdown there are no more descriptors, threads or children."""
    autopar.auto_map(abs, range(3), backend="processes")
    autopar.shutdown()
    gc.collect()
    before = open_descriptors()
    yield
    autopar.shutdown()
    gc.collect()
    assert eventually(lambda: not children()), f"children are left: {children()}"
    assert open_descriptors() <= before
    assert eventually(lambda: not [t for t in threading.enumerate() if t.name == "autopar"])


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


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(holds: object, within_s: float = 10.0) -> bool:
    """Whether `holds()` becomes true; only its truth counts, not how soon."""
    assert callable(holds)
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.005)
    return bool(holds())
