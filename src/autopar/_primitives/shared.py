"""Values and arrays in shared memory, seen through ctypes, with a lock or without.

The objects without a lock are ctypes objects whose classes know how to travel; an array with a lock
is one too, so that `memoryview(array)` and `numpy.asarray(array)` see its memory without a copy.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, overload

from . import arena
from .arena import Block, Place
from .locks import RLock
from .permits import Permits

_TYPES: dict[str, Any] = {
    "c": ctypes.c_char, "u": ctypes.c_wchar, "?": ctypes.c_bool,
    "b": ctypes.c_byte, "B": ctypes.c_ubyte, "h": ctypes.c_short, "H": ctypes.c_ushort,
    "i": ctypes.c_int, "I": ctypes.c_uint, "l": ctypes.c_long, "L": ctypes.c_ulong,
    "q": ctypes.c_longlong, "Q": ctypes.c_ulonglong, "f": ctypes.c_float, "d": ctypes.c_double,
}  # fmt: skip
Shape = tuple[int, ...]


@overload
def Value(typecode_or_type: Any, *args: Any, lock: Literal[False]) -> Any: ...
@overload
def Value(typecode_or_type: Any, *args: Any, lock: Any = True) -> SharedValue: ...
def Value(typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
    """A number, or a ctypes structure, in shared memory; it travels in any pickle.

    typecode_or_type: as of the module `array`, or a ctypes type, or numpy's. args: what the ctypes
    type is called with. lock: as for `Array`.
    Raises: AttributeError if `lock` is no lock; BackendUnavailable.
    """
    obj = RawValue(typecode_or_type, *args)
    if lock is False:
        return obj
    lock = _lock(lock)
    if not hasattr(type(obj), "value"):
        return SharedStructure(obj, lock)
    return (_QuickValue if _is_plainly_ours(lock) else SharedValue)(obj, lock)


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """As `Value` without a lock: a ctypes object in shared memory."""
    c_type = _c_type(typecode_or_type)
    obj = _on(c_type, None, arena.block(ctypes.sizeof(c_type)))
    obj.__init__(*args)
    return obj


@overload
def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Literal[False]) -> Any: ...
@overload
def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> SharedArray: ...
def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
    """An array in shared memory, as `multiprocessing.Array`; it travels in any pickle.

    typecode_or_type: as of the module `array`, or a ctypes type, or numpy's. size_or_initializer:
    how many items, all zero, or the items; a numpy array gives its shape as well, and where the
    type is numpy's, a tuple of whole numbers is a shape. lock: True for an `RLock` of its own,
    False for an array without, or the lock to use.
    Raises: TypeError for a numpy type that C has no name for; AttributeError if `lock` is no lock;
    BackendUnavailable.
    """
    if lock is False:
        return RawArray(typecode_or_type, size_or_initializer)
    return _array(typecode_or_type, size_or_initializer, _lock(lock))


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """As `Array` without a lock: a ctypes array in shared memory."""
    return _array(typecode_or_type, size_or_initializer, None)


class _Raw:
    """What a ctypes object in shared memory has besides; its class derives from this one first.

    _made_of: the C type of an item, the shape (None of what is no array), and the block.
    """

    _made_of: tuple[Any, Shape | None, Block]

    def __reduce__(self) -> tuple[Any, ...]:
        c_type, shape, block = self._made_of
        return _found, (c_type, shape, block.place())

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def view(self) -> memoryview:
        """The memory, as items of their own type; `memoryview()` alone names it as ctypes does."""
        c_type, shape, _block = self._made_of
        whole = memoryview(self).cast("B")  # type: ignore[arg-type]
        code = getattr(c_type, "_type_", None)
        if not isinstance(code, str) or code in "uOPzZXvg":
            return whole
        return whole.cast(code, shape or (1,))  # type: ignore[call-overload,no-any-return]


class _Guarded:
    """What has a lock: as `multiprocessing`'s synchronized objects."""

    _lock: Any

    def get_lock(self) -> Any:
        """The lock, which `with` on the object itself takes as well."""
        return self._lock

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take the lock."""
        return bool(self._lock.acquire(block, timeout))

    def release(self) -> None:
        """Let go of the lock."""
        self._lock.release()

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *exc: object) -> None:
        self._lock.__exit__(*exc)


class SharedArray(_Guarded, _Raw):
    """An array with a lock, as `Array` makes it.

    Items and slices are read and written with the lock, as with `multiprocessing`'s; `view()`,
    `memoryview()` and numpy see the memory itself: to change it in one piece, use `with`.
    """

    def get_obj(self) -> Any:
        """The array without a lock, on the same memory."""
        c_type, shape, block = self._made_of
        return _on(c_type, shape, block)

    def __reduce__(self) -> tuple[Any, ...]:
        c_type, shape, block = self._made_of
        return _found, (c_type, shape, block.place(), self._lock)

    # Here and in `SharedValue` the methods that `with` would call are called by name: from one
    # function in Python to another that takes a quarter to a third less.

    def __getitem__(self, index: Any) -> Any:
        lock = self._lock
        lock.__enter__()
        try:
            if isinstance(index, tuple):
                return functools.reduce(lambda part, at: part[at], index, self.get_obj())
            return _get_item(self, index)
        finally:
            lock.__exit__(None, None, None)

    def __setitem__(self, index: Any, value: Any) -> None:
        lock = self._lock
        lock.__enter__()
        try:
            if isinstance(index, tuple):
                part = functools.reduce(lambda part, at: part[at], index[:-1], self.get_obj())
                part[index[-1]] = value
            else:
                _set_item(self, index, value)
        finally:
            lock.__exit__(None, None, None)


_get_item: Any = ctypes.Array.__getitem__
_set_item: Any = ctypes.Array.__setitem__


class _Text(SharedArray):
    """An array of characters, which has them as one string, too."""

    @property
    def value(self) -> Any:
        """What is before the first zero."""
        with self._lock:
            return self.get_obj().value

    @value.setter
    def value(self, text: Any) -> None:
        with self._lock:
            self.get_obj().value = text

    @property
    def raw(self) -> bytes:
        """All bytes."""
        with self._lock:
            return bytes(self.get_obj().raw)

    @raw.setter
    def raw(self, text: bytes) -> None:
        with self._lock:
            self.get_obj().raw = text


class SharedValue(_Guarded):
    """A value with a lock, as `Value` makes it."""

    def __init__(self, obj: Any, lock: Any) -> None:
        self._obj, self._lock = obj, lock

    def get_obj(self) -> Any:
        """The ctypes object, without a lock."""
        return self._obj

    @property
    def value(self) -> Any:
        """What it is; read and written with the lock. `value.value += 1` is not one step."""
        with self._lock:
            return self._obj.value

    @value.setter
    def value(self, value: Any) -> None:
        with self._lock:
            self._obj.value = value

    def add(self, n: Any = 1) -> Any:
        """Add to it, in one step for all; what it is then."""
        lock = self._lock
        lock.__enter__()
        try:
            obj = self._obj
            obj.value += n
            return obj.value
        finally:
            lock.__exit__(None, None, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._obj, self._lock)

    def __repr__(self) -> str:
        return f"<autopar.Value {self._obj!r}>"


class _QuickValue(SharedValue):
    """The same with a lock of `permits`, whose `with` is written out: calls are what takes time."""

    @property
    def value(self) -> Any:
        """As `SharedValue.value`."""
        lock = self._lock
        up, attempt = lock._up, lock._try
        up()
        if not attempt(False):
            lock._down(False)
            lock._wait(None)
        try:
            return self._obj.value
        finally:
            quiet = lock._quiet
            if quiet():
                give, down = lock._give, lock._down
                give()
                down(False)
            else:
                lock._release_to_waiters()

    @value.setter
    def value(self, value: Any) -> None:
        lock = self._lock
        up, attempt = lock._up, lock._try
        up()
        if not attempt(False):
            lock._down(False)
            lock._wait(None)
        try:
            self._obj.value = value
        finally:
            quiet = lock._quiet
            if quiet():
                give, down = lock._give, lock._down
                give()
                down(False)
            else:
                lock._release_to_waiters()


def _is_plainly_ours(lock: Any) -> bool:
    return isinstance(lock, Permits) and type(lock).__enter__ is Permits.__enter__


class SharedStructure(_Guarded):
    """A ctypes structure with a lock, as `Value` makes it; its fields are attributes."""

    def __init__(self, obj: Any, lock: Any) -> None:
        self.__dict__.update(_obj=obj, _lock=lock)

    def get_obj(self) -> Any:
        """The ctypes object, without a lock."""
        return self.__dict__["_obj"]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        with self._lock:
            return getattr(self.__dict__["_obj"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        with self._lock:
            setattr(self.__dict__["_obj"], name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.__dict__["_obj"], self._lock)


def _lock(lock: Any) -> Any:
    if lock is True or lock is None:
        return RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return lock


def _array(named: Any, size_or_initializer: Any, lock: Any) -> Any:
    c_type = _c_type(named)
    shape, items = _layout(_is_numpy(named), size_or_initializer)
    size = ctypes.sizeof(c_type) * math.prod(shape)
    made = _on(c_type, shape, arena.block(max(1, size)), lock)
    if items is not None:
        _fill(made.get_obj() if lock is not None else made, items)
    return made


def _layout(by_numpy: bool, given: Any) -> tuple[Shape, Any]:
    """The shape, and the items or None."""
    if hasattr(given, "__index__") and not getattr(given, "shape", ()):
        given = given.__index__()
    if isinstance(given, int):
        if given < 0:
            raise ValueError("the size of an array is at least 0")
        return (given,), None
    if by_numpy and isinstance(given, tuple) and all(isinstance(size, int) for size in given):
        return given, None
    shape = getattr(given, "shape", None)
    if shape is not None:
        return tuple(shape), given
    items = given if isinstance(given, Sequence) else list(given)
    return (len(items),), items


def _fill(obj: Any, items: Iterable[Any]) -> None:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(items, numpy.ndarray):
        numpy.asarray(obj)[...] = items
    else:
        obj.__init__(*items)


def _found(c_type: Any, shape: Shape | None, place: Place, lock: Any = None) -> Any:
    """As pickle calls it. Raises: TransportError."""
    what = "a Value" if shape is None else "an Array"
    with arena.lock():
        return _on(c_type, shape, arena.find(Place(*place), what), lock)


def _on(c_type: Any, shape: Shape | None, block: Block, lock: Any = None) -> Any:
    """The object on a block; with a lock if there is one."""
    base = _Raw if lock is None else _Text if c_type is ctypes.c_char else SharedArray
    obj = _class(base, c_type, shape).from_buffer(block.arena.buffer, block.at)
    obj._made_of = c_type, shape, block  # the block, too, stays as long as the object
    if lock is not None:
        obj._lock = lock
    return obj


@functools.lru_cache(maxsize=256)
def _class(base: type, c_type: Any, shape: Shape | None) -> Any:
    whole = c_type
    for size in reversed(shape or ()):
        whole = whole * size
    return type(whole)(whole.__name__, (base, whole), {})


def _is_numpy(named: Any) -> bool:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    return isinstance(named, numpy.dtype) or (
        isinstance(named, type) and issubclass(named, numpy.generic)
    )


def _c_type(named: Any) -> Any:
    """The ctypes type that is meant. Raises: TypeError."""
    if isinstance(named, str):
        if named not in _TYPES:
            raise TypeError(f"bad typecode {named!r}: one of {' '.join(_TYPES)}")
        return _TYPES[named]
    if not _is_numpy(named):
        return named
    import numpy as np

    try:
        return np.ctypeslib.as_ctypes_type(np.dtype(named))
    except NotImplementedError:
        raise TypeError(
            f"{np.dtype(named)} has no type in C: share its bytes, with numpy.uint8, and view them"
        ) from None
