"""The caller's side of the helper process, and the workers that wait for the next call.

One helper serves the whole process. It is started when first needed, forks every worker, and says
how each ended. Workers that a call gives back stay with the roster, and go to the next call.
"""

from __future__ import annotations

import _socket
import array
import atexit
import fcntl
import mmap
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from ..._transport import wire
from ..._worker.helper import BORN, FORK, KILL, LOAD

_BATCH = 8  # workers asked for in one message


class Sent:
    """A task on its way: its items, and how many of them have been answered."""

    __slots__ = ("at", "items", "start")

    def __init__(self, start: int, items: Sequence[Any]) -> None:
        self.start = self.at = start
        self.items = items

    @property
    def rest(self) -> Sequence[Any]:
        """The items that have not been answered."""
        return self.items[self.at - self.start :]


class Remote:
    """One worker process, seen from here.

    back: the worker's own end of the socket; tasks it has not begun can be taken back from there.
    cell: holds the index of the item it runs.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.sock, self.back = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        self.sock.settimeout(0)
        self.cell_fd = os.memfd_create("autopar-cell", os.MFD_CLOEXEC)
        os.ftruncate(self.cell_fd, 8)
        self.cell = memoryview(mmap.mmap(self.cell_fd, 8)).cast("q")
        self.cell[0] = -1
        self.job = 0
        self.ready = False
        self.tasks: deque[Sent] = deque()

    def take_back(self) -> wire.Parcel | None:
        """The first message the worker has not begun with, taken from its queue."""
        try:
            return wire.receive(self.back, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Ends the connection; a worker between tasks ends."""
        self.sock.close()
        self.back.close()
        if self.cell_fd >= 0:
            os.close(self.cell_fd)
            self.cell_fd = -1


