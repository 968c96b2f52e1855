"""The threads that native libraries (BLAS, OpenMP) start by themselves, kept within bounds.

Relies on: threadpoolctl, where it is installed, for libraries that are loaded already; one that is
not loaded yet reads the environment when it is. Of OpenMP's threads the bound is the calling
thread's own, of BLAS libraries' the whole process's.
"""

from __future__ import annotations

import _thread
import sys

TYPE_CHECKING = False  # `typing` costs a new worker 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# The variables that libraries read when they are loaded, and threadpoolctl's name for the library.
VARIABLES = {
    "OMP_NUM_THREADS": "openmp",
    "OPENBLAS_NUM_THREADS": "openblas",
    "MKL_NUM_THREADS": "mkl",
    "BLIS_NUM_THREADS": "blis",
    "VECLIB_MAXIMUM_THREADS": "",
    "NUMEXPR_NUM_THREADS": "",
}
USERS = ("numpy", "scipy", "torch", "sklearn", "mkl", "numexpr", "faiss", "xgboost", "lightgbm")

_lock = _thread.allocate_lock()
_active: list[int] = []  # the bounds in force, of all threads
_blas: Any = None  # while there are any: the controller of BLAS libraries, ...
_before: Any = None  # ...and what knows how they were


class bounded:
    """While it is open, native libraries use at most `threads` threads in this process.

    Uses may nest and overlap, in any threads: the lowest bound holds, and the last one out puts
    back what was before the first. Does nothing where no such library is loaded, or threadpoolctl
    is not installed.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._openmp: Any = None  # how this thread's was
        self._holds = self._over = False

    def __enter__(self) -> None:
        global _blas, _before
        make = _maker()
        if make is None:
            return
        with _lock:
            if self._over:
                return
            every = make()
            if not _active:
                _blas = every.select(user_api="blas")
                _before = _blas.limit(limits=None)
            self._openmp = every.select(user_api="openmp").limit(limits=self._threads)
            _active.append(self._threads)
            self._holds = True
            _set(_blas, min(_active))

    def __exit__(self, *_: object) -> None:
        if self._openmp is not None:
            self._openmp.restore_original_limits()
            self._openmp = None
        self.release()

    def release(self) -> None:
        """Ends it for the libraries whose bound is the whole process's; from any thread."""
        global _blas, _before
        with _lock:
            self._over = True
            if not self._holds:
                return
            self._holds = False
            _active.remove(self._threads)
            if _active:
                _set(_blas, min(_active))
            else:
                _before.restore_original_limits()
                _let_go()
                _blas = _before = None


def _set(controller: Any, threads: int) -> None:
    controller.limit(limits=threads)
    _let_go()


def _let_go() -> None:
    # The thread that has changed OpenBLAS's number keeps other threads from it (since 3.7), but
    # here it is often another one that puts it back.
    openblas = getattr(sys.modules["threadpoolctl"], "OpenBLASController", None)
    clear = getattr(openblas, "clear_controlling_thread", None)
    if clear is not None:
        clear()


def limit(threads: int, environ: Mapping[str, str]) -> None:
    """Bounds the libraries loaded in this process for good, less those `environ` speaks of."""
    make = _maker()
    apis = [VARIABLES[name] for name in unset(environ) if VARIABLES[name]]
    if make is not None and apis:
        _set(make().select(internal_api=apis), threads)


def unset(environ: Mapping[str, str]) -> list[str]:
    """The variables that are ours to set: what the user has set stands.

    The other libraries follow OMP_NUM_THREADS, so setting it says what they shall do, too.
    """
    if "OMP_NUM_THREADS" in environ:
        return []
    return [name for name in VARIABLES if name not in environ]


def _maker() -> Callable[[], Any] | None:
    """What looks for native libraries; None where it is not worth while, or not installed."""
    if not any(name in sys.modules for name in USERS):
        return None
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    make: Callable[[], Any] = ThreadpoolController
    return make
