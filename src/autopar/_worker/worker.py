"""A worker process: takes tasks from its socket, runs their items, sends what came of each.

Guarantees: `cell` tells at every moment which item is being run, and holds every result that has
not been sent, so that a worker that dies costs that item alone; a task that takes much longer than
was expected gives the items it has not started back.
"""

from __future__ import annotations

import _pickle as pickle
import _socket
import _thread
import os
import resource
import time
from _struct import pack

from autopar._retry import Retry, may_try_again, note_tries, pause_s
from autopar._transport import wire
from autopar._transport.cell import (
    IDLE,
    INDEX,
    LIMIT,
    LOADING,
    MEMORY,
    SINCE,
    TRIES,
    Cell,
)
from autopar._transport.wire import Head
from autopar._worker.world import differ, enter, flush_streams, settle

TYPE_CHECKING = False  # `typing` costs a new worker 5 ms
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any
else:
    import _signal as signal  # without `enum` around it

FLUSH_S = 2e-3  # results wait at most about this long
PATIENCE = 4  # a task may take this many times what was expected...
PATIENCE_S = 10e-3  # ...and at least this long, before it gives the rest back
BRIEF_S = 2e-3  # a task that is over so soon says by its results that the job was opened
PAUSE_S = 20e-3  # one that waits looks so often whether it still should
IDLE_S = 60  # a worker nobody needs ends
_PAGE_BYTES = resource.getpagesize()


def main(sock_fd: int, cell_fd: int) -> int:
    """Serves tasks until the other end is gone or has been silent for long; the exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Not ignored: programs that items start would inherit that.
    signal.signal(signal.SIGINT, lambda *_: None)
    sock = _socket.socket(fileno=sock_fd)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, pack("ll", IDLE_S, 0))
    cell = Cell(cell_fd)
    os.close(cell_fd)
    differ()
    _serve(Worker(sock, cell), sock)
    return 0


def _serve(worker: Worker, sock: _socket.socket) -> None:
    """Does what messages ask, until there is nobody to send any, or has been none for long."""
    try:
        while (message := _next(sock)) is not None and worker.serve(message):
            pass
    except (BlockingIOError, ConnectionError):
        pass  # nobody has needed this worker for long, or nobody is there any more
    finally:
        sock.close()


def _next(sock: _socket.socket) -> wire.Parcel | None:
    """The next message; as long as other threads here serve a call, however long it takes."""
    while True:
        try:
            return wire.receive(sock)
        except BlockingIOError:
            if not _lanes:
                raise


_lanes: set[int] = set()  # the threads that are lanes


def lane(sock_fd: int, cell_fd: int, work: Work) -> None:
    """Serves tasks of one job in another thread of this process, until the other end is gone."""
    sock = _socket.socket(fileno=sock_fd)
    _lanes.add(_thread.get_ident())
    try:
        cell = Cell(cell_fd)
        os.close(cell_fd)
        worker = Worker(sock, cell, work)
        _serve(worker, sock)
        worker.close()
    except BaseException:  # the caller could not tell that one of many threads is gone
        os._exit(1)
    finally:
        _lanes.discard(_thread.get_ident())


class Work:
    """A job as it was opened in this worker.

    timed: somebody watches how long each item takes.
    context: where its initializer and its items run; None when there is nothing in it.
    """

    def __init__(self, number: int, job: wire.Sealed, context: Context | None) -> None:
        self.number, self._context = number, context
        self.run(self._open, job)

    def _open(self, job: wire.Sealed) -> None:
        self.fn: Callable[[Any], Any]
        self.retries: Retry | None
        content = _opened(job)
        self.fn, initializer, initargs, self.retries = content[:4]
        self.keep_errors, silent, self.memory_bytes, self.most_items, self.timed = content[4:]
        if silent:
            self.fn = _silenced(self.fn)
        settle()
        if initializer is not None:
            initializer(*initargs)

    def twin(self) -> Work:
        """The same work, for a thread of its own: a context is for one thread at a time."""
        twin = object.__new__(Work)
        twin.__dict__.update(self.__dict__)  # the module `copy` would cost each worker 5 ms
        twin._context = None if self._context is None else self._context.copy()
        return twin

    def run(self, call: Callable[[Any], None], argument: Any) -> None:
        """Calls in the job's context."""
        if self._context is None:
            call(argument)
        else:
            self._context.run(call, argument)


