"""The errors autopar raises for its own failures, as a tree.

    AutoparError
    ├── UsageError              an argument that cannot be meant
    │   ├── OptionValueError    (also a ValueError)
    │   ├── OptionTypeError     (also a TypeError)
    │   └── ReleaseError        (also a ValueError, RuntimeError and AssertionError)
    ├── BackendUnavailable      the chosen backend cannot run here
    ├── TransportError          something would not travel to a worker or back
    ├── TaskTimeout             an item ran past its time (also a TimeoutError)
    └── WorkerCrashed           the worker died while it ran an item

    RuntimeWarning
    └── OwnerDied               a process died while it held a lock, and another one has got it

An exception raised by the user's function is never wrapped: it reaches the caller as itself, with
a note that names the item. Errors cross processes, so `super().__init__` receives every
constructor argument, which lets pickle rebuild them.
"""

from __future__ import annotations


class AutoparError(Exception):
    """Base of every error that autopar raises for a failure of its own."""


class UsageError(AutoparError):
    """An argument cannot be meant as it was given; nothing has run."""


class OptionValueError(UsageError, ValueError):
    """An option has the right type and an impossible value."""


class OptionTypeError(UsageError, TypeError):
    """An option has the wrong type."""


class ReleaseError(UsageError, ValueError, RuntimeError, AssertionError):
    """A lock was released, or a condition used, by who does not have it.

    It is all that `threading` and `multiprocessing` raise then, each in its place.
    """


class BackendUnavailable(AutoparError):
    """The chosen backend cannot run here.

    backend: its name; why: the reason; remedy: what to do instead.
    """

    backend: str
    why: str
    remedy: str

    def __init__(self, backend: str, why: str, remedy: str) -> None:
        super().__init__(backend, why, remedy)
        self.backend, self.why, self.remedy = backend, why, remedy

    def __str__(self) -> str:
        return f"backend {self.backend!r} cannot run here: {self.why}. {self.remedy}"


class TransportError(AutoparError):
    """Something would not travel to a worker, or back.

    what: the object that would not travel ("the function", "the initializer", "the arguments of
        the initializer", "what is said of retries", "an argument", "the result").
    index: the item it belongs to, or None where it belongs to no single item.
    why: the reason, as pickle gave it, and the part at fault.
    path: the part at fault as it is reached from "fn", "initializer", "initargs", "retries", "item"
        or "result", such as `item["jobs"][1].lock`; "" when unknown.
    """

    what: str
    index: int | None
    why: str
    path: str

    def __init__(self, what: str, index: int | None, why: str, path: str = "") -> None:
        super().__init__(what, index, why, path)
        self.what, self.index, self.why, self.path = what, index, why, path

    def __str__(self) -> str:
        where = "" if self.index is None else f" of item {self.index}"
        return (
            f"{self.what}{where} cannot travel to or from a process: {self.why}. "
            "Use backend='threads', which shares memory, or make it picklable."
        )


class TaskTimeout(AutoparError, TimeoutError):
    """An item ran longer than it may.

    index: the item. timeout: seconds it was given. ended: whether what ran it was ended; a thread
    cannot be, and may go on for as long as the interpreter does. awaited: it was a coroutine.
    """

    index: int
    timeout: float
    ended: bool
    awaited: bool

    def __init__(self, index: int, timeout: float, ended: bool, awaited: bool = False) -> None:
        super().__init__(index, timeout, ended, awaited)
        self.index, self.timeout, self.ended, self.awaited = index, timeout, ended, awaited

    def __reduce__(self) -> tuple[type[TaskTimeout], tuple[int, float, bool, bool]]:
        # an OSError keeps two arguments
        return type(self), (self.index, self.timeout, self.ended, self.awaited)

    def __str__(self) -> str:
        fate = (
            "it was cancelled"
            if self.awaited
            else "the process that ran it was ended"
            if self.ended
            else "its thread cannot be ended: it was given up, and may still be running. "
            "backend='processes' ends such items"
        )
        return f"item {self.index} ran longer than timeout={self.timeout:g} s; {fate}."


class WorkerCrashed(AutoparError):
    """The worker process died while it ran an item, or an item asked its worker to exit.

    index: the item, or None when the worker died before it had one.
    exitcode: as in `multiprocessing`: negative for a signal, None when unknown.
    worker: the name of the `Worker` that died before it had a result, or None for a map's.
    """

    index: int | None
    exitcode: int | None
    worker: str | None

    def __init__(self, index: int | None, exitcode: int | None, worker: str | None = None) -> None:
        super().__init__(index, exitcode, *(() if worker is None else (worker,)))
        self.index, self.exitcode, self.worker = index, exitcode, worker

    def __str__(self) -> str:
        if self.worker is not None:
            return f"worker {self.worker!r} ended without a result ({_ending(self.exitcode)})"
        item = "before it had an item" if self.index is None else f"while it ran item {self.index}"
        return (
            f"a worker process died {item} ({_ending(self.exitcode)}). "
            "Run that item alone to see the cause; errors='return' keeps the other results."
        )


class OwnerDied(RuntimeWarning):
    """A process ended while it held a lock or a semaphore, which another one has got now."""


def _ending(exitcode: int | None) -> str:
    """The way a process ended, in words."""
    if exitcode is None:
        return "exit code unknown"
    if exitcode >= 0:
        return f"exit code {exitcode}"
    import signal

    try:
        return f"killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"killed by signal {-exitcode}"
