"""The caller's side of the helper process, which forks every worker and says how each ended."""

from __future__ import annotations

import _socket
import fcntl
import marshal
import os
import sys
import threading
import time
from _struct import pack
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..._worker import helper as orders
from ..._worker.helper import BORN, ENDED, FORK, HALT, KILL, LOAD, RESUME

if TYPE_CHECKING:
    import signal

    from .remote import Remote
else:
    import _signal as signal  # without the 1 ms of `enum` around it

_BATCH = 8  # workers asked for in one message


class Helper:
    """The helper process, while it lives.

    libraries: modules that it imports for all workers to come.
    gone: it has ended, and its workers with it. ending: because the interpreter does.
    users: crews whose workers it has. retired: it is to end when it has none.
    ended: exit codes of workers, by their numbers. halted: numbers of workers that were halted.
    """

    gone: bool

    def __init__(self, libraries: Sequence[str] = ()) -> None:
        self.gone = self.ending = self.retired = False
        self._imports = bool(libraries)  # as far as is known
        self._since_s = time.monotonic()
        self.users = 0
        self.ended: dict[int, int | None] = {}
        self.halted: set[int] = set()
        self._lock = threading.Lock()
        self._loaded: set[str] = set()
        self._control, theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        self._pids: dict[int, int] = {}
        life, self._life_fd = os.pipe()  # what the kernel ends workers by, if this process ends
        try:
            self.pid: int = _spawn(theirs.fileno(), life)
        except BaseException:
            self._control.close()
            os.close(self._life_fd)
            raise
        finally:
            theirs.close()
            os.close(life)
        self._order(marshal.dumps({**_looks(), "libraries": list(libraries)}))

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._since_s

    def fileno(self) -> int:
        """The descriptor that becomes readable when there is news."""
        return self._control.fileno()

    def fork(self, remotes: Sequence[Remote]) -> None:
        """Has a worker made for each; messages may be sent to them at once."""
        for at in range(0, len(remotes), _BATCH):
            batch = remotes[at : at + _BATCH]
            fds = [fd for remote in batch for fd in (remote.back.fileno(), remote.cell_fd)]
            rights = _socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack(f"{len(fds)}i", *fds)
            self._order(FORK + _numbers(batch), [rights])

    def load(self, module: str) -> None:
        """Has a module imported once for all workers to come."""
        if module not in self._loaded:
            self._loaded.add(module)
            self._order(LOAD + module.encode())

    def kill(self, remotes: Sequence[Remote]) -> None:
        """Ends workers at once, whatever they are doing, and what they have started."""
        self._treat(KILL, remotes)

    def halt(self, remote: Remote) -> None:
        """Stops a worker where it is; `halted` tells when it has."""
        self.halted.discard(remote.number)
        self._treat(HALT, [remote])

    def resume(self, remote: Remote) -> None:
        """Lets a halted worker go on."""
        self._treat(RESUME, [remote])

    def _treat(self, order: bytes, remotes: Sequence[Remote]) -> None:
        if remotes:
            self._order(order + _numbers(remotes))

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
        numbers = orders.whole_numbers(data[1:])
        self._imports = False
        if data[:1] == BORN:
            self._pids[numbers[0]] = numbers[1]
        elif data[:1] == ENDED:
            self._pids.pop(numbers[0], None)
            self.ended[numbers[0]] = numbers[1]
        else:
            self.halted.add(numbers[0])

    def _kill_orphans(self) -> None:
        """Ends the workers of a helper that died before it could."""
        for pid in self._pids.values():
            try:
                os.killpg(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # it had ended before
        self._pids.clear()

    def forget(self) -> None:
        """Lets go of the connection; the helper ends when nobody holds it any more."""
        self.gone = True
        self._control.close()
        if self._life_fd >= 0:
            os.close(self._life_fd)
            self._life_fd = -1

    def close(self, *, wait: bool) -> None:
        """Ends the helper and every worker."""
        self.listen()
        if self._imports:  # what may take long; there is no worker yet
            self._end_now()
        self.forget()
        try:
            os.waitpid(self.pid, 0 if wait else os.WNOHANG)
        except ChildProcessError:
            pass  # somebody else has collected it

    def _end_now(self) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # it has ended


def _numbers(remotes: Sequence[Remote]) -> bytes:
    return pack(f"{len(remotes)}i", *(remote.number for remote in remotes))


def _looks() -> dict[str, object]:
    """What a worker's `sys` shall have in common with the caller's."""
    return {
        "path": [str(entry) for entry in sys.path if isinstance(entry, str)],
        "argv": [str(word) for word in getattr(sys, "argv", [])],
        "prefix": sys.prefix,
        "exec_prefix": sys.exec_prefix,
    }


def _spawn(control_fd: int, life_fd: int) -> int:
    """Starts the helper with its socket and its pipe as descriptors 3 and 4; its process id."""
    above = fcntl.fcntl(control_fd, fcntl.F_DUPFD_CLOEXEC, 10)  # never 3 or 4 itself
    life = fcntl.fcntl(life_fd, fcntl.F_DUPFD_CLOEXEC, 10)
    boot = os.path.join(os.path.dirname(orders.__file__), "boot.py")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, above, 3),
        (os.POSIX_SPAWN_DUP2, life, 4),
    ]
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *_flags(), boot],
            os.environ,
            file_actions=actions,
            setsigmask=[signal.SIGINT],  # until the helper ignores it
        )
    finally:
        os.close(above)
        os.close(life)


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
    builtin = {"_frozen_importlib", "_frozen_importlib_external", "autopar._worker.world"}
    return all(
        (finder.__module__ if isinstance(finder, type) else type(finder).__module__) in builtin
        for finder in sys.meta_path
    )
