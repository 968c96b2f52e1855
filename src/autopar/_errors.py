"""The errors autopar raises for its own failures, as a tree.

    AutoparError
    ├── UsageError              an argument that cannot be meant
    │   ├── OptionValueError    (also a ValueError)
    │   └── OptionTypeError     (also a TypeError)
    ├── BackendUnavailable      the chosen backend cannot run here
    ├── TransportError          something would not travel to a worker or back
    └── WorkerCrashed           the worker died while it ran an item

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


class BackendUnavailable(AutoparError):
    """The chosen backend cannot run here.

    backend: its name; why: the reason; remedy: what to do instead.
    """

    def __init__(self, backend: str, why: str, remedy: str) -> None:
        super().__init__(backend, why, remedy)
        self.backend, self.why, self.remedy = backend, why, remedy

    def __str__(self) -> str:
        return f"backend {self.backend!r} cannot run here: {self.why}. {self.remedy}"


class TransportError(AutoparError):
    """Something would not travel to a worker, or back.

    what: the object that would not travel ("the function", "an argument", "the result").
    index: the item it belongs to, or None for the function.
    why: the reason, as pickle gave it.
    """

    def __init__(self, what: str, index: int | None, why: str) -> None:
        super().__init__(what, index, why)
        self.what, self.index, self.why = what, index, why

    def __str__(self) -> str:
        where = "" if self.index is None else f" of item {self.index}"
        return (
            f"{self.what}{where} cannot travel to or from a process: {self.why}. "
            "Use kind='auto' or backend='threads', which share memory, or make it picklable."
        )


class WorkerCrashed(AutoparError):
    """The worker process died while it ran an item.

    index: the item, or None when the worker died before it had one.
    exitcode: as in `multiprocessing`: negative for a signal, None when unknown.
    """

    def __init__(self, index: int | None, exitcode: int | None) -> None:
        super().__init__(index, exitcode)
        self.index, self.exitcode = index, exitcode

    def __str__(self) -> str:
        item = "before it had an item" if self.index is None else f"while it ran item {self.index}"
        return (
            f"a worker process died {item} ({_ending(self.exitcode)}). "
            "Run that item alone to see the cause; errors='return' keeps the other results."
        )


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
