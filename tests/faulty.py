"""Functions that do harm in every way, and marks of what was run, for the tests of faults."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import work


class Marks:
    """A file with two counters for each item: how often it was begun, and how often ended."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = str(path)
        self._count = count
        path.write_bytes(bytes(2 * count))

    def begun(self) -> list[int]:
        return list(Path(self.path).read_bytes()[: self._count])

    def ended(self) -> list[int]:
        return list(Path(self.path).read_bytes()[self._count :])


def mark(path: str, index: int, *, ended: bool) -> int:
    """Counts one up; each item is only ever in one process at a time. How often before."""
    fd = os.open(path, os.O_RDWR)
    try:
        at = index + (os.fstat(fd).st_size // 2 if ended else 0)
        before = os.pread(fd, 1, at)[0]
        os.pwrite(fd, bytes([before + 1]), at)
    finally:
        os.close(fd)
    return before


class Step(NamedTuple):
    """An item that leaves marks, and ends in the way asked for.

    times: only the first so many tries of it do.
    """

    index: int
    path: str
    how: str = ""
    times: int = 1000
    work_s: float = 0.0
    nap_s: float = 0.0


def nap_and_tell(_item: object) -> int:
    time.sleep(0.01)
    return os.getpid()


def step(item: Step) -> int:
    before = mark(item.path, item.index, ended=False)
    if item.nap_s:
        time.sleep(item.nap_s)
    if item.work_s:
        work.spin(item.work_s)
    if item.how and before < item.times:
        do(item.how)
    mark(item.path, item.index, ended=True)
    return item.index


def do(how: str) -> None:
    """Does harm."""
    if how.startswith("SIG"):
        if how == "SIGSEGV":
            ctypes.string_at(0)
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(30)  # the signal is on its way
    if how.startswith("_exit"):
        os._exit(int(how[6:-1]))
    if how == "thread's _exit":
        threading.Thread(target=os._exit, args=(5,)).start()
        time.sleep(30)
    if how.startswith("sys.exit"):
        sys.exit(int(how[9:-1]))
    if how == "raise":
        raise ValueError("as asked")
    if how == "sleep":
        time.sleep(1000)
    if how == "spin":
        _spin()
    if how == "lock":
        _lock()
    if how == "deaf":
        _deaf()
    if how == "child":
        _child()


def _spin() -> None:
    while True:
        pass


def _lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _deaf() -> None:
    """C code that holds the GIL, with every signal blocked that can be."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(1000)


def _child() -> None:
    import subprocess

    subprocess.run(["sleep", "1000"])


class Bomb:
    """Ends whoever unpickles it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> tuple[Any, ...]:
        return do, (self.how,)


class Fuse:
    """Ends whoever pickles it, but for the process that made it."""

    def __init__(self, how: str, home: int) -> None:
        self.how, self.home = how, home

    def __reduce__(self) -> tuple[Any, ...]:
        if os.getpid() != self.home:
            do(self.how)
        return Fuse, (self.how, self.home)


def same(item: Any) -> Any:
    return item


def fused(item: tuple[str, int] | int) -> Any:
    return Fuse(*item) if isinstance(item, tuple) else item


def harm(how: str) -> None:
    """An initializer that does harm."""
    do(how)


def harm_once(path: str) -> None:
    """An initializer that does harm in the first worker only."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os._exit(9)


def hoard(item: int) -> tuple[int, int]:
    """Keeps 20 MB for good; the process, and how many items it had run before."""
    _hoard.append(bytearray(os.urandom(1 << 20) * 20))
    return os.getpid(), len(_hoard) - 1


_hoard: list[bytearray] = []


def grandchild(seconds: float) -> int:
    """Starts a program, says which, and waits for it."""
    import subprocess

    program = subprocess.Popen(["sleep", "1000"])
    Path(os.environ["AUTOPAR_TEST_PID"]).write_text(str(program.pid))
    time.sleep(seconds)
    return program.pid


def occupy(size: int) -> int:
    """Holds so many bytes for a moment."""
    return len(b"x" * size)
