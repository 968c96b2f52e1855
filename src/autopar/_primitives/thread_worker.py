"""Workers on threads, with the interface of a worker on a process, less what no thread can do.

Guarantees: what the target returned or raised is kept until it is asked for; an exception that
nobody has asked for when the worker is dropped, or when the interpreter ends, is shown by
`threading.excepthook`. Relies on: `threading.Thread` calling `self.run()` in the new thread.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from .handles import Handle, handed
from .misuse import OutOfTurn

R = TypeVar("R")

_CANNOT_END = (
    "a thread cannot be ended from outside: have it look at an Event and set that, "
    "or use autopar.processes.Worker, whose {name}() ends it"
)


if TYPE_CHECKING:

    class _Thread:
        """A `threading.Thread`, but for `run`, which returns nothing there."""

        name: str
        daemon: bool

        def __init__(
            self, group: Any, target: Any, name: Any, args: Any, kwargs: Any, *, daemon: Any
        ) -> None: ...
        @property
        def ident(self) -> int | None: ...
        @property
        def native_id(self) -> int | None: ...
        def start(self) -> None: ...
        def join(self, timeout: float | None) -> None: ...
        def is_alive(self) -> bool: ...

else:
    _Thread = threading.Thread


class Worker(_Thread, Generic[R]):
    """A thread that calls `target(*args, **kwargs)`, or a subclass's `run()`, and keeps the result.

    group: None. name: "Worker-" and a number unless given. daemon: whether the interpreter may end
    without it; as in the thread that makes it unless given.
    Pipes and queues of `autopar.threads` among the arguments, or a subclass's attributes, may be
    closed in the thread without closing them for others, and are when it ends, as in a process.
    """

    _outcome: Outcome | None = None
    _closed = False
    _begun = False

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
        assert group is None, "group argument must be None for now"
        super().__init__(
            None, target, name or _next_name(type(self)), tuple(args), dict(kwargs), daemon=daemon
        )

    def run(self) -> R:
        """Calls the target; a subclass may do anything else here, and return it."""
        target, args, kwargs = _target_of(self)
        return target(*args, **kwargs) if target is not None else None  # type: ignore[return-value]

    def start(self) -> None:
        """Starts the thread.

        Raises: `AssertionError` (also a `RuntimeError`) when it was started before; `RuntimeError`
        when the system has no more threads to give.
        """
        self._check_closed()
        if self._begun:
            raise OutOfTurn("cannot start a worker twice")
        self._begun = True
        self._running = threading.Lock()
        self._running.acquire()
        own = _hand_over(self)
        body = self.run
        cast(Any, self).run = lambda: _work(self, body, own)
        try:
            super().start()
        except BaseException:
            self._begun = False
            del self.run
            raise

    def join(self, timeout: float | None = None) -> None:
        """Waits until the thread has ended, at most `timeout` seconds.

        Raises: `AssertionError` (also a `RuntimeError`) when it was not started.
        """
        self._check_closed()
        if not self._begun:
            raise OutOfTurn("can only join a started worker")
        if cast(Any, self) is threading.current_thread():
            raise OutOfTurn("cannot join itself")
        # Not by Thread.join, which takes the thread for ended when Ctrl-C interrupts it, before
        # Python 3.13. After a fork, a thread of the parent has ended without saying so.
        if super().is_alive() and _acquired(self._running, timeout):
            self._running.release()
            super().join(None)

    def result(self, timeout: float | None = None) -> R:
        """What the target, or `run`, returned; waits for it at most `timeout` seconds.

        Raises: what the target raised; `TimeoutError` when it is still running; `AssertionError`
        (also a `RuntimeError`) when the worker was not started.
        """
        self.join(timeout)
        outcome = self._outcome
        if outcome is None or self.is_alive():
            raise TimeoutError(f"worker {self.name!r} has no result after {timeout} s")
        outcome.fetched = True
        try:
            if outcome.error is not None:
                raise outcome.error.with_traceback(outcome.trace)
            value: R = outcome.value
            return value
        finally:
            del self, outcome  # the error's traceback holds this frame

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        self._check_closed()
        return super().is_alive()

    @property
    def exitcode(self) -> int | None:
        """None until it has ended, then 0, 1 after an exception, or what `sys.exit` was given."""
        self._check_closed()
        return None if self._outcome is None or super().is_alive() else self._outcome.exitcode

    @property
    def pid(self) -> int | None:
        """The process the thread is in; None until it is started."""
        return os.getpid() if self._begun else None

    def close(self) -> None:
        """Drops the result; the worker cannot be used any more.

        Raises: `ValueError` while the thread runs.
        """
        if super().is_alive():
            raise ValueError("Cannot close a worker while it is still running. First call join().")
        self.show_error()
        self._outcome, self._closed = None, True

    def terminate(self) -> NoReturn:
        """Raises `NotImplementedError`: a thread cannot be ended."""
        raise NotImplementedError(_CANNOT_END.format(name="terminate"))

    def interrupt(self) -> NoReturn:
        """Raises `NotImplementedError`: a signal goes to a process, not to a thread."""
        raise NotImplementedError(_CANNOT_END.format(name="interrupt"))

    def kill(self) -> NoReturn:
        """Raises `NotImplementedError`: a thread cannot be ended."""
        raise NotImplementedError(_CANNOT_END.format(name="kill"))

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError("worker object is closed")

    def show_error(self) -> None:
        """Shows the exception that nobody has asked for."""
        outcome = self._outcome
        if outcome is None or outcome.error is None or outcome.fetched:
            return
        outcome.fetched = True
        if not isinstance(outcome.error, SystemExit):
            seen = type(outcome.error), outcome.error, outcome.trace, cast(Any, self)
            threading.excepthook(threading.ExceptHookArgs(seen))

    def __del__(self) -> None:
        self.show_error()


class Outcome:
    """What became of a worker's target.

    trace: where the error was raised, in the user's frames. fetched: whether somebody has seen it.
    """

    def __init__(self, value: Any, error: BaseException | None = None) -> None:
        self.value, self.error = value, error
        self.exitcode = 0 if error is None else _exitcode(error)
        self.trace: TracebackType | None = None
        self.fetched = False
        if error is not None and error.__traceback__ is not None:
            error.__traceback__ = self.trace = error.__traceback__.tb_next  # less this module's


def _acquired(lock: threading.Lock, timeout: float | None) -> bool:
    return lock.acquire() if timeout is None else lock.acquire(timeout=max(timeout, 0.0))


def current_worker() -> threading.Thread:
    """The worker that asks; for other threads, the main one among them, their `threading.Thread`."""
    return threading.current_thread()


def active_workers() -> list[Worker[Any]]:
    """The workers on threads of this process that are running now."""
    running: list[Any] = threading.enumerate()
    return [each for each in running if isinstance(each, Worker)]


def _work(worker: Any, body: Callable[[], Any], own: list[Handle]) -> None:
    """All that a worker's thread does."""
    del worker.run  # the class's own again; what stood in its place holds the worker
    try:
        outcome = Outcome(body())
    except BaseException as error:
        outcome = Outcome(None, error)
        _unseen.watch(worker)
    for handle in own:
        handle.close()
    for handle in _handles(vars(worker).values()):
        handle.let_go(worker)
    worker._outcome = outcome
    worker._running.release()


