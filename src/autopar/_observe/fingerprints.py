"""What an object holds now, to be compared with what it holds later.

Guarantees: no code of the user's runs. Attributes are read through the interpreter's own
descriptors, containers through the methods of the builtin type, and elements are compared by
identity. The work is bounded: of what is large, a sample spread over the whole is looked at.
Relies on: references to what was seen being kept, so that no identity is used again meanwhile.
"""

from __future__ import annotations

import collections
import functools
import itertools
import operator
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, NamedTuple, TypeAlias, cast

MOST_ELEMENTS = 10_000  # of one container; more are sampled
SAMPLE = 1_000
WHOLE_BYTES = 1 << 18  # of one buffer; more are sampled (a megabyte whole costs 1 ms)
SAMPLE_BYTES = 1 << 16
CHILDREN = 100  # looked into, of one container


class Held(NamedTuple):
    """What one object holds: parts, the same if they are the same objects; data, if equal."""

    parts: list[Any]
    data: object = None

    def same(self, other: Held) -> bool:
        return (
            self.data == other.data
            and len(self.parts) == len(other.parts)
            and all(map(operator.is_, self.parts, other.parts))
        )

    def children(self) -> list[Any]:
        """Some parts, spread over all of them."""
        return self.parts[:: len(self.parts) // CHILDREN + 1]


Reader: TypeAlias = Callable[[Any], Held]


def readers_of(cls: type) -> tuple[Reader, ...]:
    """How to look at instances of `cls`; nothing when they have no state that can change."""
    key = id(cls)  # by id: a metaclass may define a hash of its own
    known = _known.get(key)
    if known is not None and known[0]() is cls:
        return known[1]
    found = tuple(_readers_of(cls))
    _known[key] = weakref.ref(cls, lambda _: _known.pop(key, None)), found
    return found


def held_by_class(cls: type) -> Held:
    """What a class holds under names of its user's."""
    names = [name for name in list(class_dict(cls)) if not name.startswith(("__", "_abc_"))]
    return Held([class_dict(cls).get(name) for name in names], tuple(names))


def mro_of(cls: type) -> tuple[type, ...]:
    found: tuple[type, ...] = _MRO(cls)
    return found


def class_dict(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = _CLASS_DICT(cls)
    return found


def found_in_class(cls: type, name: str) -> Any:
    """What a class or its bases hold under a name, found without running a descriptor."""
    for base in mro_of(cls):
        if name in class_dict(base):
            return class_dict(base)[name]
    return None


def attributes_of(obj: object) -> dict[str, Any]:
    """The `__dict__` of an instance; empty where it has none, or one of its own making."""
    holder = found_in_class(type(obj), "__dict__")
    if type(holder) in (GetSetDescriptorType, MemberDescriptorType):
        try:
            found = holder.__get__(obj)
        except AttributeError:
            return {}
        if type(found) is dict:
            return cast("dict[str, Any]", found)
    return {}


# Instances of these have no state whose change matters: logging counts and caches, paths keep
# their parsed form, and what multiprocessing and autopar make is shared by its nature.
_QUIET = ("pathlib", "logging", "enum", "weakref", "typing", "multiprocessing", "autopar")
_CACHES = ("_item_cache", "_cacher")  # pandas fills them on reading

_known: dict[int, tuple[weakref.ref[type], tuple[Reader, ...]]] = {}
_MRO = type.__dict__["__mro__"].__get__
_CLASS_DICT = type.__dict__["__dict__"].__get__
_STATELESS = (
    type,
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    property,
    classmethod,
    staticmethod,
)
_ITERATORS: tuple[Any, ...] = (
    iter(()), iter([]), iter(range(0)), iter(""), iter(b""), iter(set[int]()), iter({}),
    reversed([]), itertools.repeat(0, 0),
)  # fmt: skip
_HINTED: tuple[type[object], ...] = tuple(map(type, _ITERATORS))


def _readers_of(cls: type) -> Iterator[Reader]:
    mro = mro_of(cls)
    if issubclass(cls, _STATELESS):
        return
    if any(str(class_dict(base).get("__module__")).partition(".")[0] in _QUIET for base in mro):
        return
    for base, reader in _native():
        if issubclass(cls, base):
            yield reader
            break
    slots = [
        member
        for base in mro
        for name, member in class_dict(base).items()
        if type(member) is MemberDescriptorType and name not in ("__dict__", "__weakref__")
    ]
    if slots:
        yield functools.partial(_held_in_slots, slots)
    if found_in_class(cls, "__dict__") is not None:
        yield functools.partial(_held_in_dict, _cached_names(mro))


def _cached_names(mro: Iterable[type]) -> frozenset[str]:
    """Attributes that only keep what was computed: losing them changes nothing."""
    return frozenset(_CACHES).union(
        name
        for base in mro
        for name, value in class_dict(base).items()
        if issubclass(type(value), functools.cached_property)
    )


def _native() -> Iterator[tuple[type, Reader]]:
    """The builtin types with state, and how to look at it."""
    yield from _TYPES
    for hinted in _HINTED:
        yield hinted, _held_by_iterator
    for module, name, reader in _OPTIONAL:
        cls = getattr(sys.modules.get(module), name, None)
        if isinstance(cls, type):
            yield cls, reader


def _held_in_slots(slots: list[Any], obj: object) -> Held:
    values: list[Any] = []
    for slot in slots:
        try:
            values.append(slot.__get__(obj))
        except AttributeError:
            values.append(_UNSET)
    return Held(values)


_UNSET = object()


def _held_in_dict(cached: frozenset[str], obj: object) -> Held:
    attributes = attributes_of(obj)
    held = _held_by_dict(attributes)
    if not any(name in attributes for name in cached):
        return held
    kept = [(name, value) for name, value in list(attributes.items()) if name not in cached]
    return Held([part for pair in kept for part in pair])


# The builtin types by names without a type: a subclass's methods are never called.
_list: Any = list
_dict: Any = dict
_set: Any = set
_tuple: Any = tuple
_frozenset: Any = frozenset
_deque: Any = collections.deque
_bytearray: Any = bytearray


def _held_by_list(obj: Any) -> Held:
    size = _list.__len__(obj)
    if size <= MOST_ELEMENTS:
        return Held(_list.copy(obj))
    spread = _list.__getitem__(obj, slice(None, None, size // SAMPLE))
    return Held(spread + _list.__getitem__(obj, slice(-SAMPLE, None)), size)


def _held_by_dict(obj: Any) -> Held:
    size = _dict.__len__(obj)
    keys, values = _dict.keys(obj), _dict.values(obj)
    if size <= MOST_ELEMENTS:
        return Held([*keys, *values])
    return Held([*_ends(keys), *_ends(values)], size)


def _held_by_set(obj: Any) -> Held:
    return Held(list(itertools.islice(_set.__iter__(obj), MOST_ELEMENTS)), _set.__len__(obj))


def _held_by_deque(obj: Any) -> Held:
    size = _deque.__len__(obj)
    if size <= MOST_ELEMENTS:
        return Held(list(_deque.__iter__(obj)))
    head = itertools.islice(_deque.__iter__(obj), SAMPLE)
    tail = itertools.islice(_deque.__reversed__(obj), SAMPLE)
    return Held([*head, *tail], size)


def _ends(view: Any) -> list[Any]:
    """The first and last elements of a view of a dict."""
    return [*itertools.islice(view, SAMPLE), *itertools.islice(reversed(view), SAMPLE)]


def _held_by_tuple(obj: Any) -> Held:
    return Held(list(itertools.islice(_tuple.__iter__(obj), MOST_ELEMENTS)))


def _held_by_frozenset(obj: Any) -> Held:
    return Held(list(itertools.islice(_frozenset.__iter__(obj), MOST_ELEMENTS)))


def _held_by_partial(obj: Any) -> Held:
    return Held([read.__get__(obj) for read in _PARTIAL])


_PARTIAL = [functools.partial.__dict__[name] for name in ("func", "args", "keywords")]


def _held_by_method(obj: MethodType) -> Held:
    return Held([obj.__self__])


def _held_by_iterator(obj: Any) -> Held:
    return Held([], type(obj).__length_hint__(obj))


def _held_by_count(obj: Any) -> Held:
    return Held([], repr(obj))


def _held_by_bytearray(obj: Any) -> Held:
    size = _bytearray.__len__(obj)
    step = 1 if size <= WHOLE_BYTES else size // SAMPLE_BYTES
    return Held([], (size, bytes(_bytearray.__getitem__(obj, slice(None, None, step)))))


def _held_by_array(obj: Any) -> Held:
    native = sys.modules["array"].array
    size = native.__len__(obj)
    whole = size * obj.itemsize <= WHOLE_BYTES
    step = 1 if whole else size * obj.itemsize // SAMPLE_BYTES
    return Held([], (size, native.__getitem__(obj, slice(None, None, step)).tobytes()))


def _held_by_ndarray(obj: Any) -> Held:
    """The bytes of a numpy array; of a large one, a grid over all its dimensions."""
    native = sys.modules["numpy"].ndarray
    shape: tuple[int, ...] = native.shape.__get__(obj)
    too_many = native.nbytes.__get__(obj) // SAMPLE_BYTES
    if native.nbytes.__get__(obj) > WHOLE_BYTES:
        steps: list[int] = []
        for size in shape:
            steps.append(max(1, min(size, too_many)))
            too_many = -(-too_many // steps[-1])
        obj = native.__getitem__(obj, tuple(slice(None, None, step) for step in steps))
    return Held([], (shape, native.tobytes(obj)))


def _held_by_random(obj: Any) -> Held:
    return Held([], sys.modules["_random"].Random.getstate(obj))


def _held_by_numpy_generator(obj: Any) -> Held:
    return Held([], repr(obj.bit_generator.state))


def _held_by_simple_queue(obj: Any) -> Held:
    return Held([], obj.qsize())


_TYPES: tuple[tuple[type, Reader], ...] = (
    (list, _held_by_list),
    (dict, _held_by_dict),
    (set, _held_by_set),
    (tuple, _held_by_tuple),
    (frozenset, _held_by_frozenset),
    (collections.deque, _held_by_deque),
    (bytearray, _held_by_bytearray),
    (functools.partial, _held_by_partial),
    (MethodType, _held_by_method),
    (itertools.count, _held_by_count),
)
# Types of modules that are looked for only where they are loaded already.
_OPTIONAL: tuple[tuple[str, str, Reader], ...] = (
    ("array", "array", _held_by_array),
    ("numpy", "ndarray", _held_by_ndarray),
    ("numpy.random", "Generator", _held_by_numpy_generator),
    ("_random", "Random", _held_by_random),
    ("_queue", "SimpleQueue", _held_by_simple_queue),
)
