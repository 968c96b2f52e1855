"""The caller's side of the user's world: what a worker takes over of it, and what comes back.

`pack` says how things are for the caller now. `hear` does with what a worker prints, logs and
warns of what the caller's own process would have done, through the streams, handlers and filters
it has at that moment.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import environment
from .wire import LOG, OUT, WARN

if TYPE_CHECKING:
    from typing import TypedDict

    # A pickled `World`, and context variables as `variables.pack` has them.
    Packed = tuple[bytes, list[Any]]

    Filter = tuple[str, str | tuple[str, int] | None, tuple[str, str], Any, int]
    Stdio = tuple[str | None, str | None, bool]

    class World(TypedDict):
        """How things are for the caller.

        folder: None when the working directory has been removed.
        threads: how many native threads each worker may use.
        levels: what is disabled, and the levels of loggers by name; None without `logging`.
        filters: those of `warnings`, with patterns and classes by name.
        stdio: encoding, errors and isatty of stdout and stderr; None for one that is missing.
        """

        path: list[str]
        folder: str | None
        environ: dict[str, str]
        threads: int
        levels: tuple[int, dict[str, int]] | None
        filters: list[Filter]
        stdio: tuple[Stdio | None, Stdio | None]


_registries: dict[str, dict[Any, Any]] = {}  # warnings shown, of modules not loaded here


class _Last:
    """What was packed last: seldom is anything of it otherwise in the next call.

    environ: the variables, and a snapshot of them. packed: a world, and its pickle.
    """

    environ: tuple[dict[str, str], Any] = ({}, None)
    packed: tuple[World | None, bytes] = (None, b"")


def pack(threads: int) -> Packed:
    """What a worker must take over at the start of a job: data that `wire.plain` can carry.

    A world that is as it was gives the same bytes: a worker that knows them need not read them.
    To be called after the job's function was pickled: what has travelled by then is known here.
    """
    now = _world(threads)
    world, packed = _Last.packed
    if now != world:
        packed = pickle.dumps(now, 5)
        _Last.packed = now, packed
    return packed, _variables()


def _world(threads: int) -> World:
    return {
        "path": [entry for entry in sys.path if isinstance(entry, str)],
        "folder": _folder(),
        "environ": _environ(),
        "threads": threads,
        "levels": _levels(),
        "filters": list(_filters()),
        "stdio": (_stdio(sys.stdout), _stdio(sys.stderr)),
    }


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # removed under the caller's feet
        return None


def _environ() -> dict[str, str]:
    known, snapshot = _Last.environ
    if snapshot is None or not environment.is_still(snapshot):
        # The snapshot comes first: what another thread changes meanwhile is seen the next time.
        snapshot, known = environment.snapshot(), dict(os.environ)
        _Last.environ = known, snapshot
    return known


def _variables() -> list[Any]:
    from contextvars import copy_context

    context = copy_context()
    if not context:
        return []
    from . import variables

    return variables.pack(context)


def _levels() -> tuple[int, dict[str, int]] | None:
    logging = sys.modules.get("logging")
    if logging is None or not hasattr(logging, "root"):  # being imported by another thread
        return None
    manager = logging.root.manager
    levels = {"root": logging.root.level}
    for name, logger in list(manager.loggerDict.items()):
        level = getattr(logger, "level", 0)  # a PlaceHolder has none
        if level:
            levels[name] = level
    return manager.disable, levels


def _filters() -> Iterator[Filter]:
    """The filters of `warnings`, less those that mean nothing in another process."""
    import warnings

    # Since 3.14 those of this context may stand before those of the process.
    now = getattr(warnings, "_get_filters", lambda: warnings.filters)
    for action, message, category, module, line in list(now()):
        parts = _pattern(message), _pattern(module)
        if False not in parts and isinstance(category, type):
            name = (category.__module__, category.__qualname__)
            yield action, parts[0], name, parts[1], line


def _pattern(pattern: Any) -> Any:
    """A filter's pattern in plain words; False for an object that only looks like one."""
    if pattern is None or type(pattern) is str:
        return pattern
    import re

    return (pattern.pattern, pattern.flags) if type(pattern) is re.Pattern else False


def _stdio(stream: Any) -> Stdio | None:
    if stream is None or getattr(stream, "closed", False) is True:
        return None
    encoding, errors = getattr(stream, "encoding", None), getattr(stream, "errors", None)
    try:
        isatty = bool(stream.isatty())
    except Exception:  # not everything that can be printed to is a whole file
        isatty = False
    return (
        encoding if isinstance(encoding, str) else None,
        errors if isinstance(errors, str) else None,
        isatty,
    )


def hear(kind: int, payload: Any) -> None:
    """Does here what a worker's OUT, LOG or WARN message would have done.

    Guarantees: raises nothing that stems from the user's streams, handlers and filters; what a
    handler or a replaced `showwarning` raises is printed.
    """
    if kind == OUT:
        _print(*payload)
    elif kind == LOG:
        _handle(*payload)
    elif kind == WARN:
        _warn(*payload)


def _print(number: int, text: str) -> None:
    """Writes to the caller's own stream as it is now: somebody may have redirected it."""
    stream = sys.stdout if number == 1 else sys.stderr
    if stream is None:
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # bytes written past the encoding, or an encoding less wide
            _print_bytes(stream, text)
    except Exception:
        pass  # closed, or nobody reads any more: the caller's own next line will say so


def _print_bytes(stream: Any, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    try:
        data = text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return
    stream.flush()
    stream.buffer.write(data)


def _handle(fields: dict[str, Any], extras: dict[str, bytes]) -> None:
    """Gives a worker's record to the caller's logger of the same name."""
    import logging

    record = logging.makeLogRecord(fields)
    for name, data in extras.items():
        try:
            setattr(record, name, pickle.loads(data))
        except Exception:
            pass  # its class does not exist here
    if record.levelname.startswith("Level "):  # a name given here, and not in the worker
        record.levelname = logging.getLevelName(record.levelno)
    try:
        logging.getLogger(record.name).handle(record)
    except Exception:
        _complain()


def _warn(data: bytes, filename: str, line: int, module: str | None) -> None:
    """Warns as if the worker's line had run here: what is shown, and how often, is decided here."""
    import warnings

    from .failures import thaw

    message = thaw(data)
    if not isinstance(message, Warning):
        message = UserWarning(str(message))
    name = module or filename
    home = sys.modules.get(name)
    registry = _registries.setdefault(name, {})
    if home is not None:
        registry = home.__dict__.setdefault("__warningregistry__", {})
    try:
        warnings.warn_explicit(message, type(message), filename, line, module, registry)
    except Exception as error:
        if error is message:  # a filter for errors that the worker could not have
            warnings.showwarning(message, type(message), filename, line)
        else:
            _complain()


def _complain() -> None:
    """Prints an exception that has nobody to go to."""
    import traceback

    if sys.stderr is not None:
        traceback.print_exc()
