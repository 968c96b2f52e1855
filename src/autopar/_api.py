"""The functions people call: options are checked here, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from . import backends
from ._engine.call import Call
from ._errors import OptionTypeError, OptionValueError
from ._model import Errors, Job, Kind, Options, Plan

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")
R = TypeVar("R")

_KINDS = ("auto", "cpu", "io")
_ERRORS = ("raise", "return", "group")


@overload
def auto_map(
    fn: Callable[[T], R],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    backend: str | Executor | None = None,
    workers: int | None = None,
    chunksize: int | None = None,
    errors: Literal["raise", "group"] = "raise",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> list[R]: ...


@overload
def auto_map(
    fn: Callable[[T], R],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    backend: str | Executor | None = None,
    workers: int | None = None,
    chunksize: int | None = None,
    errors: Literal["return"],
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> list[R | Exception]: ...


def auto_map(
    fn: Callable[[T], R],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    backend: str | Executor | None = None,
    workers: int | None = None,
    chunksize: int | None = None,
    errors: Errors = "raise",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> list[R] | list[R | Exception]:
    """`[fn(item) for item in items]`, as fast as this machine and interpreter allow.

    The first items are run and measured (each item is evaluated exactly once, these included);
    what is left goes on in the caller's thread, to threads or to processes, whatever is predicted
    to take the least time. The results, their order and the exceptions are the loop's.

    Args:
        fn: Called with one item. To be run in a process it must be importable by name or
            serialisable by value (a lambda or closure is); otherwise memory stays shared.
        items: Any iterable. An iterator is read by the calling thread, a bounded way ahead.
        kind: What the items do: "cpu" (compute), "io" (wait), or "auto" to have it measured.
        backend: "serial", "threads", "processes", or a `concurrent.futures.Executor` to use;
            None to have it chosen.
        workers: At most this many items run at once; None for a number that fits the work.
        chunksize: Items that travel together; None for chunks sized by time.
        errors: "raise" stops at the first failure and raises it; "return" puts exceptions in
            their items' places; "group" runs everything and then raises one `ExceptionGroup`.
            With the latter two, and with `kind="cpu"`, no item runs in the calling thread.
        initializer: Called with `initargs` once in each worker before its first item; the calling
            thread is a worker too when it runs items.
        initargs: Arguments of `initializer`.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: What `fn` raised, with a note that names the item; what `items` raised.
        WorkerCrashed: A worker process died while it ran an item.
        TransportError: With `backend="processes"`, something that cannot be pickled.
        BackendUnavailable: The chosen backend cannot run here.
        ValueError, TypeError: An option that cannot be meant; nothing has run then.
    """
    call = _call(fn, items, kind, backend, workers, chunksize, errors, initializer, initargs)
    return call.run()


@overload
def auto_starmap(
    fn: Callable[..., R],
    tuples: Iterable[Iterable[Any]],
    kind: Kind = "auto",
    *,
    backend: str | Executor | None = None,
    workers: int | None = None,
    chunksize: int | None = None,
    errors: Literal["raise", "group"] = "raise",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> list[R]: ...


@overload
def auto_starmap(
    fn: Callable[..., R],
    tuples: Iterable[Iterable[Any]],
    kind: Kind = "auto",
    *,
    backend: str | Executor | None = None,
    workers: int | None = None,
    chunksize: int | None = None,
    errors: Literal["return"],
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> list[R | Exception]: ...


def auto_starmap(
    fn: Callable[..., R],
    tuples: Iterable[Iterable[Any]],
    kind: Kind = "auto",
    *,
    backend: str | Executor | None = None,
    workers: int | None = None,
    chunksize: int | None = None,
    errors: Errors = "raise",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> list[R] | list[R | Exception]:
    """`[fn(*args) for args in tuples]`; everything else is as for `auto_map`.

    Args:
        fn: Called with the members of one tuple.
        tuples: Any iterable of argument tuples.
        kind: See `auto_map`.
        backend: See `auto_map`.
        workers: See `auto_map`.
        chunksize: See `auto_map`.
        errors: See `auto_map`.
        initializer: See `auto_map`.
        initargs: See `auto_map`.

    Returns:
        The results, in the order of the tuples.

    Raises:
        Exception: As for `auto_map`.
    """
    if not callable(fn):
        raise OptionTypeError(f"fn must be callable, not {type(fn).__name__}")
    spread = Spread(fn)
    call = _call(spread, tuples, kind, backend, workers, chunksize, errors, initializer, initargs)
    return call.run()


def plan(
    fn: Callable[[T], R],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    backend: str | Executor | None = None,
    workers: int | None = None,
    chunksize: int | None = None,
    errors: Errors = "raise",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Plan:
    """The plan `auto_map` would make, and why.

    Runs the first items as the probe does, in the calling thread, and drops their results; where
    the options settle everything, runs nothing. The arguments are `auto_map`'s.

    Returns:
        Backend, workers, the reason, and the seconds predicted of each strategy.

    Raises:
        Exception: As for `auto_map`, from the items that were run.
    """
    call = _call(fn, items, kind, backend, workers, chunksize, errors, initializer, initargs)
    return call.probe()


def shutdown(wait: bool = True) -> None:
    """Ends the workers kept warm for the next call; they are also ended at exit.

    A later call starts new ones.

    Args:
        wait: Return when they have ended.
    """
    backends.shutdown(wait=wait)


class Spread:
    """`fn(*args)` as a function of one tuple."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.func = fn

    def __call__(self, args: Iterable[Any]) -> Any:
        return self.func(*args)


def _call(
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    kind: Any,
    backend: Any,
    workers: Any,
    chunksize: Any,
    errors: Any,
    initializer: Any,
    initargs: Any,
) -> Call:
    """A call with options that have been checked."""
    if not callable(fn):
        raise OptionTypeError(f"fn must be callable, not {type(fn).__name__}")
    _check_choice("kind", kind, _KINDS)
    _check_choice("errors", errors, _ERRORS)
    _check_count("workers", workers)
    _check_count("chunksize", chunksize)
    if initializer is not None and not callable(initializer):
        raise OptionTypeError(f"initializer must be callable, not {type(initializer).__name__}")
    if not isinstance(initargs, tuple):
        raise OptionTypeError(f"initargs must be a tuple, not {type(initargs).__name__}")
    name, executor = _means(backend, initializer)
    job = Job(fn, initializer, initargs, errors != "raise")
    options = Options(kind, name, workers, chunksize, errors)
    return Call(job, items, options, executor)


def _means(backend: Any, initializer: Any) -> tuple[str | None, Any]:
    """The backend's name, or the executor the caller brought."""
    if backend is None:
        return None, None
    if isinstance(backend, str):
        _check_choice("backend", backend, backends.NAMES)
        backends.backend(backend).check()
        return backend, None
    from concurrent.futures import Executor

    if not isinstance(backend, Executor):
        names = ", ".join(repr(name) for name in backends.NAMES)
        raise OptionTypeError(
            f"backend must be one of {names}, a concurrent.futures.Executor, or None, "
            f"not {type(backend).__name__}"
        )
    if initializer is not None:
        raise OptionValueError("an executor's workers are its own: give it the initializer")
    return None, backend


def _check_choice(option: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str):
        raise OptionTypeError(f"{option} must be a string, not {type(value).__name__}")
    if value not in choices:
        names = ", ".join(repr(choice) for choice in choices)
        raise OptionValueError(f"{option} must be one of {names}, not {value!r}")


def _check_count(option: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise OptionTypeError(f"{option} must be a whole number or None, not {value!r}")
    if value < 1:
        raise OptionValueError(f"{option} must be at least 1, not {value}")
