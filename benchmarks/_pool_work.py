"""What the pools are made to run, in a module that every worker can import by name.

numpy is imported by the functions that need it, so that a cold start does not pay for it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

ARRAY_BYTES = 64_000_000
PAGE_NUMBERS = 4096 // 8  # so many numbers of an array lie on one page
BUSY_S = 1e-3
KEEP_S = 60e-3  # long enough for the other worker to take the next item

_kept: numpy.ndarray[Any, Any] | None = None


def nothing(_item: object) -> None:
    """A call and no more."""


def busy(_item: object) -> None:
    """1 ms of this CPU, however fast it is and however often it is taken away."""
    until_s = time.thread_time() + BUSY_S
    while time.thread_time() < until_s:
        pass


def make_array() -> numpy.ndarray[Any, Any]:
    import numpy

    return numpy.ones(ARRAY_BYTES // 8)


def touch(array: numpy.ndarray[Any, Any] | None) -> float:
    """Reads a number of each page: a pool that maps memory lazily has to bring it in."""
    return 0.0 if array is None else float(array[::PAGE_NUMBERS].sum())


def keep(_item: object) -> None:
    """Makes the array that `give` gives, and stays long enough for every worker to do so."""
    global _kept
    if _kept is None:
        _kept = make_array()
    time.sleep(KEEP_S)


def give(wanted: bool) -> numpy.ndarray[Any, Any] | None:
    """The worker's array, if it is wanted."""
    if not wanted:
        return None
    return make_array() if _kept is None else _kept
