"""`autopar.threads` and `autopar.processes`: one program runs on either."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import multiprocessing.heap
import multiprocessing.resource_sharer
import multiprocessing.util
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import rooms_work as work
from autopar import TransportError, WorkerCrashed, abc, processes, threads
from autopar._primitives import workers
from conftest import eventually, open_descriptors

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

LONG_S = 30.0  # bounds a wait that should not be long
ROOMS = {"threads": threads, "processes": processes}


@pytest.fixture(params=ROOMS)
def room(request: pytest.FixtureRequest) -> ModuleType:
    """Each room in turn."""
    found: ModuleType = ROOMS[request.param]
    return found


@pytest.fixture(scope="module", autouse=True)
def helpers_end() -> Iterator[None]:
    """multiprocessing's helpers and its memory would stay for as long as this process."""
    yield
    assert eventually(lambda: not processes.active_workers())  # which joins those that have ended
    multiprocessing.heap.BufferWrapper._heap = multiprocessing.heap.Heap()
    gc.collect()
    multiprocessing.resource_sharer.stop(LONG_S)
    multiprocessing.util._cleanup_tests()


def name_of(room: ModuleType) -> str:
    return room.__name__.rpartition(".")[2]


def started(room: ModuleType, target: Any, *args: Any, **options: Any) -> Any:
    worker = room.Worker(target=target, args=args, **options)
    worker.start()
    return worker


# Both rooms


def test_the_rooms_have_the_same_furniture():
    assert threads.__all__ == processes.__all__
    assert threads.Thread is threads.Process is threads.Worker
    assert processes.Thread is processes.Process is processes.Worker


def test_every_piece_is_what_its_protocol_says(room):
    one = {
        "Lock": room.Lock(),
        "RLock": room.RLock(),
        "Semaphore": room.Semaphore(2),
        "BoundedSemaphore": room.BoundedSemaphore(2),
        "Condition": room.Condition(),
        "Event": room.Event(),
        "Barrier": room.Barrier(2),
        "Queue": room.Queue(),
        "JoinableQueue": room.JoinableQueue(),
        "SimpleQueue": room.SimpleQueue(),
        "Connection": room.Pipe()[0],
        "Worker": room.Worker(),
        "Value": room.Value("i"),
        "Array": room.Array("i", 3),
    }
    assert [name for name, made in one.items() if not isinstance(made, getattr(abc, name))] == []


def test_a_worker_gives_what_its_target_returned(room):
    worker = started(room, work.double, 21)
    assert worker.result(LONG_S) == 42
    worker.join(LONG_S)
    assert (worker.is_alive(), worker.exitcode, worker.result(0)) == (False, 0, 42)


def test_a_worker_raises_what_its_target_raised(room):
    worker = started(room, work.fail, "no such word")
    with pytest.raises(LookupError, match="no such word"):
        worker.result(LONG_S)
    worker.join(LONG_S)
    assert worker.exitcode == 1


@pytest.mark.parametrize(("code", "exitcode"), [(3, 3), (None, 0), (True, 1), ("words", 1)])
def test_a_target_that_exits_sets_the_exit_code(room, code, exitcode):
    worker = started(room, work.leave, code)
    with pytest.raises(SystemExit) as caught:
        worker.result(LONG_S)
    worker.join(LONG_S)
    assert (caught.value.code, worker.exitcode) == (code, exitcode)


def test_a_subclass_returns_from_run(room):
    doubler = work.ThreadDoubler(4) if room is threads else work.ProcessDoubler(4)
    doubler.start()
    assert doubler.result(LONG_S) == 8
    doubler.join(LONG_S)


def test_a_result_is_waited_for_no_longer_than_said(room):
    event = room.Event()
    worker = started(room, work.wait_then, event, "done")
    with pytest.raises(TimeoutError):
        worker.result(0.01)
    assert worker.exitcode is None
    event.set()
    assert worker.result(LONG_S) == "done"


def test_a_worker_is_started_once_and_joined_afterwards(room):
    worker = room.Worker(target=work.double, args=(1,))
    for early in (worker.join, worker.result):
        with pytest.raises(AssertionError):
            early()
    worker.start()
    with pytest.raises(AssertionError):
        worker.start()
    worker.join(LONG_S)


