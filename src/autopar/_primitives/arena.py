"""Shared memory without a name, and how a part of it is found from another process.

An arena is an anonymous memory file, mapped by each process that uses it. It is freed by the kernel
with the last process that has it, however that ends: there is nothing to clean up, and no name that
could be left behind. What is pickled is where to find it: the processes that have it, and the
descriptor there.
Guarantees: a process maps an arena once, however often it is sent to it; bytes are handed out
again only when no other process can have seen them.
Relies on: Linux's memory files and /proc, and a shared C library of GNU's (see `require`).
"""

from __future__ import annotations

import fcntl
import functools
import mmap
import os
import struct
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from .._errors import BackendUnavailable, TransportError
from .life import own

PAGE = 4096
ARENA_BYTES = 8 << 20  # of an arena that serves many; only pages that are written take memory
SHARED_BYTES = 64 << 10  # what is larger has an arena of its own, and is freed with it
KEPT = 32  # arenas lately pickled that stay, so that what was sent and dropped still arrives
NAME = "autopar-shared"

# Before 3.13 a mapping keeps a descriptor of its own.
_ONE_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_HEAD = struct.Struct("=8s16s4Q")  # the mark, the identity, the maker, and the bytes to map
_MARK = b"autopar1"


class Holder(NamedTuple):
    """A process that has an arena, and the number of its descriptor there."""

    pid: int
    start: int
    fd: int


class Place(NamedTuple):
    """Where a part of an arena is found, by any process of the machine; it travels.

    boot: names the machine, from its start to its end. holders: those that have it, to be asked in
    turn. at: the first byte.
    """

    boot: str
    identity: bytes
    holders: tuple[Holder, ...]
    at: int


class Arena:
    """A memory file and its mapping in this process.

    fd: its descriptor. view: the bytes. address: of the first. identity: tells it from all others.
    """

    def __init__(self, fd: int, identity: bytes, maker: Holder, size: int) -> None:
        import ctypes

        self.fd, self.identity, self.maker = fd, identity, maker
        self._map = mmap.mmap(fd, size, **_ONE_DESCRIPTOR)
        # As long as it is there, the mapping cannot be closed under those who know its address.
        self._pin = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(self._pin)
        self.view = memoryview(self._map)
        self.sent = False

    def __del__(self, close: Any = os.close) -> None:
        close(self.fd)

    @property
    def buffer(self) -> mmap.mmap:
        """The mapping, to build ctypes objects on."""
        return self._map

    def place(self, at: int) -> Place:
        """Where byte `at` is found; the arena will stay for a good while."""
        self.sent = True
        me = own()
        with lock():
            _kept.pop(self.identity, None)
            _kept[self.identity] = self
            while len(_kept) > KEPT:
                del _kept[next(iter(_kept))]
        here = Holder(me.pid, me.start, self.fd)
        holders = (here,) if here == self.maker else (here, self.maker)
        return Place(boot(), self.identity, holders, at)

    @contextmanager
    def guard(self, *, wait: bool = True) -> Iterator[bool]:
        """Keeps every other thread and process out; the kernel lets go when this process dies.

        Gives whether it was got, which without `wait` may not be.
        """
        try:
            fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            if wait:
                raise
            yield False  # no descriptor is left
            return
        _guards.add(fd)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                # Said, and not left to the closing: a fork meanwhile may have made a copy of `fd`.
                fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            if fd in _guards:  # else this is a fork, and it is closed
                _guards.discard(fd)
                os.close(fd)


class Block:
    """Some bytes of an arena, from the page at `at` on.

    fresh: they were handed out by this process just now, and are all zero.
    """

    def __init__(self, arena: Arena, at: int, *, fresh_bytes: int = 0) -> None:
        self.arena, self.at = arena, at
        self.address = arena.address + at
        if fresh_bytes:
            self._end = weakref.finalize(self, _give_back, arena, at, fresh_bytes, _forks)
            self._end.atexit = False

    def words(self, first: int, count: int) -> memoryview:
        """`count` whole numbers of eight bytes, from byte `first` of the block on."""
        start = self.at + first
        return self.arena.view[start : start + 8 * count].cast("Q")

    def place(self) -> Place:
        """Where it is found."""
        return self.arena.place(self.at)


