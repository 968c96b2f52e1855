"""Queues of processes: multiprocessing's, made in the default context when they are made."""

from __future__ import annotations

from multiprocessing import get_context, queues
from typing import TYPE_CHECKING, Generic, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    _Queue = queues.Queue
    _JoinableQueue = queues.JoinableQueue
    _SimpleQueue = queues.SimpleQueue
else:  # they take no type when they run, before Python 3.12

    class _Queue(queues.Queue, Generic[T]): ...

    class _JoinableQueue(queues.JoinableQueue, Generic[T]): ...

    class _SimpleQueue(queues.SimpleQueue, Generic[T]): ...


class Queue(_Queue[T]):
    """`multiprocessing.Queue`: a queue of at most `maxsize` values; a thread sends them."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize, ctx=get_context())


class JoinableQueue(_JoinableQueue[T]):
    """`multiprocessing.JoinableQueue`: a `Queue` that can be waited for until all is dealt with."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize, ctx=get_context())


class SimpleQueue(_SimpleQueue[T]):
    """`multiprocessing.SimpleQueue`: a pipe with locks at its ends; `put` waits when it is full."""

    def __init__(self) -> None:
        super().__init__(ctx=get_context())
