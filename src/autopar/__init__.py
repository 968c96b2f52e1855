"""Runs a function over many items as fast as this machine and interpreter allow.

Beside that, executors and pools over the same workers, and locks, queues and values that work
across threads and processes.
"""

from typing import TYPE_CHECKING, Any

from ._api import auto_foreach, auto_map, auto_starmap, plan, shutdown
from ._errors import (
    AutoparError,
    BackendUnavailable,
    OptionTypeError,
    OptionValueError,
    OwnerDied,
    ReleaseError,
    TaskTimeout,
    TransportError,
    UsageError,
    WorkerCrashed,
)
from ._lazy_maps import auto_imap, auto_reduce
from ._model import Observation, Plan, Travel
from ._report.report import Report, observe
from ._retry import Retry

if TYPE_CHECKING:
    from . import abc as abc
    from . import processes as processes
    from . import threads as threads
    from ._async import aimap, amap
    from ._decorator import Parallel, parallel
    from ._executor import AutoExecutor, BrokenPool, auto_submit
    from ._pool import Pool
    from ._primitives.condition import Condition
    from ._primitives.locks import BoundedSemaphore, Lock, RLock, Semaphore
    from ._primitives.meeting import Barrier, Event
    from ._primitives.pipes import Pipe
    from ._primitives.queues import JoinableQueue, Queue, SimpleQueue
    from ._primitives.shared import Array, RawArray, RawValue, Value
    from ._primitives.workers import Worker

__all__ = [
    "Array",
    "AutoExecutor",
    "AutoparError",
    "BackendUnavailable",
    "Barrier",
    "BoundedSemaphore",
    "BrokenPool",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Observation",
    "OptionTypeError",
    "OptionValueError",
    "OwnerDied",
    "Parallel",
    "Pipe",
    "Plan",
    "Pool",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "ReleaseError",
    "Report",
    "Retry",
    "Semaphore",
    "SimpleQueue",
    "TaskTimeout",
    "TransportError",
    "Travel",
    "UsageError",
    "Value",
    "Worker",
    "WorkerCrashed",
    "aimap",
    "amap",
    "auto_foreach",
    "auto_imap",
    "auto_map",
    "auto_reduce",
    "auto_starmap",
    "auto_submit",
    "observe",
    "parallel",
    "plan",
    "shutdown",
]

# The modules of what is imported on first need: what these stand on takes longer to import than all
# the rest, and most programs need none of it.
_LATER = {
    "Array": "_primitives.shared",
    "AutoExecutor": "_executor",
    "Barrier": "_primitives.meeting",
    "BoundedSemaphore": "_primitives.locks",
    "BrokenPool": "_executor",
    "Condition": "_primitives.condition",
    "Event": "_primitives.meeting",
    "JoinableQueue": "_primitives.queues",
    "Lock": "_primitives.locks",
    "Parallel": "_decorator",
    "Pipe": "_primitives.pipes",
    "Pool": "_pool",
    "Queue": "_primitives.queues",
    "RLock": "_primitives.locks",
    "RawArray": "_primitives.shared",
    "RawValue": "_primitives.shared",
    "Semaphore": "_primitives.locks",
    "SimpleQueue": "_primitives.queues",
    "Value": "_primitives.shared",
    "Worker": "_primitives.workers",
    "aimap": "_async",
    "amap": "_async",
    "auto_submit": "_executor",
    "parallel": "_decorator",
}
_MODULES = ("abc", "processes", "threads")


def __getattr__(name: str) -> Any:
    """What is imported on first need."""
    place = _LATER.get(name)
    if place is None and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"{__name__}.{place or name}")
    found = globals()[name] = module if place is None else getattr(module, name)
    return found


def __dir__() -> list[str]:
    """All names, those imported later too."""
    return sorted({*globals(), *_LATER, *_MODULES})
