"""Pickling by value, for what pickle cannot name: cloudpickle, and context variables.

cloudpickle also takes two things that plain pickle refuses, and delivers something else: of a
memoryview its bytes, of an open file the rest of its text. These are refused here as well, because
a function would see the difference. From 3.1.3 on it names no file in code that it sends; here the
code keeps its file, which tracebacks and warnings show.

Loaded on first need: cloudpickle costs a process about 20 ms.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from contextvars import ContextVar
from types import CodeType, FunctionType
from typing import Any

import cloudpickle

from .variables import reduce
from .wire import located
from .wrapped import named, unwrapped

_Base: Any = cloudpickle.Pickler


def _refuse(value: object) -> Any:
    raise TypeError(f"cannot pickle {type(value).__name__!r} object")


def _file(file: io.TextIOWrapper) -> Any:
    """The standard streams by name."""
    known = file is sys.stdout or file is sys.stderr
    return _Base.dispatch_table[io.TextIOWrapper](file) if known else _refuse(file)


def _code(code: CodeType) -> Any:
    make, parts = _Base.dispatch_table[CodeType](code)
    return located, (code.co_filename, make, parts)


# By type, what gives the parts of an object; other objects have `__reduce_ex__`. A table of its
# own: what the user's own pickling does is not changed.
TABLE: ChainMap[type, Callable[[Any], Any]] = ChainMap(
    {ContextVar: reduce, memoryview: _refuse, io.TextIOWrapper: _file, CodeType: _code},
    _Base.dispatch_table,
)


def _reduced(pickler: Any, value: Any) -> Any:
    """As cloudpickle has it, but a function that a decorator hides goes by the name of that."""
    place = named(value) if type(value) is FunctionType else None
    return (unwrapped, place) if place is not None else _Base.reducer_override(pickler, value)


_Pickler: Any = type("Pickler", (_Base,), {"dispatch_table": TABLE, "reducer_override": _reduced})


def dumps(
    value: Any, protocol: int, callback: Callable[[pickle.PickleBuffer], bool] | None
) -> bytes:
    """The pickle of `value`."""
    spawned = sys.modules.get("__mp_main__")  # a main module, as processes that were spawned see it
    if spawned is not None and spawned.__name__ == "__mp_main__":
        cloudpickle.register_pickle_by_value(spawned)
    file = io.BytesIO()
    _Pickler(file, protocol, callback).dump(value)
    return file.getvalue()
