"""What a worker and the caller share without a message: where the worker is, and what it has done.

The cell outlives the worker. So a worker that dies costs the item it was running and no other:
results that it had not sent yet are read from here, none is computed again.
Relies on: one writer of each place; a worker's stores are seen in order once it has ended.
"""

from __future__ import annotations

import _pickle as pickle
import io
import marshal
import mmap
import os

from . import memfile

TYPE_CHECKING = False  # `typing` costs a new worker 5 ms
if TYPE_CHECKING:
    from typing import Any

# Places of the numbers.
INDEX = 0  # the item being run, or one of the two below: those from BASE up to it are saved
SINCE = 1  # when it began, in seconds of the monotonic clock, which all processes share
TRIES = 2  # earlier tries it has had
BASE = 3  # the item of the first saved result
MEMORY = 4  # the most memory the worker has held, in bytes
LIMIT = 5  # no item from here on is to be tried again; the caller says so, all else the worker

IDLE, LOADING = -1, -2

SIZE = 64 * 1024
_FIRST = 64  # where the first saved result begins; each tells by itself where it ends

_SIMPLE = frozenset({int, float, str, bytes, bool, type(None)})
_MARSHAL, _PICKLE = 2, 5
_PICKLED = b"\x80"  # a pickle begins with this, and nothing that marshal makes in version 2


class Cell:
    """A cell in the memory file `fd`; the caller makes the file, the worker is handed it."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self._memory = memoryview(self._map)
        self.numbers: memoryview[int] = self._memory[:_FIRST].cast("q")
        self.seconds: memoryview[float] = self._memory[:_FIRST].cast("d")

    # the worker

    def clear(self, base: int) -> None:
        """Forgets the saved results; the next one to save is that of item `base`.

        To be called while INDEX names no item behind `base`.
        """
        self.numbers[BASE] = base
        self._map.seek(_FIRST)

    def save(self, value: Any) -> bool:
        """Keeps the result of the next item, if it is small and plain enough.

        It counts once INDEX names the item after. This is done for every short item, so it must
        cost little: marshal takes a third of pickle's time for what is no container.
        """
        if type(value) in _SIMPLE:
            data = marshal.dumps(value, _MARSHAL)
        else:
            try:
                data = pickle.dumps(value, _PICKLE)
            except Exception:
                return False
        try:
            self._map.write(data)
        except ValueError:  # no room is left
            return False
        return True

    # the caller

    def saved(self, start: int) -> list[Any]:
        """The saved results from item `start` on."""
        base, end = self.numbers[BASE], self.numbers[INDEX]
        if not base <= start < end:
            return []
        file = io.BytesIO(self._memory[_FIRST:])
        return [_load(file) for _ in range(base, end)][start - base :]


def _load(file: io.BytesIO) -> Any:
    """The next value, nothing behind it read."""
    first = file.read(1)
    file.seek(-1, os.SEEK_CUR)
    return pickle.load(file) if first == _PICKLED else marshal.load(file)


def new_file() -> int:
    """A memory file for a cell, with nothing in it."""
    fd = memfile.new("autopar-cell")
    os.ftruncate(fd, SIZE)
    return fd
