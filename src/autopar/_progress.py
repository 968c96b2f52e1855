"""Having it shown how far a map has come.

While the calling thread runs items, a thread of its own looks at the ledger ten times a second, and
has what it sees shown (`shown`). Results that are taken one by one are counted when the next is
asked for, in the thread that asks (`counted`).

Guarantees: a display is used by one thread at a time; what it raises ends the map.
"""

from __future__ import annotations

import contextvars
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from . import backends
from ._displays import EVERY_S, Display, Stand, display
from ._engine.desk import SIGNALS_S
from ._report.report import Report

if TYPE_CHECKING:
    from ._engine.call import Call

R = TypeVar("R")

MOST_UNSEEN = 32  # brief results between two looks at the clock


class Followed(NamedTuple):
    """A map whose progress is shown by a thread of its own.

    stand: tells how many items are done, and how many there are or None. report: makes the report
    so far. abort: ends it with an error, from any thread.
    """

    stand: Callable[[], tuple[int, int | None]]
    report: Callable[[], Report]
    abort: Callable[[BaseException], object]


def shown(progress: Any, call: Call, run: Callable[[], R]) -> R:
    """What `run` gives, with what the call has done meanwhile shown by a thread of its own.

    The beginning and the end are shown by the calling thread.
    """
    watch = Watch(display(progress), Followed(call.desk.stand, call.report, call.desk.abort))
    try:
        watch.begin()
        result = run()
    except BaseException as error:
        watch.end(error)
        raise
    watch.end(None)
    return result


class Watch:
    """Has a display follow one map."""

    def __init__(self, display: Display, followed: Followed) -> None:
        self._display, self._followed = display, followed
        self._done = 0
        self._error: BaseException | None = None
        self._over, self._ended = threading.Lock(), threading.Lock()
        self._over.acquire()
        self._ended.acquire()
        self._watching = False

    def begin(self) -> None:
        """Shows that nothing is done yet, and begins to watch."""
        stand = self._stand()
        self._display.begin(stand.report().function, stand.total)
        context = contextvars.copy_context()
        try:
            backends.backend("threads").run(lambda: context.run(self._follow))
        except RuntimeError:  # the interpreter is ending: no more threads
            pass

    def _follow(self) -> None:
        self._watching = True  # if it is late, all is over, and it shows nothing
        try:
            while not self._over.acquire(timeout=EVERY_S):
                self._display.update(self._stand())
        except BaseException as error:
            self._error = error
            self._followed.abort(error)
        finally:
            self._ended.release()

    def end(self, failed: BaseException | None) -> None:
        """Shows what is done. Raises: what the display has raised, if the call has not failed."""
        self._over.release()
        try:
            while self._watching and not self._ended.acquire(timeout=SIGNALS_S):
                pass
        finally:
            error, self._error = self._error, None
            self._show(failed or error)
        if error is None or error is failed:
            return
        if failed is not None:  # what happened first, as a loop would have it
            failed.add_note(f"autopar: what progress= says raised, too: {error!r}")
            return
        try:
            raise error
        finally:
            del error  # its traceback leads to this frame

    def _show(self, failed: BaseException | None) -> None:
        done, total, report = self._stand()
        # A group of exceptions comes when all items are done.
        complete = failed is None or (isinstance(failed, BaseExceptionGroup) and done == total)
        if complete:
            done = total = done if total is None else total
        try:
            self._display.end(Stand(done, total, report), complete)
        except Exception as error:
            if failed is None:
                raise
            failed.add_note(f"autopar: what progress= says raised, too: {error!r}")

    def _stand(self) -> Stand:
        done, total = self._followed.stand()
        self._done = max(done, self._done)  # results may be lost with the item that fails
        return Stand(self._done, total, self._followed.report)


def counted(
    results: Iterator[R], display: Display, total: int | None, report: Callable[[], Report]
) -> Iterator[R]:
    """The results, with how many were taken shown; they are closed with this iterator.

    The clock is looked at once for many results that come quickly.
    """
    done, stride, complete = 0, 1, False
    shown_s = looked_s = time.perf_counter()
    try:
        display.begin(report().function, total)
        while not complete:
            before = done
            for result in itertools.islice(results, stride):
                done += 1
                yield result
            complete = done - before < stride
            now_s = time.perf_counter()
            if now_s - shown_s >= EVERY_S and not complete:
                shown_s = now_s
                display.update(Stand(done, total, report))
            took_s, looked_s = now_s - looked_s, now_s
            stride = min(2 * stride, MOST_UNSEEN) if took_s < EVERY_S / MOST_UNSEEN else 1
    finally:
        getattr(results, "close", _nothing)()
        if not sys.is_finalizing():
            display.end(Stand(done, done if complete else total, report), complete)


class Taken:
    """Shows how many results of an asynchronous map were taken."""

    def __init__(self, display: Display, total: int | None, report: Callable[[], Report]) -> None:
        self._display, self._total, self._report = display, total, report
        self._done, self._shown_s = 0, time.perf_counter()
        display.begin(report().function, total)

    def one(self) -> None:
        """Another one was."""
        self._done += 1
        now_s = time.perf_counter()
        if now_s - self._shown_s >= EVERY_S:
            self._shown_s = now_s
            self._display.update(Stand(self._done, self._total, self._report))

    def end(self, *, complete: bool) -> None:
        """There are no more, or nobody takes them."""
        total = self._done if complete else self._total
        self._display.end(Stand(self._done, total, self._report), complete)


def _nothing() -> None:
    """Some iterators cannot be closed."""
