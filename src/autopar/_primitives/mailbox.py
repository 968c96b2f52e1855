"""The way a worker process's result comes back: one message, through a socket of its own.

Guarantees: leaving the message never waits, whatever its size and whether or not anybody reads it,
so that a worker ends when its target has returned; the kernel frees what nobody fetched. A death
is seen at once, also where the worker leaves processes of its own behind.
Relies on: `wire`, which puts what is large in an anonymous memory file that goes along; a socket's
buffer, which always has room for one packet; pidfds where the system has them.
"""

from __future__ import annotations

import _socket
import os
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection, get_start_method, reduction
from typing import Any, NoReturn, TypeVar

from .._errors import TransportError, WorkerCrashed
from .._platform import can_fork_helpers
from .._transport import wire
from .misuse import OutOfTurn

T = TypeVar("T")


def pair() -> tuple[connection.Connection, int] | None:
    """Where to read a result, and the descriptor to leave it at, which the caller closes.

    None where this system has no such sockets.
    """
    if can_fork_helpers() is not None:
        return None
    reader, writer = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return connection.Connection(reader.detach()), writer.detach()  # the former closes silently


class Posting:
    """Stands for a worker's `run` in its process: calls it, and leaves what came of it."""

    # After a fork each page of memory that is touched is copied first, which takes longer than what
    # is done there. So a result of None, as most targets have, is one call of the system.

    def __init__(self, worker: Any, reader: connection.Connection, writer: int) -> None:
        self._worker, self._writer = worker, writer
        self._reader: connection.Connection | None = reader  # none where it was not forked

    def __call__(self) -> None:
        if self._reader is not None:
            self._reader.close()  # it is the parent's
        try:
            value = type(self._worker).run(self._worker)
        except BaseException as error:
            self._leave(_failure(error))
            raise
        self._leave(_success(value))

    def _leave(self, message: wire.Parcel) -> None:
        try:
            if message.fd < 0:
                os.write(self._writer, message.data)
            else:
                _through(self._writer, lambda sock: wire.send_and_close(sock, message))
        except OSError:
            pass  # the parent is gone, or has closed the worker: nobody will ask
        finally:
            os.close(self._writer)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_writer": reduction.DupFd(self._writer)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _writer=state["_writer"].detach())


class Mailbox:
    """A worker's result, once it has come; made before the worker is started."""

    def __init__(self, reader: connection.Connection) -> None:
        self._reader = reader
        self._deaths: Sequence[Any] = ()  # what shows that the worker is dead, once somebody asks
        self._signs: Sequence[Any] = ()
        self._mutex = threading.Lock()
        self._outcome: Callable[[], Any] | None = None
        self._owner = os.getpid()

    def result(self, worker: Any, timeout: float | None) -> Any:
        """What was left; waits for it, or for the worker's death, at most `timeout` seconds."""
        if os.getpid() != self._owner:
            raise OutOfTurn("can only ask a child process for its result")
        until_s = None if timeout is None else time.monotonic() + timeout
        if not self._watch(worker):
            self._look(worker, dead=True)
        while self._outcome is None:
            left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
            signs = connection.wait(self._signs, left_s)
            if not signs:
                raise TimeoutError(f"worker {worker.name!r} has no result after {timeout} s")
            self._look(worker, dead=any(sign in signs for sign in self._deaths))
        return self._outcome()

    def _watch(self, worker: Any) -> bool:
        """Finds what will show the worker's death; false if it is dead by now."""
        with self._mutex:
            if worker.exitcode is not None:
                return False
            if not self._deaths:
                try:
                    self._deaths = [worker.sentinel, *_pidfd(worker.pid)]
                except ProcessLookupError:
                    return False
                self._signs = [self._reader, *self._deaths]
            # Asked again: had another thread waited for its end meanwhile, its number may have been
            # another's when it was used.
            return worker.exitcode is None

    def _look(self, worker: Any, dead: bool) -> None:
        """Takes what was left, which a dead worker did before it died, or never."""
        with self._mutex:
            if self._outcome is not None:
                return
            message = None
            try:
                message = _through(self._reader.fileno(), _received)
            except BlockingIOError:
                pass  # nothing yet
            else:
                if message is None:  # its end is closed, but by what is not said before it is dead
                    self._signs = list(self._deaths)
            if message is not None:
                self._outcome = _outcome(message)
            elif dead:
                worker.join()
                self._outcome = _raising(WorkerCrashed(None, worker.exitcode, worker.name))

    def __reduce__(self) -> Any:
        raise TypeError("a started worker stays with the process that started it")


def _through(fd: int, use: Callable[[_socket.socket], T]) -> T:
    """What `use` gives for the socket that has this descriptor."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=fd)
    try:
        return use(sock)
    finally:
        sock.detach()


def _received(sock: _socket.socket) -> wire.Parcel | None:
    return wire.receive(sock, _socket.MSG_DONTWAIT)


def _pidfd(pid: int) -> list[connection.Connection]:
    """What shows the death of a process of our own, wherever its sentinel has got to.

    A process that is forked has its parent's sentinel, and keeps it open after the parent's death.
    One that the fork server started is the server's child, which may give its number away.
    Raises: ProcessLookupError if it has ended, and somebody has waited for that.
    """
    if get_start_method() == "forkserver" or not hasattr(os, "pidfd_open"):
        return []
    try:
        return [connection.Connection(os.pidfd_open(pid), writable=False)]  # closes itself
    except ProcessLookupError:
        raise
    except OSError:
        return []


# What is left, and what is made of it


_NONE = wire.plain(wire.Head(wire.RESULT), None)


def _success(value: Any) -> wire.Parcel:
    if value is None:
        return _NONE
    head = wire.Head(wire.RESULT)
    try:
        # By name, as multiprocessing does: both processes know the main module.
        return wire.plain(head, value)
    except Exception:
        pass
    try:
        return wire.parcel(head, value)
    except Exception as error:
        from .._transport import guilty

        return _failure(guilty.refusal(guilty.RESULT, None, value, error))


def _failure(error: BaseException) -> wire.Parcel:
    from .._transport.failures import freeze

    trace = error.__traceback__
    error.__traceback__ = None if trace is None else trace.tb_next  # less the frame that caught it
    try:
        return wire.plain(wire.Head(wire.FAILURE), freeze(error, wire.dumps))
    finally:
        error.__traceback__ = trace


def _outcome(message: wire.Parcel) -> Callable[[], Any]:
    """What gives the result, or raises the error, of a message."""
    failed = wire.head_of(message).kind == wire.FAILURE
    try:
        content = wire.loads(message)
    except Exception as error:
        from .._transport import guilty

        refused = TransportError(guilty.RESULT, None, guilty.reason(error))
        refused.__cause__ = error
        return _raising(refused)
    if not failed:
        return lambda: content
    from .._transport.failures import thaw

    return _raising(thaw(content))


def _raising(error: BaseException) -> Callable[[], NoReturn]:
    trace = error.__traceback__

    def fail() -> NoReturn:
        raise error.with_traceback(trace)

    return fail
