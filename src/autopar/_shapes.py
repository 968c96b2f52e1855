"""Other shapes of a map as one of a function with one argument over one iterable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from types import MethodType
from typing import Any

from ._errors import OptionTypeError
from ._model import Kind
from ._options import KINDS, check_callable

DEEPEST = 8  # partials and methods around one function
CO_AWAITED = 0x180  # flags of code: coroutines, and generators that are used as such

Pair = tuple[Callable[[Any], Any], Iterable[Any]]


class Spread:
    """`fn(*args)` as a function of one tuple."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.func = fn

    def __call__(self, args: Iterable[Any]) -> Any:
        return self.func(*args)


def spread(fn: Callable[..., Any], tuples: Iterable[Any]) -> Pair:
    """A map over tuples of arguments. Raises: TypeError when `fn` cannot be called."""
    check_callable("fn", fn)
    return Spread(fn), tuples


def awaits(fn: Any) -> bool:
    """Whether what a call of `fn` gives is to be awaited."""
    for _ in range(DEEPEST):
        if isinstance(fn, partial | Spread):
            fn = fn.func
        elif isinstance(fn, MethodType):
            fn = fn.__func__
        else:
            break
    if getattr(fn, "_autopar_awaits", None) is True:  # a decorated one
        return True
    code = getattr(fn, "__code__", None) or getattr(_call_of(fn), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    if isinstance(flags, int) and flags & CO_AWAITED:
        return True
    if getattr(fn, "_is_coroutine_marker", None) is None:
        return False
    from inspect import iscoroutinefunction  # who marked it has imported it

    return iscoroutinefunction(fn)


def _call_of(fn: Any) -> Any:
    """What runs when an object is called that is no function."""
    return getattr(type(fn), "__call__", None)  # noqa: B004 - it is looked at, not for


def parted(more: tuple[Any, ...], kind: Kind) -> tuple[tuple[Iterable[Any], ...], Kind]:
    """Further iterables and the kind, which may be given by its position where there are none."""
    word: Any = more[0] if more else None
    if not isinstance(word, str) or word not in KINDS:
        return more, kind
    if len(more) > 1:
        raise OptionTypeError(f"options are given by their names, as kind={word!r}")
    given: Any = word
    return (), given


def joined(fn: Callable[..., Any], items: Iterable[Any], more: tuple[Iterable[Any], ...]) -> Pair:
    """A map over one iterable, or over several side by side, up to the end of the shortest.

    Raises: TypeError when `fn` cannot be called, or what is to be iterated over cannot be.
    """
    if not more:
        return fn, items
    _check_iterables((items, *more), ("__iter__", "__getitem__"))
    tuples = zip(items, *more)
    sized = all(isinstance(each, list | tuple | range) for each in (items, *more))
    return spread(fn, list(tuples) if sized else tuples)


def joined_later(fn: Callable[..., Any], items: Any, more: tuple[Any, ...]) -> tuple[Any, Any]:
    """As `joined`, where some of the iterables are asynchronous."""
    if not more:
        return fn, items
    _check_iterables((items, *more), ("__iter__", "__getitem__", "__aiter__"))
    return Spread(fn), _zip_later([items, *more])


async def _zip_later(iterables: list[Any]) -> AsyncIterator[tuple[Any, ...]]:
    """Members side by side, up to the end of the shortest; closes those it has not read out."""
    iterators = [aiter(each) if hasattr(each, "__aiter__") else iter(each) for each in iterables]
    try:
        while True:
            members = []
            for iterator in iterators:
                try:
                    later = hasattr(iterator, "__anext__")
                    members.append(await anext(iterator) if later else next(iterator))
                except (StopIteration, StopAsyncIteration):
                    return
            yield tuple(members)
    finally:
        for iterator in iterators:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()


def _check_iterables(iterables: tuple[Any, ...], marks: tuple[str, ...]) -> None:
    for number, each in enumerate(iterables, 1):
        if not any(hasattr(each, mark) for mark in marks):
            raise OptionTypeError(f"iterable {number} of {len(iterables)} is {each!r}, and is none")