def test_a_closed_worker_is_of_no_more_use(room):
    event = room.Event()
    worker = started(room, work.wait_then, event, 1)
    with pytest.raises(ValueError, match="still running"):
        worker.close()
    event.set()
    worker.join(LONG_S)
    worker.close()
    for late in (worker.join, worker.is_alive, worker.result):
        with pytest.raises(ValueError, match="closed"):
            late()


def test_a_worker_has_a_name_of_its_own(room):
    worker = started(room, work.name_of_self, name_of(room), name="harry")
    assert (worker.name, worker.result(LONG_S)) == ("harry", "harry")
    worker.join(LONG_S)
    assert room.Worker().name != room.Worker().name
    assert room.Worker(daemon=True).daemon
    assert not room.Worker().daemon


def test_running_workers_are_listed(room):
    event = room.Event()
    worker = room.Worker(target=work.wait_then, args=(event, 1))
    assert worker not in room.active_workers()
    worker.start()
    assert worker in room.active_workers()
    event.set()
    worker.join(LONG_S)
    assert worker not in room.active_workers()


def test_a_worker_starts_workers(room):
    worker = started(room, work.nested, name_of(room), 5)
    assert worker.result(LONG_S) == 11
    worker.join(LONG_S)


def test_a_lock_is_held_by_one(room):
    lock = room.Lock()
    with lock as got:
        assert got is True
        assert lock.locked()
        assert not lock.acquire(False)
        assert not lock.acquire(block=False, timeout=5)
        assert not lock.acquire(timeout=0.01)
        assert not lock.acquire(True, -1)
    assert not lock.locked()
    assert lock.acquire(timeout=None)
    lock.release()
    with pytest.raises(ValueError, match="too many times"):
        lock.release()


def test_a_lock_keeps_other_workers_out(room):
    lock, held, done = room.Lock(), room.Event(), room.Event()
    worker = started(room, work.hold, lock, held, done)
    assert held.wait(LONG_S)
    assert not lock.acquire(timeout=0)
    done.set()
    assert lock.acquire(timeout=LONG_S)
    worker.join(LONG_S)
    lock.release()


def test_a_reentrant_lock_belongs_to_its_owner(room):
    lock = room.RLock()
    with lock, lock:
        assert lock.locked()
        assert lock.acquire(block=False)
        lock.release()
        thief = started(room, work.release, lock)
        with pytest.raises(AssertionError):
            thief.result(LONG_S)
        thief.join(LONG_S)
    assert not lock.locked()
    with pytest.raises(AssertionError):
        lock.release()


def test_a_semaphore_counts(room):
    semaphore = room.Semaphore(2)
    with semaphore:
        assert semaphore.acquire()
        assert semaphore.get_value() == 0
        assert not semaphore.acquire(block=False)
        assert not semaphore.acquire(False, 1.0)
        assert not semaphore.acquire(timeout=-1)
    semaphore.release()
    semaphore.release()
    assert semaphore.get_value() == 3
    with pytest.raises(ValueError, match=">= 0"):
        room.Semaphore(-1)


def test_a_bounded_semaphore_has_a_bound(room):
    semaphore = room.BoundedSemaphore(1)
    with semaphore:
        pass
    with pytest.raises(ValueError):
        semaphore.release()


def test_a_condition_is_used_with_its_lock(room):
    condition = room.Condition()
    for alone in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(AssertionError):
            alone()
    state = room.Value("i", 0)
    with condition:
        assert not condition.wait(0.01)
        worker = started(room, work.flag, condition, state)
        assert condition.wait_for(lambda: state.value == 1, LONG_S)
    worker.join(LONG_S)


def test_workers_meet_at_a_barrier(room):
    barrier = room.Barrier(3)
    workers = [started(room, work.meet, barrier) for _ in range(2)]
    places = [barrier.wait(LONG_S), *(worker.result(LONG_S) for worker in workers)]
    assert sorted(places) == [0, 1, 2]
    for worker in workers:
        worker.join(LONG_S)
    barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()


