"""`@parallel`: a function that can be mapped, and is called as if undecorated."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    TypeVar,
    Unpack,
    overload,
)

from ._api import auto_foreach, auto_map, auto_starmap
from ._api import plan as plan_of
from ._awaited_maps import NOT_LAZY, AwaitedMaps
from ._engine import memory
from ._errors import OptionTypeError
from ._lazy_maps import MISSING, auto_imap, auto_reduce
from ._model import Observation, Plan
from ._options import MapOptions, check_names
from ._shapes import awaits
from ._transport.wrapped import named, unwrapped

if TYPE_CHECKING:
    from concurrent.futures import Future

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
T = TypeVar("T")


_NAMES = MapOptions.__optional_keys__


class Parallel(AwaitedMaps[P, R_co]):
    """A function that `@parallel` has decorated.

    Called, it runs where it is called, as if undecorated; `map` and its sisters run it over many
    items. It travels to workers by its name, so that nothing of it has to be sent. In a class it
    is a method, static or not: `thing.method.map(items)`.
    """

    __wrapped__: Callable[P, R_co]
    __name__: str
    __qualname__: str

    def __init__(self, fn: Callable[P, R_co], options: MapOptions) -> None:
        check_names(options, _NAMES)
        functools.update_wrapper(self, fn)
        self._fn: Any = fn
        self._options = options
        self._autopar_awaits = awaits(fn)
        if inspect.iscoroutinefunction(fn) and sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The function, called here."""
        return self.__wrapped__(*args, **kwargs)

    @overload
    def map(
        self: Parallel[P, Awaitable[S]],
        items: Iterable[Any],
        *more: Iterable[Any],
        errors: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> list[S]: ...
    @overload
    def map(
        self: Parallel[P, Awaitable[S]],
        items: Iterable[Any],
        *more: Iterable[Any],
        errors: Literal["return"],
        **options: Unpack[MapOptions],
    ) -> list[S | Exception]: ...
    @overload
    def map(
        self,
        items: Iterable[Any],
        *more: Iterable[Any],
        errors: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> list[R_co]: ...
    @overload
    def map(
        self,
        items: Iterable[Any],
        *more: Iterable[Any],
        errors: Literal["return"],
        **options: Unpack[MapOptions],
    ) -> list[R_co | Exception]: ...
    def map(
        self, items: Iterable[Any], *more: Iterable[Any], errors: Any = "raise", **options: Any
    ) -> Any:
        """`auto_map` of the function.

        Args:
            items: Each is the function's only argument, or its first.
            more: Those of further arguments.
            errors: See `auto_map`.
            options: Those of `auto_map`, in the place of what was said at the decoration.

        Returns:
            The results, in the order of the items.

        Raises:
            Exception: As for `auto_map`.
        """
        return auto_map(self._fn, items, *more, errors=errors, **self._with(options))

    @overload
    def starmap(
        self: Parallel[P, Awaitable[S]],
        tuples: Iterable[Iterable[Any]],
        *,
        errors: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> list[S]: ...
    @overload
    def starmap(
        self: Parallel[P, Awaitable[S]],
        tuples: Iterable[Iterable[Any]],
        *,
        errors: Literal["return"],
        **options: Unpack[MapOptions],
    ) -> list[S | Exception]: ...
    @overload
    def starmap(
        self,
        tuples: Iterable[Iterable[Any]],
        *,
        errors: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> list[R_co]: ...
    @overload
    def starmap(
        self,
        tuples: Iterable[Iterable[Any]],
        *,
        errors: Literal["return"],
        **options: Unpack[MapOptions],
    ) -> list[R_co | Exception]: ...
    def starmap(
        self, tuples: Iterable[Iterable[Any]], *, errors: Any = "raise", **options: Any
    ) -> Any:
        """`auto_starmap` of the function.

        Args:
            tuples: Each has the function's arguments.
            errors: See `auto_map`.
            options: See `map`.

        Returns:
            The results, in the order of the tuples.

        Raises:
            Exception: As for `auto_map`.
        """
        return auto_starmap(self._fn, tuples, errors=errors, **self._with(options))

    @overload
    def imap(
        self: Parallel[P, Awaitable[S]],
        items: Iterable[Any],
        *more: Iterable[Any],
        ordered: bool = True,
        buffersize: int | None = None,
        **options: Unpack[MapOptions],
    ) -> Iterator[S]: ...
    @overload
    def imap(
        self,
        items: Iterable[Any],
        *more: Iterable[Any],
        ordered: bool = True,
        buffersize: int | None = None,
        **options: Unpack[MapOptions],
    ) -> Iterator[R_co]: ...
    def imap(
        self,
        items: Iterable[Any],
        *more: Iterable[Any],
        ordered: bool = True,
        buffersize: int | None = None,
        **options: Any,
    ) -> Any:
        """`auto_imap` of the function.

        Args:
            items: Each is the function's only argument, or its first.
            more: Those of further arguments.
            ordered: See `auto_imap`.
            buffersize: See `auto_imap`.
            options: See `map`; without `chunksize`.

        Returns:
            An iterator of the results.

        Raises:
            Exception: As for `auto_imap`.
        """
        chosen: Any = self._lazily(options)
        return auto_imap(
            self._fn, items, *more, ordered=ordered, buffersize=buffersize, errors="raise", **chosen
        )

    def foreach(
        self,
        items: Iterable[Any],
        *more: Iterable[Any],
        errors: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> None:
        """`auto_foreach` of the function.

        Args:
            items: Each is the function's only argument, or its first.
            more: Those of further arguments.
            errors: See `auto_foreach`.
            options: See `map`.

        Raises:
            Exception: As for `auto_foreach`.
        """
        chosen: Any = self._with(options)
        auto_foreach(self._fn, items, *more, errors=errors, **chosen)

    @overload
    def reduce(
        self: Parallel[Any, S],
        items: Iterable[Any],
        combine: Callable[[S, S], S],
        *,
        buffersize: int | None = None,
        **options: Unpack[MapOptions],
    ) -> S: ...
    @overload
    def reduce(
        self,
        items: Iterable[Any],
        combine: Callable[[T, R_co], T],
        initial: T,
        *,
        buffersize: int | None = None,
        **options: Unpack[MapOptions],
    ) -> T: ...
    def reduce(
        self,
        items: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        initial: Any = MISSING,
        *,
        buffersize: int | None = None,
        **options: Any,
    ) -> Any:
        """`auto_reduce` of the function.

        Args:
            items: Each is the function's only argument.
            combine: See `auto_reduce`.
            initial: See `auto_reduce`.
            buffersize: See `auto_imap`.
            options: See `map`; without `chunksize`.

        Returns:
            What all results have come to.

        Raises:
            Exception: As for `auto_reduce`.
        """
        chosen: Any = self._lazily(options)
        return auto_reduce(self._fn, items, combine, initial, buffersize=buffersize, **chosen)

    @overload
    def submit(self: Parallel[P, Awaitable[S]], *args: P.args, **kwargs: P.kwargs) -> Future[S]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R_co]: ...
    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Has the function called beside everything else; see `AutoExecutor` and `auto_submit`.

        Returns:
            A future with what it returns or raises.
        """
        from ._executor import submit_shared  # what it stands on is not needed by others

        kind, workers = self._options.get("kind", "auto"), self._options.get("workers")
        return submit_shared(kind, workers, self.__wrapped__, *args, **kwargs)

    def plan(
        self, items: Iterable[Any], *more: Iterable[Any], **options: Unpack[MapOptions]
    ) -> Plan:
        """The plan that `map` would make, and why; see `autopar.plan`.

        Args:
            items: Each is the function's only argument, or its first.
            more: Those of further arguments.
            options: See `map`.
        """
        return plan_of(self._fn, items, *more, **self._with(options))

    def with_(self, **options: Unpack[MapOptions]) -> Parallel[P, R_co]:
        """The same function with other options, where they are given."""
        return Parallel(self.__wrapped__, self._with(options))

    @property
    def profile(self) -> dict[type, Observation]:
        """What is remembered of the function, for items of each type: seconds are per item.

        Only what the next call can check is: that items wait, or that they compute in processes.
        It is forgotten when it stops fitting.
        """
        return {cls: known.seen for cls, known in memory.learned.of(self.__wrapped__).items()}

    @overload
    def __get__(self, thing: None, cls: type | None = None) -> Parallel[P, R_co]: ...
    @overload
    def __get__(
        self: Parallel[Concatenate[Any, Q], R_co], thing: object, cls: type | None = None
    ) -> Parallel[Q, R_co]: ...
    def __get__(self, thing: Any, cls: type | None = None) -> Any:
        bind = getattr(type(self.__wrapped__), "__get__", None)
        bound = self.__wrapped__ if bind is None else bind(self.__wrapped__, thing, cls)
        return self if bound is self.__wrapped__ else Parallel(bound, self._options)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Its name where that leads to it; else the function, and the options."""
        place = named(self._fn)
        if place is None or place[2] != 1:
            return Parallel, (self._fn, self._options)
        here: Any = unwrapped(*place[:2], 0)
        return self.__qualname__ if here is self else (unwrapped, (*place[:2], 0))

    def __repr__(self) -> str:
        return f"<parallel {self.__wrapped__!r}>"

    def _lazily(self, options: Any) -> Any:
        chosen = self._with(options)
        return {name: chosen[name] for name in chosen if name not in NOT_LAZY}

    def _with(self, options: Any) -> Any:
        check_names(options, _NAMES)
        return {**self._options, **options}


@overload
def parallel(fn: Callable[P, R_co], /) -> Parallel[P, R_co]: ...
@overload
def parallel(**options: Unpack[MapOptions]) -> Callable[[Callable[P, R_co]], Parallel[P, R_co]]: ...
def parallel(fn: Any = None, /, **options: Any) -> Any:
    """Decorates a function, so that it can be mapped: `@parallel` or `@parallel(kind="io")`.

    Called, it runs where it is called. `f.map(items)`, `f.starmap(tuples)`, `f.imap(items)`,
    `f.foreach(items)`, `f.reduce(items, combine)`, `f.submit(...)` and `f.plan(items)` are `auto_map` and its sisters of it. Put it on top of other
    decorators, `staticmethod` and `classmethod` included.

    Args:
        fn: The function, or what another decorator has made of it.
        options: Those of `auto_map` but `errors`; each call may say otherwise.

    Returns:
        A `Parallel`, with the function's name, docstring and signature.

    Raises:
        TypeError: An option that there is not.
    """
    if fn is None:
        check_names(options, _NAMES)
        return functools.partial(_decorated, options=options)
    return _decorated(fn, options)


def _decorated(fn: Any, options: Any) -> Any:
    if not callable(fn) and not hasattr(fn, "__get__"):
        raise OptionTypeError(f"@parallel decorates functions, not {type(fn).__name__}")
    return Parallel(fn, options)
