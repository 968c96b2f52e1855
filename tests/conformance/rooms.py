"""What is tested: the rooms, the interpreter's classes, and the tests left out, with reasons."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Room:
    """A set of names that the interpreter's tests are run against.

    module: where the names are. type: what the tests are told they test, "processes" or "threads";
    they ask threads for less. strict: the classes that ask for all of it all the same.
    """

    name: str
    module: str
    type: str
    strict: frozenset[str] = frozenset()
    excluded: dict[str, str] = field(default_factory=dict)


MP_CASES = (
    "_TestProcess",
    "_TestSubclassingProcess",
    "_TestQueue",
    "_TestLock",
    "_TestSemaphore",
    "_TestCondition",
    "_TestEvent",
    "_TestBarrier",
    "_TestValue",
    "_TestArray",
    "_TestSharedCTypes",
    "_TestPool",
    "_TestPoolWorkerErrors",
    "_TestPoolWorkerLifetime",
    "_TestConnection",
    "_TestPoll",
    "_TestPollEintr",
    "_TestPicklingConnections",
    "TestWait",
    "TestSimpleQueue",
    "TestBaseProcessKwargs",
    "TestStdinBadfiledescriptor",
    "TestCloseFds",
    "TestIgnoreEINTR",
)
# The attribute each class asks for its type, and the name in the room.
LOCK_CASES = {
    "LockTests": ("locktype", "Lock"),
    "RLockTests": ("locktype", "RLock"),
    "EventTests": ("eventtype", "Event"),
    "ConditionTests": ("condtype", "Condition"),
    "SemaphoreTests": ("semtype", "Semaphore"),
    "BoundedSemaphoreTests": ("semtype", "BoundedSemaphore"),
    "BarrierTests": ("barriertype", "Barrier"),
}

# Why a test is left out, and which.

INTERNAL = "asks for a private attribute of the standard library's class"
REPR = "asks for the words threading's repr uses; multiprocessing's are others"
TIMEOUTS = "multiprocessing's acquire takes any timeout: unused without blocking, below 0 as none"
BLOCKING = "multiprocessing calls the argument 'block'"
ASSERTION = "multiprocessing raises AssertionError for it, threading RuntimeError"
ONE_AT_A_TIME = "multiprocessing's semaphores release one at a time"
NO_DESCRIPTOR = "waits in the kernel for descriptors, and a pipe between threads has none"
NO_PROCESS = "asks what a new process does with descriptors and signals; there is none"
NOT_COPIED = (
    "pickles multiprocessing's own connections and sockets; threads pass them on as they are"
)

KEPT = "loses the results of the chunk in which the iterable raised; ours are kept"
DROPPED = "warns of a pool that is dropped while it runs; ours ends by itself"
NAMED = "raises what pickle raised; ours is a TransportError, which names the object and the item"
NOTED = "has the worker's traceback as the cause of an exception; ours has it in a note"

SHARED = "asks that an argument does not pickle; memory is shared until a function has to move"
NO_SOCKET = "sends descriptors through a socket; what travels in any pickle is a pipe of the system"

UNUSED = "wants a closed queue that was never used to take the question whether it is empty"

POOLS = {
    "_TestPool.test_imap_handle_iterable_exception": KEPT,
    "_TestPool.test_make_pool": INTERNAL,
    "_TestPool.test_resource_warning": DROPPED,
    "_TestPoolWorkerErrors.test_unpickleable_result": NAMED,
    "_TestPoolWorkerLifetime.test_pool_worker_lifetime": INTERNAL,
}
SAID_BY_MULTIPROCESSING = {
    "LockTests.test_state_after_timeout": BLOCKING,
    "LockTests.test_timeout": TIMEOUTS,
    "RLockTests.test_timeout": TIMEOUTS,
    "SemaphoreTests.test_acquire_timeout": TIMEOUTS,
    "BoundedSemaphoreTests.test_acquire_timeout": TIMEOUTS,
    "LockTests.test_at_fork_reinit": INTERNAL,
}

THREADS = Room(
    "threads",
    "autopar.threads",
    "threads",
    strict=frozenset({"_TestSemaphore", "_TestValue", "_TestArray", "_TestSharedCTypes"}),
    excluded=SAID_BY_MULTIPROCESSING
    | POOLS
    | {
        "TestSimpleQueue.test_closed": INTERNAL,
        "TestWait.test_neg_timeout": NO_DESCRIPTOR,
        "TestWait.test_wait": NO_DESCRIPTOR,
        "TestWait.test_wait_integer": NO_DESCRIPTOR,
        "TestWait.test_wait_slow": NO_DESCRIPTOR,
        "TestWait.test_wait_timeout": NO_DESCRIPTOR,
        "TestCloseFds.test_closefd": NO_PROCESS,
        "TestIgnoreEINTR.test_ignore": NO_PROCESS,
        "TestIgnoreEINTR.test_ignore_listener": NO_PROCESS,
        "_TestPicklingConnections.test_pickling": NOT_COPIED,
    },
)

PROCESSES = Room(
    "processes",
    "autopar.processes",
    "processes",
    excluded=SAID_BY_MULTIPROCESSING
    | POOLS
    | {
        "_TestPool.test_map_unplicklable": NAMED,
        "_TestPool.test_traceback": NOTED,
        "LockTests.test_repr": REPR,
        "LockTests.test_locked_repr": REPR,
        "RLockTests.test_repr": REPR,
        "RLockTests.test_locked_repr": REPR,
        "RLockTests.test_repr_count": REPR,
        "EventTests.test_repr": REPR,
        "SemaphoreTests.test_repr": REPR,
        "BoundedSemaphoreTests.test_repr": REPR,
        "BarrierTests.test_repr": REPR,
        "RLockTests.test__is_owned": INTERNAL,
        "RLockTests.test_recursion_count": INTERNAL,
        "RLockTests.test_release_save_unacquired": INTERNAL,
        "EventTests.test_at_fork_reinit": INTERNAL,
        "EventTests.test_reset_internal_locks": INTERNAL,
        "RLockTests.test_different_thread": ASSERTION,
        "RLockTests.test_release_unacquired": ASSERTION,
        "ConditionTests.test_unacquired_notify": ASSERTION,
        "ConditionTests.test_unacquired_wait": ASSERTION,
        "SemaphoreTests.test_multirelease": ONE_AT_A_TIME,
        "BoundedSemaphoreTests.test_multirelease": ONE_AT_A_TIME,
    },
)

UNIVERSAL = Room(
    "universal",
    "autopar",
    "processes",
    excluded=SAID_BY_MULTIPROCESSING
    | POOLS
    | {
        "_TestQueue.test_queue_feeder_donot_stop_onexc": INTERNAL,
        "_TestQueue.test_closed_queue_empty_exceptions": UNUSED,
        "RLockTests.test_repr_count": REPR,
        "_TestCondition.test_notify": INTERNAL,
        "_TestCondition.test_notify_all": INTERNAL,
        "_TestCondition.test_notify_n": INTERNAL,
        "_TestEvent.test_repr": REPR,
        "_TestPool.test_map_unplicklable": SHARED,
        "_TestPool.test_traceback": NOTED,
        "_TestConnection.test_fd_transfer": NO_SOCKET,
        "_TestConnection.test_large_fd_transfer": NO_SOCKET,
        "_TestConnection.test_missing_fd_transfer": NO_SOCKET,
        "TestSimpleQueue.test_closed": INTERNAL,
        "RLockTests.test__is_owned": INTERNAL,
        "RLockTests.test_recursion_count": INTERNAL,
        "RLockTests.test_release_save_unacquired": INTERNAL,
        "EventTests.test_at_fork_reinit": INTERNAL,
        "EventTests.test_reset_internal_locks": INTERNAL,
    },
)

# To add a set of names: a Room, a module mp_<name>, and its exclusions.
ROOMS = (THREADS, PROCESSES, UNIVERSAL)

# These sleep for seconds, or start processes by the hundred: run with AUTOPAR_CONFORMANCE=all.
SLOW = frozenset(
    {
        "_TestProcess.test_args_argument",
        "_TestProcess.test_child_fd_inflation",
        "_TestProcess.test_forkserver_sigint",
        "_TestProcess.test_forkserver_sigkill",
        "_TestProcess.test_many_processes",
        "_TestProcess.test_recursion",
        "_TestProcess.test_wait_for_threads",
        "_TestQueue.test_task_done",
        "_TestLock.test_repr_lock",
        "_TestLock.test_repr_rlock",
        "_TestCondition.test_wait_result",
        "_TestPool.test_map_no_failfast",
        "_TestBarrier.test_default_timeout",
        "_TestBarrier.test_timeout",
        "_TestPoll.test_boundaries",
        "_TestPoll.test_strings",
        "_TestPollEintr.test_poll_eintr",
        "TestWait.test_wait_integer",
        "TestWait.test_wait_slow",
        "TestWait.test_wait_socket_slow",
        "TestWait.test_wait_timeout",
        "EventTests.test_timeout",
        "ConditionTests.test_timeout",
        "BarrierTests.test_timeout",
    }
)


def room_named(name: str) -> Room:
    """The room of that name."""
    return next(room for room in ROOMS if room.name == name)
