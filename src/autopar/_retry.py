"""How often an item is tried again, after which failures, and how long after."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # `typing` costs a new worker 9 ms, and this travels to workers
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeAlias

    On: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], object]


class Retry:
    """More tries for items that fail: a frozen record, as `retries=Retry(3, on=OSError, backoff=1)`.

    All tries of an item are counted together, whatever ended them.

    Args:
        times: More tries than the first, at most.
        on: What is tried again: an exception class, a tuple of classes, or a function that is given
            the exception and says whether. Crashes (`WorkerCrashed`) and timeouts (`TaskTimeout`)
            are tried again only if they are among it, too; `Exception` is all of them. The function
            is called where the item has failed: it travels to processes with the mapped one.
        backoff: Seconds before the second try. A worker that waits does nothing else meanwhile.
        factor: Each further wait is so many times the one before it...
        most: ...up to so many seconds.
        jitter: The share of each wait that is left to chance, from 0 to 1: so much of it may be
            taken off, so that items that failed together do not come back together.

    Raises:
        ValueError, TypeError: Something that cannot be meant.
    """

    __slots__ = ("backoff", "factor", "jitter", "most", "on", "times")

    times: int
    on: On
    backoff: float
    factor: float
    most: float
    jitter: float

    def __init__(
        self,
        times: int,
        on: On = Exception,
        backoff: float = 0.0,
        factor: float = 2.0,
        most: float = 60.0,
        jitter: float = 0.5,
    ) -> None:
        _check(times, on, {"backoff": backoff, "factor": factor, "most": most, "jitter": jitter})
        for name, value in zip(_FIELDS, (times, on, backoff, factor, most, jitter), strict=True):
            object.__setattr__(self, name, value)

    @property
    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in _FIELDS)

    @property
    def waits(self) -> bool:
        """Whether there may be a wait before another try."""
        return self.times > 0 and self.backoff > 0

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        raise AttributeError(f"a Retry does not change: make another one with its own {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Retry does not change: it keeps its {name}")

    def __reduce__(self) -> tuple[type[Retry], tuple[Any, ...]]:
        return Retry, self._values

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Retry) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values)

    def __repr__(self) -> str:
        fields = zip(_FIELDS, self._values, strict=True)
        return f"Retry({', '.join(f'{name}={value!r}' for name, value in fields)})"


_FIELDS = ("times", "on", "backoff", "factor", "most", "jitter")


def wait_before(retry: Retry, tries: int, error: Exception) -> float | None:
    """Seconds until the next try of an item that has failed for the `tries`th time, or None.

    Raises: what the user's predicate raises.
    """
    return pause_s(retry, tries) if may_try_again(retry, tries, error) else None


def may_try_again(retry: Retry, tries: int, error: Exception) -> bool:
    """Whether an item that has had so many tries, the last of which ended so, gets another."""
    if tries > retry.times:
        return False
    on = retry.on
    if isinstance(on, type | tuple):
        return isinstance(error, on)
    return bool(on(error))


def pause_s(retry: Retry, tries: int, chance: float | None = None) -> float:
    """Seconds before the next try of an item that has had so many.

    chance: from 0 to 1; None to have it drawn, from no generator that a seed may have set.
    """
    if not retry.backoff:
        return 0.0
    try:
        whole_s = min(retry.most, retry.backoff * retry.factor ** (tries - 1))
    except OverflowError:
        whole_s = retry.most
    if not retry.jitter:
        return whole_s
    drawn = int.from_bytes(os.urandom(4), "big") / 2**32 if chance is None else chance
    return whole_s * (1 - retry.jitter * drawn)


def note_tries(error: BaseException, tries: int) -> None:
    """Notes on the exception that ended the last of several tries how many there were."""
    if tries > 1:
        error.add_note(f"autopar: tried {tries} times")


def _check(times: Any, on: Any, numbers: dict[str, Any]) -> None:
    """Raises where a field cannot be meant."""
    found = _wrong_type(times, on, numbers)
    wrong = found or _wrong_value(times, numbers)
    if wrong is None:
        return
    from ._errors import OptionTypeError, OptionValueError

    raise OptionTypeError(wrong) if found else OptionValueError(wrong)


def _wrong_type(times: Any, on: Any, numbers: dict[str, Any]) -> str | None:
    if not isinstance(times, int) or isinstance(times, bool):
        return f"retries must be a whole number or a Retry, not {times!r}"
    classes = on if isinstance(on, tuple) else (on,) if isinstance(on, type) else ()
    if not (classes or callable(on)) or not all(map(_is_failure, classes)):
        return f"on must be one or more classes of Exception, or a function of one, not {on!r}"
    for name, value in numbers.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"{name} must be a number, not {value!r}"
    return None


def _wrong_value(times: int, numbers: dict[str, Any]) -> str | None:
    if times < 0:
        return f"retries must not be negative, and is {times}"
    for name, value in numbers.items():
        if not 0 <= value < float("inf"):
            return f"{name} must be finite and not negative, and is {value!r}"
    if numbers["factor"] < 1:
        return f"factor must be at least 1, not {numbers['factor']!r}"
    if numbers["jitter"] > 1:
        return f"jitter must be at most 1, not {numbers['jitter']!r}"
    return None


def _is_failure(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, Exception)


NEVER = Retry(0)
