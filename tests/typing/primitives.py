"""What a user writes with locks, queues and values, with the types that have to come out."""

from typing import Any, assert_type

from autopar import (
    Array,
    Barrier,
    Condition,
    Event,
    JoinableQueue,
    Lock,
    Pipe,
    Queue,
    RLock,
    Semaphore,
    SimpleQueue,
    Value,
    auto_map,
)


def count(lock: Lock) -> bool:
    with lock:
        return lock.acquire(timeout=1.5) or lock.owner_died


assert_type(auto_map(count, [Lock(), RLock()]), list[bool])
assert_type(Semaphore(3).acquire(block=False), bool)
assert_type(Condition(RLock()).wait_for(lambda: 5, timeout=1), int)
assert_type(Event().wait(0.5), bool)
assert_type(Barrier(2, timeout=3).wait(), int)

value = Value("d", 1.5)
with value:
    value.value += 1
assert_type(value.add(2), Any)
array = Array("i", [1, 2, 3])
assert_type(array.view(), memoryview)
memoryview(array.get_obj())

assert_type(Queue(5).qsize(), int)
assert_type(JoinableQueue().join(), None)
assert_type(SimpleQueue().get(), Any)
receiver, sender = Pipe(duplex=False)
assert_type(receiver.recv_bytes(100), bytes)
assert_type(sender.closed, bool)
