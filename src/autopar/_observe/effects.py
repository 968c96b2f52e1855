"""Whether calling a function writes state that workers with memory of their own would lose.

Two answers: `writes_of` from the code alone, before any call; `watch` from a call, by what its
surroundings hold before and after it. Both are bounded and look only at code that is its user's:
what a library writes to its own globals is a cache or a counter, which each process may have for
itself. Random numbers of the `random` module, logging, printing and `lru_cache` are no effects.

Guarantees: nothing of the user's code runs.
"""

from __future__ import annotations

import functools
import sys
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from .._libraries import is_installed, is_library
from .bytecode import uses_of
from .fingerprints import (
    Held,
    Reader,
    attributes_of,
    class_dict,
    found_in_class,
    held_by_class,
    mro_of,
    readers_of,
)

DEPTH = 3  # calls followed from the function that was given
MOST_FUNCTIONS = 50  # looked into
MOST_OBJECTS = 400  # looked at before and after a call...
MOST_OF_ONE = 60  # ...and of those reached from one name
STEPS = 2  # from a name: an object, what it holds, and what that holds


def _callers(fn: Any) -> Any:
    """The caller's function, where `fn` is something that autopar has put around it."""
    while getattr(type(fn), "seen_through", False) is True:
        fn = fn.func
    return fn


def writes_of(fn: object) -> str | None:
    """A sentence naming a global or nonlocal that `fn`, or what it calls, writes; else None."""
    for code in _Reach(_callers(fn)).codes:
        uses = uses_of(code)
        for kind, names in (("global", uses.globals_written), ("nonlocal", uses.nonlocals_written)):
            if names:
                return f"{code.co_name}() writes the {kind} {names[0]!r}"
    return None


def watch(fn: object, item: object) -> Snapshot:
    """What `fn` and `item` hold now, to be asked after `fn(item)` what has changed."""
    return Snapshot(fn, item)


class Snapshot:
    """What a call could change: its item, globals, nonlocals, defaults, and its own object."""

    def __init__(self, fn: object, item: object) -> None:
        fn = _callers(fn)
        reach = _Reach(fn)
        self._bindings, self._cells = reach.bindings, reach.cells
        self._objects: list[_Object] = []
        # The random module's own generator: its numbers differ between workers by design.
        self._seen = {id(getattr(sys.modules.get("random"), "_inst", None))}
        for name, obj in [("its item", item), *reach.objects]:
            if id(type(obj)) not in _ATOMS:
                self._room = min(MOST_OF_ONE, MOST_OBJECTS - len(self._objects))
                self._add(name, obj, STEPS)

    @property
    def empty(self) -> bool:
        """Whether nothing that a call could change is in reach."""
        # Every function could be given attributes; that counts once it has some.
        return all(name.startswith(_ATTRIBUTE) and not obj for name, obj, _, _ in self._objects)

    def changed(self) -> str | None:
        """A sentence naming what has changed since, or None."""
        for binding in self._bindings:
            if binding.namespace.get(binding.key, _MISSING) is not binding.value:
                return f"the call changed {binding.name}"
        for cell in self._cells:
            if _contents(cell.cell) is not cell.value:
                return f"the call changed {cell.name}"
        for name, obj, readers, before in self._objects:
            after = _look(obj, readers)
            if before is None or after is None or not all(map(Held.same, before, after)):
                return f"the call changed {name}"
        return None

    def _add(self, name: str, obj: object, steps: int) -> None:
        """Keep what `obj` holds now, and what that holds, as many steps away."""
        cls = type(obj)
        if id(obj) in self._seen or self._room <= 0:
            return
        # A class is looked at where it was named, not in all of its instances.
        is_named_class = steps == STEPS and issubclass(cls, type)
        readers = (held_by_class,) if is_named_class else readers_of(cls)
        if not readers:
            return
        held = _look(obj, readers)
        self._seen.add(id(obj))
        if len(readers) > 1 or not issubclass(cls, (tuple, frozenset)):
            self._objects.append(_Object(name, obj, readers, held))
            self._room -= 1
        for each in held if held and steps else ():
            for child in each.children():
                if id(type(child)) not in _ATOMS:
                    self._add(name, child, steps - 1)


