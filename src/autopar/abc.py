"""What the primitives of either room look like, for annotations: `def work(lock: abc.Lock)`.

Structural: `autopar.threads.Lock`, `autopar.processes.Lock` and whatever else has the methods is an
`abc.Lock`. `isinstance` looks whether the methods are there, not at their arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


@runtime_checkable
class Acquirable(Protocol):
    """What `with` takes and gives back."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Whether it was got; waits for it at most `timeout` seconds, None without end."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...

    def __enter__(self) -> Any: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> Any: ...


@runtime_checkable
class Lock(Acquirable, Protocol):
    """A lock that any worker may release. `release` of one not held raises `ValueError`."""

    def locked(self) -> bool:
        """Whether anybody holds it."""
        ...


@runtime_checkable
class RLock(Lock, Protocol):
    """A lock that its owner may acquire again. Others' `release` raises `AssertionError`."""


@runtime_checkable
class Semaphore(Acquirable, Protocol):
    """A count that `acquire` takes from."""

    def get_value(self) -> int:
        """How many are left."""
        ...


@runtime_checkable
class BoundedSemaphore(Semaphore, Protocol):
    """A `Semaphore` whose `release` raises `ValueError` where it would hold more than at first."""


@runtime_checkable
class Condition(Acquirable, Protocol):
    """A lock, and those who wait for what it guards to change."""

    def wait(self, timeout: float | None = None) -> bool:
        """Give the lock back until notified, at most `timeout` seconds; whether it was in time."""
        ...

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until the predicate holds, at most `timeout` seconds; what it gave last."""
        ...

    def notify(self, n: int = 1) -> None:
        """Wake `n` of those who wait."""
        ...

    def notify_all(self) -> None:
        """Wake all who wait."""
        ...


@runtime_checkable
class Event(Protocol):
    """A flag that can be waited for."""

    def is_set(self) -> bool:
        """Whether it is set."""
        ...

    def set(self) -> None:
        """Set it, and wake all who wait."""
        ...

    def clear(self) -> None:
        """Unset it."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set, or gets set within `timeout` seconds, None without end."""
        ...


@runtime_checkable
class Barrier(Protocol):
    """Where a number of workers wait for each other. Broken, `threading.BrokenBarrierError`."""

    @property
    def parties(self) -> int:
        """How many have to come."""
        ...

    @property
    def n_waiting(self) -> int:
        """How many are waiting."""
        ...

    @property
    def broken(self) -> bool:
        """Whether somebody gave up."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others at most `timeout` seconds; a number of one's own below `parties`."""
        ...

    def reset(self) -> None:
        """Make it as new; who waits gets the error."""
        ...

    def abort(self) -> None:
        """Break it."""
        ...


@runtime_checkable
class SimpleQueue(Protocol[T]):
    """A queue of any number of values."""

    def put(self, obj: T) -> None:
        """Add a value."""
        ...

    def get(self) -> T:
        """Take the first value; wait for one."""
        ...

    def empty(self) -> bool:
        """Whether there is none now."""
        ...

    def close(self) -> None:
        """Use the queue no more in this worker."""
        ...


@runtime_checkable
class Queue(Protocol[T]):
    """A queue. `put` raises `queue.Full`, `get` raises `queue.Empty`, in time or without blocking."""

    def put(self, obj: T, block: bool = True, timeout: float | None = None) -> None:
        """Add a value; wait for room at most `timeout` seconds, None without end."""
        ...

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the first value; wait for one at most `timeout` seconds, None without end."""
        ...

    def put_nowait(self, obj: T) -> None:
        """`put` that does not wait."""
        ...

    def get_nowait(self) -> T:
        """`get` that does not wait."""
        ...

    def qsize(self) -> int:
        """About how many values there are."""
        ...

    def empty(self) -> bool:
        """Whether there is none now."""
        ...

    def full(self) -> bool:
        """Whether there is no room now."""
        ...

    def close(self) -> None:
        """Use the queue no more in this worker: `put` and `get` raise `ValueError`."""
        ...

    def join_thread(self) -> None:
        """After `close`: wait until what was put is on its way."""
        ...

    def cancel_join_thread(self) -> None:
        """Do not wait for that when the worker ends."""
        ...


@runtime_checkable
class JoinableQueue(Queue[T], Protocol[T]):
    """A `Queue` that can be waited for until every value has been dealt with."""

    def task_done(self) -> None:
        """A value taken has been dealt with."""
        ...

    def join(self) -> None:
        """Wait until all have been."""
        ...


@runtime_checkable
class Connection(Protocol):
    """One end of a pipe. What is sent to a closed end raises `OSError`; its receiver, `EOFError`."""

    @property
    def closed(self) -> bool:
        """Whether this end is closed."""
        ...

    @property
    def readable(self) -> bool:
        """Whether this end can receive."""
        ...

    @property
    def writable(self) -> bool:
        """Whether this end can send."""
        ...

    def send(self, obj: Any) -> None:
        """Send an object."""
        ...

    def recv(self) -> Any:
        """The next object; waits for it."""
        ...

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send bytes."""
        ...

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """The next message as bytes; waits for it."""
        ...

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Write the next message into a buffer; the number of its bytes."""
        ...

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether something can be received within `timeout` seconds, None without end."""
        ...

    def close(self) -> None:
        """Close this end, for the worker that has it."""
        ...


@runtime_checkable
class Worker(Protocol[R_co]):
    """One thread or process, and what its target returned."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def daemon(self) -> bool:
        """Whether the program may end without it."""
        ...

    @property
    def ident(self) -> int | None:
        """Its number, None until it is started."""
        ...

    @property
    def exitcode(self) -> int | None:
        """None until it has ended; then 0, 1 after an exception, or what `sys.exit` was given."""
        ...

    def start(self) -> None:
        """Start it."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, at most `timeout` seconds."""
        ...

    def is_alive(self) -> bool:
        """Whether it runs."""
        ...

    def result(self, timeout: float | None = None) -> R_co:
        """What its target returned, or raises what that raised; waits at most `timeout` seconds."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@runtime_checkable
class Value(Protocol[T]):
    """A value of ctypes with its lock."""

    value: T

    def get_lock(self) -> Any:
        """The lock it is read and written under."""
        ...

    def get_obj(self) -> Any:
        """The object of ctypes itself."""
        ...


@runtime_checkable
class Array(Protocol):
    """An array of ctypes with its lock."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def __setitem__(self, index: Any, value: Any, /) -> None: ...

    def get_lock(self) -> Any:
        """The lock it is read and written under."""
        ...

    def get_obj(self) -> Any:
        """The object of ctypes itself."""
        ...