class Worker:
    """The state of a worker: the job it runs, and its end of the socket."""

    def __init__(self, sock: _socket.socket, cell: Cell, work: Work | None = None) -> None:
        self._sock = sock
        self._cell = cell
        self._work = work
        self._queue = Queue(counts=work is None)
        self._items = 0  # that it has run of a job that gives each worker only so many

    def close(self) -> None:
        """Gives back what only this thread has."""
        self._queue.close()

    def serve(self, message: wire.Parcel) -> bool:
        """Does what a message asks; False when the worker shall end."""
        parts = wire.parted(message)
        brief = len(parts) > 1 and 0 < wire.head_of(parts[1]).wall_s < BRIEF_S
        return all(self._serve(part, brief=brief) for part in parts)

    def _serve(self, message: wire.Parcel, *, brief: bool) -> bool:
        """Does what one part of a message asks; False when the worker shall end."""
        head, work = wire.head_of(message), self._work
        if head.kind == wire.JOB:
            self._open_job(head, message, brief=brief)
        elif head.kind == wire.LANE:
            self._open_lane(head, message)
        elif work is not None and head.job == work.number:
            self._run_task(work, head, message)
            return self._may_stay(work)
        else:  # its job was taken back, or refused
            message.close()
            self._send(Head(wire.REST, head.job, head.start, head.size), None)
        return True

    def _open_job(self, head: Head, message: wire.Parcel, *, brief: bool) -> None:
        """Opens a job, and says so unless the results of a brief task soon will."""
        self._work, self._items = None, 0
        began_s = time.monotonic()
        try:
            world, job = wire.loads(message)
            context = enter(world, lambda kind, value: self._tell(Head(kind, head.job), value))
            self._work = Work(head.job, job, context)
            flush_streams()
        except BaseException as error:
            flush_streams()
            self._send(Head(wire.REFUSED, head.job), _frozen(error))
            return
        if not brief:
            self._send(Head(wire.READY, head.job, wall_s=time.monotonic() - began_s), None)

    def _open_lane(self, head: Head, message: wire.Parcel) -> None:
        """Has another thread serve tasks of the same job, at a socket and a cell of its own."""
        work = self._work
        try:
            if work is None or work.number != head.job:
                raise RuntimeError("there is no such job")
            _thread.start_new_thread(lane, (message.fd, message.cell_fd, work.twin()))
        except RuntimeError:  # nor could the system have no more threads for us
            message.close()
            self._send(Head(wire.NARROW, head.job, head.start), None)

    def _run_task(self, work: Work, head: Head, message: wire.Parcel) -> None:
        cell = self._cell
        if work.timed:
            cell.seconds[SINCE] = time.monotonic()
        cell.numbers[INDEX] = LOADING
        work.run(lambda message: self._load_and_run(work, head, message), message)
        cell.numbers[INDEX] = IDLE

    def _load_and_run(self, work: Work, head: Head, message: wire.Parcel) -> None:
        body, buffers = wire.content(message)
        try:
            items = pickle.loads(body, buffers=buffers)
        except BaseException as error:
            from autopar._transport import guilty, salvage

            flush_streams()
            what = (guilty.ARGUMENT, head.start, head.size)
            refusal = salvage.first_refusal(*what, body, buffers, error)
            self._send(Head(wire.REFUSED, head.job, head.start, head.size), _frozen(refusal))
        else:
            task = Task(self._sock, self._cell, self._queue, head, work)
            if work.most_items is None:
                task.run(items)
            else:
                self._items += task.run_some(items, work.most_items - self._items)

    def _may_stay(self, work: Work) -> bool:
        """Whether this worker may go on; one that has done or holds too much says that it leaves."""
        heavy = work.memory_bytes is not None and _held_bytes() > work.memory_bytes
        if not heavy and (work.most_items is None or self._items < work.most_items):
            return True
        self._send(Head(wire.LEAVING, work.number), None)
        return False

    def _send(self, head: Head, value: Any) -> None:
        wire.send_and_close(self._sock, wire.parcel(head, value))

    def _tell(self, head: Head, value: Any) -> None:
        """Sends what was printed, logged or warned of."""
        wire.send_and_close(self._sock, wire.plain(head, value))


