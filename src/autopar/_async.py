"""Maps that are awaited: the event loop goes on while threads, processes or coroutines work."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Literal, TypeVar, Unpack, overload

from . import _afar, _awaited, _lazy
from ._calls import call_of, outcome_of
from ._engine.call import Call
from ._engine.source import length_of
from ._errors import AutoparError
from ._loops import running
from ._options import Chosen, LazyOptions, MapOptions, check_awaited, check_lazy, checked
from ._shapes import awaits, joined, joined_later, parted

T = TypeVar("T")
R = TypeVar("R")


@overload
async def amap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["return"],
    **options: Unpack[MapOptions],
) -> list[R | Exception]: ...
@overload
async def amap(
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["return"],
    **options: Unpack[MapOptions],
) -> list[R | Exception]: ...
@overload
async def amap(
    fn: Callable[..., Awaitable[R]],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Iterable[Any] | AsyncIterable[Any],
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[..., Awaitable[R]],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Iterable[Any] | AsyncIterable[Any],
    errors: Literal["return"],
    **options: Unpack[MapOptions],
) -> list[R | Exception]: ...
@overload
async def amap(
    fn: Callable[..., R],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Iterable[Any] | AsyncIterable[Any],
    errors: Literal["raise", "group"] = "raise",
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[..., R],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Iterable[Any] | AsyncIterable[Any],
    errors: Literal["return"],
    **options: Unpack[MapOptions],
) -> list[R | Exception]: ...
async def amap(
    fn: Callable[..., Any],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Any,
    errors: Any = "raise",
    kind: Any = "auto",
    **options: Any,
) -> Any:
    """`auto_map` for coroutines: awaited, while the event loop goes on, asyncio's or trio's.

    A plain function is run as by `auto_map`, with a thread in the place of the calling one. A
    coroutine function is awaited for many items at once, on the running loop: as many as that
    helps, at most 100 unless `workers` says otherwise. What it raises and returns is as for
    `[await fn(item) for item in items]`. When the awaiting coroutine is cancelled, so is the work.

    Args:
        fn: A function, or a coroutine function.
        items: Any iterable, also an asynchronous one, which is closed if it is not read to its end.
        more: Further iterables for further arguments; the shortest ends the map.
        errors: See `auto_map`.
        kind: See `auto_map`; coroutines are all of a kind.
        options: Those of `auto_map`. For a coroutine function there is no backend to choose and no
            `seed`, `chunksize` and `max_worker_memory` say nothing, and `timeout` cancels.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: As for `auto_map`.
    """
    more, kind = parted(more, kind)
    chosen = checked(fn, kind=kind, errors=errors, **options)
    fn, items = _side_by_side(fn, items, more)
    if awaits(fn):
        check_awaited(chosen)
        return await _awaited.all_of(fn, items, chosen)
    if not isinstance(items, AsyncIterable):
        call = call_of(fn, items, chosen)
        return await _afar.done_by(lambda: outcome_of(call, chosen), call.desk.abort)
    bridge = _afar.Bridge(running(), aiter(items))
    try:
        return await _bridged(bridge, call_of(fn, bridge, chosen), chosen)
    finally:
        await bridge.end()


async def _bridged(bridge: _afar.Bridge, call: Call, chosen: Chosen) -> Any:
    """What a call comes to whose items come over a bridge."""

    def abort(error: AutoparError) -> None:
        call.desk.abort(error)
        bridge.stop()

    return await _afar.done_by(lambda: outcome_of(call, chosen), abort)


@overload
def aimap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[LazyOptions],
) -> AsyncGenerator[R]: ...
@overload
def aimap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["return"],
    **options: Unpack[LazyOptions],
) -> AsyncGenerator[R | Exception]: ...
@overload
def aimap(
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[LazyOptions],
) -> AsyncGenerator[R]: ...
@overload
def aimap(
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["return"],
    **options: Unpack[LazyOptions],
) -> AsyncGenerator[R | Exception]: ...
@overload
def aimap(
    fn: Callable[..., Awaitable[R]],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Iterable[Any] | AsyncIterable[Any],
    errors: Literal["raise"] = "raise",
    **options: Unpack[LazyOptions],
) -> AsyncGenerator[R]: ...
@overload
def aimap(
    fn: Callable[..., Awaitable[R]],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Iterable[Any] | AsyncIterable[Any],
    errors: Literal["return"],
    **options: Unpack[LazyOptions],
) -> AsyncGenerator[R | Exception]: ...
@overload
def aimap(
    fn: Callable[..., R],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Iterable[Any] | AsyncIterable[Any],
    errors: Literal["raise"] = "raise",
    **options: Unpack[LazyOptions],
) -> AsyncGenerator[R]: ...
@overload
def aimap(
    fn: Callable[..., R],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Iterable[Any] | AsyncIterable[Any],
    errors: Literal["return"],
    **options: Unpack[LazyOptions],
) -> AsyncGenerator[R | Exception]: ...
def aimap(
    fn: Callable[..., Any],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Any,
    errors: Any = "raise",
    kind: Any = "auto",
    ordered: bool = True,
    buffersize: int | None = None,
    **options: Any,
) -> AsyncGenerator[Any]:
    """`auto_imap` for coroutines: results one after another, while the event loop goes on.

    Functions and coroutine functions are run as by `amap`. No more is read of `items` than there is
    use for. Closed (`async with contextlib.aclosing(...)` does that wherever the loop is left), the
    generator ends what is at work, and closes `items` if it can be closed.

    Args:
        fn: See `amap`.
        items: See `amap`; it may be endless.
        more: See `amap`.
        errors: See `auto_imap`.
        kind: See `auto_imap`.
        ordered: See `auto_imap`.
        buffersize: See `auto_imap`.
        options: Those of `auto_imap`.

    Returns:
        An asynchronous generator of the results.

    Raises:
        Exception: As for `auto_imap`.
    """
    more, kind = parted(more, kind)
    chosen = checked(fn, kind=kind, errors=errors, **options)
    check_lazy(chosen, buffersize)
    fn, items = _side_by_side(fn, items, more)
    total = length_of(items)
    source: Any = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
    if awaits(fn):
        check_awaited(chosen)
        return _awaited.each_of(fn, source, chosen, ordered, buffersize, total)
    return _afar.each_by(
        lambda source, leash: _lazy.results(fn, source, chosen, ordered, buffersize, leash, total),
        source,
        buffersize,
    )


def _side_by_side(fn: Any, items: Any, more: tuple[Any, ...]) -> tuple[Any, Any]:
    """A map over one iterable, or over several, of which some may be asynchronous."""
    if any(hasattr(each, "__aiter__") for each in (items, *more)):
        return joined_later(fn, items, more)
    return joined(fn, items, more)
