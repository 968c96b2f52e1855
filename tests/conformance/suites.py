"""Makes test cases of the interpreter's test classes and the names of one room.

The classes of `test._test_multiprocessing` are run in a namespace of their own, in which
`multiprocessing` is the room where the room has the name, and the standard library elsewhere. A
new process has to find the classes again, so that namespace is a module: `mp_threads` and the like.
"""

from __future__ import annotations

import importlib
import importlib.util
import types
import unittest
import warnings
from collections.abc import Iterator
from typing import Any

from .rooms import LOCK_CASES, MP_CASES, Room, room_named

MP_FILE = "test._test_multiprocessing"
LOCKS_FILE = "test.lock_tests"

# The room's name for what the tests call by multiprocessing's.
OTHER_NAMES = {"current_process": "current_worker", "active_children": "active_workers"}


def missing() -> str | None:
    """Why this interpreter cannot run its own tests, or None."""
    for name in (MP_FILE, LOCKS_FILE):
        try:
            found = importlib.util.find_spec(name)
        except ImportError:
            found = None
        if found is None:
            return f"this interpreter was installed without {name}"
    return None


class Stand(types.ModuleType):
    """Stands for `multiprocessing`: the room's names, and the standard library's others."""

    def __init__(self, room: Room) -> None:
        super().__init__("multiprocessing")
        self._names = importlib.import_module(room.module)
        self._others = importlib.import_module("multiprocessing")

    def __getattr__(self, name: str) -> Any:
        wanted = OTHER_NAMES.get(name, name)
        if hasattr(self._names, wanted):
            return getattr(self._names, wanted)
        return getattr(self._others, name)


def take_over(space: dict[str, Any], room_name: str) -> None:
    """Runs the interpreter's tests of multiprocessing in a module's namespace, for a room."""
    room, file = room_named(room_name), importlib.util.find_spec(MP_FILE)
    assert file is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(file.loader.get_code(MP_FILE), space)  # type: ignore[union-attr]
    stand = space["multiprocessing"] = Stand(room)
    space["Value"] = stand.Value
    # Made while the file ran, of multiprocessing's own.
    upper = dict(vars(space["_UpperCaser"]))
    upper.pop("__dict__", None), upper.pop("__weakref__", None)
    space["_UpperCaser"] = type("_UpperCaser", (stand.Process,), upper)
    for name in MP_CASES:
        if name in space:
            space[f"Room{name}"] = _mp_case(name, room, space)


def _mp_case(name: str, room: Room, space: dict[str, Any]) -> type[unittest.TestCase]:
    base, stand = space[name], space["multiprocessing"]
    made = {"__module__": space["__name__"], "__qualname__": f"Room{name}"}
    if not issubclass(base, unittest.TestCase):
        furniture = {
            each: staticmethod(getattr(stand, each))
            for each in vars(space["ProcessesMixin"])
            if not each.startswith("_") and each not in ("TYPE", "connection")
        }
        connection = stand.connection
        mixin = type("Mixin", (space["BaseMixin"],), {**furniture, "connection": connection})
        made["TYPE"] = "processes" if name in room.strict else room.type
        return type(f"Room{name}", (base, mixin, unittest.TestCase), made)
    return type(f"Room{name}", (base,), made)


def lock_cases(room: Room) -> Iterator[tuple[str, type[unittest.TestCase]]]:
    """The classes of `test.lock_tests`, with a room's names."""
    tests, names = importlib.import_module(LOCKS_FILE), importlib.import_module(room.module)
    for name, (attribute, furniture) in LOCK_CASES.items():
        base = getattr(tests, name, None)
        if base is not None:
            yield name, type(name, (base,), {attribute: staticmethod(getattr(names, furniture))})


def cases(room: Room) -> dict[str, type[unittest.TestCase]]:
    """All test cases of a room, by the name of the interpreter's class."""
    space = vars(importlib.import_module(f"conformance.mp_{room.name}"))
    found = {name: space[f"Room{name}"] for name in MP_CASES if name in space}
    return found | dict(lock_cases(room))


def around(room: Room, start_method: str) -> tuple[Any, Any]:
    """What the interpreter's test files do before and after all of it."""
    space = vars(importlib.import_module(f"conformance.mp_{room.name}"))
    theirs: dict[str, Any] = {"__name__": __name__}
    space["install_tests_in_module_dict"](theirs, start_method)
    return theirs["setUpModule"], theirs["tearDownModule"]
