"""What pickle takes a value apart into, and the words that lead to each part.

Guarantees: no property and no other accessor of the user's is evaluated; the only code of theirs
that runs is what pickle itself calls (`__reduce_ex__`, `__getstate__`).
"""

from __future__ import annotations

import copyreg
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import (
    BuiltinMethodType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, NamedTuple, TypeAlias

from .byvalue import TABLE

Step: TypeAlias = tuple[str, str]  # what is written before and after the path of the whole

MAX_KEY = 60  # characters of a key that are shown

_PROTOCOL = 5
_ATOMS = frozenset(
    {str, bytes, bytearray, int, float, complex, bool, type(None), range, slice, CodeType}
    | {ModuleType, type(Ellipsis), type(NotImplemented)}
)
# What a class holds that does not travel with it, or travels in another shape.
_NOT_OF_A_CLASS = frozenset({"__dict__", "__weakref__", "_abc_impl", "__module__", "__doc__"})
_GLOBALS_USED = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})
_ARGS = BaseException.__dict__["args"]
_MEMBERS = BaseExceptionGroup.__dict__["exceptions"]
_CLASS_DICT = type.__dict__["__dict__"]


class Parts(NamedTuple):
    """Some parts of one value, and the step to the part at a position."""

    values: Sequence[Any]
    step: Callable[[int], Step]


def parts(value: Any) -> Iterator[Parts]:
    """All that has to travel for `value` to travel; nothing for what is whole."""
    cls = type(value)
    if cls in _ATOMS:
        return
    if cls in _TAKEN_APART:
        yield from _TAKEN_APART[cls](value)
    elif issubclass(cls, type):
        yield from _of_class(value)
    elif _holds_objects(value):
        yield Parts(value.ravel().tolist(), lambda index: ("", f".flat[{index}]"))
    else:
        yield from _of_reduction(value)


def key_text(key: object) -> str:
    """A key as it would be written in brackets, when it has a short and plain name."""
    if type(key) not in (str, bytes, int, float, bool, type(None)):
        return f"<a {type(key).__name__} key>"
    text = repr(key)
    if len(text) > MAX_KEY:
        return f"{text[:MAX_KEY]}..."
    if text[0] == "'" and '"' not in text:
        return f'"{text[1:-1]}"'
    return text


def _index(index: int) -> Step:
    return "", f"[{index}]"


def _position(index: int) -> Step:
    return "list(", f")[{index}]"


def _steps(found: Sequence[tuple[Step, Any]]) -> Parts:
    steps = [step for step, _ in found]
    return Parts([value for _, value in found], steps.__getitem__)


def _attributes(value: Any, names: Sequence[str]) -> Parts:
    return _steps([(("", f".{name}"), getattr(value, name)) for name in names])


# Builtin types, whose attributes are what they say


def _of_sequence(value: Any) -> Iterator[Parts]:
    yield Parts(list(value), _index)


def _of_set(value: Any) -> Iterator[Parts]:
    yield Parts(list(value), _position)


def _of_dict(value: Any) -> Iterator[Parts]:
    yield from _entries(list(value.items()))


def _entries(items: Sequence[tuple[Any, Any]]) -> Iterator[Parts]:
    yield Parts([value for _, value in items], lambda at: ("", f"[{key_text(items[at][0])}]"))
    yield Parts([key for key, _ in items], _position)


def _of_function(fn: Any) -> Iterator[Parts]:
    """What a function that travels by value takes along: cells, defaults, globals, attributes."""
    code: CodeType = fn.__code__
    found: list[tuple[str, Any]] = []
    for name, cell in zip(code.co_freevars, fn.__closure__ or ()):
        try:
            found.append((f"<closure variable {name}>", cell.cell_contents))
        except ValueError:
            pass  # not assigned yet
    defaults = fn.__defaults__ or ()
    first = code.co_argcount - len(defaults)
    for name, value in zip(code.co_varnames[first:], defaults):
        found.append((f"<default of {name}>", value))
    for name, value in (fn.__kwdefaults__ or {}).items():
        found.append((f"<default of {name}>", value))
    found += fn.__dict__.items()
    found += [
        (f"<global {name}>", fn.__globals__[name])
        for name in sorted(_globals_used(code))
        if name in fn.__globals__
    ]
    yield _steps([(("", f".{name}"), value) for name, value in found])


def _globals_used(code: CodeType) -> set[str]:
    """The globals that a function's code and the codes within it name."""
    import dis  # 10 ms, and only failures pay for it

    names = {each.argval for each in dis.get_instructions(code) if each.opname in _GLOBALS_USED}
    for constant in code.co_consts:
        if type(constant) is CodeType:
            names |= _globals_used(constant)
    return names


