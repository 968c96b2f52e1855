"""What can still be read of a message that does not load as a whole.

The values of many items travel in one message. When one of them fails to load, the others are
still there: they are read past it, and the part of it that fails is named.
Relies on: `pickle._Unpickler`, the one written in Python, whose steps can be gone around one by
one. It is some 50 times slower, and reads only what has failed already.
"""

from __future__ import annotations

import gc
import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from .._errors import TransportError
from .guilty import FUNCTION, INITARGS, INITIALIZER, NAMES, RETRIES, kind_of, kind_of_class, reason
from .parts import Step, parts

MAX_LOOKED_AT = 100_000  # objects searched for one that did not load


class Salvage(NamedTuple):
    """What came of the values of consecutive items.

    values: those that loaded, None in the places of the others.
    refused: by item, why its value did not load.
    """

    values: list[Any]
    refused: dict[int, TransportError]


def salvage(
    what: str,
    start: int,
    size: int,
    body: bytes | memoryview,
    buffers: Sequence[Any],
    error: BaseException,
) -> Salvage:
    """Reads the `size` values, from item `start` on, of a message whose loading raised `error`.

    what: "an argument" or "the result".
    """
    found = _leniently_loaded(body, buffers)
    if type(found) is not list or len(found) != size:
        whole = range(start, start + size)
        return Salvage(
            [None] * size, {index: _refusal(what, index, "", None, error) for index in whole}
        )
    refused: dict[int, TransportError] = {}
    for at, value in enumerate(found):
        lost = _lost_in(value, NAMES[what])
        if lost is not None:
            path, part = lost
            refused[start + at] = _refusal(what, start + at, path, part, part.error)
            found[at] = None
    return Salvage(found, refused)


def first_refusal(
    what: str,
    start: int,
    size: int,
    body: bytes | memoryview,
    buffers: Sequence[Any],
    error: BaseException,
) -> TransportError:
    """Why the first of the values that do not load does not."""
    refused = salvage(what, start, size, body, buffers, error).refused
    return refused[min(refused)] if refused else _refusal(what, start, "", None, error)


def job_refusal(
    body: bytes | memoryview, buffers: Sequence[Any], error: BaseException
) -> TransportError:
    """Why a pickled (function, initializer, initargs, retries, ...) does not load."""
    found = _leniently_loaded(body, buffers)
    if type(found) is tuple:
        for what, value in zip((FUNCTION, INITIALIZER, INITARGS, RETRIES), found):
            lost = _lost_in(value, NAMES[what])
            if lost is not None:
                return _refusal(what, None, *lost, lost[1].error)
    return _refusal(FUNCTION, None, "", None, error)


def _leniently_loaded(body: bytes | memoryview, buffers: Sequence[Any]) -> Any:
    """The value of a pickle with a `_Lost` for all that does not load, or None."""
    try:
        return _Lenient(io.BytesIO(body), buffers=buffers).load()
    except Exception:  # the pickle itself is at fault, or nested too deeply
        return None


def _refusal(
    what: str, index: int | None, path: str, part: _Lost | None, error: BaseException
) -> TransportError:
    why = reason(error)
    if part is not None:
        why = f"{path} is {part.kind}, which does not load ({why})"
    refused = TransportError(what, index, why, path)
    refused.__cause__ = error
    return refused


class _Lost:
    """Stands where something did not load.

    kind: what it would have been; error: what loading it raised.
    """

    def __init__(self, kind: str, error: BaseException) -> None:
        self.kind, self.error = kind, error


# What the reader written in Python does at each opcode.
_NATIVE: dict[int, Any] = dict(pickle._Unpickler.dispatch)  # pyright: ignore[reportPrivateUsage]


