"""What the workers of test_rooms.py do; a new process finds it by name."""

from __future__ import annotations

import os
import signal
import sys
import threading

from autopar import processes, threads
from autopar._primitives import workers


def double(number):
    return number * 2


def fail(words):
    raise LookupError(words)


def leave(code):
    sys.exit(code)


def vanish(code):
    os._exit(code)


def wait_then(event, answer):
    event.wait(30)
    return answer


def say_and_wait(said, event):
    said.set()
    event.wait(30)


def name_of_self(room):
    return room_of(room).current_worker().name


def room_of(name):
    return {"threads": threads, "processes": processes}[name]


class ThreadDoubler(threads.Worker):
    def __init__(self, number):
        super().__init__(daemon=True)
        self.number = number

    def run(self):
        return self.number * 2


class ProcessDoubler(processes.Worker):
    def __init__(self, number):
        super().__init__(daemon=True)
        self.number = number

    def run(self):
        return self.number * 2


class Teller(workers.Worker):
    """Tells its name, and who ran it."""

    def __init__(self, kind):
        super().__init__(kind=kind, name="william")

    def run(self):
        return self.name, self.pid, self.is_alive()


def nested(room, number):
    inner = room_of(room).Worker(target=double, args=(number,))
    inner.start()
    return inner.result(30) + 1


def produce(queue, count):
    for number in range(count):
        queue.put(number)
    queue.close()
    queue.join_thread()


def consume(queue, total):
    for number in iter(queue.get, None):
        with total.get_lock():
            total.value += number
        queue.task_done()
    queue.task_done()


def count_up(value, array, times):
    for _ in range(times):
        with value.get_lock():
            value.value += 1
        with array.get_lock():
            array[1] += 2


def echo(end):
    for message in iter(end.recv, None):
        end.send(message)


def use_sent_end(end):
    own = end.recv()
    own.send("all is well")
    own.close()


def hold(lock, held, done):
    with lock:
        held.set()
        done.wait(30)


def release(lock):
    lock.release()


def meet(barrier):
    return barrier.wait(30)


def flag(condition, state):
    with condition:
        state.value = 1
        condition.notify_all()


def much(size):
    return b"x" * size


def unpicklable():
    return {"jobs": [1, {"lock": threading.Lock()}]}


class Picky(Exception):
    """Does not survive pickle by itself: it wants two arguments, and passes on one."""

    def __init__(self, code, words):
        super().__init__(words)
        self.code = code


def fail_pickily():
    raise Picky(7, "out of beans")


class Landmine:
    """Pickles, and does not load."""

    def __reduce__(self):
        return explode, ()


def explode():
    raise RuntimeError("stepped on it")


def plant():
    return Landmine()


def orphan(ready, done):
    """Leaves a process behind that outlives this one, and holds what this one held."""
    if os.fork() == 0:
        ready.set()
        done.wait(30)
        os._exit(0)
    ready.wait(30)
    os.kill(os.getpid(), signal.SIGKILL)