def test_an_event_that_is_cleared_at_once_was_set_for_those_who_waited(room):
    event = room.Event()
    waiting = threading.Semaphore(0)

    def wait():
        waiting.release()
        return event.wait(LONG_S)

    waiters = [started(threads, wait) for _ in range(3)]
    for _ in waiters:
        waiting.acquire()
    # A round may come before a waiter does; whoever waits in a later one learns of it.
    while any(waiter.is_alive() for waiter in waiters):
        event.set()
        event.clear()
    assert [waiter.result() for waiter in waiters] == [True] * 3


def test_a_queue_has_a_first_and_a_bound(room):
    made = room.Queue(2)
    made.put("a")
    made.put("b", block=True, timeout=LONG_S)
    assert made.full()
    with pytest.raises(queue.Full):
        made.put("c", False)
    for timeout in (0.01, -1):
        with pytest.raises(queue.Full):
            made.put("c", timeout=timeout)
    assert (made.get(timeout=LONG_S), made.get(timeout=LONG_S)) == ("a", "b")
    with pytest.raises(queue.Empty):
        made.get_nowait()
    for timeout in (0.01, -1):
        with pytest.raises(queue.Empty):
            made.get(timeout=timeout)
    assert (made.qsize(), made.empty()) == (0, True)
    made.close()
    made.join_thread()
    for late in (lambda: made.put(1), made.get):
        with pytest.raises(ValueError, match="closed"):
            late()


def test_a_worker_that_closes_its_queue_closes_it_for_nobody_else(room):
    made = room.Queue()
    worker = started(room, work.produce, made, 10)
    assert [made.get(timeout=LONG_S) for _ in range(10)] == list(range(10))
    worker.join(LONG_S)
    made.put("still open")
    assert made.get(timeout=LONG_S) == "still open"
    made.close()
    made.join_thread()


def test_a_joinable_queue_is_waited_for(room):
    made, total = room.JoinableQueue(), room.Value("i", 0)
    workers = [started(room, work.consume, made, total) for _ in range(2)]
    for number in range(50):
        made.put(number)
    made.join()
    assert total.value == sum(range(50))
    for _ in workers:
        made.put(None)
    made.join()
    for worker in workers:
        worker.join(LONG_S)
    with pytest.raises(ValueError, match="too many times"):
        made.task_done()
    made.close()
    made.join_thread()


def test_a_simple_queue_is_a_queue(room):
    made = room.SimpleQueue()
    for number in range(3):
        made.put(number)
    assert [made.get() for _ in range(3)] == [0, 1, 2]
    assert made.empty()
    made.close()
    with pytest.raises(OSError):
        made.put(1)


def test_a_pipe_has_two_ends(room):
    here, there = room.Pipe()
    worker = started(room, work.echo, there)
    there.close()  # the worker has its own
    for message in ("words", {"x": [1, 2]}, b"bytes"):
        here.send(message)
        assert here.poll(LONG_S)
        assert here.recv() == message
    assert not here.poll()
    here.send(None)
    worker.join(LONG_S)
    with pytest.raises(EOFError):  # the worker's end went with it
        here.recv()
    with pytest.raises(OSError):
        here.send(1)
    here.close()
    assert here.closed
    with pytest.raises(OSError):
        here.poll()


def test_bytes_go_through_a_pipe(room):
    reader, writer = room.Pipe(duplex=False)
    assert (reader.readable, reader.writable) == (True, False)
    with reader, writer:
        writer.send_bytes(bytearray(b"abcdef"), 1, 3)
        assert reader.recv_bytes() == b"bcd"
        writer.send_bytes(pickle.dumps([1]))
        assert reader.recv() == [1]
        writer.send([2])
        assert pickle.loads(reader.recv_bytes()) == [2]
        buffer = bytearray(b"......")
        writer.send_bytes(b"xyz")
        assert reader.recv_bytes_into(buffer, 2) == 3
        assert buffer == b"..xyz."
        writer.send_bytes(b"too much")
        with pytest.raises(multiprocessing.BufferTooShort) as caught:
            reader.recv_bytes_into(bytearray(3))
        assert caught.value.args == (b"too much",)
        for wrong in ((b"abc", 4), (b"abc", -1), (b"abc", 1, 3), (b"abc", 1, -1)):
            with pytest.raises(ValueError):
                writer.send_bytes(*wrong)
        for wrong_way in (lambda: reader.send(1), writer.recv, writer.poll):
            with pytest.raises(OSError):
                wrong_way()
        writer.send_bytes(b"too long")
        with pytest.raises(OSError):
            reader.recv_bytes(3)