class _Lenient(pickle._Unpickler):  # pyright: ignore[reportPrivateUsage]
    """Puts a `_Lost` in the place of whatever does not load."""

    stack: list[Any]
    metastack: list[list[Any]]
    memo: dict[int, Any]
    append: Callable[[Any], None]
    lost = False  # whether anything has been

    def find_class(self, module: str, name: str) -> Any:
        """As pickle, or a `_Lost` where there is nothing of that name."""
        try:
            return super().find_class(module, name)
        except Exception as error:
            return self._note(_Lost(f"a {module}.{name}", error))

    def load_reduce(self) -> None:
        """The result of a call."""
        args = self.stack.pop()
        self._make(self.stack.pop(), args)

    def load_newobj(self) -> None:
        """An object whose class takes arguments by place."""
        args = self.stack.pop()
        self._make(self.stack.pop(), args, made_by_new=True)

    def load_newobj_ex(self) -> None:
        """An object whose class takes arguments by name, too."""
        keywords, args = self.stack.pop(), self.stack.pop()
        self._make(self.stack.pop(), args, keywords, made_by_new=True)

    def _make(
        self,
        maker: Any,
        args: Any,
        keywords: dict[str, Any] | None = None,
        made_by_new: bool = False,
    ) -> None:
        keywords = keywords or {}
        lost = _reached([maker, args, keywords]) if self.lost else None
        if lost is not None:
            # It cannot be made of something else than it was, and is lost with its part.
            self.stack.append(lost)
            return
        try:
            made = maker.__new__(maker, *args, **keywords) if made_by_new else maker(*args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's code may raise anything, SystemExit too
            made = self._note(_Lost(_kind_made_by(maker), error))
        self.stack.append(made)

    def load_build(self) -> None:
        """The state of an object."""
        whole, state = self.stack[-2:]
        lost = whole if type(whole) is _Lost else None
        if lost is None and self.lost:
            setter = getattr(whole, "__setstate__", None)
            # One of the user's has to make sense of the state; the builtin ones only keep it.
            lost = _reached(state) if isinstance(setter, MethodType) else None
        if lost is not None:
            self.stack[-2:] = [self._lose(whole, lost.error, lost)]
            return
        self.go_around(_NATIVE[pickle.BUILD[0]], 1)

    def go_around(self, load: Callable[[_Lenient], None], operands: int) -> None:
        """Has an opcode change the object that lies below its operands."""
        at = len(self.stack) - operands - 1
        whole = self.stack[at]
        try:
            load(self)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.stack[at:] = [self._lose(whole, error)]

    def go_around_to_mark(self, load: Callable[[_Lenient], None]) -> None:
        """Has an opcode change the object below the mark; the operands lie above."""
        depth, below = len(self.metastack), self.metastack[-1]
        try:
            load(self)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            below[-1] = self._lose(below[-1], error)
            del self.metastack[depth - 1 :]
            self.stack, self.append = below, below.append

    def _lose(self, whole: Any, error: BaseException, lost: _Lost | None = None) -> _Lost:
        """What stands for an object that has been made and could not be filled."""
        if type(whole) is _Lost:
            return whole
        lost = self._note(lost or _Lost(kind_of(whole), error))
        for key, value in list(self.memo.items()):
            if value is whole:  # else it would be taken for a whole one further on
                self.memo[key] = lost
        return lost

    def _note(self, lost: _Lost) -> _Lost:
        self.lost = True
        return lost


def _steps_of_reading() -> dict[int, Any]:
    """What is done at each opcode."""
    steps = _NATIVE | {
        pickle.REDUCE[0]: _Lenient.load_reduce,
        pickle.NEWOBJ[0]: _Lenient.load_newobj,
        pickle.NEWOBJ_EX[0]: _Lenient.load_newobj_ex,
        pickle.BUILD[0]: _Lenient.load_build,
    }
    for opcode, operands in ((pickle.APPEND, 1), (pickle.SETITEM, 2)):
        steps[opcode[0]] = partial(_Lenient.go_around, load=_NATIVE[opcode[0]], operands=operands)
    for opcode in (pickle.APPENDS, pickle.SETITEMS, pickle.ADDITEMS):
        steps[opcode[0]] = partial(_Lenient.go_around_to_mark, load=_NATIVE[opcode[0]])
    return steps


_Lenient.dispatch = _steps_of_reading()


def _kind_made_by(maker: Any) -> str:
    if issubclass(type(maker), type):
        return kind_of_class(maker)
    return f"an object made by {getattr(maker, '__qualname__', 'a callable')}()"


# Where in a value something was lost


def _lost_in(value: Any, name: str) -> tuple[str, _Lost] | None:
    """The path to the first thing within `value` that did not load, and what stands for it."""
    lost = _reached(value)
    if lost is None:
        return None
    waiting, seen = [(value, name)], {id(value)}
    kept = [value]  # so that no address is used twice
    for part, path in waiting:  # grows while it is walked, nearest parts first
        if type(part) is _Lost:
            return path, part
        for (before, after), inner in _steps(part):
            if id(inner) not in seen and len(seen) < MAX_LOOKED_AT:
                seen.add(id(inner))
                kept.append(inner)
                waiting.append((inner, f"{before}{path}{after}"))
    return name, lost


def _steps(part: Any) -> Iterator[tuple[Step, Any]]:
    """The parts of an object with the steps to them, as far as it can be taken apart."""
    try:
        for values, step in parts(part):
            for at, inner in enumerate(values):
                yield step(at), inner
    except Exception:  # it holds what did not load, and may not be fit for use
        return


def _reached(value: Any) -> _Lost | None:
    """Something that did not load and that `value` refers to, however far away."""
    waiting, seen = [value], {id(value)}
    for part in waiting:
        if type(part) is _Lost:
            return part
        for inner in _referents(part):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)
    return None


def _referents(part: Any) -> list[Any]:
    """What an object refers to, but for what every object of a program reaches in the end."""
    cls = type(part)
    if issubclass(cls, type) or cls is ModuleType:
        return []
    if cls is FunctionType:
        return [inner for _step, inner in _steps(part)]
    if cls.__module__ == "numpy" and getattr(getattr(part, "dtype", None), "hasobject", False):
        return [part.tolist()]  # numpy keeps objects where the collector does not look
    return gc.get_referents(part)
