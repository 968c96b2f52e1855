"""The worker's side of the user's world: takes over how things are for the caller.

Guarantees: `enter` may be called for any number of jobs; each leaves the worker as its caller is,
whatever earlier jobs and their functions changed of it.
"""

from __future__ import annotations

import _pickle as pickle
import os
import sys
import warnings

from autopar import _native
from autopar._transport import environment
from autopar._transport.wire import WARN
from autopar._worker import streams

TYPE_CHECKING = False  # `typing` costs a new worker 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any

    from autopar._transport.world import Filter, Packed, World

    Send = Callable[[int, Any], None]


class _Now:
    """What this worker has taken over.

    packed, world: what was told last. environ: how the environment was then.
    """

    send: Send
    packed = b""
    world: World
    environ: dict[Any, Any] | None = None
    levels: tuple[int, dict[str, int]] | None = None
    filters: list[Filter] | None = None
    made: list[Any] = []  # noqa: RUF012  # the filters, as `warnings` has them
    bounds: dict[str, str] = {}  # noqa: RUF012  # in the environment, beside the caller's


def enter(told: Packed, send: Send) -> Context | None:
    """Makes the caller's world this worker's, before anything of the user's is loaded.

    send: sends one message to the caller, from any thread.
    The context is where initializer and items shall run; None when there is nothing in it.
    """
    _Now.send = send
    packed, variables = told
    world, same = _unpacked(packed)
    streams.install(world["stdio"], send)
    moved = _place(world, same=same)
    _bound(world, moved=moved)
    _filter(world["filters"])
    _log(world["levels"])
    _differ_again()
    return _context(variables)


def _unpacked(packed: bytes) -> tuple[World, bool]:
    """The caller's world, which nobody changes, and whether it is the same as before."""
    same = packed == _Now.packed
    if not same:
        _Now.world, _Now.packed = pickle.loads(packed), packed
    return _Now.world, same


def settle() -> None:
    """Puts right what modules have changed while the job was loaded."""
    if warnings.filters != _Now.made:
        _apply_filters()
    if "logging" in sys.modules:
        _log(_Now.levels)


def flush_streams() -> None:
    """Sends what has been written and not been sent."""
    streams.flush()


def differ() -> None:
    """Gives this worker random numbers of its own, if the generators are loaded."""
    for name in ("random", "numpy.random"):
        module = sys.modules.get(name)
        if module is not None:
            module.seed()


def _differ_again() -> None:
    """Makes random numbers random again after a job that had seeded them."""
    seeds: Any = sys.modules.get("autopar._seeds")
    if seeds is not None and seeds.used:
        seeds.used = False
        differ()


def _place(world: World, *, same: bool) -> bool:
    """Makes the caller's module path, folder and environment its own; whether the last changed.

    same: the caller's are what they were, but those here may have been changed since.
    """
    path, folder, environ = world["path"], world["folder"], world["environ"]
    if sys.path != path:
        sys.path[:] = path
    if folder is not None and _folder() != folder:
        os.chdir(folder)
    if same and environment.is_still(_Now.environ):
        return False
    changed = bool(os.environ != environ)
    if changed:
        os.environ.clear()
        os.environ.update(environ)
    _Now.environ = environment.snapshot()
    return changed


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # removed since
        return None


def _bound(world: World, *, moved: bool) -> None:
    """Bounds the threads that native libraries start."""
    threads, environ = world["threads"], world["environ"]
    bounds = {name: str(threads) for name in _native.unset(environ)}
    if not moved and bounds == _Now.bounds:
        return
    for name in _Now.bounds.keys() - environ.keys():
        os.unsetenv(name)
    for name, bound in bounds.items():
        os.putenv(name, bound)  # for libraries in C; os.environ stays the caller's
    if bounds != _Now.bounds:
        _native.limit(threads, environ)
    _Now.bounds = bounds


def bound_beforehand() -> None:
    """Bounds native libraries to a thread each, before any is loaded."""
    _Now.bounds = dict.fromkeys(_native.unset(os.environ), "1")
    for name in _Now.bounds:
        os.putenv(name, "1")


