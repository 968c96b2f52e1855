"""One call from beginning to end, on the caller's side.

The caller's thread runs items, reads the iterable, and waits. Everything else, watching, deciding
and conducting a crew, is done by the director, a thread of its own (which costs 10 us to start),
so that a long item in the caller's thread holds nothing up.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Iterable
from typing import Any

from .._errors import AutoparError
from .._model import Job, Options, Plan
from .._observe import effects
from .._observe.watch import Progress, Subject
from .._report.report import Report, observer
from ..backends.chunk import Failure
from ..backends.serial import Caller
from ..backends.threads import run_in_thread
from .desk import Desk, now_s
from .director import Director
from .source import Source

READ_AHEAD = 32  # items read of an iterator before more workers than the caller are there
ALONE = Plan("serial", 1, "there is at most one item", {})


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
        self.desk = Desk(self.source, options.chunksize)
        self.caller = Caller(job, self.desk, self._read)
        self.works = True
        self.away = False
        self.plans: list[Plan] = []
        self.subject: Subject | None = None
        self.snapshot: effects.Snapshot | None = None
        self.finished = threading.Lock()
        self.finished.acquire()

    # the whole way

    def run(self) -> list[Any]:
        """The results, in item order; raises what the loop would have raised."""
        if self.options.backend == "serial" or self.source.unread in (0, 1):
            self._run_alone()
        else:
            self._run_directed(Director(self))
        self._report()
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
        try:
            _thread.start_new_thread(director.run, ())
        except RuntimeError:  # the interpreter is ending: no more threads
            self._run_undirected()
            return
        try:
            self._serve()
        except BaseException as error:
            self.desk.abort(error)
            raise
        finally:
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

    def _may_work(self) -> bool:
        return self.works and not self.caller.retired

    def work_away(self) -> None:
        """Runs items in a thread of its own, where they cannot hold up the calling thread."""
        self.away = True
        begun = threading.Lock()
        begun.acquire()

        def work() -> None:
            self.subject = Subject()
            begun.release()
            try:
                while not self.desk.over:
                    self.caller.work()
                    self.desk.wait_for_stand_in(lambda: not self.caller.retired)
            except BaseException as error:
                self.desk.abort(error)

        run_in_thread(work)
        begun.acquire()

    def _read(self, count: int) -> None:
        """Reads what the caller's thread draws next, and something for others to begin with."""
        if not self.source.ended and not self.away:
            ahead = min(READ_AHEAD, 4 * self.desk.done)
            self.source.read(max(count, ahead) - self.source.ready)

    def progress(self) -> Progress:
        """How far the call has come."""
        desk = self.desk
        return Progress(desk.done, desk.busy_s, self.caller.first_s, desk.longest_s)

    # what came of it

    def _outcome(self) -> list[Any]:
        desk = self.desk
        if desk.aborted is not None:
            raise desk.aborted
        if desk.errors:
            index = min(desk.errors)
            raise _named(desk.errors[index], index, self)
        results = desk.results()
        if self.source.error is not None:
            raise self.source.error
        if self.job.keep_errors:
            return self._kept(results)
        return results

    def _kept(self, results: list[Any]) -> list[Any]:
        """Results with the exceptions in their places, or one group of these."""
        failures = []
        for index, value in enumerate(results):
            if type(value) is Failure:
                results[index] = error = _named(value.error, index, self)
                failures.append(error)
        if failures and self.options.errors == "group":
            count = f"{len(failures)} of {len(results)} items failed"
            raise ExceptionGroup(
                count, [error for error in failures if isinstance(error, Exception)]
            )
        return results

    def _report(self) -> None:
        seen_by = observer()
        if seen_by is not None:
            seen_by.note(
                Report(
                    name_of(self.job.fn),
                    self.options.kind,
                    self.desk.done + len(self.desk.errors),
                    self.caller.items,
                    now_s() - self.began_s,
                    tuple(self.plans) or (_QUICK,),
                )
            )


_QUICK = Plan("serial", 1, "the items were done before there was anything to decide", {})


def _named(error: BaseException, index: int, call: Call) -> BaseException:
    """The exception, with a note that names its item."""
    if isinstance(error, AutoparError):
        return error
    item = call.source.shown(index)
    error.add_note(f"autopar: raised by {name_of(call.job.fn)}() for item {index}{item}")
    return error


def name_of(fn: Any) -> str:
    """The name of a callable, for people."""
    name = getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None)
    inner = getattr(fn, "func", None)
    if name is None and inner is not None:
        return name_of(inner)
    return str(name or type(fn).__qualname__).replace("<locals>.", "")
