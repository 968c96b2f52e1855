"""The maps of a decorated function that are awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Iterable
from typing import Any, Generic, Literal, ParamSpec, TypeVar, Unpack, overload

from ._options import MapOptions

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

NOT_LAZY = ("chunksize",)


class AwaitedMaps(Generic[P, R_co]):
    """`amap` and `aimap` of a function or a coroutine function."""

    _fn: Any

    @overload
    async def amap(
        self: AwaitedMaps[P, Awaitable[S]],
        items: Iterable[Any] | AsyncIterable[Any],
        *more: Iterable[Any] | AsyncIterable[Any],
        errors: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> list[S]: ...
    @overload
    async def amap(
        self: AwaitedMaps[P, Awaitable[S]],
        items: Iterable[Any] | AsyncIterable[Any],
        *more: Iterable[Any] | AsyncIterable[Any],
        errors: Literal["return"],
        **options: Unpack[MapOptions],
    ) -> list[S | Exception]: ...
    @overload
    async def amap(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *more: Iterable[Any] | AsyncIterable[Any],
        errors: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> list[R_co]: ...
    @overload
    async def amap(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *more: Iterable[Any] | AsyncIterable[Any],
        errors: Literal["return"],
        **options: Unpack[MapOptions],
    ) -> list[R_co | Exception]: ...
    async def amap(self, items: Any, *more: Any, errors: Any = "raise", **options: Any) -> Any:
        """`amap` of the function.

        Args:
            items: Each is the function's only argument, or its first; may be asynchronous.
            more: Those of further arguments.
            errors: See `auto_map`.
            options: See `map`.

        Returns:
            The results, in the order of the items.

        Raises:
            Exception: As for `autopar.amap`.
        """
        from ._async import amap

        return await amap(self._fn, items, *more, errors=errors, **self._with(options))

    @overload
    def aimap(
        self: AwaitedMaps[P, Awaitable[S]],
        items: Iterable[Any] | AsyncIterable[Any],
        *more: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        buffersize: int | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[S]: ...
    @overload
    def aimap(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *more: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        buffersize: int | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[R_co]: ...
    def aimap(
        self,
        items: Any,
        *more: Any,
        ordered: bool = True,
        buffersize: int | None = None,
        **options: Any,
    ) -> Any:
        """`aimap` of the function.

        Args:
            items: Each is the function's only argument, or its first; may be asynchronous.
            more: Those of further arguments.
            ordered: See `auto_imap`.
            buffersize: See `auto_imap`.
            options: See `map`; without `chunksize`.

        Returns:
            An asynchronous generator of the results.

        Raises:
            Exception: As for `autopar.aimap`.
        """
        from ._async import aimap

        chosen = self._with(options)
        for name in NOT_LAZY:
            chosen.pop(name, None)
        return aimap(
            self._fn, items, *more, ordered=ordered, buffersize=buffersize, errors="raise", **chosen
        )

    def _with(self, options: Any) -> Any:
        """The options of one call; a part of the class that this is for."""
        raise NotImplementedError
