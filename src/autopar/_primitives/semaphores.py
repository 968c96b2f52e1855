"""The interpreter's own semaphore objects, on shared memory of ours.

Acquiring and releasing are then single calls into C that let other threads run while they block.
Relies on: `_multiprocessing.SemLock`, which takes the address of any POSIX semaphore; when it is
freed it offers that address to `sem_close`, which the GNU library refuses without harm.
"""

from __future__ import annotations

import ctypes
from typing import Any

BYTES = 32  # of a semaphore: the largest there is on 64-bit Linux
RECURSIVE, PLAIN = 0, 1  # the kinds of SemLock
_SemLock: Any = __import__("_multiprocessing").SemLock
VALUE_MAX: int = _SemLock.SEM_VALUE_MAX

_sem_init: Any = ctypes.CDLL(None, use_errno=True).sem_init
_sem_init.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint]


def make(address: int, value: int) -> None:
    """A new semaphore for all processes that map the memory. Raises: OSError."""
    if _sem_init(address, 1, value):
        error = ctypes.get_errno()
        raise OSError(error, "cannot make a semaphore")


def at(address: int, kind: int = PLAIN, maximum: int = VALUE_MAX) -> Any:
    """The semaphore at an address, as `multiprocessing` has them; the memory has to outlive it."""
    return _SemLock._rebuild(address, kind, maximum, None)