def block(size_bytes: int) -> Block:
    """A new block of zeros. Raises: BackendUnavailable where there is no such memory."""
    size = -(-size_bytes // PAGE) * PAGE
    with lock():
        for at, (arena, start, free) in enumerate(_free):
            if free == size and not arena.sent:
                del _free[at]
                arena.view[start : start + size] = bytes(size)
                return Block(arena, start, fresh_bytes=size)
        if size > SHARED_BYTES:
            return Block(_new(PAGE + size), PAGE)
        global _current, _used
        if _current is None or _used + size > ARENA_BYTES:
            _free.clear()
            _current, _used = _new(ARENA_BYTES), PAGE
        _used += size
        return Block(_current, _used - size, fresh_bytes=size)


def alone(size_bytes: int) -> Block:
    """A new block in an arena of its own, whose file may grow behind it."""
    size = -(-size_bytes // PAGE) * PAGE
    with lock():
        return Block(_new(PAGE + size), PAGE)


def find(place: Place, what: str) -> Block:
    """The block at a place. Raises: TransportError, which names `what` was to be found there."""
    if place.boot != boot():
        raise TransportError(what, None, _ELSEWHERE)
    with lock():
        arena = _known.get(place.identity)
        if arena is None:
            arena = next(
                filter(None, (_asked(each, place.identity) for each in place.holders)), None
            )
        if arena is None:
            pids = " and ".join(str(each.pid) for each in place.holders)
            raise TransportError(what, None, _GONE.format(pids=pids))
        return Block(arena, place.at)


_ELSEWHERE = (
    "it lives in the memory of the machine it was made on, and this is another one (or the same, "
    "started anew); it works between threads and processes of one machine only"
)
_GONE = (
    "the process that sent it (process {pids}) has ended, dropped it long ago, or cannot be seen "
    "from here; keep it in use there until it has arrived"
)


def forget_sent() -> None:
    """Lets go of what is only kept because it was sent not long ago."""
    _kept.clear()


@functools.cache
def boot() -> str:
    """What names this machine, from its start to its end."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def lock() -> AbstractContextManager[object]:
    """What keeps threads of this process apart that change what it knows of arenas."""
    return _lock


@functools.cache
def require() -> None:
    """Raises BackendUnavailable where universal primitives cannot be."""
    why = ""
    try:
        if not hasattr(__import__("_multiprocessing"), "SemLock"):
            why = "this interpreter was built without semaphores"
        elif not hasattr(os, "memfd_create") or not os.path.exists("/proc/self/fd"):
            why = "this system has no anonymous memory files, or no /proc"
        elif not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            why = "the C library is not GNU's"
    except (ImportError, ValueError) as error:
        why = str(error)
    if why:
        raise BackendUnavailable(
            "universal primitives", why, "Use those of threading or of multiprocessing."
        )


def _new(size: int) -> Arena:
    require()
    fd = os.memfd_create(NAME, os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        maker, identity = Holder(*own(), fd), os.urandom(16)
        os.pwrite(fd, _HEAD.pack(_MARK, identity, *maker, size), 0)
        arena = Arena(fd, identity, maker, size)
    except BaseException:
        os.close(fd)
        raise
    _known[identity] = arena
    return arena


def _asked(holder: Holder, identity: bytes) -> Arena | None:
    """The arena as a process has it under its descriptor, or None: it may be another's by now."""
    path = f"/proc/{holder.pid}/fd/{holder.fd}"
    try:
        # First its name: to open another kind of file might wait, or change something.
        if not os.readlink(path).startswith(f"/memfd:{NAME}"):
            return None
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        mark, found, *maker, size = _HEAD.unpack(os.pread(fd, _HEAD.size, 0))
        if mark == _MARK and found == identity:
            arena = _known[identity] = Arena(fd, identity, Holder(*maker), size)
            arena.sent = True
            return arena
    except struct.error:
        pass
    os.close(fd)
    return None


def _give_back(arena: Arena, at: int, size: int, forks: int) -> None:
    """Takes bytes back that nobody else can have seen: never sent, and no fork since."""
    # Runs at any moment, also in a thread that holds the lock: one step that needs none.
    if arena is _current and not arena.sent and forks == _forks:
        _free.append((arena, at, size))


# What this process knows of arenas.
_lock = threading.RLock()
_known: weakref.WeakValueDictionary[bytes, Arena] = weakref.WeakValueDictionary()
_kept: dict[bytes, Arena] = {}
_guards: set[int] = set()  # descriptors of guards in use
_free: list[tuple[Arena, int, int]] = []  # to be handed out again: where, and how many bytes
_forks = 0  # how often this process was forked, or has been
_current: Arena | None = None  # the arena that bytes are taken from, and how many are
_used = 0


def _on_fork() -> None:
    """What was handed out so far is a child's as well from now on."""
    global _forks
    _forks += 1
    _free.clear()


def _in_child() -> None:
    """A child takes bytes from arenas of its own."""
    global _lock, _current
    _lock = threading.RLock()
    _current = None
    _free.clear()
    for fd in _guards:
        os.close(fd)
    _guards.clear()


os.register_at_fork(before=_on_fork, after_in_child=_in_child)
