"""The maps whose results are there at once, and what is asked of them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from . import backends
from ._calls import call_of, run
from ._decide.width import POLITE
from ._errors import OptionValueError
from ._model import Errors, Kind, Plan
from ._options import (
    MapOptions,
    MapSettings,
    check_awaited,
    checked,
)
from ._retry import Retry
from ._shapes import awaits, joined, parted, spread

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ._displays import ProgressOption

T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")


@overload
def auto_map(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapSettings],
) -> list[R]: ...
@overload
def auto_map(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    errors: Literal["return"],
    **options: Unpack[MapSettings],
) -> list[R | Exception]: ...
@overload
def auto_map(
    fn: Callable[[T], R],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapSettings],
) -> list[R]: ...
@overload
def auto_map(
    fn: Callable[[T], R],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    errors: Literal["return"],
    **options: Unpack[MapSettings],
) -> list[R | Exception]: ...
@overload
def auto_map(
    fn: Callable[[T, U], R],
    items: Iterable[T],
    items_2: Iterable[U],
    /,
    *,
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
def auto_map(
    fn: Callable[[T, U], R],
    items: Iterable[T],
    items_2: Iterable[U],
    /,
    *,
    errors: Literal["return"],
    **options: Unpack[MapOptions],
) -> list[R | Exception]: ...
@overload
def auto_map(
    fn: Callable[..., R],
    items: Iterable[Any],
    items_2: Iterable[Any],
    items_3: Iterable[Any],
    /,
    *more: Iterable[Any],
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
def auto_map(
    fn: Callable[..., R],
    items: Iterable[Any],
    items_2: Iterable[Any],
    items_3: Iterable[Any],
    /,
    *more: Iterable[Any],
    errors: Literal["return"],
    **options: Unpack[MapOptions],
) -> list[R | Exception]: ...
def auto_map(
    fn: Callable[..., R],
    items: Iterable[Any],
    *more: Iterable[Any],
    kind: Kind = "auto",
    backend: str | Executor | None = None,
    workers: int | None = None,
    chunksize: int | None = None,
    timeout: float | None = None,
    retries: int | Retry = 0,
    errors: Errors = "raise",
    seed: int | str | bytes | None = None,
    max_worker_memory: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    progress: ProgressOption | None = None,
) -> list[Any]:
    """`[fn(item) for item in items]`, as fast as this machine and interpreter allow.

    The first items are run and measured (each item is evaluated exactly once, these included);
    what is left goes on in the caller's thread, to threads or to processes, whatever is predicted
    to take the least time. The results, their order and the exceptions are the loop's.

    Args:
        fn: Called with one item, or one of each iterable. What a coroutine function gives is
            awaited, for many items at once, on an event loop of the map's own. To be run in a
            process it must be importable by name or serialisable by value (a lambda or closure
            is); otherwise memory stays shared.
        items: Any iterable. An iterator is read by the calling thread, a bounded way ahead.
        more: Further iterables for further arguments; the shortest ends the map, as for `map`.
            One of the words of `kind` in the place of the second is the kind.
        kind: What the items do: "cpu" (compute), "io" (wait), or "auto" to have it measured.
        backend: "serial", "threads", "processes", "hybrid" (processes of many threads each, for
            items that wait and compute), or a `concurrent.futures.Executor` to use; None to have
            it chosen.
        workers: At most this many items run at once; None for a number that fits the work.
        chunksize: Items that travel together; None for chunks sized by time.
        timeout: Seconds that each item may run, counted from when it starts; None for no limit.
            The worker process of an item that takes longer is ended and replaced. A thread
            cannot be ended: the item is given up, and the thread goes on beside the rest.
        retries: More tries for an item that raised an `Exception` (in the same worker, unless
            there is a wait), that its worker died of, or that ran out of time (in another worker).
            A `Retry` says after which failures, and how long after. The exception of the last try
            is the one that counts.
        errors: "raise" stops at the first failure and raises it; "return" puts exceptions in
            their items' places; "group" runs everything and then raises one `ExceptionGroup`.
            With the latter two, with `kind="cpu"`, `timeout` or `retries`, no item runs in the
            calling thread.
        seed: Gives `random` and `numpy.random` a state of its own before each item, derived from
            the seed and the item's index, so that results do not depend on where and when items
            run. Seeded items share no process with others at the same time. The calling process's
            own state is as before afterwards.
        max_worker_memory: Bytes; a worker process that holds more (resident) after an item is
            replaced by a fresh one.
        initializer: Called with `initargs` once in each worker before its first item; the calling
            thread is a worker too when it runs items.
        initargs: Arguments of `initializer`.
        progress: Shows how far it has come: True for a bar, which `tqdm` draws where it is
            installed; a string for a bar with that title; a bar of `tqdm` or `rich`; or a function
            that is called with the items done, how many there are (None as long as nobody knows)
            and the `Report` so far, about ten times a second by a thread of its own, and by the
            calling thread when all are done. What that raises ends the call.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: What `fn` raised, with a note that names the item; what `items` raised.
        WorkerCrashed: A worker process died while it ran an item; or, where exceptions are kept,
            an item asked its worker to exit.
        TaskTimeout: An item ran longer than `timeout`.
        TransportError: With `backend="processes"` or `"hybrid"`, something that cannot be pickled.
        BackendUnavailable: The chosen backend cannot run here.
        ValueError, TypeError: An option that cannot be meant; nothing has run then.
    """
    more, kind = parted(more, kind)
    fn, items = joined(fn, items, more)
    return run(
        fn,
        items,
        checked(
            fn,
            kind=kind,
            backend=backend,
            workers=workers,
            chunksize=chunksize,
            timeout=timeout,
            retries=retries,
            errors=errors,
            seed=seed,
            max_worker_memory=max_worker_memory,
            initializer=initializer,
            initargs=initargs,
            progress=progress,
        ),
    )


@overload
def auto_starmap(
    fn: Callable[..., R],
    tuples: Iterable[Iterable[Any]],
    *,
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
def auto_starmap(
    fn: Callable[..., R],
    tuples: Iterable[Iterable[Any]],
    *,
    errors: Literal["return"],
    **options: Unpack[MapOptions],
) -> list[R | Exception]: ...
def auto_starmap(
    fn: Callable[..., R],
    tuples: Iterable[Iterable[Any]],
    *,
    errors: Errors = "raise",
    **options: Unpack[MapOptions],
) -> list[R] | list[R | Exception]:
    """`[fn(*args) for args in tuples]`; everything else is as for `auto_map`.

    Args:
        fn: Called with the members of one tuple.
        tuples: Any iterable of argument tuples.
        errors: See `auto_map`.
        options: Those of `auto_map`.

    Returns:
        The results, in the order of the tuples.

    Raises:
        Exception: As for `auto_map`.
    """
    function, items = spread(fn, tuples)
    return run(function, items, checked(function, errors=errors, **options))


@overload
def auto_foreach(
    fn: Callable[[T], object],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapSettings],
) -> None: ...
@overload
def auto_foreach(
    fn: Callable[[T, U], object],
    items: Iterable[T],
    items_2: Iterable[U],
    /,
    *,
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapOptions],
) -> None: ...
@overload
def auto_foreach(
    fn: Callable[..., object],
    items: Iterable[Any],
    items_2: Iterable[Any],
    items_3: Iterable[Any],
    /,
    *more: Iterable[Any],
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapOptions],
) -> None: ...
def auto_foreach(
    fn: Callable[..., object],
    items: Iterable[Any],
    *more: Iterable[Any],
    kind: Kind = "auto",
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapSettings],
) -> None:
    """`for item in items: fn(item)`, for what it does: as `auto_map`, but no result is kept.

    However many items there are, they take no more memory than those being run and a few read
    ahead. What `fn` returns does not travel, and need not be able to.

    Args:
        fn: See `auto_map`.
        items: See `auto_map`.
        more: See `auto_map`.
        kind: See `auto_map`.
        errors: "raise" stops at the first failure and raises it; "group" runs everything and then
            raises one `ExceptionGroup`.
        options: Those of `auto_map`.

    Raises:
        Exception: As for `auto_map`.
    """
    more, kind = parted(more, kind)
    fn, items = joined(fn, items, more)
    chosen = checked(fn, kind=kind, errors=errors, **options)
    if chosen.errors == "return":
        raise OptionValueError("errors='return' is for results: use 'raise' or 'group'")
    run(fn, items, chosen, silent=True)


def plan(
    fn: Callable[..., R],
    items: Iterable[Any],
    *more: Iterable[Any],
    kind: Kind = "auto",
    errors: Errors = "raise",
    **options: Unpack[MapSettings],
) -> Plan:
    """The plan `auto_map` would make, and why.

    Runs the first items as the probe does, in the calling thread, and drops their results; where
    the options settle everything, runs nothing. The arguments are `auto_map`'s.

    Returns:
        Backend, workers, the reason, and the seconds predicted of each strategy.

    Raises:
        Exception: As for `auto_map`, from the items that were run.
    """
    more, kind = parted(more, kind)
    fn, items = joined(fn, items, more)
    chosen = checked(fn, kind=kind, errors=errors, **options)
    if awaits(fn):
        check_awaited(chosen)
        from . import _awaited

        return _awaited.plan_of("asyncio", _awaited.most_of(chosen) or POLITE)
    return call_of(fn, items, chosen).probe()


def shutdown(wait: bool = True) -> None:
    """Ends the workers kept warm for the next call; they are also ended at exit.

    What was submitted by `auto_submit` is done before. A later call starts new workers.

    Args:
        wait: Return when they have ended.
    """
    executors = sys.modules.get("autopar._executor")  # not imported, it has none to end
    if executors is not None:
        executors.shutdown_shared(wait=wait)
    backends.shutdown(wait=wait)
