"""Which part of a value keeps it from travelling.

Guarantees: a search ends within about a second, whatever the value's size, depth or cycles, and
raises nothing that the user's objects raise; what it gives up early is still true, and only less
exact. Relies on: `wire.dumps`, which is asked about part after part; the first part found at fault
is followed, down to one whose own parts all travel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from .._errors import TransportError
from .._model import Job
from . import wire
from .parts import parts

# Returns what is wrong with a value, or None.
Judge: TypeAlias = Callable[[Any], BaseException | None]

SEARCH_S = 1.0  # a message now is worth more than a better one later
BLOCK_S = 20e-3  # parts are asked about together while that takes no longer
MAX_DEPTH = 200  # steps of a path
MAX_REASON = 200  # characters of what pickle said

FUNCTION, INITIALIZER = "the function", "the initializer"
INITARGS = "the arguments of the initializer"
RETRIES = "what is said of retries"
ARGUMENT, RESULT = "an argument", "the result"
NAMES = {
    FUNCTION: "fn",
    INITIALIZER: "initializer",
    INITARGS: "initargs",
    RETRIES: "retries",
    ARGUMENT: "item",
    RESULT: "result",
}


class Blame(NamedTuple):
    """The part at fault.

    path: how it is reached, in Python's words as far as these go.
    part: what it is; reason: what pickle says of it.
    """

    path: str
    part: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path} is {self.part} ({self.reason})"


# What is wrong with a value, as errors


def refusal(what: str, index: int | None, value: Any, error: BaseException) -> TransportError:
    """The error that says which part of `value` does not travel, where that can be found.

    what: one of the constants above; error: what pickling or loading `value` raised.
    """
    if isinstance(error, MemoryError):  # a search would only take more of it
        return _error(what, index, None, error)
    name = NAMES[what]
    found = blame(value, name, error=error)
    if found is None or (found.path == name and unpicklable(value) is None):
        found = blame(value, name, unloadable, error=error)
    return _error(what, index, found, error)


def refusal_among(
    what: str, start: int, values: Sequence[Any], error: BaseException
) -> TransportError:
    """As `refusal`, for the first value at fault of those from item `start` on."""
    for judge in (unpicklable, unloadable):
        found = _first(values, judge, _Limit(SEARCH_S))
        if found is not None:
            at, own = found
            return refusal(what, start + at, values[at], own)
    return _error(what, start if len(values) == 1 else None, None, error)


def job_refusal(job: Job, error: BaseException) -> TransportError:
    """As `refusal`, for the part of a job at fault."""
    pieces = (
        (FUNCTION, job.fn),
        (INITIALIZER, job.initializer),
        (INITARGS, job.initargs),
        (RETRIES, job.retries),
    )
    for judge in (unpicklable, unloadable):
        for what, value in pieces:
            own = judge(value)
            if own is not None:
                return refusal(what, None, value, own)
    return _error(FUNCTION, None, None, error)


def _error(
    what: str, index: int | None, found: Blame | None, error: BaseException
) -> TransportError:
    why, path = (reason(error), "") if found is None else (str(found), found.path)
    refused = TransportError(what, index, why, path)
    refused.__cause__ = error
    return refused


# Judges


def unpicklable(value: Any) -> BaseException | None:
    """What pickling `value` raises."""
    try:
        wire.dumps(value, [])  # large buffers are set aside, so none is copied
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a __reduce__ may raise anything, SystemExit too
        return error
    return None


def unloadable(value: Any) -> BaseException | None:
    """What pickling `value` or loading it again raises, in this process."""
    try:
        wire.round_trip(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error
    return None


# The search


def blame(
    value: Any,
    name: str,
    judge: Judge = unpicklable,
    *,
    error: BaseException | None = None,
    within_s: float = SEARCH_S,
) -> Blame | None:
    """The part of `value` at fault, its path beginning with `name`; None when nothing is.

    error: what the judge would say of the whole, where that is known.
    """
    error = error or judge(value)
    if error is None:
        return None
    try:
        return _follow(_Suspect(value, name, error), judge, _Limit(within_s))
    except KeyboardInterrupt:
        raise
    except BaseException:  # the user's objects may do anything
        return Blame(name, kind_of(value), reason(error))


class _Suspect(NamedTuple):
    """A value at fault, how it is reached, and what is wrong with it."""

    value: Any
    path: str
    error: BaseException


def _follow(whole: _Suspect, judge: Judge, limit: _Limit) -> Blame:
    """Goes from a value at fault to its first part at fault, and on, as far as that leads."""
    trail, seen = [whole], {id(whole.value): whole.value}
    while len(trail) <= MAX_DEPTH:
        last = trail[-1]
        part, in_a_circle = _guilty_part(last, seen, judge, limit)
        if part is not None:
            trail.append(part)
            seen[id(part.value)] = part.value  # kept, for `parts` may have made it
        elif in_a_circle and len(trail) > 1 and not limit.reached():
            trail.pop()  # it is at fault only for what leads back to where the search has been
        else:
            break
    last = trail[-1]
    given_up = len(trail) > MAX_DEPTH or limit.reached()
    if given_up and isinstance(last.error.__cause__ or last.error, RecursionError):
        kind = f"{kind_of(whole.value)} nested too deeply"
        return Blame(whole.path, kind, reason(whole.error))
    return Blame(last.path, kind_of(last.value), reason(last.error))


def _guilty_part(
    whole: _Suspect, seen: dict[int, Any], judge: Judge, limit: _Limit
) -> tuple[_Suspect | None, bool]:
    """The first part at fault that has not been seen, and whether there are some that have."""
    in_a_circle = False
    try:
        for values, step in parts(whole.value):
            places = [at for at, part in enumerate(values) if id(part) not in seen]
            in_a_circle |= len(places) < len(values)
            found = _first([values[at] for at in places], judge, limit)
            if found is not None:
                place, error = places[found[0]], found[1]
                before, after = step(place)
                return _Suspect(values[place], f"{before}{whole.path}{after}", error), in_a_circle
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None, False  # it cannot even be taken apart: it is at fault itself
    return None, in_a_circle


def _first(values: Sequence[Any], judge: Judge, limit: _Limit) -> tuple[int, BaseException] | None:
    """The first value at fault on its own and what is wrong with it.

    Values are asked about in blocks, of which the first at fault is halved, so that a million of
    them cost little more than to pickle them once, and the first one costs nothing for the others.
    """
    low, size = 0, 1
    while low < len(values) and not limit.reached():
        block, asked_s = list(values[low : low + size]), time.perf_counter()
        error = judge(block[0] if len(block) == 1 else block)
        if error is not None:
            found = _halved(block, error, judge, limit)
            if found is not None:
                return low + found[0], found[1]
        low += size
        if time.perf_counter() - asked_s < BLOCK_S:
            size *= 2
    return None


def _halved(
    block: list[Any], error: BaseException, judge: Judge, limit: _Limit
) -> tuple[int, BaseException] | None:
    """The value of a block at fault, and what is wrong with it."""
    low = 0
    while len(block) > 1:
        if limit.reached():
            return None
        half = block[: len(block) // 2]
        found = judge(half[0] if len(half) == 1 else half)
        if found is not None:
            block, error = half, found
            continue
        low, block = low + len(half), block[len(half) :]
        if len(block) == 1:
            # Values may fail together and each go well alone, nested as deep as is possible.
            found = judge(block[0])
            if found is None:
                return None
            error = found
    return low, error


class _Limit:
    """How much longer a search may take."""

    def __init__(self, within_s: float) -> None:
        self._until_s = time.perf_counter() + within_s

    def reached(self) -> bool:
        """Whether the search has to end with what it has."""
        return time.perf_counter() >= self._until_s


# Words


def kind_of(value: Any) -> str:
    """What a value is, with an article."""
    return kind_of_class(type(value))


def kind_of_class(cls: type) -> str:
    """What an instance of a class is, with an article."""
    try:
        module = type.__dict__["__module__"].__get__(cls)
        name = type.__dict__["__qualname__"].__get__(cls).replace("<locals>.", "")
        name = name if module == "builtins" else f"{module}.{name}"
    except Exception:  # a class may put anything in place of its module
        name = "object"
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def reason(error: BaseException) -> str:
    """An error in one line."""
    try:
        first = (str(error).splitlines() or [""])[0]
    except Exception:
        first = ""
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}..."