class Task:
    """One run through the items of a task."""

    def __init__(
        self, sock: _socket.socket, cell: Cell, queue: Queue, head: Head, work: Work
    ) -> None:
        self._sock, self._cell, self._head, self._work = sock, cell, head, work
        self._queue = queue
        self._at = self._sent = head.start
        self._values: list[Any] = []
        self._began_s = time.monotonic()
        self._began_cpu_s = time.thread_time()
        self._queued_s = queue.seconds()
        self._until_s = self._began_s + max(PATIENCE_S, PATIENCE * head.wall_s)
        cell.clear(head.start)
        cell.numbers[TRIES] = head.tries

    def run_some(self, items: list[Any], most: int) -> int:
        """Evaluates the first `most` items, and gives the others back; how many were evaluated."""
        size = self._head.size
        if size > most:
            self._head.size = most
        self.run(items[:most])
        if size > most:
            self._at = self._head.start + most
            self._rest(self._head.start + size)
        return min(size, most)

    def run(self, items: list[Any]) -> None:
        """Evaluates the items one after another."""
        numbers, seconds, save = self._cell.numbers, self._cell.seconds, self._cell.save
        work, keep, clock = self._work, self._values.append, time.monotonic
        fn = work.fn if work.retries is None else self._persist
        timed, at = work.timed, self._at
        last = self._last = self._head.start + self._head.size - 1
        now_s = self._began_s
        flush_s = now_s + FLUSH_S
        for item in items:
            if timed:
                seconds[SINCE] = now_s
            numbers[INDEX] = at
            try:
                value = fn(item)
            except BaseException as error:
                self._at = at
                if self._failed(error, last + 1):
                    return
                at += 1
                now_s = clock()
                continue
            keep(value)
            now_s = clock()
            if at < last and (now_s >= flush_s or not save(value)):
                self._at = at + 1
                self._flush()
                now_s = clock()
                flush_s = now_s + FLUSH_S
                if self._stops(now_s):
                    flush_streams()
                    self._rest(last + 1)
                    return
            at += 1
        flush_streams()  # before the results: with the last of them the call may be over
        self._flush(last=True)

    def _stops(self, now_s: float) -> bool:
        """Whether the rest of the task is given back: it runs long, or the worker has grown."""
        most = self._work.memory_bytes
        return now_s > self._until_s or (most is not None and _held_bytes() > most)

    def _persist(self, item: Any) -> Any:
        """`fn(item)`, tried again when it fails; here, or where it has been tried before."""
        work, numbers = self._work, self._cell.numbers
        assert work.retries is not None
        try:
            while True:
                if numbers[TRIES]:
                    self._pause(pause_s(work.retries, numbers[TRIES]))
                try:
                    return work.fn(item)
                except Exception as error:
                    numbers[TRIES] = tries = numbers[TRIES] + 1
                    if not may_try_again(work.retries, tries, error):
                        note_tries(error, tries)
                        raise
                    if work.retries.waits and numbers[INDEX] < self._last:
                        raise _Later(tries) from None  # nothing else of the task is to wait for it
        finally:
            numbers[TRIES] = 0

    def _pause(self, wait_s: float) -> None:
        """Waits before another try; none of it counts as the item's time.

        Raises: InterruptedError when an item before this one has failed for good.
        """
        numbers, seconds = self._cell.numbers, self._cell.seconds
        if wait_s:
            flush_streams()
            self._flush()
        began_s = time.monotonic()
        seconds[SINCE] = until_s = began_s + wait_s
        while (left_s := until_s - time.monotonic()) > 0:
            if numbers[INDEX] >= numbers[LIMIT]:
                raise InterruptedError("another try is not wanted any more")
            time.sleep(min(left_s, PAUSE_S))
        seconds[SINCE] = ended_s = time.monotonic()
        self._began_s += ended_s - began_s

    def _failed(self, error: BaseException, end: int) -> bool:
        """Sends an exception of `fn`; true when the rest of the task must not run."""
        flush_streams()
        self._flush()
        if type(error) is _Later:
            self._rest(end, error.tries)
            return True
        self._send(Head(wire.FAILURE, self._head.job, self._at, 1), _frozen(error))
        self._at += 1
        self._sent = self._at
        self._cell.clear(self._sent)
        stop = not self._work.keep_errors or not isinstance(error, Exception | SystemExit)
        if stop and self._at < end:
            self._rest(end)
        return stop

    def _rest(self, end: int, tries: int = 0) -> None:
        head = Head(wire.REST, self._head.job, self._at, end - self._at, tries=tries)
        self._send(head, None)

    def _flush(self, *, last: bool = False) -> None:
        """Sends the results that have not been sent; last: the task is over."""
        count = len(self._values)
        if not count:
            return
        now_s, now_cpu_s = time.monotonic(), time.thread_time()
        # The queue for a CPU is left out, or items that compute would seem to wait on a busy machine.
        cpu_s = now_cpu_s - self._began_cpu_s
        queued_s = self._queue.seconds() - self._queued_s
        spent = max(cpu_s, now_s - self._began_s - queued_s), cpu_s
        head = Head(wire.RESULT, self._head.job, self._sent, count, *spent)
        try:
            message = wire.parcel(head, self._values)
        except Exception:
            self._flush_singly()
        else:
            wire.send_and_close(self._sock, message)
        self._sent += count
        self._cell.clear(self._sent)
        self._values.clear()
        self._cell.numbers[MEMORY] = _most_bytes()
        if last:
            return  # there is nothing more to take the time of
        self._began_s, self._began_cpu_s = time.monotonic(), time.thread_time()
        self._queued_s = self._queue.seconds()

    def _flush_singly(self) -> None:
        """Sends each result on its own, to find the one that does not travel."""
        from autopar._transport import guilty

        for index, value in enumerate(self._values, self._sent):
            try:
                message = wire.parcel(Head(wire.RESULT, self._head.job, index, 1), [value])
            except Exception as error:
                refused = guilty.refusal(guilty.RESULT, index, value, error)
                failure = Head(wire.FAILURE, self._head.job, index, 1)
                message = wire.parcel(failure, _frozen(refused))
            wire.send_and_close(self._sock, message)

    def _send(self, head: Head, value: Any) -> None:
        wire.send_and_close(self._sock, wire.parcel(head, value))


