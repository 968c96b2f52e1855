"""Queues: messages in a memory file, which whoever has the queue's lock writes and reads.

A message counts once the tail lies behind it, and is gone once the head does: each is one write. So
whoever is killed with the lock has put all of a message or nothing, and who gets the lock next goes
on; what is counted besides is counted again then.
Guarantees: a message is read once, by one; a producer that ends after its `put` takes nothing
along, and none of those killed makes another wait.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pickle
import struct
import time
from collections.abc import Callable
from queue import Empty, Full
from typing import Any

from . import arena
from .arena import PAGE, Block
from .condition import Condition
from .locks import InnerLock
from .permits import keep, restore

_DATA = 2 * PAGE  # where messages begin: behind the arena's head and the words
_HEAD, _TAIL, _COUNT, _PUTS, _DONE, _BOUND, _HOLES = range(7)  # words
_MESSAGE = struct.Struct("=3Q")  # its bytes in all, its number, its parts; then the parts' sizes
_SMALL = struct.Struct("=4Q")  # the same, of a message with one part
_SIZE = struct.Struct("=Q")

AT_ONCE_BYTES = 4096  # read in one go: most messages are smaller
ASIDE_BYTES = 64 << 10  # buffers as large as this are written as they lie
LINGER_TIMES = 20  # some 20 µs, if no other thread wants to run
HOLE_BYTES = 4 << 20  # of messages read that stay, as to write there again is twice as quick
_PUNCH = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


class _Messages:
    """The queue itself: what the kinds of queues share."""

    __slots__ = ("__weakref__", "_block", "_closed", "_lock", "_some", "_space", "_words")

    def __init__(self, maxsize: int = 0) -> None:
        lock = InnerLock()
        self._set_up(arena.alone(PAGE), lock, Condition(lock), Condition(lock))
        self._words[_BOUND] = max(0, maxsize)
        keep(self, self._block)

    def _set_up(self, block: Block, lock: InnerLock, some: Condition, space: Condition) -> None:
        self._block, self._lock, self._some, self._space = block, lock, some, space
        self._words = block.words(0, 8)
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (type(self), self._block.place(), self._travels())

    def _travels(self) -> tuple[Any, ...]:
        return self._lock, self._some, self._space

    def _restore(self, block: Block, *more: Any) -> None:
        self._set_up(block, *more)

    def _after_fork(self) -> None:
        """Nothing of it belongs to a process."""

    def empty(self) -> bool:
        """Whether there is nothing to get now. Raises: OSError when it was closed here."""
        if self._closed:
            raise OSError(f"{type(self).__name__} is closed")
        return self._words[_HEAD] >= self._words[_TAIL]

    def close(self) -> None:
        """This process will neither put nor get any more."""
        self._closed = True

    def _put(self, obj: Any, timeout_s: float | None) -> None:
        """Raises: Full after that time."""
        if self._closed:
            raise self._is_closed()
        parts = _packed(obj)
        words = self._words
        with self._lock:
            if self._lock.owner_died:
                self._settle()
            bound = words[_BOUND]
            if bound and not self._wait(self._space, lambda: words[_COUNT] < bound, timeout_s):
                raise Full
            self._write(parts)
            rings = self._some.choose(1)
        for ring in rings:
            ring()

    def _get(self, timeout_s: float | None) -> Any:
        """Raises: Empty after that time."""
        if self._closed:
            raise self._is_closed()
        words = self._words
        if timeout_s != 0 and words[_HEAD] >= words[_TAIL]:
            self._linger()
        with self._lock:
            if self._lock.owner_died:
                self._settle()
            if words[_HEAD] >= words[_TAIL] and not self._wait(
                self._some, lambda: words[_HEAD] < words[_TAIL], timeout_s
            ):
                raise Empty
            parts = self._read()
            rings = self._space.choose(1) if words[_BOUND] else []
        for ring in rings:
            ring()
        return pickle.loads(parts[0], buffers=parts[1:])

    def _linger(self) -> None:
        """Waits a moment for a message without sleep: to sleep and wake takes longer."""
        words = self._words
        for _ in range(LINGER_TIMES):
            if words[_HEAD] < words[_TAIL]:
                return
            time.sleep(0)  # lets other threads run

    def _is_closed(self) -> ValueError:
        return ValueError(f"{type(self).__name__} is closed")

    def _wait(
        self, condition: Condition, ready: Callable[[], bool], timeout_s: float | None
    ) -> bool:
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not ready():
            left_s = None if until_s is None else until_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            # Now and then by itself: who was to tell may have been killed before it did.
            condition.wait(1.0 if left_s is None else min(1.0, left_s))
            self._settle()
        return True

    def _settle(self) -> None:
        """After the death of one that had the lock: counts again what it may have half changed."""
        if not self._lock.owner_died:
            return
        words = self._words
        if words[_HEAD] >= words[_TAIL]:  # killed while it began the file anew
            words[_TAIL] = 0
            words[_HEAD] = 0
        at, count = words[_HEAD], 0
        while at < words[_TAIL]:
            size, number, _parts = _MESSAGE.unpack(
                os.pread(self._block.arena.fd, _MESSAGE.size, _DATA + at)
            )
            at += size
            count += 1
            words[_PUTS] = max(words[_PUTS], number + 1)
        words[_COUNT] = count
        self._some.notify_all()  # those it did not tell any more
        self._space.notify_all()

    def _write(self, parts: list[Any]) -> None:
        words = self._words
        number, tail = words[_PUTS], words[_TAIL]
        fd, at = self._block.arena.fd, _DATA + tail
        sizes = [len(part) for part in parts]
        if len(sizes) == 1 and sizes[0] <= AT_ONCE_BYTES - _SMALL.size:
            total = _SMALL.size + sizes[0]
            _written(fd, _SMALL.pack(total, number, 1, sizes[0]) + parts[0], at)
        else:
            total = _MESSAGE.size + _SIZE.size * len(parts) + sum(sizes)
            head = _MESSAGE.pack(total, number, len(parts)) + b"".join(map(_SIZE.pack, sizes))
            for part in (head, *parts):
                _written(fd, part, at)
                at += len(part)
        words[_TAIL] = tail + total  # from here on it is there
        words[_PUTS] = number + 1
        words[_COUNT] += 1

    def _read(self) -> list[Any]:
        fd, head = self._block.arena.fd, self._words[_HEAD]
        at = _DATA + head
        start = os.pread(fd, AT_ONCE_BYTES, at)
        total, _number, count, _size = _SMALL.unpack_from(start)
        if total <= len(start) and count == 1:
            self._move_on(head + total)
            return [start[_SMALL.size : total]]
        if _MESSAGE.size + _SIZE.size * count > len(start):
            start = os.pread(fd, _MESSAGE.size + _SIZE.size * count, at)
        sizes = [_SIZE.unpack_from(start, _MESSAGE.size + 8 * each)[0] for each in range(count)]
        first = _MESSAGE.size + _SIZE.size * count
        parts: list[Any] = []
        for size in sizes:
            if first + size <= len(start):
                parts.append(bytearray(start[first : first + size]))
            else:
                parts.append(_read_whole(fd, size, at + first, writable=bool(parts)))
            first += size
        self._move_on(head + total)
        return parts

    def _move_on(self, head: int) -> None:
        """What is before the new head is gone; gives its memory back."""
        words, fd = self._words, self._block.arena.fd
        words[_HEAD] = head
        words[_COUNT] -= 1
        if head == words[_TAIL]:
            words[_TAIL] = 0  # first, so that the file is never without beginning but not end
            words[_HEAD] = 0
            words[_HOLES] = 0
            if head > HOLE_BYTES:
                os.ftruncate(fd, _DATA)
        elif head - words[_HOLES] > HOLE_BYTES:
            start = words[_HOLES]
            end = head - head % PAGE
            _fallocate()(fd, _PUNCH, _DATA + start, end - start)
            words[_HOLES] = end


class Queue(_Messages):
    """A queue for the threads of any processes, as `multiprocessing.Queue`; it travels.

    maxsize: how many messages it holds; without a bound if not positive. What is put is pickled
    and in the queue when `put` returns: the process may end then.
    """

    __slots__ = ()

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add a message. Raises: Full when there is no room, within `timeout` seconds if given."""
        self._put(obj, _limit(block, timeout))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The oldest message. Raises: Empty when there is none, within `timeout` seconds."""
        return self._get(_limit(block, timeout))

    def put_nowait(self, obj: Any) -> None:
        """As `put(obj, False)`."""
        self._put(obj, 0.0)

    def get_nowait(self) -> Any:
        """As `get(False)`."""
        return self._get(0.0)

    def qsize(self) -> int:
        """How many messages it holds now."""
        return int(self._words[_COUNT])

    def full(self) -> bool:
        """Whether there is no room now."""
        return 0 < self._words[_BOUND] <= self._words[_COUNT]

    def join_thread(self) -> None:
        """Nothing: there is no thread, and what was put is in the queue."""

    def cancel_join_thread(self) -> None:
        """Nothing, as `join_thread`."""


class JoinableQueue(Queue):
    """A `Queue` that can be waited for until all that was put has been done."""

    __slots__ = ("_idle",)

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._idle = Condition(self._lock)

    def _travels(self) -> tuple[Any, ...]:
        return *super()._travels(), self._idle

    def _restore(self, block: Block, *more: Any) -> None:
        *others, self._idle = more
        super()._restore(block, *others)

    def task_done(self) -> None:
        """Say that a message that was got has been dealt with. Raises: ValueError if none was."""
        words = self._words
        with self._lock:
            self._settle()
            if words[_DONE] >= words[_PUTS]:
                raise ValueError("task_done() called too many times")
            words[_DONE] += 1
            if words[_DONE] == words[_PUTS]:
                self._idle.notify_all()

    def join(self) -> None:
        """Wait until all that was put has been dealt with."""
        words = self._words
        with self._lock:
            self._settle()
            self._wait(self._idle, lambda: words[_DONE] == words[_PUTS], None)


class SimpleQueue(_Messages):
    """A queue with little but `put` and `get`, as `multiprocessing.SimpleQueue`; it travels."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()

    def put(self, obj: Any) -> None:
        """Add a message."""
        self._put(obj, None)

    def get(self) -> Any:
        """The oldest message, as soon as there is one."""
        return self._get(None)


def _limit(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0.0
    return None if timeout is None else max(0.0, timeout)


def _packed(obj: Any) -> list[Any]:
    """The parts of a message: the pickle, and the large buffers beside it."""
    aside: list[pickle.PickleBuffer] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True  # it does not lie in one piece
        if raw.nbytes < ASIDE_BYTES:
            return True
        aside.append(buffer)
        return False

    body = pickle.dumps(obj, 5, buffer_callback=is_small)
    return [body, *(buffer.raw() for buffer in aside)]


def _written(fd: int, part: Any, at: int) -> None:
    done = os.pwrite(fd, part, at)
    while done < len(part):  # the rest of what is very large
        done += os.pwrite(fd, memoryview(part)[done:], at + done)


def _read_whole(fd: int, size: int, at: int, *, writable: bool) -> bytes | bytearray:
    if not writable:
        start = os.pread(fd, size, at)
        if len(start) == size:
            return start
    whole = bytearray(size)
    view = memoryview(whole)
    while view.nbytes:
        done = os.preadv(fd, [view], at)
        if not done:
            raise EOFError("a message ends before its size")
        at += done
        view = view[done:]
    return whole


@functools.cache
def _fallocate() -> Any:
    call: Any = ctypes.CDLL(None).fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return call