def _of_class(cls: Any) -> Iterator[Parts]:
    """What a class that travels by value takes along."""
    own = [
        (("", f".{name}"), value)
        for name, value in list(_CLASS_DICT.__get__(cls).items())
        if name not in _NOT_OF_A_CLASS
        and type(value) not in (GetSetDescriptorType, MemberDescriptorType)
    ]
    yield _steps(own)
    bases = type.__dict__["__bases__"].__get__(cls)
    yield Parts(bases, lambda index: ("", f".__bases__[{index}]"))


_TAKEN_APART: dict[type, Callable[[Any], Iterator[Parts]]] = {
    list: _of_sequence,
    tuple: _of_sequence,
    deque: _of_sequence,
    dict: _of_dict,
    set: _of_set,
    frozenset: _of_set,
    FunctionType: _of_function,
    MethodType: lambda value: iter([_attributes(value, ("__self__", "__func__"))]),
    BuiltinMethodType: lambda value: iter([_attributes(value, ("__self__",))]),
    partial: lambda value: iter([_attributes(value, ("func", "args", "keywords", "__dict__"))]),
    staticmethod: lambda value: iter([_attributes(value, ("__func__",))]),
    classmethod: lambda value: iter([_attributes(value, ("__func__",))]),
    property: lambda value: iter([_attributes(value, ("fget", "fset", "fdel"))]),
}


def _holds_objects(value: Any) -> bool:
    """Whether a value is a numpy array of Python objects."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and value.dtype == object


# Everything else, as pickle sees it


def _of_reduction(value: Any) -> Iterator[Parts]:
    """The parts that `__reduce_ex__` names; none where it fails, for then the value is at fault."""
    reduced = _reduction(value)
    if type(reduced) is not tuple or not 2 <= len(reduced) <= 6:
        return
    whole: list[Any] = [*reduced, None, None, None, None]
    make, args, state, items, entries, setter = whole[:6]
    owned = {id(part): ("", f".{name}") for name, part in _own(value)}
    if issubclass(type(value), BaseExceptionGroup):
        yield Parts(_MEMBERS.__get__(value), lambda index: ("", f".exceptions[{index}]"))
    yield from _of_making(value, make, args, owned)
    yield from _of_state(state, owned, plain=setter is None and not _sets_state(type(value)))
    if items is not None:
        yield Parts(list(items), _index)
    if entries is not None:
        yield from _entries(list(entries))


def _reduction(value: Any) -> Any:
    reduce = TABLE.get(type(value))
    return value.__reduce_ex__(_PROTOCOL) if reduce is None else reduce(value)


def _sets_state(cls: type) -> bool:
    return any("__setstate__" in _CLASS_DICT.__get__(base) for base in cls.__mro__)


def _of_making(value: Any, make: Any, args: Any, owned: dict[int, Step]) -> Iterator[Parts]:
    """What an object is made by, and from."""
    cls = type(value)
    args = list(args)
    keywords: dict[str, Any] = {}
    maker = (("type(", ")"), cls)
    # pickle has opcodes of their own for these two, whose first argument is the class
    if make is getattr(copyreg, "__newobj__", None):
        args = args[1:]
    elif make is getattr(copyreg, "__newobj_ex__", None):
        args, keywords = list(args[1]), dict(args[2])
    elif make is not cls:
        maker = (("", ".<constructor>"), make)
    yield _steps([maker])
    raised = issubclass(cls, BaseException) and len(args) == len(_ARGS.__get__(value))
    word = ".args[{}]" if raised else ".<argument {}>"
    named = [(owned.get(id(arg), ("", word.format(at))), arg) for at, arg in enumerate(args)]
    named += [
        (owned.get(id(arg), ("", f".<argument {name}>")), arg) for name, arg in keywords.items()
    ]
    yield _steps(named)


def _of_state(state: Any, owned: dict[int, Step], *, plain: bool) -> Iterator[Parts]:
    """What is set on an object once it is made.

    plain: the names in it are those of attributes, because pickle sets them itself.
    """
    if plain and type(state) is tuple and len(state) == 2:  # `__dict__` and the slots
        for half in state:
            yield from _of_state(half, owned, plain=True)
    elif type(state) is dict:
        keys, values = list(state), list(state.values())
        word = ".{}" if plain else ".<state {}>"
        yield Parts(
            values, lambda at: owned.get(id(values[at]), ("", word.replace("{}", str(keys[at]))))
        )
    elif type(state) in (list, tuple):
        yield Parts(state, lambda at: owned.get(id(state[at]), ("", f".<state {at}>")))
    elif state is not None:
        yield _steps([(owned.get(id(state), ("", ".<state>")), state)])


def _own(value: Any) -> Iterator[tuple[str, Any]]:
    """What lies in the `__dict__` and the slots of an object, read past its own accessors."""
    for cls in type(value).__mro__:
        for name, member in list(_CLASS_DICT.__get__(cls).items()):
            if name == "__dict__" and type(member) is GetSetDescriptorType:
                yield from list(member.__get__(value).items())
            elif type(member) is MemberDescriptorType:
                try:
                    yield name, member.__get__(value)
                except AttributeError:
                    continue  # never set
