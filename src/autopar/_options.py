"""The options of all maps: what they are called, and what can be meant by them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from . import backends
from ._errors import OptionTypeError, OptionValueError
from ._model import Errors, Kind
from ._retry import Retry

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ._displays import ProgressOption

KINDS = ("auto", "cpu", "io")
ERRORS = ("raise", "return", "group")


class MapSettings(TypedDict, total=False):
    """The options of `auto_map` but `kind` and `errors`; `auto_map` says what they mean."""

    backend: str | Executor | None
    workers: int | None
    chunksize: int | None
    timeout: float | None
    retries: int | Retry
    seed: int | str | bytes | None
    max_worker_memory: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    progress: ProgressOption | None


class MapOptions(MapSettings, total=False):
    """The options of `auto_map` and its sisters but `errors`."""

    kind: Kind


class OneByOne(TypedDict, total=False):
    """The options of all maps whose results are taken one after another."""

    buffersize: int | None
    backend: str | Executor | None
    workers: int | None
    timeout: float | None
    retries: int | Retry
    seed: int | str | bytes | None
    max_worker_memory: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    progress: ProgressOption | None


class ReduceOptions(OneByOne, total=False):
    """The options of `auto_reduce`; `auto_imap` says what they mean."""

    kind: Kind


class LazySettings(OneByOne, total=False):
    """The options of `auto_imap` but `kind` and `errors`; `auto_imap` says what they mean."""

    ordered: bool


class LazyOptions(LazySettings, total=False):
    """The options of `auto_imap` and its sisters but `errors`."""

    kind: Kind


class Chosen(NamedTuple):
    """What the caller asked for, checked: each option can be meant, and all of them together.

    backend: the name of the means, or None. executor: the caller's own, or None.
    progress: how it is to be shown, or None. It is not to be compared: a bar may refuse that.
    """

    kind: Kind
    backend: str | None
    executor: Any
    workers: int | None
    chunksize: int | None
    timeout_s: float | None
    retries: Retry
    errors: Errors
    seed: int | str | bytes | None
    memory_bytes: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    progress: Any = None

    @property
    def faults_matter(self) -> bool:
        """Whether the caller shows that they do."""
        return self.errors != "raise" or self.timeout_s is not None or self.retries.times > 0


def checked(
    fn: object,
    *,
    kind: Any = "auto",
    backend: Any = None,
    workers: Any = None,
    chunksize: Any = None,
    timeout: Any = None,
    retries: Any = 0,
    errors: Any = "raise",
    seed: Any = None,
    max_worker_memory: Any = None,
    initializer: Any = None,
    initargs: Any = (),
    progress: Any = None,
) -> Chosen:
    """The options for a map of `fn`. Raises: ValueError, TypeError where one cannot be meant."""
    check_callable("fn", fn)
    check_kind(kind)
    _check_choice("errors", errors, ERRORS)
    for option, count in (
        ("workers", workers),
        ("chunksize", chunksize),
        ("max_worker_memory", max_worker_memory),
    ):
        check_count(option, count)
    _check_timeout(timeout)
    if seed is not None and not isinstance(seed, int | str | bytes):
        raise OptionTypeError(f"seed must be an int, str or bytes, not {type(seed).__name__}")
    if initializer is not None:
        check_callable("initializer", initializer)
    if not isinstance(initargs, tuple):
        raise OptionTypeError(f"initargs must be a tuple, not {type(initargs).__name__}")
    name, executor = _means(backend)
    chosen = Chosen(
        kind,
        name,
        executor,
        workers,
        chunksize,
        timeout,
        retries if isinstance(retries, Retry) else Retry(retries),
        errors,
        seed,
        max_worker_memory,
        initializer,
        initargs,
        _shown(progress),
    )
    _check_together(chosen)
    return chosen


def check_lazy(chosen: Chosen, buffersize: Any) -> None:
    """Raises where an option cannot be meant for results that come one after another."""
    check_count("buffersize", buffersize)
    if chosen.errors == "group":
        raise OptionValueError("errors='group' is for all results at once: use 'return'")
    if chosen.seed is not None and chosen.backend == "serial":
        raise OptionValueError(
            "results are taken between the items, with generators that are yours: "
            "seed= needs backend='processes' or None"
        )


def check_names(options: Iterable[str], names: Iterable[str]) -> None:
    """Raises where there is no option of a name."""
    for name in options:
        if name not in names:
            known = ", ".join(sorted(names))
            raise OptionTypeError(f"there is no option {name!r}; there are {known}")


def check_awaited(chosen: Chosen) -> None:
    """Raises where an option cannot be meant for coroutine functions, awaited on one loop."""
    if chosen.executor is not None or chosen.backend in ("processes", "hybrid"):
        raise OptionValueError(
            "coroutine functions are awaited on an event loop, in one thread: use backend=None"
        )
    if chosen.seed is not None:
        raise OptionValueError(
            "seed= needs items that run one after another, and coroutines take turns: "
            "make a generator for each item from the item"
        )


def check_callable(option: str, value: Any) -> None:
    """Raises where an argument that is to be called cannot be."""
    if not callable(value):
        raise OptionTypeError(f"{option} must be callable, not {type(value).__name__}")


def check_kind(kind: Any) -> None:
    """Raises where an option is no kind of work."""
    _check_choice("kind", kind, KINDS)


def check_count(option: str, value: Any) -> None:
    """Raises where an option is neither a whole number from 1 on nor None."""
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise OptionTypeError(f"{option} must be a whole number or None, not {value!r}")
    if value < 1:
        raise OptionValueError(f"{option} must be at least 1, not {value}")


def _shown(progress: Any) -> Any:
    """How progress is to be shown, or None. A bar is never asked whether it is true."""
    if progress is None or progress is False:
        return None
    bar = hasattr(progress, "update") and (
        hasattr(progress, "add_task")
        or (hasattr(progress, "refresh") and hasattr(progress, "close"))
    )
    if isinstance(progress, type) or not (
        isinstance(progress, bool | str) or bar or callable(progress)
    ):
        given = repr(progress) if isinstance(progress, type) else type(progress).__name__
        raise OptionTypeError(
            "progress must be True, a description, a function of (done, total, report), or a bar "
            f"of tqdm or rich, not {given}"
        )
    return progress


def _means(backend: Any) -> tuple[str | None, Any]:
    """The backend's name, or the executor the caller brought."""
    if sys.is_finalizing():  # nothing can be imported or started any more
        return "serial", None
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
    return None, backend