def test_an_end_that_is_sent_through_a_pipe_is_another(room):
    here, there = room.Pipe()
    reader, writer = room.Pipe(duplex=False)
    worker = started(room, work.use_sent_end, there)
    here.send(writer)
    writer.close()
    assert reader.recv() == "all is well"
    worker.join(LONG_S)
    with pytest.raises(EOFError):
        reader.recv()
    for end in (here, there, reader):
        end.close()


def test_counting_under_a_lock_is_exact(room):
    value, array = room.Value("i", 5), room.Array(ctypes.c_long, [0, 0, 7])
    workers = [started(room, work.count_up, value, array, 500) for _ in range(3)]
    for worker in workers:
        worker.join(LONG_S)
    assert (value.value, list(array)) == (1505, [0, 3000, 7])


def test_values_and_arrays_are_those_of_ctypes(room):
    assert room.RawValue("d").value == 0.0
    assert list(room.RawArray("h", 3)) == [0, 0, 0]
    assert room.Array("c", b"hello").value == b"hello"
    assert isinstance(room.Value("i", 5, lock=False), ctypes.c_int)
    lock = room.RLock()
    assert room.Array("i", 2, lock=lock).get_lock() is lock
    with pytest.raises(AttributeError):
        room.Value("i", 5, lock="none")


INTERRUPTED = """
import os, signal, sys, threading
from autopar import {room} as room
from rooms_work import say_and_wait

if __name__ == "__main__":
    said, event = room.Event(), room.Event()
    worker = room.Worker(target=say_and_wait, args=(said, event))
    worker.start()
    said.wait(30)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        worker.{wait}()
    except KeyboardInterrupt:
        event.set()
        worker.join(30)
        print("interrupted", worker.exitcode)
"""


@pytest.mark.parametrize("wait", ["join", "result"])
def test_waiting_for_a_worker_ends_with_ctrl_c(room, wait, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(INTERRUPTED.format(room=name_of(room), wait=wait))
    ended = run(program)
    assert ended.stdout == "interrupted 0\n", ended.stderr


def run(program: Any) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([os.path.dirname(work.__file__), *sys.path])
    return subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=50,
    )


# Threads alone


def test_an_exception_that_nobody_fetches_is_shown_when_the_worker_is_dropped(monkeypatch):
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_value))
    worker = started(threads, work.fail, "unheard")
    worker.join(LONG_S)
    assert shown == []
    del worker
    gc.collect()
    assert [error.args for error in shown] == [("unheard",)]


def test_an_exception_that_is_fetched_is_not_shown(monkeypatch):
    shown = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    worker = started(threads, work.fail, "heard")
    with pytest.raises(LookupError):
        worker.result(LONG_S)
    del worker
    gc.collect()
    assert shown == []


def test_an_exception_that_nobody_fetches_is_shown_at_the_end(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from autopar import threads\n"
        "def fail(): raise LookupError('unheard')\n"
        "worker = threads.Worker(target=fail, name='sue')\n"
        "worker.start()\n"
        "held = threads.Event()  # by a thread that is never told, with the worker in hand\n"
        "threads.Worker(target=lambda _: held.wait(), args=(worker,), daemon=True).start()\n"
    )
    ended = run(program)
    assert ended.returncode == 0
    assert "Exception in thread sue" in ended.stderr
    assert "LookupError: unheard" in ended.stderr


@pytest.mark.parametrize("end", ["terminate", "kill", "interrupt"])
def test_a_thread_says_that_it_cannot_be_ended(end):
    with pytest.raises(NotImplementedError, match=r"Event.*autopar\.processes"):
        getattr(threads.Worker(), end)()


def test_what_threads_share_does_not_leave_their_process():
    pieces = (threads.Lock(), threads.RLock(), threads.Queue(), threads.Pipe()[0])
    for piece in (*pieces, threads.Semaphore(), threads.Value("i")):
        with pytest.raises((TypeError, RuntimeError)):
            pickle.dumps(piece)