class _Later(Exception):
    """An item is to be tried again after a wait, alone."""

    def __init__(self, tries: int) -> None:
        super().__init__(tries)
        self.tries = tries


def _silenced(fn: Callable[[Any], Any]) -> Callable[[Any], None]:
    """The function, and nothing of what it returns."""

    def silenced(item: Any) -> None:
        fn(item)

    return silenced


def _opened(job: wire.Sealed) -> Any:
    """The function and what goes with it."""
    try:
        return job.open()
    except BaseException as error:
        from autopar._transport import salvage

        raise salvage.job_refusal(job.body, job.aside, error) from error


def _frozen(error: BaseException) -> bytes:
    from autopar._transport.failures import freeze  # most workers never need it

    return freeze(error, wire.dumps)


class Queue:
    """How long a thread has stood in the queue for a CPU; made by the thread itself.

    counts: whether it is looked at; not in a lane, where each look is a turn in the queue for the
        GIL, and items are known to wait.
    """

    def __init__(self, *, counts: bool = True) -> None:
        self._fd = -1
        if not counts:
            return
        try:
            self._fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            pass

    def seconds(self) -> float:
        """Seconds so far; 0 where the system does not count."""
        if self._fd < 0:
            return 0.0
        try:
            return int(os.pread(self._fd, 100, 0).split()[1]) * 1e-9
        except (OSError, IndexError, ValueError):  # an item may have closed what is not its own
            return 0.0

    def close(self) -> None:
        """Gives the file back."""
        if self._fd >= 0:
            os.close(self._fd)


def _held_bytes() -> int:
    """Memory this process holds now; where the system does not say, the most it has held."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return _most_bytes()


def _most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
