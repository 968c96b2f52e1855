"""Messages between the caller's process and its workers: pickles, their large buffers, and frames.

Each message is one packet of a SOCK_SEQPACKET socket, so a kill can never leave half of one
behind. What does not fit a packet, and every large buffer, travels beside it in an anonymous
memory file whose descriptor goes along (nothing is named, so nothing can be left behind).

Standard library only: this module is also loaded by the bare interpreter of a worker.
Relies on: Unix sockets that pass descriptors; `_socket`, `_pickle` and `_struct`, the parts
written in C, because importing what stands around them costs a new worker 8 ms (and `array` brings
`collections.abc` along).
"""

from __future__ import annotations

import _pickle as pickle
import _socket
import mmap
import os
import time
from _struct import Struct, calcsize, pack

from . import memfile

TYPE_CHECKING = False  # `typing` costs a new worker 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType
    from typing import Any

# kinds of message
JOB, TASK, LANE, BOTH = 1, 2, 3, 4  # to a worker; BOTH is a job and its first task
READY, REFUSED, RESULT, FAILURE, REST, LEAVING, NARROW = range(11, 18)  # from a worker
OUT, LOG, WARN = 21, 22, 23  # from a worker, at any time: what it prints, logs and warns of

INLINE_BYTES = 60_000  # more than this goes beside the packet (a packet holds about 200 KB)
ASIDE_BYTES = 32_000  # a buffer at least this large is not copied into the pickle
MAPPED_BYTES = 1 << 20  # at least this much is mapped instead of read

_HEAD = Struct("<BxxxIqIddI")
_PACKET_BYTES = INLINE_BYTES + 8192
_SIZE = Struct("<Q")
_ALIGNED = 64  # each part begins at a multiple of this: an array is slow, and differs, otherwise
_DESCRIPTOR_SPACE = _socket.CMSG_SPACE(calcsize("2i"))
_PROTOCOL = 5


class Head:
    """The fixed part of a message.

    start, size: the items it is about; for BOTH size is the bytes of the first message.
    wall_s, cpu_s: how long these took, for a RESULT; for a TASK wall_s is how long it is expected
    to run, for READY how long the job took to load. tries: for a TASK of one item, how many it has
    had; for a REST, the first of it.
    """

    __slots__ = ("cpu_s", "job", "kind", "size", "start", "tries", "wall_s")

    kind: int
    job: int
    start: int
    size: int
    wall_s: float
    cpu_s: float
    tries: int

    def __init__(
        self,
        kind: int,
        job: int = 0,
        start: int = 0,
        size: int = 0,
        wall_s: float = 0.0,
        cpu_s: float = 0.0,
        tries: int = 0,
    ) -> None:
        self.kind, self.job, self.start, self.size = kind, job, start, size
        self.wall_s, self.cpu_s, self.tries = wall_s, cpu_s, tries

    def packed(self) -> bytes:
        """As it travels."""
        return _HEAD.pack(
            self.kind, self.job, self.start, self.size, self.wall_s, self.cpu_s, self.tries
        )


class Parcel:
    """A message ready to be sent, as often as needed.

    fd: a memory file with what did not fit, or -1. For a LANE, its socket and its cell.
    """

    __slots__ = ("cell_fd", "data", "fd")

    data: bytes
    fd: int
    cell_fd: int

    def __init__(self, data: bytes, fd: int = -1, cell_fd: int = -1) -> None:
        self.data, self.fd, self.cell_fd = data, fd, cell_fd

    def close(self) -> None:
        """Gives what goes along back."""
        if self.fd >= 0:
            os.close(self.fd)
        if self.cell_fd >= 0:
            os.close(self.cell_fd)


def dumps(value: Any, aside: list[pickle.PickleBuffer] | None = None) -> bytes:
    """The pickle of `value`; by value (cloudpickle) only what plain pickle cannot name.

    aside: where buffers too large to copy are put, or None to copy them all.
    Functions and classes of `__main__` travel by value, because no worker runs it again.
    """
    callback = None if aside is None else _keep_aside(aside)
    try:
        data = pickle.dumps(value, _PROTOCOL, buffer_callback=callback)
        if b"_main__" not in data:  # nor __mp_main__, as it is called where it was spawned
            return data
    except Exception:
        pass  # what plain pickle refuses, cloudpickle may take, or refuse in its own words
    from . import byvalue

    if aside is not None:
        aside.clear()
    return byvalue.dumps(value, _PROTOCOL, callback)


def located(file: str, make: Callable[..., CodeType], parts: tuple[Any, ...]) -> CodeType:
    """What code that travelled by value is made by; here, as who loads it needs nothing else."""
    return make(*parts).replace(co_filename=file)