class _Object(NamedTuple):
    """An object, and what it held; None when another thread was changing it."""

    name: str
    obj: object
    readers: tuple[Reader, ...]
    before: list[Held] | None


class _Binding(NamedTuple):
    """What a global name stood for."""

    name: str
    namespace: dict[str, Any]
    key: str
    value: object


class _Cell(NamedTuple):
    """What a nonlocal name stood for."""

    name: str
    cell: CellType
    value: object


class _Reach:
    """What a callable may run and touch, found without running it.

    codes: of the functions it may call, itself first.
    objects: (name, object) that they could change.
    """

    def __init__(self, fn: object) -> None:
        self.codes: list[CodeType] = []
        self.objects: list[tuple[str, object]] = []
        self.bindings: list[_Binding] = []
        self.cells: list[_Cell] = []
        self._package = _package_of(fn)
        self._functions: set[int] = set()
        self._enter(fn, 0)

    def _enter(self, fn: object, depth: int) -> None:
        """Follow what is called: find the function in it, and the objects bound to it."""
        cls = type(fn)
        if cls is FunctionType:
            self._function(fn, depth, None)
        elif cls is MethodType:
            self._method(fn, depth)
        elif issubclass(cls, functools.partial):
            func, args, keywords = readers_of(cls)[0](fn).parts
            self.objects += [("an argument bound by partial", arg) for arg in args]
            self.objects.append(("an argument bound by partial", keywords))
            self._enter(func, depth)
        elif cls is BuiltinFunctionType:
            self._bound("the object it is a method of", fn)
        elif issubclass(cls, type):
            self._class(fn, depth)
        else:
            self._instance(fn, depth)

    def _method(self, method: Any, depth: int) -> None:
        owner = method.__self__
        self.objects.append(("the object it is a method of", owner))
        if type(method.__func__) is FunctionType:
            cls = owner if issubclass(type(owner), type) else type(owner)
            self._function(method.__func__, depth, cls)

    def _bound(self, name: str, builtin: Any) -> None:
        if type(builtin.__self__) is not ModuleType:
            self.objects.append((name, builtin.__self__))

    def _class(self, cls: Any, depth: int) -> None:
        for name in ("__new__", "__init__", "__post_init__"):
            self._function(_function_in(found_in_class(cls, name)), depth, cls)

    def _instance(self, obj: object, depth: int) -> None:
        cls = type(obj)
        self.objects.append(("the object that is called", obj))
        self._function(_function_in(found_in_class(cls, "__call__")), depth, cls)
        self._wrapped(obj, depth)

    def _wrapped(self, obj: object, depth: int) -> None:
        """Follow what a decorator such as lru_cache has put around a function."""
        inner = attributes_of(obj).get("__wrapped__")
        if inner is not None and depth < DEPTH:
            self._enter(inner, depth + 1)

    def _function(self, fn: Any, depth: int, owner: type | None) -> None:
        """Look into one function of the user's. `owner`: the class whose method it is."""
        if fn is None or id(fn) in self._functions or len(self.codes) >= MOST_FUNCTIONS:
            return
        if not _is_users(fn.__code__, fn.__globals__, self._package):
            return
        self._functions.add(id(fn))
        self.codes.append(fn.__code__)
        self.objects.append((f"{_ATTRIBUTE} {fn.__name__}()", fn.__dict__))
        for default in (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()):
            self.objects.append((f"a default argument of {fn.__name__}()", default))
        self._wrapped(fn, depth)
        names = uses_of(fn.__code__).names
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
            value = _contents(cell)
            self.cells.append(_Cell(f"the nonlocal {name!r}", cell, value))
            self._value(f"the nonlocal {name!r}", value, names, depth)
        for name in uses_of(fn.__code__).reads:
            value = dict.get(fn.__globals__, name, _MISSING)
            if value is not _MISSING:
                self.bindings.append(_Binding(f"the global {name!r}", fn.__globals__, name, value))
                self._value(f"the global {name!r}", value, names, depth)
        if owner is not None and depth < DEPTH:
            self._methods(owner, names, depth)

    def _value(self, name: str, value: object, names: frozenset[str], depth: int) -> None:
        """What a name stands for in a function that also uses `names`, as attributes maybe."""
        cls = type(value)
        if id(cls) in _ATOMS:
            return
        if cls is ModuleType:
            self._module(value, names, depth)
        elif cls is FunctionType:
            if depth < DEPTH:
                self._function(value, depth + 1, None)
        elif cls is BuiltinFunctionType:
            self._bound(name, value)
        elif issubclass(cls, type):
            if _is_users_class(value, self._package):
                self.objects.append((name, value))
                if depth < DEPTH:
                    self._class(value, depth + 1)
                    self._methods(value, names, depth)
        else:
            self.objects.append((name, value))
            if depth < DEPTH and _is_users_class(cls, self._package):
                self._methods(cls, names | {"__call__"}, depth)
            if depth < DEPTH and cls is MethodType:
                self._method(value, depth + 1)
            elif depth < DEPTH and issubclass(cls, functools.partial):
                self._enter(value, depth + 1)
            elif depth < DEPTH:
                self._wrapped(value, depth)

    def _methods(self, cls: Any, names: frozenset[str], depth: int) -> None:
        """Look into the methods of a class that have one of the names."""
        for base in mro_of(cls):
            held = class_dict(base)
            for name in names.intersection(held):
                self._function(_function_in(held[name]), depth + 1, cls)

    def _module(self, module: Any, names: frozenset[str], depth: int) -> None:
        """What a function may use of a module: what the module holds under one of its names."""
        namespace = attributes_of(module)
        if is_library(str(namespace.get("__file__") or "<frozen")):
            return
        for name in sorted(names.intersection(namespace)):
            value = namespace[name]
            label = f"the global {name!r} of {namespace.get('__name__')}"
            self.bindings.append(_Binding(label, namespace, name, value))
            if type(value) is not ModuleType:
                self._value(label, value, names, depth)


