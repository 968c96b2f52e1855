"""The worker that is made before anybody knows where it will run: on a thread or on a process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from .._model import Kind
from .._options import check_kind

R = TypeVar("R")


class Worker(Generic[R]):
    """Calls `target(*args, **kwargs)`, or a subclass's `run()`, and keeps what it returned.

    kind: "io" runs on a thread, "cpu" on a process, "auto" on a thread, so that memory stays
    shared. The other arguments are those of `threading.Thread` and `multiprocessing.Process`; a
    process takes lambdas and closures, too.
    """

    _unit: Any = None  # the worker of one of the rooms; none where this object has travelled

    def __init__(
        self,
        group: None = None,
        target: Callable[..., R] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
        kind: Kind = "auto",
    ) -> None:
        check_kind(kind)
        self.kind: Kind = kind
        call: Callable[..., Any] = Call(target, tuple(args), dict(kwargs))
        self._call = call
        if type(self).run is not Worker.run:
            call = Run(self)
        self._unit = _room_of(kind)(group, call, name, daemon=daemon)

    def run(self) -> R:
        """Calls the target; a subclass may do anything else here, and return it."""
        result: R = self._call()
        return result

    def start(self) -> None:
        """Starts it. Raises: `AssertionError` when it was started before."""
        self._unit.start()

    def join(self, timeout: float | None = None) -> None:
        """Waits until it has ended, at most `timeout` seconds."""
        self._unit.join(timeout)

    def result(self, timeout: float | None = None) -> R:
        """What the target, or `run`, returned; waits for it at most `timeout` seconds.

        Raises: what the target raised; `WorkerCrashed` when its process died; `TransportError` for
        a result that cannot travel; `TimeoutError` when there is none yet.
        """
        value: R = self._unit.result(timeout)
        return value

    def is_alive(self) -> bool:
        """Whether it runs."""
        alive: bool = self._here().is_alive()
        return alive

    def terminate(self) -> None:
        """Ends a process. Raises: `NotImplementedError` on a thread."""
        self._unit.terminate()

    def kill(self) -> None:
        """Ends a process at once. Raises: `NotImplementedError` on a thread."""
        self._unit.kill()

    def close(self) -> None:
        """Gives back what it holds. Raises: `ValueError` while it runs."""
        self._unit.close()

    @property
    def name(self) -> str:
        """Its name."""
        name: str = self._here().name
        return name

    @name.setter
    def name(self, name: str) -> None:
        self._here().name = name

    @property
    def daemon(self) -> bool:
        """Whether the program may end without it; set before it is started."""
        daemon: bool = self._here().daemon
        return daemon

    @daemon.setter
    def daemon(self, daemon: bool) -> None:
        self._here().daemon = daemon

    @property
    def ident(self) -> int | None:
        """Its thread's or its process's number, None until it is started."""
        ident: int | None = self._here().ident
        return ident

    @property
    def pid(self) -> int | None:
        """The process it runs in, None until it is started."""
        pid: int | None = self._here().pid
        return pid

    @property
    def exitcode(self) -> int | None:
        """None until it has ended; then 0, 1 after an exception, or what `sys.exit` was given."""
        exitcode: int | None = self._here().exitcode
        return exitcode

    def _here(self) -> Any:
        """The room's worker; in its own process, the one that stands for it there."""
        return self._unit or _current(self.kind)

    def __getstate__(self) -> dict[str, Any]:
        return {name: each for name, each in vars(self).items() if name != "_unit"}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} kind={self.kind!r} {self._here()!r}>"


class Run:
    """A subclass's `run`, as a target."""

    def __init__(self, worker: Worker[Any]) -> None:
        self._worker = worker

    def __call__(self) -> Any:
        return self._worker.run()


class Call:
    """A target and its arguments; to a process that is not forked, by value where need be."""

    def __init__(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._parts = target, args, kwargs

    def __call__(self) -> Any:
        target, args, kwargs = self._parts
        return target(*args, **kwargs) if target is not None else None

    def __reduce__(self) -> Any:
        from multiprocessing.reduction import ForkingPickler

        try:
            ForkingPickler.dumps(self._parts)  # what only travels to a new process does so
        except Exception:
            from .._transport import wire

            return _loaded, (wire.dumps(self._parts),)
        return Call, self._parts


def _loaded(data: bytes) -> Call:
    import pickle

    return Call(*pickle.loads(data))


def _room_of(kind: Kind) -> Any:
    if kind == "cpu":
        from . import process_worker

        return process_worker.Worker
    from . import thread_worker

    return thread_worker.Worker


def _current(kind: Kind) -> Any:
    if kind == "cpu":
        from . import process_worker

        return process_worker.current_worker()
    from . import thread_worker

    return thread_worker.current_worker()
