"""The helper process: forks workers for the caller, and tells how they ended.

It is started clean, has one thread and almost no memory, so that a fork takes less than a
millisecond and copies no lock or state of the caller's. It ends when the caller does, however
that happens, and takes its workers along.
Guarantees: a worker ends with everything it had started (each has a process group of its own),
unless it ended by itself and well; no worker outlives the caller, not even if the helper is killed
with it: the kernel tells each one (see `_end_with_caller`).
"""

from __future__ import annotations

import _socket
import fcntl
import marshal
import os
import select
import sys
from _struct import calcsize, pack

TYPE_CHECKING = False  # `typing` costs a new worker 5 ms
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # without `enum` around it

FORK, KILL, LOAD, HALT, RESUME = b"F", b"K", b"L", b"H", b"R"  # to the helper
BORN, ENDED, HALTED = b"B", b"E", b"S"  # from it
LOOKS_BYTES = 200_000  # of the first message at most
IDLE_S = 120.0  # without workers for this long, the helper ends


def main(control_fd: int, life_fd: int, *, bare: bool) -> None:
    """Serves the caller at the other end of `control_fd` until it is gone.

    life_fd: the end of a pipe that nobody writes to, and that only the caller holds open.
    bare: nothing is imported for all workers.
    """
    os.closerange(life_fd + 1, 1 << 16)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    control = _socket.socket(fileno=control_fd)
    __import__("autopar._worker.worker")  # once, for all workers
    looks = control.recv(LOOKS_BYTES, _socket.MSG_PEEK)
    if looks:  # else the caller has gone already
        told = marshal.loads(looks)
        libraries = told.pop("libraries")
        _look_like(told)
        if libraries and not bare and os.path.isdir("/proc/self/task"):
            _preload(libraries, life_fd)
        control.recv(LOOKS_BYTES)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Helper(control, life_fd).serve()
    os._exit(0)  # not by what libraries want to be done at the end


def _preload(libraries: list[str], life_fd: int) -> None:
    """Imports libraries for all workers; begins anew without them where workers must not share them.

    Meanwhile the kernel ends this process with the caller, which it could not hear of.
    """
    from autopar._worker.preload import preload
    from autopar._worker.world import bound_beforehand

    tie = _end_with_caller(life_fd)
    bound_beforehand()
    if not preload(libraries):
        os.execve(sys.executable, [*sys.orig_argv, "bare"], os.environ)
    if tie >= 0:
        os.close(tie)


def _look_like(caller: dict[str, object]) -> None:
    """Takes over what makes the caller's interpreter find its modules."""
    for name, value in caller.items():
        setattr(sys, name, value)