def _exitcode(error: BaseException) -> int:
    """The exit code of a process that raised it; what `sys.exit` was given is printed as there."""
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return int(error.code)
    if sys.stderr is not None:
        sys.stderr.write(f"{error.code}\n")
    return 1


# threading.Thread has kept these three under these names since Python 3.0, and drops them when its
# own `run` has ended.
def _target_of(worker: Any) -> tuple[Callable[..., Any] | None, tuple[Any, ...], dict[str, Any]]:
    """The target and its arguments, which the worker lets go of."""
    target, args, kwargs = worker._target, worker._args, worker._kwargs
    del worker._target, worker._args, worker._kwargs
    return target, args, kwargs


def _hand_over(worker: Any) -> list[Handle]:
    """The handles of its own that the worker gets: for the arguments of its target."""
    worker._args = tuple(map(handed, worker._args))
    worker._kwargs = {name: handed(each) for name, each in worker._kwargs.items()}
    for handle in _handles(vars(worker).values()):
        handle.hold(worker)
    return _handles((*worker._args, *worker._kwargs.values()))


def _handles(values: Iterable[Any]) -> list[Handle]:
    return [each for each in values if isinstance(each, Handle)]


_counts: dict[str, int] = {}
_counting = threading.Lock()


def _next_name(kind: type) -> str:
    with _counting:
        count = _counts[kind.__name__] = _counts.get(kind.__name__, 0) + 1
    return f"{kind.__name__}-{count}"


class _Unseen:
    """The workers whose exception nobody has asked for yet."""

    def __init__(self) -> None:
        self._workers: weakref.WeakSet[Worker[Any]] = weakref.WeakSet()
        self._mutex = threading.Lock()
        self._registered = False

    def watch(self, worker: Worker[Any]) -> None:
        """Has the worker's exception shown when the interpreter ends, at the latest."""
        with self._mutex:
            self._workers.add(worker)
            if not self._registered:
                self._registered = True
                atexit.register(self._show_errors)

    def _show_errors(self) -> None:
        for worker in list(self._workers):
            worker.show_error()


_unseen = _Unseen()