def _check_together(chosen: Chosen) -> None:
    """Raises where options cannot be meant together."""
    if chosen.executor is not None:
        _check_executor(chosen)
    if chosen.timeout_s is not None and chosen.backend == "serial":
        raise OptionValueError(
            "backend='serial' runs items in the calling thread, where none can be given up: "
            "timeout= needs processes or threads"
        )
    if chosen.seed is not None and (chosen.backend == "threads" or chosen.executor is not None):
        raise OptionValueError(
            "seed= needs workers that share no generator: use backend='processes' or None"
        )
    if chosen.backend == "hybrid":
        _check_hybrid(chosen)


def _check_executor(chosen: Chosen) -> None:
    """Raises where something is asked of an executor that is the caller's own."""
    if chosen.initializer is not None:
        raise OptionValueError("an executor's workers are its own: give it the initializer")
    if chosen.timeout_s is not None:
        raise OptionValueError(
            "an executor's workers are its own, and autopar cannot end what they run: "
            "timeout= needs backend='processes', 'threads' or None"
        )


def _check_hybrid(chosen: Chosen) -> None:
    """Raises where something is said of each worker that is not true of the threads of one."""
    alone = {
        "timeout": chosen.timeout_s,
        "max_worker_memory": chosen.memory_bytes,
        "seed": chosen.seed,
        "initializer": chosen.initializer,
    }
    for option, value in alone.items():
        if value is not None:
            raise OptionValueError(
                f"{option}= needs workers that share no process: use backend='processes' or None"
            )


def _check_choice(option: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str):
        raise OptionTypeError(f"{option} must be a string, not {type(value).__name__}")
    if value not in choices:
        names = ", ".join(repr(choice) for choice in choices)
        raise OptionValueError(f"{option} must be one of {names}, not {value!r}")


def _check_timeout(timeout: Any) -> None:
    if timeout is None:
        return
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise OptionTypeError(f"timeout must be seconds or None, not {timeout!r}")
    if not timeout > 0:
        raise OptionValueError(f"timeout must be more than 0 seconds, not {timeout!r}")
