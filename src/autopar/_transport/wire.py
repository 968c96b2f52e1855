"""Messages between the caller's process and its workers: pickles, their large buffers, and frames.

Each message is one packet of a SOCK_SEQPACKET socket, so a kill can never leave half of one
behind. What does not fit a packet, and every large buffer, travels beside it in an anonymous
memory file whose descriptor goes along (nothing is named, so nothing can be left behind).

Standard library only: this module is also loaded by the bare interpreter of a worker.
Relies on: Linux (memfd_create, descriptor passing); `_socket`, the part of `socket` written in C,
because importing all of `socket` costs a new worker 3 ms.
"""

from __future__ import annotations

import _socket
import array
import mmap
import os
import pickle
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

# kinds of message
JOB, TASK, STOP = 1, 2, 3  # to a worker
READY, REFUSED, RESULT, FAILURE, REST = 11, 12, 13, 14, 15  # from a worker

INLINE_BYTES = 60_000  # more than this goes beside the packet (a packet holds about 200 KB)
ASIDE_BYTES = 32_000  # a buffer at least this large is not copied into the pickle
MAPPED_BYTES = 1 << 20  # at least this much is mapped instead of read

_HEAD = struct.Struct("<BxxxIqIdd")
_PACKET_BYTES = INLINE_BYTES + 8192
_SIZE = struct.Struct("<Q")
_DESCRIPTOR_SPACE = _socket.CMSG_SPACE(array.array("i").itemsize)
_PROTOCOL = 5

Dumps = Callable[..., bytes]


class Head(NamedTuple):
    """The fixed part of a message.

    start, size: the items it is about. wall_s, cpu_s: how long these took, for a RESULT;
    for a TASK wall_s is how long it is expected to run.
    """

    kind: int
    job: int = 0
    start: int = 0
    size: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0


class Parcel(NamedTuple):
    """A message ready to be sent, as often as needed; `fd` is a memory file or -1."""

    data: bytes
    fd: int = -1

    def close(self) -> None:
        """Give the memory file back."""
        if self.fd >= 0:
            os.close(self.fd)


def dumps(value: Any, aside: list[pickle.PickleBuffer] | None = None) -> bytes:
    """The pickle of `value`; by value (cloudpickle) only what plain pickle cannot name.

    aside: where buffers too large to copy are put, or None to copy them all.
    Functions and classes of `__main__` travel by value, because no worker runs it again.
    """
    callback = None if aside is None else _keep_aside(aside)
    try:
        data = pickle.dumps(value, _PROTOCOL, buffer_callback=callback)
        if b"__main__" not in data:
            return data
    except Exception:
        pass  # what plain pickle refuses, cloudpickle may take, or refuse in its own words
    import cloudpickle

    if aside is not None:
        aside.clear()
    dump: Dumps = cloudpickle.dumps
    return dump(value, protocol=_PROTOCOL, buffer_callback=callback)


def _keep_aside(aside: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def callback(buffer: pickle.PickleBuffer) -> bool:
        with buffer.raw() as raw:
            if raw.nbytes < ASIDE_BYTES:
                return True
        aside.append(buffer)
        return False

    return callback


def parcel(head: Head, value: Any) -> Parcel:
    """`value` under `head`, pickled."""
    aside: list[pickle.PickleBuffer] = []
    return wrap(head, dumps(value, aside), aside)


def wrap(head: Head, body: bytes, aside: Sequence[pickle.PickleBuffer] = ()) -> Parcel:
    """A pickle and its buffers under `head`."""
    start = _HEAD.pack(*head)
    if not aside and len(body) <= INLINE_BYTES:
        return Parcel(start + body)
    raws = [memoryview(body), *(buffer.raw() for buffer in aside)]
    fd = os.memfd_create("autopar", os.MFD_CLOEXEC)
    try:
        for raw in raws:
            _write_all(fd, raw)
    except BaseException:
        os.close(fd)
        raise
    return Parcel(start + b"".join(_SIZE.pack(raw.nbytes) for raw in raws), fd)


def _write_all(fd: int, raw: memoryview) -> None:
    while raw.nbytes:
        raw = raw[os.write(fd, raw) :]


def send(sock: _socket.socket, message: Parcel) -> None:
    """Send one message; on a socket that does not block, BlockingIOError when it is full."""
    if message.fd < 0:
        sock.send(message.data)
    else:
        rights = array.array("i", [message.fd])
        sock.sendmsg([message.data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])


def send_and_close(sock: _socket.socket, message: Parcel) -> None:
    """Send one message that nobody will send again."""
    try:
        send(sock, message)
    finally:
        message.close()


class Sealed:
    """A value pickled apart, so that what surrounds it can be read before it is opened."""

    def __init__(self, body: bytes, aside: Sequence[pickle.PickleBuffer]) -> None:
        self._body, self._aside = body, list(aside)

    @classmethod
    def of(cls, value: Any) -> Sealed:
        """`value`, pickled now."""
        aside: list[pickle.PickleBuffer] = []
        body = dumps(value, aside)
        return cls(body, aside)

    def open(self) -> Any:
        """A copy of the value."""
        return pickle.loads(self._body, buffers=self._aside)


def receive(sock: _socket.socket, flags: int = 0) -> Parcel | None:
    """The next message, or None at the end of the other side."""
    data, ancillary, _flags, _address = sock.recvmsg(
        _PACKET_BYTES, _DESCRIPTOR_SPACE, flags | _socket.MSG_CMSG_CLOEXEC
    )
    if not data:
        return None
    rights = array.array("i")
    for _level, _type, packed in ancillary:
        rights.frombytes(packed)
    return Parcel(data, rights[0] if rights else -1)


def head_of(message: Parcel) -> Head:
    """The fixed part of a message."""
    return Head(*_HEAD.unpack_from(message.data))


def loads(message: Parcel) -> Any:
    """The value of a message; its memory file is closed, its buffers are the value's own."""
    body = memoryview(message.data)[_HEAD.size :]
    if message.fd < 0:
        return pickle.loads(body)
    try:
        raws = _read_parts(message.fd, [size for (size,) in _SIZE.iter_unpack(body)])
    finally:
        os.close(message.fd)
    return pickle.loads(raws[0], buffers=raws[1:])


def _read_parts(fd: int, sizes: Sequence[int]) -> list[memoryview]:
    """Private, writable memory with the parts of a memory file."""
    total = sum(sizes)
    whole = _mapped(fd, total) if total >= MAPPED_BYTES else _read(fd, total)
    parts, at = [], 0
    for size in sizes:
        parts.append(whole[at : at + size])
        at += size
    return parts


def _mapped(fd: int, size: int) -> memoryview:
    try:
        return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_COPY))
    except OSError:  # a process may hold only so many mappings
        return _read(fd, size)


def _read(fd: int, size: int) -> memoryview:
    view, at = memoryview(bytearray(size)), 0
    while at < size:
        got = os.preadv(fd, [view[at:]], at)
        if not got:
            raise EOFError("a message ended before its announced size")
        at += got
    return view