def test_what_is_put_for_a_thread_is_not_copied():
    made, message = threads.Queue(), {"x": 1}
    made.put(message)
    assert made.get() is message


def test_an_attribute_that_both_have_is_closed_when_both_have_closed_it():
    class Talker(threads.Worker):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = threads.Pipe()

        def run(self):
            self.outer.close()
            self.inner.send(self.inner.recv() * 2)

    talker = Talker()
    talker.start()
    talker.outer.send(4)
    assert talker.outer.recv() == 8
    talker.join(LONG_S)
    talker.inner.close()
    with pytest.raises(EOFError):
        talker.outer.recv()


def test_an_end_that_is_collected_in_the_midst_of_a_use_of_its_pipe_closes_it():
    reader, writer = threads.Pipe(duplex=False)
    with reader._inward.store._mutex:  # as in `recv`, where a collection can begin
        del writer
        gc.collect()
    with pytest.raises(EOFError):
        reader.recv()


def test_an_end_that_a_worker_was_handed_is_closed_when_it_ends():
    here, there = threads.Pipe()
    kept: list[Any] = []
    worker = started(threads, kept.append, there)
    there.close()
    worker.join(LONG_S)
    with pytest.raises(EOFError):
        here.recv()
    assert kept[0].closed


def test_values_of_threads_do_not_settle_the_start_method(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing\n"
        "from autopar import threads\n"
        "threads.Value('i'), threads.Array('i', 3), threads.Queue(), threads.Lock()\n"
        "multiprocessing.set_start_method('spawn')\n"
        "print(multiprocessing.get_start_method())\n"
    )
    assert run(program).stdout == "spawn\n"


# Processes alone


@pytest.mark.parametrize(
    ("target", "args", "exitcode"),
    [(work.vanish, (7,), 7), (os.kill, (0, signal.SIGKILL), -signal.SIGKILL)],
)
def test_a_process_that_dies_has_crashed(target, args, exitcode):
    worker = started(processes, target, *args) if target is not os.kill else killed()
    with pytest.raises(WorkerCrashed) as caught:
        worker.result(LONG_S)
    assert caught.value.exitcode == worker.exitcode == exitcode
    assert worker.name in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).worker == worker.name


def killed() -> Any:
    said, event = processes.Event(), processes.Event()
    worker = started(processes, work.say_and_wait, said, event)
    assert said.wait(LONG_S)
    worker.kill()
    return worker


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="deaths are seen through sentinels alone")
@pytest.mark.parametrize("joined", [False, True])
def test_a_death_is_seen_though_a_child_of_the_dead_lives_on(joined):
    with start_method("fork"):
        ready, done = processes.Event(), processes.Event()
        worker = started(processes, work.orphan, ready, done)
        if joined:
            worker.join()
        with pytest.raises(WorkerCrashed):
            worker.result(LONG_S)
        assert worker.exitcode == -signal.SIGKILL
        done.set()


WAITED_FOR = """
import multiprocessing
import os
import rooms_work as work
from autopar import WorkerCrashed, processes

multiprocessing.set_start_method("fork")
ready, done = processes.Event(), processes.Event()
worker = processes.Worker(target=work.orphan, args=(ready, done))
worker.start()
os.waitpid(worker.pid, 0)
try:
    worker.result({within_s})
except WorkerCrashed:
    print("crashed")
done.set()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="deaths are seen through sentinels alone")
def test_a_death_is_seen_though_somebody_else_has_waited_for_it(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(WAITED_FOR.format(within_s=LONG_S))
    assert run(program).stdout == "crashed\n"


def test_a_large_result_that_nobody_reads_keeps_nobody():
    worker = started(processes, work.much, 20_000_000)
    worker.join(LONG_S)
    assert worker.exitcode == 0
    assert len(worker.result()) == 20_000_000


def test_a_result_that_does_not_pickle_names_the_part_at_fault():
    worker = started(processes, work.unpicklable)
    with pytest.raises(TransportError) as caught:
        worker.result(LONG_S)
    assert caught.value.path == 'result["jobs"][1]["lock"]'
    worker.join(LONG_S)
    assert worker.exitcode == 0  # its work was done


def test_a_result_that_does_not_load_says_why():
    worker = started(processes, work.plant)
    with pytest.raises(TransportError, match="stepped on it"):
        worker.result(LONG_S)
    worker.join(LONG_S)


def test_an_exception_arrives_though_pickle_cannot_rebuild_it():
    worker = started(processes, work.fail_pickily)
    with pytest.raises(work.Picky) as caught:
        worker.result(LONG_S)
    assert (caught.value.code, str(caught.value)) == (7, "out of beans")
    assert "in fail_pickily" in caught.value.__notes__[-1]
    worker.join(LONG_S)


OF_MAIN = """
import multiprocessing
from autopar import processes

