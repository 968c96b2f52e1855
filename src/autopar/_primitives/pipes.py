"""Pipes: two connected ends, each of which may travel to another process.

An end is made of the system's own pipes, so that the kernel says when the other side is gone. It
travels as the descriptors it has in the process that sent it, which the receiver opens again.
An end that was sent and then closed here stays open until it has arrived, or too long has passed.
Relies on: /proc, through which a pipe of another process of the same user can be opened.
"""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection as Half
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple

from .._errors import TransportError
from . import arena
from .arena import Block, Place
from .life import own

LINGER_S = 10.0  # an end that was sent, but never arrived, is closed after that
LOOK_S = 0.02  # how often who waits looks whether what was sent has arrived


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Two connected ends, as `multiprocessing.Pipe`; they travel in any pickle.

    Without `duplex`, the first one only receives and the second one only sends.
    """
    arena.require()
    there, back = os.pipe(), os.pipe() if duplex else None
    receiver = Connection(_receiving(there[0]), None if back is None else _sending(back[1]))
    sender = Connection(None if back is None else _receiving(back[0]), _sending(there[1]))
    return receiver, sender


class _Route(NamedTuple):
    """A pipe as a process has it: where, and which it has to be."""

    pid: int
    fd: int
    name: str


class Connection:
    """One end of a `Pipe`, as `multiprocessing`'s: for one thread at a time in each direction."""

    def __init__(self, receiving: Half | None, sending: Half | None) -> None:
        self._receiving, self._sending = receiving, sending
        self._sent: Block | None = None  # whose first word is not zero when it has arrived

    @property
    def closed(self) -> bool:
        """Whether it is of no use here any more."""
        return self._receiving is None and self._sending is None

    @property
    def readable(self) -> bool:
        """Whether it receives."""
        return self._receiving is not None

    @property
    def writable(self) -> bool:
        """Whether it sends."""
        return self._sending is not None

    def fileno(self) -> int:
        """The descriptor that it receives from, or sends to if it only does that."""
        self._check()
        half = self._receiving or self._sending
        assert half is not None
        return half.fileno()

    def send(self, obj: Any) -> None:
        """Send an object. Raises: BrokenPipeError when nobody can receive it."""
        self._sender().send(obj)

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send bytes as one message. Raises: BrokenPipeError."""
        self._sender().send_bytes(buf, offset, size)

    def recv(self) -> Any:
        """The next object. Raises: EOFError when there is none and the other end is gone."""
        half = self._receiver()
        self._await(half)
        return half.recv()

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """The next message. Raises: EOFError; OSError if it is longer than `maxlength`."""
        half = self._receiver()
        self._await(half)
        return half.recv_bytes(maxlength)

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """The size of the next message, now in `buf`. Raises: EOFError; BufferTooShort."""
        half = self._receiver()
        self._await(half)
        return half.recv_bytes_into(buf, offset)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is something to receive, or an end, within `timeout` seconds."""
        half = self._receiver()
        until_s = None if timeout is None else time.monotonic() + timeout
        while _lingering:
            _close_arrived()
            left_s = LOOK_S if until_s is None else until_s - time.monotonic()
            if half.poll(max(0.0, min(LOOK_S, left_s))):
                return True
            if left_s <= 0:
                return False
        return half.poll(None if until_s is None else max(0.0, until_s - time.monotonic()))

    def close(self) -> None:
        """Let go of this end."""
        halves = [half for half in (self._receiving, self._sending) if half is not None]
        self._receiving = self._sending = None
        if self._sent is not None:
            _lingering.append((self._sent, time.monotonic() + LINGER_S, os.getpid(), halves))
            _close_arrived()
        else:
            for half in halves:
                half.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, _type: object, _value: object, _trace: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self.__dict__.get("_sent") is not None and not self.closed:
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        self._check()
        halves = [self._receiving, self._sending]
        if get_spawning_popen() is not None:
            # A process is being started with it: the standard library takes descriptors along.
            return _inherited, tuple(half and DupFd(half.fileno()) for half in halves)
        if self._sent is None:
            self._sent = arena.block(8)
        routes = tuple(half and _route(half.fileno()) for half in halves)
        return _arrived, (routes, self._sent.place())

    def _check(self) -> None:
        if self.closed:
            raise OSError("handle is closed")

    def _receiver(self) -> Half:
        self._check()
        if self._receiving is None:
            raise OSError("connection is write-only")
        return self._receiving

    def _sender(self) -> Half:
        self._check()
        if self._sending is None:
            raise OSError("connection is read-only")
        return self._sending

    def _await(self, half: Half) -> None:
        """Waits for a message while this process may itself keep the other end open."""
        if _lingering and half is self._receiving:
            self.poll(None)


def _receiving(fd: int) -> Half:
    return Half(fd, readable=True, writable=False)


def _sending(fd: int) -> Half:
    return Half(fd, readable=False, writable=True)


def _route(fd: int) -> _Route:
    return _Route(own().pid, fd, os.readlink(f"/proc/self/fd/{fd}"))


def _inherited(receiving: Any, sending: Any) -> Connection:
    return Connection(
        receiving and _receiving(receiving.detach()), sending and _sending(sending.detach())
    )


def _arrived(routes: Any, sent: Place) -> Connection:
    """The end that was sent, as pickle calls it. Raises: TransportError."""
    block = arena.find(Place(*sent), "a Connection")  # and refuses another machine
    flags = (os.O_RDONLY, os.O_WRONLY)
    fds = [route and _opened(_Route(*route), flag) for route, flag in zip(routes, flags)]
    if any(fd is not None and fd < 0 for fd in fds):
        for fd in fds:
            if fd is not None and fd >= 0:
                os.close(fd)
        raise TransportError("a Connection", None, _CLOSED)
    if any(route and route[0] != os.getpid() for route in routes):
        block.words(0, 1)[0] = 1
    receiving, sending = fds
    return Connection(
        None if receiving is None else _receiving(receiving),
        None if sending is None else _sending(sending),
    )


_CLOSED = (
    "the process that sent it has ended or closed it meanwhile; keep it open there until it has "
    "arrived"
)


def _opened(route: _Route, flag: int) -> int:
    """A descriptor of the pipe, or -1."""
    path = f"/proc/{route.pid}/fd/{route.fd}"
    try:
        if os.readlink(path) != route.name:
            return -1
        # Both ends are there, so that it does not wait; the other one would have to come first.
        fd = os.open(path, flag | os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(fd, True)
    except OSError:
        return -1
    return fd


# Ends closed here that may not have arrived yet: the sign of arrival, until when, and whose.
_lingering: list[tuple[Block, float, int, list[Half]]] = []


def _close_arrived() -> None:
    for each in list(_lingering):
        sent, until_s, pid, halves = each
        if sent.words(0, 1)[0] or time.monotonic() > until_s or pid != os.getpid():
            try:
                _lingering.remove(each)
            except ValueError:
                continue  # another thread is at it
            # With the last reference a half closes itself. To close it here might be the second
            # time, for the collector may have been at it before: and then close another's file.
            halves.clear()
