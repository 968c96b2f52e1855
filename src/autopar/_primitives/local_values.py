"""Values and arrays of ctypes in the memory of one process, with multiprocessing's signatures."""

from __future__ import annotations

import multiprocessing
from multiprocessing import sharedctypes
from typing import Any

from .local_locks import RLock

_TYPES: dict[Any, Any] = vars(sharedctypes)["typecode_to_type"]


def _type(typecode_or_type: Any) -> Any:
    """The ctypes type of a typecode."""
    return _TYPES.get(typecode_or_type, typecode_or_type)


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A ctypes object, zero unless `args` say otherwise."""
    value = _type(typecode_or_type)()
    value.__init__(*args)
    return value


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """An array of ctypes: of that many zeros, or with those values."""
    type_ = _type(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return (type_ * size_or_initializer)()
    return (type_ * len(size_or_initializer))(*size_or_initializer)


def Value(typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
    """A `RawValue` whose `value` is read and written under a lock, which `get_lock()` gives.

    lock: True or None for a new `RLock`, a lock to use, or False for a `RawValue`.
    """
    return _guarded(RawValue(typecode_or_type, *args), lock)


def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
    """A `RawArray` whose items are read and written under a lock, which `get_lock()` gives.

    lock: True or None for a new `RLock`, a lock to use, or False for a `RawArray`.
    """
    return _guarded(RawArray(typecode_or_type, size_or_initializer), lock)


def _guarded(raw: Any, lock: Any) -> Any:
    if lock is False:
        return raw
    if lock is True or lock is None:
        lock = RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    # The wrappers of the shared ones, around memory that is not shared, and our lock.
    # The context is not asked for anything; asking for the default one would settle what that is.
    return sharedctypes.synchronized(raw, lock, ctx=multiprocessing.get_context("spawn"))
