"""One call from beginning to end, on the caller's side.

The caller's thread runs items, reads the iterable, and waits. Everything else, watching, deciding
and conducting a crew, is done by the director, a thread of its own (which costs 10 us to start),
so that a long item in the caller's thread holds nothing up.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from .. import backends
from .._errors import AutoparError, WorkerCrashed
from .._model import Job, Options, Plan
from .._observe import effects
from .._observe.watch import Progress, Subject
from .._report.report import Report, observer
from ..backends.chunk import Failure
from ..backends.serial import Caller, GivenUp
from .desk import SIGNALS_S, Desk, now_s
from .director import Director
from .knowledge import isolates
from .source import Source

READ_AHEAD = 32  # items read of an iterator before more workers than the caller are there
ALONE = Plan("serial", 1, "there is at most one item", {})


class Late(NamedTuple):
    """Items that were given up.

    own: one was the item of the thread that runs items in the caller's stead. others: how many
    were those of a crew's threads.
    """

    own: bool
    others: int


class Call:
    """The state of one call that the caller's thread and the director share.

    works: the calling thread runs items (else it only reads the iterable, and waits).
    away: a thread of its own runs items in the calling thread's stead.
    finished: released when the caller's thread is done, to wake the director.
    """

    def __init__(self, job: Job, items: Iterable[Any], options: Options, executor: Any) -> None:
        self.began_s = now_s()
        self.job, self.options, self.executor = job, options, executor
        self.source = Source(items)
        self.desk = Desk(
            self.source,
            options.chunksize,
            retries=job.retries,
            timeout_s=job.timeout_s,
            keep_errors=job.keep_errors,
            silent=job.silent,
        )
        self.caller = Caller(job, self.desk, _reader(self.source, self.desk))
        self.works = True
        self.away = False
        self.plans: list[Plan] = []
        self.subject: Subject | None = None
        self.snapshot: effects.Snapshot | None = None
        self.finished = threading.Lock()
        self.finished.acquire()
        self._roused = threading.Lock()
        self._roused.acquire()
        self._context = contextvars.copy_context()

    # the whole way

    def run(self) -> list[Any]:
        """The results, in item order; raises what the loop would have raised."""
        left = self.source.unread
        alone = left == 0 or (left == 1 and not isolates(self))
        if self.options.backend == "serial" or alone:
            self._run_alone()
        else:
            self._run_directed(Director(self))
        seen_by = observer()
        if seen_by is not None:
            seen_by.note(self.report())
        return self._outcome()

    def probe(self) -> Plan:
        """The plan the first items lead to; the other items are not run."""
        self.options = self.options._replace(errors="raise")  # the probe is the calling thread's
        director = Director(self, only_plan=True)
        given = director.knowledge.given_plan()
        if given is not None:
            return given
        if self.source.unread not in (0, 1):
            self._run_directed(director)
        if self.plans:
            return self.plans[0]
        return _QUICK

    def _run_alone(self) -> None:
        reason = "the caller chose serial" if self.options.backend else ALONE.because
        self.plans.append(ALONE._replace(because=reason))
        self._serve()

    def _run_undirected(self) -> None:
        self.plans.append(ALONE._replace(because="the interpreter starts no more threads"))
        self.works = True
        self._serve()

    def _run_directed(self, director: Director) -> None:
        self.works = not director.knowledge.isolated
        if self.works:
            self.subject = Subject()
            self.snapshot = effects.watch(self.job.fn, self.source.first())
        self.desk.courtesy.leave()
        try:  # from here on: a Ctrl-C right behind its start must end the director, too
            try:
                director.start(self._context.copy())
            except RuntimeError:  # the interpreter is ending: no more threads
                self.desk.courtesy.be_back()
                self._run_undirected()
                return
            if not self.works and self.source.ended:
                self._rest()
            self._serve()
        except BaseException as error:
            self.desk.abort(error)
            self._see_out(director)
            self.desk.aborted = None  # see `_outcome`
            raise
        self._see_out(director)

    def _see_out(self, director: Director) -> None:
        self.finished.release()
        director.wait()

    def _serve(self) -> None:
        """The caller's thread's part: run items, read on, wait."""
        desk = self.desk
        while not desk.over:
            if self.works:
                self.caller.work()
            desk.wait_for_caller(self._may_work)
            if desk.hungry():
                self.source.read(max(1, desk.ahead - self.source.ready))
                desk.feed()

    def _rest(self) -> None:
        """The caller's thread's part where it has none: waits until the director has ended.

        The desk would wake it when all is done, and the director again when the crew is let go.
        """
        while not self._roused.acquire(timeout=SIGNALS_S):
            pass

    def rouse(self) -> None:
        """Has a caller's thread that rests look at the desk; to be called more than once."""
        try:
            self._roused.release()
        except RuntimeError:  # it has been released before
            pass

    def _may_work(self) -> bool:
        return self.works and not self.caller.retired

    def work_away(self) -> None:
        """Runs items in a thread of its own, where they cannot hold up the calling thread."""
        self.away = True
        self.caller.read = _read_nothing
        self.rouse()  # its director does not hear of the end by itself
        begun = threading.Lock()
        begun.acquire()

        def work() -> None:
            self.subject = Subject()
            begun.release()
            try:
                while not self.desk.over:
                    self.caller.work()
                    self.desk.wait_for_stand_in(lambda: not self.caller.retired)
            except GivenUp:
                pass
            except BaseException as error:
                self.desk.abort(error)

        context = self._context.copy()
        backends.backend("threads").run(lambda: context.run(work))
        begun.acquire()

    def give_up_late(self) -> Late:
        """Gives up the items that have run past their time in threads."""
        late = self.desk.give_up_late()
        own = self.caller.chunk in late
        if own and not self.desk.over:
            self.work_away()
        return Late(own, len(late) - own)

    def progress(self) -> Progress:
        """How far the call has come."""
        desk = self.desk
        return Progress(desk.done, desk.busy_s, self.caller.first_s, desk.longest_s)

    # what came of it

    def _outcome(self) -> list[Any]:
        error = self._error()
        if error is None:
            if self.job.silent:
                return self._grouped(self.desk.failures())
            results = self.desk.results()
            return self._kept(results) if self.job.keep_errors else results
        try:
            raise error
        finally:
            # Its traceback leads to this frame and the call, and neither may lead back: what they
            # hold would only go when the garbage is collected.
            del error

    def _error(self) -> BaseException | None:
        """What the call is to raise; it is not kept."""
        desk, source = self.desk, self.source
        aborted, desk.aborted = desk.aborted, None
        errors, desk.errors = desk.errors, {}
        unread, source.error = source.error, None
        if errors and aborted is None:
            index = min(errors)
            return _named(errors[index], index, self)
        return unread if aborted is None else aborted

    def _kept(self, results: list[Any]) -> list[Any]:
        """Results with the exceptions in their places, or one group of these."""
        failures = []
        for index, value in enumerate(results):
            if type(value) is Failure:
                results[index] = error = _named(_as_crash(value.error, index), index, self)
                failures.append(error)
        if failures and self.options.errors == "group":
            raise group_of(failures, len(results))
        return results

    def _grouped(self, failures: list[tuple[int, BaseException]]) -> list[Any]:
        """No results; raises the exceptions of items that were all run, as one group."""
        errors = [_named(_as_crash(error, index), index, self) for index, error in failures]
        if errors:
            raise group_of(errors, self.desk.done)
        return []

    def report(self) -> Report:
        """What there is to tell of it, also before its end."""
        return Report(
            name_of(self.job.fn),
            self.options.kind,
            self.desk.done + len(self.desk.errors),
            self.caller.items,
            now_s() - self.began_s,
            tuple(self.plans) or (_QUICK if self.desk.over else _UNDECIDED,),
        )


