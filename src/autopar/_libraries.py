"""Which files are a library's, and which libraries a function needs to be loaded elsewhere."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeGuard

MOST = 50  # modules named for one function
_SCRIPTS = ("__main__", "__mp_main__")  # what their functions need travels with them
_LIBRARY = (os.path.dirname(os.__file__) + os.sep, "<frozen")
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))


def is_library(filename: str) -> bool:
    """Whether a file belongs to the standard library or to an installed package."""
    return filename.startswith(_LIBRARY) or is_installed(filename)


def is_installed(filename: str) -> bool:
    """Whether a file belongs to an installed package."""
    return any(part in filename for part in _INSTALLED)


def libraries_of(fn: Any) -> list[str]:
    """Modules of libraries that are imported when a function is loaded and called elsewhere.

    Those that its module has names of, or its code, if it travels by value; those that its code
    imports. No code of the user's runs.
    """
    function = _function_in(fn)
    if function is None or str(function.__module__).startswith("autopar."):
        return []
    own, space = set(_names_in(function.__code__)), function.__globals__
    module = sys.modules.get(function.__module__ or "")
    found = own.copy()
    if not _is_module(module) or function.__module__ in _SCRIPTS or vars(module) is not space:
        used, names = own, own
    else:
        used, names = set(_names_used(module)), set(space)
        found.add(function.__module__)
    for value in [space[name] for name in names if name in space]:
        found.update(_modules_of(value, used))
    return sorted(name for name in found if _is_loaded_library(name))[:MOST]


def _function_in(fn: Any) -> FunctionType | None:
    """The Python function in a callable, ours and `partial` looked through."""
    for _ in range(8):
        if type(fn) is FunctionType:
            return fn
        if type(fn) is MethodType:
            fn = fn.__func__
        elif type(fn) is functools.partial or str(type(fn).__module__).startswith("autopar."):
            fn = getattr(fn, "__wrapped__", None) or getattr(fn, "func", None)
        else:
            return None
    return None


def _names_in(code: CodeType) -> Iterator[str]:
    """The names in a function's code, and in that of functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is CodeType:
            yield from _names_in(constant)


def _names_used(module: ModuleType) -> Iterator[str]:
    """The names in the code of a module's functions."""
    for value in list(vars(module).values()):
        if type(value) is FunctionType and value.__globals__ is vars(module):
            yield from _names_in(value.__code__)


def _modules_of(value: object, used: set[str]) -> Iterator[str]:
    """The module that a value is, with its modules whose names are used, or where it is defined."""
    # By exact types: a proxy's `__class__` is its user's code, and may raise.
    if type(value) is ModuleType:
        yield value.__name__
        for name in used & vars(value).keys():
            if type(vars(value)[name]) is ModuleType:
                yield f"{value.__name__}.{name}"
    elif type(value) is FunctionType:
        yield str(value.__module__)
    else:
        cls: Any = value if issubclass(type(value), type) else type(value)
        yield str(type.__getattribute__(cls, "__dict__").get("__module__"))


def _is_loaded_library(name: str) -> bool:
    module = sys.modules.get(name)
    file = vars(module).get("__file__") if _is_module(module) else None
    return type(file) is str and is_library(file)


def _is_module(found: object) -> TypeGuard[ModuleType]:
    """Whether what `sys.modules` has is a module: there may be anything."""
    return issubclass(type(found), ModuleType)
