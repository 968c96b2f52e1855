"""Workers on threads and what they share: the room beside `autopar.processes`, same furniture.

Names, signatures and exceptions are multiprocessing's, so that a program runs on the other kind of
worker when its import is changed. What is sent, put or returned is passed on as it is, not copied.
"""

from threading import Barrier, Event

from ._pool import ThreadPool as Pool
from ._primitives.local_locks import BoundedSemaphore, Condition, Lock, RLock, Semaphore
from ._primitives.local_pipes import Pipe
from ._primitives.local_queues import JoinableQueue, Queue, SimpleQueue
from ._primitives.local_values import Array, RawArray, RawValue, Value
from ._primitives.thread_worker import Worker, active_workers, current_worker
from ._primitives.thread_worker import Worker as Process
from ._primitives.thread_worker import Worker as Thread

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