class Helper:
    """The helper's state: its workers, and its end of the socket."""

    def __init__(self, control: _socket.socket, life_fd: int) -> None:
        self._control = control
        self._life_fd = life_fd
        self._numbers: dict[int, int] = {}  # of workers, by process id
        self._woken = _on_child_signal()

    def serve(self) -> None:
        """Does what the caller asks, until it is gone or has asked for nothing for long."""
        watched = select.poll()
        watched.register(self._control, select.POLLIN)
        watched.register(self._woken, select.POLLIN)
        try:
            while True:
                events = watched.poll(IDLE_S * 1e3)
                if not events and not self._numbers:
                    return
                for fd, _event in events:
                    if fd == self._woken:
                        os.read(fd, 4096)
                    elif not self._obey():
                        return
                self._look()
        except (BrokenPipeError, ConnectionError):
            return
        finally:
            for pid in self._numbers:
                _kill(pid)
            self._control.close()

    def _obey(self) -> bool:
        """Does what the caller asked; False when the caller is gone."""
        space = _socket.CMSG_SPACE(calcsize("16i"))
        data, ancillary, _flags, _address = self._control.recvmsg(
            4096, space, _socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return False
        order = data[:1]
        if order == LOAD:
            _load(data[1:].decode())
            return True
        numbers = whole_numbers(data[1:])
        if order == FORK:
            fds = [fd for _level, _type, rights in ancillary for fd in whole_numbers(rights)]
            for at, number in enumerate(numbers):
                self._fork(number, fds[2 * at], fds[2 * at + 1])
            return True
        for pid, number in self._numbers.items():
            if number in numbers:
                _treat(order, pid)
        return True

    def _fork(self, number: int, sock_fd: int, cell_fd: int) -> None:
        pid = os.fork()
        if pid:
            _lead_group(pid)
            os.close(sock_fd)
            os.close(cell_fd)
            self._numbers[pid] = number
            self._control.send(BORN + pack("2i", number, pid))
            return
        code = 1
        try:
            _lead_group(0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            _end_with_caller(self._life_fd)
            from autopar._worker.worker import main as work

            code = work(sock_fd, cell_fd)
        except SystemExit as error:  # of a user's thread or finalizer: not worth a message
            code = error.code if isinstance(error.code, int) else 1
        finally:
            os._exit(code)

    def _look(self) -> None:
        """Tells of each worker that has ended or halted."""
        for pid in list(self._numbers):
            flags = os.WEXITED | os.WSTOPPED | os.WNOHANG
            seen = os.waitid(os.P_PID, pid, flags | os.WNOWAIT)
            if seen is None:
                continue
            if seen.si_code != os.CLD_STOPPED and (seen.si_code, seen.si_status) != _WELL:
                _kill(pid)  # what it had started, while its number is not yet free for others
            os.waitid(os.P_PID, pid, flags)
            number = self._numbers[pid]
            if seen.si_code == os.CLD_STOPPED:
                self._control.send(HALTED + pack("2i", number, 0))
                continue
            del self._numbers[pid]
            killed = seen.si_code != os.CLD_EXITED
            code = -seen.si_status if killed else seen.si_status
            self._control.send(ENDED + pack("2i", number, code))


_WELL = (os.CLD_EXITED, 0)


def whole_numbers(data: bytes) -> list[int]:
    """The numbers in a message; the last may have been cut off."""
    return memoryview(data)[: len(data) - len(data) % calcsize("i")].cast("i").tolist()


def _on_child_signal() -> int:
    """A descriptor that becomes readable when a worker ends or halts."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return woken


def _load(module: str) -> None:
    """Imports a module once for all workers to come."""
    try:
        __import__(module)
    except ImportError:
        pass  # the worker that needs it will say so


def _treat(order: bytes, pid: int) -> None:
    if order == KILL:
        _kill(pid)
    else:
        os.kill(pid, signal.SIGSTOP if order == HALT else signal.SIGCONT)


def _kill(pid: int) -> None:
    """Ends a worker and all it has started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it had ended, and nothing of it is left


def _lead_group(pid: int) -> None:
    """Makes a worker the leader of a group; by both sides, as either may come first."""
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):
        pass  # it has done so itself, and gone on or ended since


def _end_with_caller(life_fd: int) -> int:
    """Has the kernel kill this process when the caller ends, whatever this process is doing.

    The descriptor that has to be open for that, or -1 where the kernel does not do it.

    The pipe's end becomes readable when the caller, who alone holds the other end, is gone; the
    kernel then signals the process that owns this open file. Opening the pipe anew gives this
    worker a file of its own to be the owner of. (The usual PR_SET_PDEATHSIG would need ctypes,
    2 ms, and is about the helper's end, not the caller's.)
    """
    try:
        own = os.open(f"/proc/self/fd/{life_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        signal_by = fcntl.F_SETSIG
    except (OSError, AttributeError):
        return -1  # not Linux: the helper, and the end of the socket, must do
    fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(own, signal_by, signal.SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    gone = select.poll()
    gone.register(own, select.POLLHUP)
    if gone.poll(0):  # the caller ended before the kernel was asked
        os._exit(1)
    return own
