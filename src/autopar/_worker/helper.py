"""The helper process: forks workers for the caller, and tells how they ended.

It is started clean, has one thread and almost no memory, so that a fork takes less than a
millisecond and copies no lock or state of the caller's. It ends when the caller does, however
that happens, and takes its workers along.
"""

from __future__ import annotations

import _socket
import array
import os
import pickle
import select
import signal
import sys

from autopar._transport.wire import INLINE_BYTES

FORK, KILL, LOAD = b"F", b"K", b"L"  # to the helper
BORN, ENDED = b"B", b"E"  # from it
IDLE_S = 120.0  # without workers for this long, the helper ends


def main(control_fd: int) -> None:
    """Serves the caller at the other end of `control_fd` until it is gone."""
    os.closerange(control_fd + 1, 1 << 16)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    control = _socket.socket(fileno=control_fd)
    _look_like(pickle.loads(control.recv(INLINE_BYTES)))
    workers: dict[int, int] = {}  # by process id
    woken = _on_child_signal()
    watched = select.poll()
    watched.register(control_fd, select.POLLIN)
    watched.register(woken, select.POLLIN)
    try:
        while True:
            events = watched.poll(IDLE_S * 1e3)
            if not events and not workers:
                return
            for fd, _event in events:
                if fd == control_fd and not _serve(control, workers):
                    return
                if fd == woken:
                    os.read(woken, 4096)
            _reap(control, workers)
    except (BrokenPipeError, ConnectionError):
        return
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        control.close()


def _look_like(caller: dict[str, object]) -> None:
    """Takes over what makes the caller's interpreter find its modules."""
    for name, value in caller.items():
        setattr(sys, name, value)


def _on_child_signal() -> int:
    """A descriptor that becomes readable when a worker ends."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return woken


def _serve(control: _socket.socket, workers: dict[int, int]) -> bool:
    """Does what the caller asked; False when the caller is gone."""
    space = _socket.CMSG_SPACE(16 * array.array("i").itemsize)
    data, ancillary, _flags, _address = control.recvmsg(4096, space, _socket.MSG_CMSG_CLOEXEC)
    if not data:
        return False
    fds = array.array("i")
    for _level, _type, rights in ancillary:
        fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
    order, numbers = data[:1], array.array("I")
    if order == LOAD:
        _load(data[1:].decode())
        return True
    numbers.frombytes(data[1:])
    if order == FORK:
        for at, number in enumerate(numbers):
            _fork(control, workers, number, fds[2 * at], fds[2 * at + 1])
    elif order == KILL:
        for pid, number in workers.items():
            if number in numbers:
                os.kill(pid, signal.SIGKILL)
    return True


def _load(module: str) -> None:
    """Imports a module once for all workers to come."""
    try:
        __import__(module)
    except ImportError:
        pass  # the worker that needs it will say so


def _fork(
    control: _socket.socket, workers: dict[int, int], number: int, sock_fd: int, cell_fd: int
) -> None:
    pid = os.fork()
    if pid:
        os.close(sock_fd)
        os.close(cell_fd)
        workers[pid] = number
        control.send(BORN + array.array("I", [number, pid]).tobytes())
        return
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        from autopar._worker.worker import main as work

        code = work(sock_fd, cell_fd)
    finally:
        os._exit(code)


def _reap(control: _socket.socket, workers: dict[int, int]) -> None:
    """Tells how each worker that has ended did."""
    for pid in list(workers):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            number = workers.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            control.send(ENDED + array.array("i", [number, code]).tobytes())