def _context(entries: list[Any]) -> Context | None:
    """A context of the job's own, so that what its items set ends with it."""
    if not entries and "_contextvars" not in sys.modules:
        return None
    from contextvars import Context

    context = Context()
    if entries:
        from autopar._transport import variables

        variables.unpack(entries, context)
    return context


# warnings


def _filter(filters: list[Filter]) -> None:
    """Makes the caller's filters hold, and what passes them go to the caller."""
    show: Any = _show
    warnings.showwarning = _showwarning
    warnings._showwarnmsg_impl = show  # type: ignore[attr-defined]
    if filters != _Now.filters:
        _Now.filters, _Now.made = filters, [_made(each) for each in filters]
    _apply_filters()


def _apply_filters() -> None:
    if warnings.filters != _Now.made:
        warnings.filters[:] = _Now.made  # type: ignore[index]
    # The caller says what has been shown before: it hears of everything once a job.
    _mutated()
    warnings.onceregistry.clear()  # type: ignore[attr-defined]


_mutated: Callable[[], None] = getattr(warnings, "_filters_mutated", lambda: None)
_original: Callable[[Any], None] = warnings._showwarnmsg_impl  # type: ignore[attr-defined]
_showwarning = warnings.showwarning


def _made(packed: Filter) -> tuple[Any, ...]:
    action, message, category, module, line = packed
    return action, _pattern(message), _category(*category), _pattern(module), line


def _pattern(packed: Any) -> Any:
    if not isinstance(packed, tuple):
        return packed
    import re

    return re.compile(*packed)


class _Named(type):
    """The class of stand-ins for warnings whose module is not loaded: they match by name."""

    def __subclasscheck__(cls, subclass: type) -> bool:
        return any((c.__module__, c.__qualname__) == cls.named for c in subclass.__mro__)

    named: tuple[str, str] = ("", "")


def _category(module: str, name: str) -> type:
    """The class a filter is about, without importing anything for it."""
    found = getattr(sys.modules.get(module), name, None)
    if isinstance(found, type) and issubclass(found, Warning):
        return found
    return _Named(name, (Warning,), {"named": (module, name), "__module__": module})


def _show(message: Any) -> None:
    """Sends a warning that has passed the filters to the caller."""
    context = getattr(warnings, "_get_context", None)  # since 3.14 a context may collect them
    if message.file is not None or getattr(context and context(), "log", None) is not None:
        _original(message)
        return
    from autopar._transport.failures import freeze

    module = _module_of(message.filename, message.lineno)
    _Now.send(WARN, (freeze(message.message), message.filename, message.lineno, module))


def _module_of(filename: str, line: int) -> str | None:
    """The module of the line that is being warned of, if it is being run."""
    frame: Any = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_lineno == line and frame.f_code.co_filename == filename:
            name = frame.f_globals.get("__name__")
            return name if isinstance(name, str) else None
        frame = frame.f_back
    return None


# logging


def _log(levels: tuple[int, dict[str, int]] | None) -> None:
    """Sends the worker's records to the caller, from when `logging` is loaded in both."""
    _Now.levels = levels
    if levels is None:
        return  # records are printed as they would be there, by logging's last resort
    if hasattr(sys.modules.get("logging"), "lastResort"):
        from autopar._worker import logs

        logs.install(levels, _Now.send)
    elif not any(isinstance(finder, OnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, OnImport())


class OnImport:
    """Finds `logging` once, to set it up the moment it has been loaded.

    Loading it beforehand would cost each new worker 5 ms, for the few functions that log.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """What the other finders find; None for anything but `logging`."""
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                _when_loaded(spec.loader)
                return spec
        return None


def _when_loaded(loader: Any) -> None:
    def exec_module(module: Any) -> None:
        del loader.exec_module
        loader.exec_module(module)
        _log(_Now.levels)

    loader.exec_module = exec_module