class Answer: ...

class Refusal(Exception): ...

def answer(refuse):
    if refuse:
        raise Refusal
    return Answer()

if __name__ == "__main__":
    multiprocessing.set_start_method("{method}")
    workers = [processes.Worker(target=answer, args=(refuse,)) for refuse in (False, True)]
    for worker in workers:
        worker.start()
    print(type(workers[0].result(30)) is Answer)
    try:
        workers[1].result(30)
    except Refusal:
        print("refused")
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_what_is_defined_in_the_main_module_comes_back_as_that(method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(OF_MAIN.format(method=method))
    assert run(program).stdout == "True\nrefused\n"


class start_method:
    """The default start method for a while."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._before = multiprocessing.get_start_method(allow_none=True)
        multiprocessing.set_start_method(self._name, force=True)

    def __exit__(self, *_error: object) -> None:
        multiprocessing.set_start_method(self._before, force=True)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_every_start_method_brings_results_back(method):
    with start_method(method):
        lock, event = processes.Lock(), processes.Event()
        event.set()
        workers = [
            started(processes, work.wait_then, event, "done"),
            started(processes, work.fail, "no"),
            started(processes, work.hold, lock, event, event),
        ]
        assert workers[0].result(LONG_S) == "done"
        with pytest.raises(LookupError):
            workers[1].result(LONG_S)
        workers[2].result(LONG_S)
        assert lock.acquire(timeout=0)
        for worker in workers:
            worker.join(LONG_S)


def test_a_result_can_be_asked_for_by_many_at_once():
    event = processes.Event()
    worker = started(processes, work.wait_then, event, "for all")
    asking = [started(threads, worker.result, LONG_S) for _ in range(4)]
    event.set()
    assert [each.result(LONG_S) for each in asking] == ["for all"] * 4
    worker.join(LONG_S)


def test_workers_that_are_dropped_leave_no_descriptors():
    started(processes, work.double, 1).join(LONG_S)
    gc.collect()
    before = open_descriptors()
    for number in range(5):
        worker = started(processes, work.double, number)
        worker.join(LONG_S)
    del worker
    assert eventually(lambda: gc.collect() is not None and open_descriptors() <= before)


# Either, as its kind says


@pytest.mark.parametrize(("kind", "apart"), [("auto", False), ("io", False), ("cpu", True)])
def test_the_kind_of_a_worker_says_where_it_runs(kind, apart):
    worker = workers.Worker(target=os.getpid, kind=kind)
    worker.start()
    assert (worker.result(LONG_S) != os.getpid()) is apart
    worker.join(LONG_S)
    assert (worker.exitcode, worker.is_alive()) == (0, False)
    assert isinstance(worker, abc.Worker)


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="'auto', 'cpu', 'io'"):
        workers.Worker(kind="gpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_worker_of_any_kind_takes_a_closure(method):
    number = 20
    with start_method(method):
        for kind in ("io", "cpu"):
            worker = workers.Worker(target=lambda more: number + more, args=(1,), kind=kind)
            worker.start()
            assert worker.result(LONG_S) == 21
            worker.join(LONG_S)


@pytest.mark.parametrize("kind", ["io", "cpu"])
def test_a_subclass_of_any_kind_knows_itself_where_it_runs(kind):
    teller = work.Teller(kind)
    teller.start()
    assert teller.result(LONG_S) == ("william", teller.pid, True)
    teller.join(LONG_S)
