"""A worker process: takes tasks from its socket, runs their items, sends what came of each.

Guarantees: results leave within about a millisecond of work, so that little is lost if the worker
dies; `cell` holds the index of the item being run at every moment; a task that takes much longer
than was expected gives the items it has not started back.
"""

from __future__ import annotations

import _socket
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from autopar._transport import wire
from autopar._transport.failures import freeze
from autopar._transport.wire import Head

FLUSH_S = 1e-3  # results wait at most about this long
PATIENCE = 4  # a task may take this many times what was expected...
PATIENCE_S = 10e-3  # ...and at least this long, before it gives the rest back
IDLE_S = 60  # a worker nobody needs ends


def main(sock_fd: int, cell_fd: int) -> int:
    """Serves tasks until the other end is gone or has been silent for long; the exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sock = _socket.socket(fileno=sock_fd)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, struct.pack("ll", IDLE_S, 0))
    cell = memoryview(mmap.mmap(cell_fd, 8)).cast("q")
    os.close(cell_fd)
    _differ()
    try:
        _serve(Worker(sock, cell), sock)
    except (BlockingIOError, ConnectionError):
        pass  # nobody has needed this worker for long, or nobody is there any more
    finally:
        sock.close()
    return 0


def _serve(worker: Worker, sock: _socket.socket) -> None:
    while (message := wire.receive(sock)) is not None and worker.serve(message):
        pass


def _differ() -> None:
    """Gives this worker random numbers of its own, if the helper had loaded the generator."""
    for name in ("random", "numpy.random"):
        module = sys.modules.get(name)
        if module is not None:
            module.seed()


class Worker:
    """The state of a worker: the job it runs, and its end of the socket."""

    def __init__(self, sock: _socket.socket, cell: memoryview) -> None:
        self._sock = sock
        self._cell = cell
        self._fn: Callable[[Any], Any] | None = None
        self._keep_errors = False
        self._job = 0

    def serve(self, message: wire.Parcel) -> bool:
        """Does what a message asks; False when it asks to end."""
        head = wire.head_of(message)
        if head.kind == wire.STOP:
            return False
        if head.kind == wire.JOB:
            self._open_job(head, message)
        elif head.job == self._job:
            self._run_task(head, message)
        _flush_streams()
        return True

    def _open_job(self, head: Head, message: wire.Parcel) -> None:
        self._fn = None
        try:
            world, job = wire.loads(message)
            _enter(*world)
            self._fn, initializer, initargs, self._keep_errors = job.open()
            if initializer is not None:
                initializer(*initargs)
        except BaseException as error:
            self._send(Head(wire.REFUSED, head.job), freeze(error, wire.dumps))
            return
        self._job = head.job
        self._send(Head(wire.READY, head.job), None)

    def _run_task(self, head: Head, message: wire.Parcel) -> None:
        self._cell[0] = head.start
        try:
            items = wire.loads(message)
        except BaseException as error:
            refused = Head(wire.REFUSED, head.job, head.start, head.size)
            self._send(refused, freeze(error, wire.dumps))
            return
        Task(self._sock, self._cell, head, self._fn, self._keep_errors).run(items)

    def _send(self, head: Head, value: Any) -> None:
        wire.send_and_close(self._sock, wire.parcel(head, value))


class Task:
    """One run through the items of a task."""

    def __init__(
        self,
        sock: _socket.socket,
        cell: memoryview,
        head: Head,
        fn: Callable[[Any], Any] | None,
        keep_errors: bool,
    ) -> None:
        self._sock, self._cell, self._fn = sock, cell, fn
        self._keep_errors = keep_errors
        self._head = head
        self._at = self._sent = head.start
        self._values: list[Any] = []
        self._began_s = time.perf_counter()
        self._began_cpu_s = time.thread_time()

    def run(self, items: list[Any]) -> None:
        """Evaluates the items one after another."""
        fn, cell, values, clock = self._fn, self._cell, self._values, time.perf_counter
        assert fn is not None
        end = self._head.start + self._head.size
        until_s = self._began_s + max(PATIENCE_S, PATIENCE * self._head.wall_s)
        flush_s = self._began_s + FLUSH_S
        for item in items:
            cell[0] = self._at
            try:
                values.append(fn(item))
            except BaseException as error:
                if self._failed(error, end):
                    return
                continue
            self._at += 1
            now_s = clock()
            if now_s >= flush_s:
                self._flush()
                flush_s = clock() + FLUSH_S
                if now_s > until_s and self._at < end:
                    self._rest(end)
                    return
        self._flush()

    def _failed(self, error: BaseException, end: int) -> bool:
        """Sends an exception of `fn`; true when the rest of the task must not run."""
        self._flush()
        self._send(Head(wire.FAILURE, self._head.job, self._at, 1), freeze(error, wire.dumps))
        self._at += 1
        self._sent = self._at
        stop = not self._keep_errors or not isinstance(error, Exception)
        if stop and self._at < end:
            self._rest(end)
        return stop

    def _rest(self, end: int) -> None:
        self._send(Head(wire.REST, self._head.job, self._at, end - self._at), None)

    def _flush(self) -> None:
        """Sends the results that have not been sent."""
        count = len(self._values)
        if not count:
            return
        now_s, now_cpu_s = time.perf_counter(), time.thread_time()
        spent = (now_s - self._began_s, now_cpu_s - self._began_cpu_s)
        head = Head(wire.RESULT, self._head.job, self._sent, count, *spent)
        try:
            message = wire.parcel(head, self._values)
        except Exception:
            self._flush_singly()
        else:
            wire.send_and_close(self._sock, message)
        self._sent += count
        self._values.clear()
        self._began_s, self._began_cpu_s = time.perf_counter(), time.thread_time()

    def _flush_singly(self) -> None:
        """Sends each result on its own, to find the one that does not travel."""
        from autopar._errors import TransportError

        for index, value in enumerate(self._values, self._sent):
            try:
                message = wire.parcel(Head(wire.RESULT, self._head.job, index, 1), [value])
            except Exception as error:
                refused = TransportError("the result", index, f"{type(error).__name__}: {error}")
                failure = Head(wire.FAILURE, self._head.job, index, 1)
                message = wire.parcel(failure, freeze(refused, wire.dumps))
            wire.send_and_close(self._sock, message)

    def _send(self, head: Head, value: Any) -> None:
        wire.send_and_close(self._sock, wire.parcel(head, value))


def _enter(path: list[str], folder: str | None, environ: dict[str, str]) -> None:
    """Makes the caller's module path, working directory and environment this worker's."""
    if sys.path != path:
        sys.path[:] = path
    if folder is not None and os.getcwd() != folder:
        os.chdir(folder)
    if os.environ != environ:
        os.environ.clear()
        os.environ.update(environ)


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
