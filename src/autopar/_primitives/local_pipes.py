"""Pipes between workers of one process. What `send` is given is passed on, not copied."""

from __future__ import annotations

import pickle
from types import TracebackType
from typing import Any, NoReturn

from .handles import Handle
from .store import Store


class _Way:
    """One direction of a pipe, and the handles at either end, by their `id`.

    Sets, because a single step adds to one or takes from it: a handle may be collected anywhere,
    also where its own thread holds a lock.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.readers: set[int] = set()
        self.writers: set[int] = set()


class _Bytes(bytes):
    """A message of `send_bytes`; `recv` takes it for a pickle, as from a pipe of processes."""


class Connection(Handle):
    """One end of a pipe, as `multiprocessing.connection.Connection`."""

    __slots__ = ("__weakref__", "_inward", "_outward")

    def __init__(self, inward: _Way | None, outward: _Way | None) -> None:
        super().__init__()
        self._inward, self._outward = inward, outward
        if inward is not None:
            inward.readers.add(id(self))
        if outward is not None:
            outward.writers.add(id(self))

    @property
    def readable(self) -> bool:
        """Whether this end can receive."""
        return self._inward is not None

    @property
    def writable(self) -> bool:
        """Whether this end can send."""
        return self._outward is not None

    def send(self, obj: Any) -> None:
        """Sends an object.

        Raises: `OSError` when this end is closed or only receives, `BrokenPipeError` when the other
        end is closed.
        """
        way = self._outward
        if self._closed or way is None or not way.readers:
            raise self._cannot_send()
        way.store.put(obj)

    def recv(self) -> Any:
        """The next object; waits for it.

        Raises: `EOFError` when there is none left and the other end is closed, `OSError` when this
        end is closed or only sends.
        """
        message = self._receive()
        return pickle.loads(message) if type(message) is _Bytes else message

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Sends `size` bytes of an object that has a buffer, from `offset` on; all without `size`.

        Raises: as `send`, and `ValueError` when the object has no such bytes.
        """
        way = self._outward
        if self._closed or way is None or not way.readers:
            raise self._cannot_send()
        view = memoryview(buf).cast("B")
        if offset < 0:
            raise ValueError("offset is negative")
        if view.nbytes < offset:
            raise ValueError("buffer length < offset")
        end = view.nbytes if size is None else offset + size
        if end < offset:
            raise ValueError("size is negative")
        if end > view.nbytes:
            raise ValueError("buffer length < offset + size")
        way.store.put(_Bytes(view[offset:end]))

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """The next message as bytes; one of `send` comes pickled.

        Raises: as `recv`; `ValueError` for a negative `maxlength`, and `OSError` for a message that
        is longer, which closes this end.
        """
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        message = self._received_bytes()
        if maxlength is not None and len(message) > maxlength:
            self.close()
            raise OSError("got more bytes than maxlength allows")
        return message

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Writes the next message into an object that has a buffer; the number of its bytes.

        Raises: as `recv`; `multiprocessing.BufferTooShort`, with the message, where it does not
        fit; `ValueError` when the buffer has no byte `offset`.
        """
        view = memoryview(buf).cast("B")
        if offset < 0:
            raise ValueError("negative offset")
        if offset > view.nbytes:
            raise ValueError("offset too large")
        message = self._received_bytes()
        if view.nbytes < offset + len(message):
            from multiprocessing import BufferTooShort

            raise BufferTooShort(message)
        view[offset : offset + len(message)] = message
        return len(message)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether something can be received, the end included, within `timeout` seconds."""
        return self._readable_way().store.ready(timeout)

    def another(self) -> Connection:
        """A handle on the same end for another worker: it stays open until all are closed."""
        own = Connection(self._inward, self._outward)
        if self._closed:
            own.close()
        return own

    def _release(self) -> None:
        if self._inward is not None:
            self._inward.readers.discard(id(self))
        way = self._outward
        if way is not None:
            way.writers.discard(id(self))
            if not way.writers:
                way.store.end()

    def _receive(self) -> Any:
        return self._readable_way().store.get()

    def _received_bytes(self) -> bytes:
        message = self._receive()
        return bytes(message) if type(message) is _Bytes else pickle.dumps(message)

    def _readable_way(self) -> _Way:
        if self._closed:
            raise OSError("handle is closed")
        if self._inward is None:
            raise OSError("connection is write-only")
        return self._inward

    def _cannot_send(self) -> OSError:
        if self._closed:
            return OSError("handle is closed")
        if self._outward is None:
            return OSError("connection is read-only")
        return BrokenPipeError("the other end is closed")

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            self._closed = True
            self._release()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Connection of threads stays in its process")


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Two connected ends: both send and receive, or the first only receives, the second sends."""
    there = _Way()
    if not duplex:
        return Connection(there, None), Connection(None, there)
    back = _Way()
    return Connection(back, there), Connection(there, back)
