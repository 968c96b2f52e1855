"""Queues of one process, with multiprocessing's names. What is put is passed on, not copied."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any, Generic, NoReturn, Self, TypeVar

from .handles import Handle
from .store import Store

T = TypeVar("T")


class _Handle(Handle, Generic[T]):
    """A store's methods, as its own: a call of one costs what it would cost without the handle."""

    __slots__ = ("__weakref__", "_store", "empty", "get", "put")

    def __init__(self, store: Any) -> None:
        super().__init__()
        self._store = store
        self.put: Callable[..., None] = store.put
        self.get: Callable[..., T] = store.get
        self.empty: Callable[..., bool] = store.empty

    def another(self) -> Self:
        """A handle on the same queue for another worker."""
        own = type(self)(store=self._store)
        if self._closed:
            own.close()
        return own

    def _refuse(self, error: type[Exception], *names: str) -> None:
        """Has the methods of these names raise from now on."""

        def refuse(*_args: Any, **_options: Any) -> NoReturn:
            raise error(f"{type(self).__name__} {self!r} is closed")

        for name in names:
            setattr(self, name, refuse)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} of threads stays in its process")


class Queue(_Handle[T]):
    """A queue of at most `maxsize` values, or of any number with a `maxsize` below 1.

    `put(obj, block=True, timeout=None)` and `get(block=True, timeout=None)` wait at most `timeout`
    seconds and raise `queue.Full` and `queue.Empty`; `empty()` says whether there is nothing.
    """

    __slots__ = ("full", "qsize")

    def __init__(self, maxsize: int = 0, *, store: Store | None = None) -> None:
        super().__init__(store or Store(maxsize))
        self.qsize: Callable[..., int] = self._store.qsize
        self.full: Callable[..., bool] = self._store.full

    def put_nowait(self, obj: T) -> None:
        """`put` that raises `queue.Full` instead of waiting."""
        self.put(obj, False)

    def get_nowait(self) -> T:
        """`get` that raises `queue.Empty` instead of waiting."""
        return self.get(False)

    def _release(self) -> None:
        """`put` and `get` raise `ValueError` from now on; other workers' handles go on."""
        self._refuse(ValueError, "put", "get")
        if self._store.put_count:  # as one of processes, which opens its pipe only then
            self._refuse(OSError, "empty")

    def join_thread(self) -> None:
        """Returns at once: no thread has to send anything. After `close`, as with processes.

        Raises: `AssertionError` when the queue is not closed.
        """
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Does nothing: no thread has to send anything."""


class JoinableQueue(Queue[T]):
    """A `Queue` that can be waited for until every value has been dealt with."""

    __slots__ = ("join", "task_done")

    def __init__(self, maxsize: int = 0, *, store: Store | None = None) -> None:
        super().__init__(maxsize, store=store)
        self.task_done: Callable[..., None] = self._store.task_done
        self.join: Callable[..., None] = self._store.join


class SimpleQueue(_Handle[T]):
    """A queue of any number of values: `put(obj)`, `get()` and `empty()`.

    It is `queue.SimpleQueue`, written in C. Unlike with the others, a pipe's end that is put into
    it is not another one.
    """

    __slots__ = ()

    def __init__(self, *, store: queue.SimpleQueue[T] | None = None) -> None:
        super().__init__(store or queue.SimpleQueue())

    def _release(self) -> None:
        """All methods raise `OSError` from now on; other workers' handles go on."""
        self._refuse(OSError, "put", "get", "empty")