def _reader(source: Source, desk: Desk) -> Callable[[int], None]:
    """What reads for the caller's thread; it does not hold the call, which holds it."""

    def read(count: int) -> None:
        """Reads what the thread draws next, and something for others to begin with."""
        if not source.ended:
            ahead = min(READ_AHEAD, 4 * desk.done)
            source.read(max(count, ahead) - source.ready)

    return read


def _read_nothing(_count: int) -> None:
    """An iterator is read by the calling thread, and no other."""


_QUICK = Plan("serial", 1, "the items were done before there was anything to decide", {})
_UNDECIDED = Plan("serial", 1, "nothing is decided before the first items have been watched", {})


def _named(error: BaseException, index: int, call: Call) -> BaseException:
    """The exception, with a note that names its item."""
    if isinstance(error, AutoparError):
        return error
    item = call.source.shown(index)
    error.add_note(f"autopar: raised by {name_of(call.job.fn)}() for item {index}{item}")
    return error


def _as_crash(error: BaseException, index: int) -> BaseException:
    """An item that asked its worker to exit, where exceptions are kept: it ended its worker."""
    if not isinstance(error, SystemExit):
        return error
    code = error.code if isinstance(error.code, int) else int(error.code is not None)
    crash = WorkerCrashed(index, code)
    crash.__cause__ = error
    return crash


def group_of(failures: Sequence[BaseException], items: int) -> ExceptionGroup[Exception]:
    """What `errors="group"` raises for the failures among so many items."""
    return ExceptionGroup(
        f"{len(failures)} of {items} items failed",
        [error for error in failures if isinstance(error, Exception)],
    )


def name_of(fn: Any) -> str:
    """The name of a callable, for people."""
    name = getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None)
    inner = getattr(fn, "func", None)
    if name is None and inner is not None:
        return name_of(inner)
    return str(name or type(fn).__qualname__).replace("<locals>.", "")