def _keep_aside(aside: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def callback(buffer: pickle.PickleBuffer) -> bool:
        with buffer.raw() as raw:
            if raw.nbytes < ASIDE_BYTES:
                return True
        aside.append(buffer)
        return False

    return callback


def round_trip(value: Any) -> tuple[int, float, float]:
    """Pickles `value` and loads it again, to see whether that goes well.

    The bytes it takes, and the CPU seconds of the one and of the other.
    """
    began_s = time.thread_time()
    aside: list[pickle.PickleBuffer] = []
    body = dumps(value, aside)
    packed_s = time.thread_time()
    # Not the value's own memory: what a __setstate__ writes would be written into the value.
    raws = [buffer.raw().toreadonly() for buffer in aside]
    try:
        pickle.loads(body, buffers=raws)
    except Exception:
        if not raws:
            raise
        pickle.loads(body, buffers=[bytearray(raw) for raw in raws])
    loaded_s = time.thread_time()
    payload_bytes = len(body) + sum(raw.nbytes for raw in raws)
    return payload_bytes, packed_s - began_s, loaded_s - packed_s


def parcel(head: Head, value: Any) -> Parcel:
    """`value` under `head`, pickled."""
    aside: list[pickle.PickleBuffer] = []
    return wrap(head, dumps(value, aside), aside)


def plain(head: Head, value: Any) -> Parcel:
    """`value` under `head`, pickled as it is: data in which nothing has to travel by value."""
    aside: list[pickle.PickleBuffer] = []
    return wrap(head, pickle.dumps(value, _PROTOCOL, buffer_callback=_keep_aside(aside)), aside)


def wrap(head: Head, body: bytes, aside: Sequence[pickle.PickleBuffer] = ()) -> Parcel:
    """A pickle and its buffers under `head`."""
    start = head.packed()
    if not aside and len(body) <= INLINE_BYTES:
        return Parcel(start + body)
    raws = [memoryview(body), *(buffer.raw() for buffer in aside)]
    fd = memfile.new("autopar")
    try:
        for raw in raws:
            _write_all(fd, raw)
            _write_all(fd, memoryview(bytes(_gap(raw.nbytes))))
    except BaseException:
        os.close(fd)
        raise
    return Parcel(start + b"".join(_SIZE.pack(raw.nbytes) for raw in raws), fd)


def joined(job: Parcel, task: Parcel) -> Parcel | None:
    """A job and its first task as one message; None where something goes along with them."""
    if job.fd >= 0 or task.fd >= 0 or len(job.data) + len(task.data) > INLINE_BYTES:
        return None
    return Parcel(Head(BOTH, size=len(job.data)).packed() + job.data + task.data)


def parted(message: Parcel) -> list[Parcel]:
    """The messages that one is made of."""
    head = head_of(message)
    if head.kind != BOTH:
        return [message]
    data, end = message.data, _HEAD.size + head.size
    return [Parcel(data[_HEAD.size : end]), Parcel(data[end:])]


def _gap(size: int) -> int:
    """Bytes between a part of this size and the next."""
    return -size % _ALIGNED


def _write_all(fd: int, raw: memoryview) -> None:
    while raw.nbytes:
        raw = raw[os.write(fd, raw) :]


def send(sock: _socket.socket, message: Parcel) -> None:
    """Send one message; on a socket that does not block, BlockingIOError when it is full."""
    if message.fd < 0:
        sock.send(message.data)
    else:
        fds = [fd for fd in (message.fd, message.cell_fd) if fd >= 0]
        rights = _socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack(f"{len(fds)}i", *fds)
        sock.sendmsg([message.data], [rights])


def send_and_close(sock: _socket.socket, message: Parcel) -> None:
    """Send one message that nobody will send again."""
    try:
        send(sock, message)
    finally:
        message.close()


class Sealed:
    """A value pickled apart, so that what surrounds it can be read before it is opened."""

    def __init__(self, body: bytes, aside: Sequence[pickle.PickleBuffer]) -> None:
        self.body, self.aside = body, list(aside)

    @classmethod
    def of(cls, value: Any) -> Sealed:
        """`value`, pickled now."""
        aside: list[pickle.PickleBuffer] = []
        body = dumps(value, aside)
        return cls(body, aside)

    def open(self) -> Any:
        """A copy of the value."""
        return pickle.loads(self.body, buffers=self.aside)


def receive(sock: _socket.socket, flags: int = 0) -> Parcel | None:
    """The next message, or None at the end of the other side."""
    data, ancillary, _flags, _address = sock.recvmsg(
        _PACKET_BYTES, _DESCRIPTOR_SPACE, flags | _socket.MSG_CMSG_CLOEXEC
    )
    if not data:
        return None
    return Parcel(data, *(fd for _, _, rights in ancillary for fd in memoryview(rights).cast("i")))


def head_of(message: Parcel) -> Head:
    """The fixed part of a message."""
    return Head(*_HEAD.unpack_from(message.data))


def loads(message: Parcel) -> Any:
    """The value of a message; its memory file is closed, its buffers are the value's own."""
    body, buffers = content(message)
    return pickle.loads(body, buffers=buffers)


def content(message: Parcel) -> tuple[memoryview, list[memoryview]]:
    """The pickle of a message and its buffers; its memory file is closed."""
    body = memoryview(message.data)[_HEAD.size :]
    if message.fd < 0:
        return body, []
    try:
        raws = _read_parts(message.fd, [size for (size,) in _SIZE.iter_unpack(body)])
    finally:
        os.close(message.fd)
    return raws[0], raws[1:]


def _read_parts(fd: int, sizes: Sequence[int]) -> list[memoryview]:
    """Private, writable memory with the parts of a memory file."""
    total = sum(size + _gap(size) for size in sizes)
    whole = _mapped(fd, total) if total >= MAPPED_BYTES else _read(fd, total)
    parts, at = [], 0
    for size in sizes:
        parts.append(whole[at : at + size])
        at += size + _gap(size)
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
