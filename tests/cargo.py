"""What the tests of transport send: importable, and quick to import, as each worker does."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import work

LOCK = threading.Lock()
MB = 1 << 20
TOO_DEEP = 100_000  # for pickle: Python 3.14 goes as deep as the stack is large


def append(path: str, line: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, line)
    os.close(fd)


def read_lines(path: str) -> list[str]:
    with open(path) as file:
        return file.read().split()


def identity(x: Any) -> Any:
    return x


class Locked:
    """Holds a lock where one has to look for it."""

    def __init__(self) -> None:
        self.parts = {"jobs": [1, {"lock": LOCK}]}

    def __call__(self, x: Any = None) -> Any:
        work.spin(0.002)
        return x


def locked(x: int) -> Any:
    work.spin(0.002)
    return Locked() if x == 5 else x


def parts_of(x: Any) -> int:
    work.spin(0.002)
    return x if isinstance(x, int) else len(x.parts)


def always_locked(_x: int) -> Any:
    work.spin(0.002)
    return Locked()


class Unloadable:
    def __init__(self, x: int) -> None:
        self.x = x

    def __setstate__(self, state: dict[str, int]) -> None:
        raise ValueError("no way back")


def unloadable(x: int) -> Any:
    return {"in": [Unloadable(x)]} if x % 10 == 5 else x


class LoadsOnlyHere:
    """A function that only the process that made it can load."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __call__(self, x: int) -> int:
        return x

    def __setstate__(self, state: dict[str, int]) -> None:
        if state["home"] != os.getpid():
            raise ValueError("not at home")
        self.home = state["home"]


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class HoldsALock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock, self.kept = threading.Lock(), "kept"


class FailsToLoad(LookupError):
    def __reduce__(self) -> Any:
        return int, ("no number",)


class EndsTheProcessWhenLoaded(LookupError):
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


def caused() -> Exception:
    error = ValueError("outer")
    error.__cause__ = KeyError("cause")
    error.__cause__.__context__ = work.TwoArguments(1, 2)
    return error


def noted() -> Exception:
    error = ValueError("noted")
    error.add_note("by the user")
    return error


def grouped() -> Exception:
    return ExceptionGroup("many", [work.TwoArguments(1, 2), HoldsALock("x"), OSError(2, "none")])


def local() -> Exception:
    class Local(KeyError):
        pass

    return Local("here")


def raise_made_by(make: Callable[[], Exception] | None) -> Any:
    if make is None:
        return None
    raise make()


def recurse(x: int) -> int:
    return recurse(x + 1) + 1


def nest(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def depth_of(nested: list[Any]) -> int:
    depth = 0
    while nested:
        nested, depth = nested[0], depth + 1
    return depth


class Tagged(np.ndarray):
    """A subclass with nothing of its own."""


def read_only(value: Any) -> Any:
    value.flags.writeable = False
    return value


def account(value: Any) -> tuple[Any, ...]:
    """All about an array but its contents."""
    flags = value.flags
    return (
        type(value),
        value.dtype,
        value.shape,
        value.strides,
        flags.c_contiguous,
        flags.f_contiguous,
        flags.writeable,
        flags.aligned,
    )


def account_and_sum(value: Any) -> Any:
    return account(value), contents(value)


def contents(value: Any) -> str:
    """A digest of what an array holds, whatever its layout."""
    data = repr(value.tolist()).encode() if value.dtype.hasobject else value.tobytes()
    return hashlib.sha256(data).hexdigest()


def bytes_behind(view: Any) -> int:
    """The size of the memory that an array keeps."""
    while isinstance(view.base, np.ndarray):
        view = view.base
    return memoryview(view.base if view.base is not None else view).nbytes


def overwrite(value: Any) -> float:
    value[:] = 7
    return float(value.sum())


def pair(count: int) -> tuple[Any, Any]:
    return np.ones(count), np.ones(count)


def locked_beside_an_array(x: int) -> Any:
    return np.ones(300_000), LOCK, x


def unloadable_beside_an_array(x: int) -> Any:
    return np.ones(300_000), Unloadable(x)


def large(work_on: tuple[str, int]) -> Any:
    """Sixteen megabytes, noting in a file which process makes them."""
    path, x = work_on
    append(path, f"{os.getpid()}\n".encode())
    return np.full(2 * MB, x)


def overwritten_in_place(x: Any) -> bool:
    """Whether an item shows what an earlier item's writing left."""
    unwritten = bool((x[0] == 1).all())
    x[0][:] = 7
    return not unwritten


class Weighty:
    """Fifty megabytes that note each time they are packed and unpacked."""

    packed = unpacked = 0

    def __init__(self) -> None:
        self.data = np.ones(50 * MB, np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        Weighty.packed += 1
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        Weighty.unpacked += 1
        self.__dict__ |= state

    def __call__(self, meeting: str) -> tuple[int, int, int]:
        """Returns when two processes have come to run an item, or have had 20 s to come."""
        append(meeting, f"{os.getpid()}\n".encode())
        until_s = time.monotonic() + 20
        while len(set(read_lines(meeting))) < 2 and time.monotonic() < until_s:
            time.sleep(0.002)
        return os.getpid(), Weighty.unpacked, int(self.data[-1])

    method = __call__


def with_the_first(weighty: Weighty, meeting: str) -> tuple[int, int, int]:
    return weighty(meeting)


def named_memory(_value: Any) -> set[str]:
    """The files and shared memory with a name that this process has open or mapped to write."""
    with open("/proc/self/maps") as maps:
        mapped = {line.split(maxsplit=5)[5].strip() for line in maps if " rw-s" in line}
    opened = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    named = {name for name in mapped | opened if not name.endswith("(deleted)")}
    return {name for name in named if name.startswith(("/dev/shm", "/tmp"))}


def is_the_modules_own(function: Any) -> bool:
    return function is getattr(sys.modules[function.__module__], function.__name__)


def loaded_of(names: set[str]) -> set[str]:
    return names & set(sys.modules)


def large_and_named_memory(value: Any) -> tuple[Any, set[str]]:
    return value + 1, named_memory(value)
