"""Results one after another, as they are asked for.

The first items run in the thread that asks, as `map` would run them, and are looked at only as far
as that costs little. When they have turned out to wait, or to compute so long that processes are
quicker, a thread of its own begins to read the iterable ahead, and workers to run it; when items
have become so brief that to hand them over is most of the work, the thread that asks goes on.
Where faults matter workers run all of them, in processes if that changes nothing but the place.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from . import backends
from ._course import Course
from ._engine import budget
from ._engine.call import name_of
from ._engine.dispatch import Dispatch
from ._engine.source import length_of
from ._errors import AutoparError
from ._feeder import Feeder, close
from ._model import Job, Kind
from ._options import Chosen
from ._pending import ResultIterator
from ._report.report import Observer, observer

BRIEF_S = 0.2e-3  # from one item to the next; those that take less are not looked at one by one
MOST_UNSEEN = 31  # brief items between two looks
AHEAD = 2  # items read for each worker, beyond the results that were taken...
LEAST_AHEAD = 4  # ...and at least
TRIFLE_S = 20e-6  # items that take less are not worth the way to a worker...
JUDGED = 256  # ...when so many have shown that


class Request(NamedTuple):
    """What the caller asked for.

    alone: items may run in the calling thread. ordered: results come as items do.
    ahead: items read beyond the results that were taken, or None. keep_errors: an exception comes
    in its item's place, and is not raised; then nothing runs in the calling thread.
    """

    job: Job
    alone: bool
    ordered: bool
    ahead: int | None
    keep_errors: bool


class Leash:
    """Ends results from a thread other than the one that takes them."""

    def __init__(self) -> None:
        self._cut: AutoparError | None = None
        self._dispatch: Dispatch | None = None
        self._taken: ResultIterator[Any] | None = None

    def tie(self, dispatch: Dispatch, taken: ResultIterator[Any] | None = None) -> None:
        """What is to be ended."""
        self._dispatch, self._taken = dispatch, taken
        if self._cut is not None:
            self.cut(self._cut)

    def cut(self, error: AutoparError) -> None:
        """Ends workers; who waits for a result gets the error instead."""
        self._cut = error
        if self._dispatch is not None:
            self._dispatch.kill(error)
        if self._taken is not None:
            self._taken.end(0, error)


def results(
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    chosen: Chosen,
    ordered: bool,
    ahead: int | None,
    leash: Leash | None = None,
    total: int | None = None,
) -> Iterator[Any]:
    """What `fn` gives for each item; workers end, and `items` is closed, when nobody takes more.

    total: how many there will be, where `items` does not tell.
    """
    total = total or length_of(items)
    if chosen.seed is not None:
        from ._seeds import Seeded, numbered

        backends.backend("processes").check()
        fn, items = Seeded(fn, chosen.seed), numbered(items)
    job = Job(
        fn,
        chosen.initializer,
        chosen.initargs,
        retries=chosen.retries,
        timeout_s=chosen.timeout_s,
        memory_bytes=chosen.memory_bytes,
    )
    free = chosen.executor is None and chosen.seed is None
    here = free and chosen.kind == "auto" and chosen.backend in (None, "serial")
    alone = here and not chosen.faults_matter and chosen.initializer is None
    given: dict[str | None, Kind] = {"threads": "io", "processes": "cpu", "hybrid": "cpu"}
    kind = given.get(chosen.backend, chosen.kind) if free else "cpu"
    workers = 1 if chosen.backend == "serial" else chosen.workers
    means = "hybrid" if chosen.backend == "hybrid" else chosen.executor
    shared = alone and chosen.memory_bytes is None
    minds = chosen.timeout_s is not None or not budget.in_worker()
    careful = chosen.faults_matter and minds and kind == "auto" and chosen.backend is None
    dispatch = Dispatch(
        kind,
        workers,
        job,
        _broken,
        means=means,
        total=total,
        hybrid=shared,
        careful=careful,
    )
    request = Request(job, alone, ordered, ahead, chosen.errors == "return")
    leash = leash or Leash()
    leash.tie(dispatch)
    course = Course(fn, chosen, dispatch, alone)
    found = _results(fn, iter(items), request, dispatch, course, leash, observer())
    weakref.finalize(found, dispatch.kill, AutoparError("nobody takes results any more"))
    if chosen.progress is None:
        return found
    from ._displays import display
    from ._progress import counted

    return counted(found, display(chosen.progress), total, course.report)


def _results(
    fn: Callable[[Any], Any],
    items: Iterator[Any],
    request: Request,
    dispatch: Dispatch,
    course: Course,
    leash: Leash,
    seen_by: Observer | None,
) -> Iterator[Any]:
    ours = True  # whether `items` is read here, and closed here
    course.begin()
    try:
        while True:
            for value, unseen in _alone(fn, items, dispatch, course) if request.alone else ():
                yield value
                if unseen is None:
                    course.turn(alone=False)
                    break
                done = course.done
                try:
                    # Here: each generator that a result passes through costs as much again.
                    for item in islice(items, unseen):
                        try:
                            value = fn(item)
                        except Exception as error:
                            _note(error, fn, done)
                            raise
                        finally:
                            done += 1
                        yield value
                finally:
                    course.come(done)
            else:
                if request.alone:
                    return
            taken: ResultIterator[Any] = ResultIterator(ordered=request.ordered)
            leash.tie(dispatch, taken)
            feeder = _started(fn, items, taken, request, dispatch)
            ours = False
            ours = yield from _far(fn, feeder, taken, request, dispatch, course)
            if not ours:
                return
            course.turn(alone=True)
            dispatch.forget(fn)
    finally:
        # At the interpreter's end all has ended before, and threads stand still with their locks.
        if not sys.is_finalizing():
            if ours:
                close(items)
            dispatch.kill(AutoparError("nobody takes results any more"))
            if seen_by is not None:
                seen_by.note(course.report())


def _far(
    fn: Callable[[Any], Any],
    feeder: Feeder,
    taken: ResultIterator[Any],
    request: Request,
    dispatch: Dispatch,
    course: Course,
) -> Generator[Any, None, bool]:
    """What workers give, until items turn out to be trifles: whether there may be more of these."""
    first, done, look, pace = course.done, 0, JUDGED, dispatch.pace()
    more = False
    try:
        while (result := taken.take()) is not None:
            index, good, value = result
            done += 1
            course.done = first + done
            if not good:
                broken = dispatch.broken
                if broken is not None and value is broken:  # no item's
                    raise broken
                _note(value, fn, first + index)
                if not request.keep_errors or not isinstance(value, Exception):
                    raise value
            yield value
            if request.alone and done == look:
                look, now = look + JUDGED, dispatch.pace()
                if now[1] - pace[1] < TRIFLE_S * (now[0] - pace[0]):
                    feeder.pause()
                pace = now
        more = feeder.paused
        return more
    finally:
        if not (more or sys.is_finalizing()):
            feeder.stop()


def _alone(
    fn: Callable[[Any], Any], items: Iterator[Any], dispatch: Dispatch, course: Course
) -> Iterator[tuple[Any, int | None]]:
    """Runs items here, until workers would be worth while.

    Yields each result, with how many more items may be run here before the next is looked at: a
    look costs as much as several calls of the briefest functions. None when workers may have all.
    """
    unseen, began_s = 0, 0.0
    for item in items:
        now_s = time.perf_counter()
        watched = now_s - began_s > BRIEF_S * (1 + unseen)
        began_s = now_s
        try:
            value = dispatch.try_one(fn, item) if watched else fn(item)
        except Exception as error:
            _note(error, fn, course.done)
            raise
        finally:
            course.come(course.done + 1)
        if watched and dispatch.worth_while(fn):
            yield value, None
        unseen = 0 if watched else min(MOST_UNSEEN, 2 * unseen + 1)
        yield value, unseen


def _started(
    fn: Callable[[Any], Any],
    items: Iterator[Any],
    taken: ResultIterator[Any],
    request: Request,
    dispatch: Dispatch,
) -> Feeder:
    """What reads `items` from now on."""

    def ahead() -> int:
        return request.ahead or max(LEAST_AHEAD, AHEAD * dispatch.width)

    feeder = Feeder(dispatch, fn, items, taken, ahead)
    dispatch.hold()
    backends.backend("threads").run(feeder.run)
    return feeder


def _note(error: BaseException, fn: Callable[[Any], Any], index: int) -> None:
    """Notes on an exception which item raised it."""
    if not isinstance(error, AutoparError):
        error.add_note(f"autopar: raised by {name_of(fn)}() for item {index}")


def _broken(error: BaseException) -> BaseException:
    return error
