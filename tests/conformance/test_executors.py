"""CPython's own tests of executors, run against `AutoExecutor`.

The installed interpreter's files are imported, not copied; where it ships none, that is said.
"""

from __future__ import annotations

import importlib
import threading
import unittest
from concurrent.futures import BrokenExecutor
from typing import Any

import pytest

import autopar
from autopar import AutoExecutor, TransportError, WorkerCrashed

PACKAGE = "test.test_concurrent_futures"

# (class, test): why it is left out.
EXCLUDED = {
    ("ExecutorShutdownTest", "test_interpreter_shutdown"): "imports its executor from the library",
    ("ExecutorShutdownTest", "test_submit_after_interpreter_shutdown"): "the same",
    ("ExecutorShutdownTest", "test_hang_gh83386"): "the same",
    ("ExecutorDeadlockTest", "test_gh105829_should_not_deadlock_if_wakeup_pipe_full"): (
        "replaces private parts of the library's process pool"
    ),
    ("ExecutorDeadlockTest", "test_exit_during_result_pickle_on_worker"): (
        "who exits while a result is pickled ends the worker, and its call says so"
    ),
    ("ExecutorDeadlockTest", "test_shutdown_deadlock_pickle"): "joins a private thread of the pool",
    ("ExecutorDeadlockTest", "test_crash_big_data"): (
        "each of ten calls crashes a worker, and the library gives up at the first: ours replaces "
        "them all, which tests/test_faults.py sees to"
    ),
}
CLASSES = [  # (module, class, kinds)
    ("executor", "ExecutorTest", ("auto", "cpu", "io")),
    ("test_wait", "WaitTests", ("auto", "io")),
    ("test_as_completed", "AsCompletedTests", ("auto", "io")),
    ("test_shutdown", "ExecutorShutdownTest", ("auto", "cpu", "io")),
    ("test_init", "InitializerMixin", ("auto", "cpu", "io")),
    ("test_deadlock", "ExecutorDeadlockTest", ("cpu",)),
]


def _executor_type(kind: str) -> Any:
    class Opened(AutoExecutor):
        def __init__(self, max_workers: int, mp_context: object = None, **options: Any) -> None:
            super().__init__(max_workers, kind=kind, **options)  # type: ignore[arg-type]

    return Opened


def _mixin(util: Any, kind: str) -> type:
    class Mixin(util.ExecutorMixin):  # type: ignore[misc]
        executor_type = _executor_type(kind)

        def get_context(self) -> None:
            """Start methods are none of ours."""

        def create_event(self) -> threading.Event:
            """What tests of calls in threads have them wait for."""
            return threading.Event()

        def tearDown(self) -> None:
            self.executor.shutdown()
            autopar.shutdown()  # or threads that wait for the next call count as left behind
            super().tearDown()

    return Mixin


def _collected(module: Any, util: Any, name: str, kind: str) -> type:
    """The class of tests, for one kind of executor, without those that are excluded."""
    tests = getattr(module, name)
    excluded = {test: None for cls, test in EXCLUDED if cls == name}
    bases = (_mixin(util, kind), tests, util.BaseTestCase)
    if issubclass(tests, util.ExecutorMixin):  # it brings its options, and sets up after them
        mixin = bases[0]
        bases = (tests, mixin, util.BaseTestCase)
    return type(f"{name}_{kind}", bases, excluded)


try:
    _util = importlib.import_module(f"{PACKAGE}.util")
except ImportError:

    @pytest.mark.skip(reason=f"this interpreter ships no {PACKAGE}")
    def test_of_the_library() -> None:
        """Only to be shown as skipped."""

else:
    for _module_name, _name, _kinds in CLASSES:
        _module = importlib.import_module(f"{PACKAGE}.{_module_name}")
        if hasattr(_module, "BrokenProcessPool"):
            # The library's pool is lost with a worker; ours tells the one call that was lost.
            _module.BrokenProcessPool = (WorkerCrashed, TransportError, BrokenExecutor)
            _module.PicklingError = (_module.PicklingError, TransportError)
        for _kind in _kinds:
            globals()[f"Test{_name}_{_kind}"] = _collected(_module, _util, _name, _kind)
    del _module

assert unittest  # what is collected are its cases