_ATOMS = frozenset(
    id(cls)
    for cls in (int, float, complex, bool, str, bytes, range, slice, type(None), type(...), object)
)
_MISSING = object()
_ATTRIBUTE = "an attribute of"


def _look(obj: object, readers: tuple[Reader, ...]) -> list[Held] | None:
    try:
        return [read(obj) for read in readers]
    except RuntimeError:  # another thread is changing it
        return None
    except Exception:  # a builtin type made in a way not foreseen: nothing is known of it
        return []


def _contents(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _function_in(found: Any) -> FunctionType | None:
    """The function behind what a class holds: itself, or in a static or class method."""
    if issubclass(type(found), (staticmethod, classmethod)):
        found = found.__func__
    elif issubclass(type(found), property):
        found = found.fget
    return found if type(found) is FunctionType else None


def _is_users(code: CodeType, namespace: dict[str, Any], package: str) -> bool:
    """Whether code is its user's: not a library's, or of the package the call began in."""
    if not is_library(code.co_filename):
        return True
    return bool(package) and str(namespace.get("__name__")).partition(".")[0] == package


def _is_users_class(cls: Any, package: str) -> bool:
    module = str(class_dict(cls).get("__module__"))
    top = module.partition(".")[0]
    file = attributes_of(sys.modules.get(module)).get("__file__")
    if file is None:
        return top not in sys.stdlib_module_names  # builtins, or __main__ and what it made
    return not is_library(str(file)) or (bool(package) and top == package)


def _package_of(fn: object) -> str:
    """The top package that a callable is from; "" for the standard library's and builtins."""
    function = _python_function(fn)
    if function is None:
        return ""
    filename = function.__code__.co_filename
    if is_library(filename) and not is_installed(filename):
        return ""
    return str(function.__globals__.get("__name__")).partition(".")[0]


def _python_function(fn: Any) -> FunctionType | None:
    """The Python function in a callable, if there is one."""
    while issubclass(type(fn), functools.partial):
        fn = readers_of(type(fn))[0](fn).parts[0]
    if type(fn) is MethodType:
        fn = fn.__func__
    elif issubclass(type(fn), type):
        fn = _function_in(found_in_class(fn, "__init__"))
    elif type(fn) is not FunctionType:
        fn = _function_in(found_in_class(type(fn), "__call__"))
    return fn if type(fn) is FunctionType else None