class Helper:
    """The helper process, while it lives.

    gone: it has ended, and its workers with it.
    """

    def __init__(self) -> None:
        self.gone = False
        self.ended: dict[int, int | None] = {}  # exit codes by worker number
        self._lock = threading.Lock()
        self._loaded: set[str] = set()
        self._control, theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        self._pids: dict[int, int] = {}
        try:
            self.pid = _spawn(theirs.fileno())
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()
        self._order(pickle.dumps(_looks()))

    def fileno(self) -> int:
        """The descriptor that becomes readable when there is news."""
        return self._control.fileno()

    def fork(self, remotes: Sequence[Remote]) -> None:
        """Has a worker made for each; messages may be sent to them at once."""
        for at in range(0, len(remotes), _BATCH):
            batch = remotes[at : at + _BATCH]
            numbers = array.array("I", [remote.number for remote in batch])
            fds = array.array("i")
            for remote in batch:
                fds.extend((remote.back.fileno(), remote.cell_fd))
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)]
            self._order(FORK + numbers.tobytes(), rights)

    def load(self, module: str) -> None:
        """Has a module imported once for all workers to come."""
        if module not in self._loaded:
            self._loaded.add(module)
            self._order(LOAD + module.encode())

    def kill(self, remotes: Sequence[Remote]) -> None:
        """Ends workers at once, whatever they are doing."""
        numbers = array.array("I", [remote.number for remote in remotes])
        if numbers:
            self._order(KILL + numbers.tobytes())

    def _order(self, data: bytes, rights: list[Any] | None = None) -> None:
        try:
            self._control.sendmsg([data], rights or [])
        except OSError:
            self.gone = True

    def listen(self) -> None:
        """Reads the news: who was born, who ended and how."""
        with self._lock:
            while not self.gone:
                try:
                    data = self._control.recv(64, _socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return
                except OSError:
                    data = b""
                self._hear(data)

    def _hear(self, data: bytes) -> None:
        if not data:
            self.gone = True
            self._kill_orphans()
            return
        numbers = array.array("i")
        numbers.frombytes(data[1:])
        if data[:1] == BORN:
            self._pids[numbers[0]] = numbers[1]
        else:
            self._pids.pop(numbers[0], None)
            self.ended[numbers[0]] = numbers[1]

    def _kill_orphans(self) -> None:
        """Ends the workers of a helper that died before it could."""
        for pid in self._pids.values():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it had ended before
        self._pids.clear()

    def forget(self) -> None:
        """Lets go of the connection; the helper ends when nobody holds it any more."""
        self.gone = True
        self._control.close()

    def close(self, *, wait: bool) -> None:
        """Ends the helper and every worker."""
        self.forget()
        try:
            os.waitpid(self.pid, 0 if wait else os.WNOHANG)
        except ChildProcessError:
            pass  # somebody else has collected it


class Roster:
    """The helper and the workers that wait for a call; one for the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: Helper | None = None
        self._idle: list[Remote] = []
        self._number = 0
        self._owner = os.getpid()

    @property
    def warm(self) -> bool:
        """Whether workers wait for a call."""
        return bool(self._idle)

    def helper(self) -> Helper:
        """The helper, started if there is none."""
        with self._lock:
            return self._living()

    def borrow(self, count: int) -> tuple[Helper, list[Remote]]:
        """`count` workers, waiting ones first; those new are not asked for yet."""
        with self._lock:
            helper = self._living()
            helper.listen()
            remotes: list[Remote] = []
            while self._idle and len(remotes) < count:
                remote = self._idle.pop()
                if remote.number in helper.ended:
                    remote.close()
                else:
                    remotes.append(remote)
            fresh = [self._new() for _ in range(count - len(remotes))]
            helper.fork(fresh)
            return helper, remotes + fresh

    def give(self, helper: Helper, remotes: Sequence[Remote]) -> None:
        """Takes workers that have nothing to do."""
        with self._lock:
            if helper is self._helper and not helper.gone:
                self._idle.extend(remotes)
                return
        for remote in remotes:
            remote.close()

    def close(self, *, wait: bool = True) -> None:
        """Ends every waiting worker, and the helper."""
        with self._lock:
            idle, self._idle = self._idle, []
            helper, self._helper = self._helper, None
        for remote in idle:
            remote.close()
        if helper is not None:
            helper.close(wait=wait)

    def forget(self) -> None:
        """Lets go of what belongs to the parent, in a child that the user forked."""
        self._lock = threading.Lock()
        for remote in self._idle:
            remote.close()
        self._idle = []
        if self._helper is not None:
            self._helper.forget()
        self._helper = None

    def _living(self) -> Helper:
        helper = self._helper
        if helper is not None and helper.gone:
            for remote in self._idle:
                remote.close()
            self._idle = []
            helper.close(wait=True)
            helper = None
        if helper is None:
            helper = self._helper = Helper()
        return helper

    def _new(self) -> Remote:
        self._number += 1
        return Remote(self._number)


def _looks() -> dict[str, object]:
    """What a worker's `sys` shall have in common with the caller's."""
    return {
        "path": [entry for entry in sys.path if isinstance(entry, str)],
        "argv": list(getattr(sys, "argv", [])),
        "prefix": sys.prefix,
        "exec_prefix": sys.exec_prefix,
    }


def _spawn(control_fd: int) -> int:
    """Starts the helper with its end of the socket as descriptor 3; its process id."""
    above = fcntl.fcntl(control_fd, fcntl.F_DUPFD_CLOEXEC, 10)  # never 3 itself
    boot = os.path.join(os.path.dirname(wire.__file__), "..", "_worker", "boot.py")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, above, 3),
    ]
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *_flags(), os.path.normpath(boot)],
            os.environ,
            file_actions=actions,
            setsigmask=[signal.SIGINT],  # until the helper ignores it
        )
    finally:
        os.close(above)


def _flags() -> list[str]:
    """The interpreter's options for the helper: bare, but with the caller's meaning of code."""
    flags = ["-E", "-s"]
    if _plain_imports():
        flags.append("-S")
    if sys.flags.optimize:
        flags.append("-" + "O" * sys.flags.optimize)
    if sys.dont_write_bytecode:
        flags.append("-B")
    flags += [f"-W{option}" for option in sys.warnoptions]
    for name, value in getattr(sys, "_xoptions", {}).items():
        flags += ["-X", name if value is True else f"{name}={value}"]
    return flags


def _plain_imports() -> bool:
    """Whether the module path alone finds what the caller finds (no import hooks by `site`)."""
    builtin = {"_frozen_importlib", "_frozen_importlib_external"}
    return all(
        (finder.__module__ if isinstance(finder, type) else type(finder).__module__) in builtin
        for finder in sys.meta_path
    )


ROSTER = Roster()
atexit.register(ROSTER.close, wait=False)
os.register_at_fork(after_in_child=ROSTER.forget)
