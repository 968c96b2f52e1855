"""What a user writes for either room, with the types that have to come out. Checked, never run."""

from typing import assert_type

from autopar import abc, processes, threads


def guarded(lock: abc.Lock, total: list[int]) -> bool:
    with lock:
        total[0] += 1
    return lock.acquire(block=False) or lock.acquire(timeout=0.5) or lock.locked()


def waits(condition: abc.Condition, event: abc.Event, barrier: abc.Barrier) -> int:
    with condition:
        condition.wait_for(event.is_set, timeout=1)
        condition.notify_all()
    return barrier.wait()


def drain(queue: abc.Queue[int], ready: abc.Semaphore) -> list[int]:
    with ready:
        return [queue.get(timeout=1.0) for _ in range(queue.qsize())]


def talk(end: abc.Connection) -> bytes:
    end.send({"x": 1})
    return end.recv_bytes() if end.poll(None) else b""


def length(word: str) -> int:
    return len(word)


def both(worker: abc.Worker[int]) -> int:
    worker.start()
    return worker.result(timeout=5)


def count(value: abc.Value[int]) -> int:
    with value.get_lock():
        value.value += 1
    return value.value


total = [0]
guarded(threads.Lock(), total)
guarded(processes.Lock(), total)
guarded(threads.RLock(), total)
guarded(processes.RLock(), total)
waits(threads.Condition(), threads.Event(), threads.Barrier(2))
waits(processes.Condition(processes.Lock()), processes.Event(), processes.Barrier(2))
drain(threads.Queue[int](), threads.Semaphore(2))
drain(processes.Queue[int](5), processes.BoundedSemaphore(2))

local: abc.JoinableQueue[int] = threads.JoinableQueue()
shared: abc.JoinableQueue[int] = processes.JoinableQueue(3)
simple: abc.SimpleQueue[str] = threads.SimpleQueue()
simple = processes.SimpleQueue()

here, there = threads.Pipe()
talk(here)
talk(processes.Pipe(duplex=False)[0])

assert_type(threads.Worker(target=length, args=("word",)).result(), int)
assert_type(processes.Worker(target=length, args=("word",)).result(1), int)
both(threads.Worker(target=length))
both(processes.Process(target=length, daemon=True))
count(threads.Value("i", 5))
count(processes.Value("i", 5))


class Parser(threads.Worker[list[str]]):
    def run(self) -> list[str]:
        return [self.name]


class Fetcher(processes.Worker[list[str]]):
    def run(self) -> list[str]:
        return [self.name]


assert_type(Parser().result(), list[str])
assert_type(Fetcher().result(), list[str])
