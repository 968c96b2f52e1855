"""Workers on processes and what they share: the room beside `autopar.threads`, same furniture.

All of it is multiprocessing's, in its default context: what `set_start_method` has set holds. A
`Worker` is a `multiprocessing.Process` that also brings back what its target returned.
"""

from multiprocessing import Array, Pipe, RawArray, RawValue, Value

from ._pool import ProcessPool as Pool
from ._primitives.process_worker import Worker, active_workers, current_worker
from ._primitives.process_worker import Worker as Process
from ._primitives.process_worker import Worker as Thread
from ._primitives.shared_locks import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
)
from ._primitives.shared_queues import JoinableQueue, Queue, SimpleQueue

__all__ = [
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Pipe",
    "Pool",
    "Process",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "Thread",
    "Value",
    "Worker",
    "active_workers",
    "current_worker",
]
