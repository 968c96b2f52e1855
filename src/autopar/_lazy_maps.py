"""The maps whose results are taken one after another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from ._model import Kind
from ._options import (
    LazyOptions,
    LazySettings,
    ReduceOptions,
    check_awaited,
    check_callable,
    check_lazy,
    check_names,
    checked,
)
from ._retry import Retry
from ._shapes import awaits, joined, parted

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ._displays import ProgressOption

T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")

MISSING: Any = object()  # no start was given


@overload
def auto_imap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[LazySettings],
) -> Iterator[R]: ...
@overload
def auto_imap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    errors: Literal["return"],
    **options: Unpack[LazySettings],
) -> Iterator[R | Exception]: ...
@overload
def auto_imap(
    fn: Callable[[T], R],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[LazySettings],
) -> Iterator[R]: ...
@overload
def auto_imap(
    fn: Callable[[T], R],
    items: Iterable[T],
    kind: Kind = "auto",
    *,
    errors: Literal["return"],
    **options: Unpack[LazySettings],
) -> Iterator[R | Exception]: ...
@overload
def auto_imap(
    fn: Callable[[T, U], R],
    items: Iterable[T],
    items_2: Iterable[U],
    /,
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[LazyOptions],
) -> Iterator[R]: ...
@overload
def auto_imap(
    fn: Callable[[T, U], R],
    items: Iterable[T],
    items_2: Iterable[U],
    /,
    *,
    errors: Literal["return"],
    **options: Unpack[LazyOptions],
) -> Iterator[R | Exception]: ...
@overload
def auto_imap(
    fn: Callable[..., R],
    items: Iterable[Any],
    items_2: Iterable[Any],
    items_3: Iterable[Any],
    /,
    *more: Iterable[Any],
    errors: Literal["raise"] = "raise",
    **options: Unpack[LazyOptions],
) -> Iterator[R]: ...
@overload
def auto_imap(
    fn: Callable[..., R],
    items: Iterable[Any],
    items_2: Iterable[Any],
    items_3: Iterable[Any],
    /,
    *more: Iterable[Any],
    errors: Literal["return"],
    **options: Unpack[LazyOptions],
) -> Iterator[R | Exception]: ...
def auto_imap(
    fn: Callable[..., R],
    items: Iterable[Any],
    *more: Iterable[Any],
    kind: Kind = "auto",
    ordered: bool = True,
    buffersize: int | None = None,
    backend: str | Executor | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int | Retry = 0,
    errors: Literal["raise", "return"] = "raise",
    seed: int | str | bytes | None = None,
    max_worker_memory: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    progress: ProgressOption | None = None,
) -> Iterator[Any]:
    """The results of `auto_map`, one after another: for what is long, endless, or comes slowly.

    The first items run in the thread that asks for results. Once they have turned out to wait, or
    to compute so long that processes are quicker, workers run those that follow, while a thread of
    its own reads `items`, a bounded way ahead of the results that were taken. When nobody takes
    results any more (the iterator is closed or gone), the workers end, and `items` is closed if it
    can be.

    Args:
        fn: See `auto_map`.
        items: Any iterable, also an endless one, or one that blocks, which does not hold back
            results that are there.
        more: See `auto_map`.
        kind: See `auto_map`.
        ordered: Results come in the order of the items; else each as soon as it is there.
        buffersize: Items read ahead of the results that were taken; None for a few for each worker.
        backend: See `auto_map`. An executor is only given items as results are taken; those that
            it has not begun at the end are cancelled.
        workers: See `auto_map`.
        timeout: See `auto_map`.
        retries: See `auto_map`.
        errors: "raise" raises the exception of an item in its place, and ends; "return" gives it
            there, and goes on. With the latter, with `kind="cpu"`, `timeout` or `retries`, no item
            runs in the thread that asks.
        seed: See `auto_map`; all items run in processes then.
        max_worker_memory: See `auto_map`.
        initializer: See `auto_map`.
        initargs: See `auto_map`.
        progress: See `auto_map`; results that were taken are counted, by the thread that takes.

    Returns:
        An iterator of the results, which is a generator: it can be closed.

    Raises:
        Exception: As for `auto_map`, from the iterator.
        ValueError, TypeError: An option that cannot be meant; nothing has run then.
    """
    more, kind = parted(more, kind)
    fn, items = joined(fn, items, more)
    chosen = checked(
        fn,
        kind=kind,
        backend=backend,
        workers=workers,
        timeout=timeout,
        retries=retries,
        errors=errors,
        seed=seed,
        max_worker_memory=max_worker_memory,
        initializer=initializer,
        initargs=initargs,
        progress=progress,
    )
    check_lazy(chosen, buffersize)
    if awaits(fn):
        check_awaited(chosen)
        from . import _own_loop

        return _own_loop.each(fn, items, chosen, ordered, buffersize)
    from . import _lazy  # what it stands on is not needed by others

    return _lazy.results(fn, items, chosen, ordered, buffersize)


@overload
def auto_reduce(
    fn: Callable[[T], R],
    items: Iterable[T],
    combine: Callable[[R, R], R],
    **options: Unpack[ReduceOptions],
) -> R: ...
@overload
def auto_reduce(
    fn: Callable[[T], R],
    items: Iterable[T],
    combine: Callable[[U, R], U],
    initial: U,
    **options: Unpack[ReduceOptions],
) -> U: ...
def auto_reduce(
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    combine: Callable[[Any, Any], Any],
    initial: Any = MISSING,
    **options: Unpack[ReduceOptions],
) -> Any:
    """`functools.reduce(combine, [fn(item) for item in items], initial)`, without that list.

    The results are combined in the order of the items, in the calling thread, as they come. So
    what is combined with what does not depend on where and when items run.

    Args:
        fn: See `auto_map`.
        items: See `auto_imap`.
        combine: Called with what the results before have come to, and the next one.
        initial: What the first result is combined with; without it, the first result is the start.
        options: Those of `auto_imap` but `ordered` and `errors`.

    Returns:
        What all results have come to; `initial` when there are no items.

    Raises:
        TypeError: There are no items, and no `initial`.
        Exception: As for `auto_map`; what `combine` raised. The workers end, and `items` is closed
            if it can be.
    """
    check_callable("combine", combine)
    check_names(options, ReduceOptions.__optional_keys__)
    results: Any = auto_imap(fn, items, **options)
    start = () if initial is MISSING else (initial,)
    try:
        return reduce(combine, results, *start)
    finally:
        results.close()
