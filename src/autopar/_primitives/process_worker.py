"""Workers on processes: multiprocessing's, which also bring back what their target returned."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from . import mailbox
from .misuse import OutOfTurn

R = TypeVar("R")


if TYPE_CHECKING:

    class _Process:
        """A `multiprocessing.Process`, but for `run`, which returns nothing there."""

        name: str
        daemon: bool
        authkey: bytes

        def __init__(
            self, group: Any, target: Any, name: Any, args: Any, kwargs: Any, *, daemon: Any
        ) -> None: ...
        @property
        def exitcode(self) -> int | None: ...
        @property
        def ident(self) -> int | None: ...
        @property
        def pid(self) -> int | None: ...
        @property
        def sentinel(self) -> int: ...
        def start(self) -> None: ...
        def join(self, timeout: float | None = None) -> None: ...
        def is_alive(self) -> bool: ...
        def terminate(self) -> None: ...
        def kill(self) -> None: ...
        def interrupt(self) -> None: ...
        def close(self) -> None: ...

else:
    _Process = multiprocessing.Process


class Worker(_Process, Generic[R]):
    """A process that calls `target(*args, **kwargs)`, or a subclass's `run()`.

    All as `multiprocessing.Process`, the start method included; and `result()`.
    """

    _mailbox: mailbox.Mailbox | None = None

    def __init__(
        self,
        group: None = None,
        target: Callable[..., R] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
    ) -> None:
        super().__init__(group, target, name, args, kwargs, daemon=daemon)

    def run(self) -> R:
        """Calls the target; a subclass may do anything else here, and return it."""
        target: Callable[..., R] | None = cast(Any, self)._target
        if target is None:
            return None  # type: ignore[return-value]
        return target(*cast(Any, self)._args, **cast(Any, self)._kwargs)

    def start(self) -> None:
        """Starts the process.

        Raises: `AssertionError` when it was started before, or by another process than the one that
        made it, or by a daemonic one.
        """
        ends = mailbox.pair() if self._mailbox is None else None
        if ends is None:
            super().start()
            return
        reader, writer = ends
        box = mailbox.Mailbox(reader)  # now: after a fork, all that is done takes longer
        cast(Any, self).run = mailbox.Posting(self, reader, writer)
        try:
            super().start()
        finally:
            del self.run
            os.close(writer)
        self._mailbox = box

    def result(self, timeout: float | None = None) -> R:
        """What the target, or `run`, returned; waits for it at most `timeout` seconds.

        Need not be asked for: a process ends when it is done, however large its result.

        Raises: what the target raised, with its traceback as a note; `WorkerCrashed` when the
        process ended otherwise; `TransportError` for a result that cannot travel; `TimeoutError`
        when there is none yet; `AssertionError` (also a `RuntimeError`) before `start`.
        """
        code = self.exitcode  # says so when the worker is closed
        if self._mailbox is None:
            raise _no_mailbox(self, code)
        value: R = self._mailbox.result(self, timeout)
        return value

    def close(self) -> None:
        """Gives back what the worker holds, its result too; it cannot be used any more.

        Raises: `ValueError` while the process runs.
        """
        super().close()
        self._mailbox = None


def current_worker() -> BaseProcess:
    """The worker that asks; in the main process, what stands for that."""
    return multiprocessing.current_process()


def active_workers() -> list[BaseProcess]:
    """The processes this one has started that are running now; those that ended are joined."""
    return multiprocessing.active_children()


def _no_mailbox(worker: Worker[Any], exitcode: int | None) -> Exception:
    from .._errors import BackendUnavailable
    from .._platform import can_fork_helpers

    why = can_fork_helpers()
    if why is None or (exitcode is None and worker.pid is None):
        return OutOfTurn("can only ask a started worker for its result")
    return BackendUnavailable("processes", why, "Send the result through a Queue.")
