"""Maps of coroutine functions on the running loop: all results at once, or one after another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from ._coroutines import Awaiting
from ._engine.call import group_of, name_of
from ._feeder import close
from ._loops import running
from ._model import Job, Plan
from ._options import Chosen
from ._report.report import Report, observer

if TYPE_CHECKING:
    from ._progress import Taken

AHEAD = 2  # items begun for each that is awaited at once, beyond the results that were taken


def job_of(fn: Any, chosen: Chosen) -> Job:
    """What is done with every item."""
    keep_errors = chosen.errors != "raise"
    return Job(
        fn, chosen.initializer, chosen.initargs, keep_errors, chosen.retries, chosen.timeout_s
    )


def most_of(chosen: Chosen) -> int | None:
    """How many may be awaited at once, or None for as many as helps."""
    return 1 if chosen.backend == "serial" else chosen.workers


class Account:
    """What a call is going to be reported with."""

    def __init__(self, fn: Any, chosen: Chosen, *, here: bool = True) -> None:
        """here: whether the event loop is that of the calling thread."""
        self._name, self._kind, self._here = name_of(fn), chosen.kind, here
        self._seen_by = observer()
        self._began_s = time.perf_counter()
        self._awaiting: Awaiting | None = None

    def follow(self, awaiting: Awaiting) -> None:
        """It begins."""
        self._awaiting = awaiting

    def report(self) -> Report:
        """What there is to tell, also before the end."""
        awaiting, wall_s = self._awaiting, time.perf_counter() - self._began_s
        done, most, loop = 0, 1, "asyncio"
        if awaiting is not None:
            done, most, loop = awaiting.done, awaiting.most, awaiting.loop.name
        in_caller = done if self._here else 0
        return Report(self._name, self._kind, done, in_caller, wall_s, (plan_of(loop, most),))

    def close(self) -> None:
        """Tells whoever observes the call that it has ended."""
        if self._seen_by is not None:
            self._seen_by.note(self.report())


def plan_of(loop: str, most: int) -> Plan:
    """The plan of every map of a coroutine function."""
    return Plan(loop, max(1, most), "coroutines are awaited beside each other on an event loop", {})


async def all_of(fn: Any, items: Any, chosen: Chosen, *, silent: bool = False) -> list[Any]:
    """The results, in the order of the items; raises what the loop would have raised.

    silent: no results are kept.
    """
    results: dict[int, Any] = {}
    failures: dict[int, BaseException] = {}

    def tell(index: int, good: bool, value: Any) -> None:
        if not silent:
            results[index] = value
        if not good:
            failures[index] = value

    account = Account(fn, chosen)
    awaiting = Awaiting(job_of(fn, chosen), items, most_of(chosen), tell)
    account.follow(awaiting)
    try:
        await _run_shown(awaiting, account, chosen.progress)
    finally:
        account.close()
    error = _error_of(failures, awaiting.done, chosen)
    if error is None:
        return [results[index] for index in range(len(results))]
    results.clear()
    failures.clear()
    try:
        raise error
    finally:
        del error  # its traceback leads here


async def _run_shown(awaiting: Awaiting, account: Account, progress: Any) -> None:
    """Runs it, with its progress shown if that is wanted."""
    if progress is None:
        await awaiting.run()
        return
    from ._displays import display
    from ._progress import Followed, Watch

    followed = Followed(
        lambda: (awaiting.done, awaiting.total), account.report, awaiting.abort_from_thread
    )
    watch = Watch(display(progress), followed)
    try:
        watch.begin()
        await awaiting.run()
    except BaseException as error:
        watch.end(error)
        raise
    watch.end(None)


def _error_of(
    failures: dict[int, BaseException], items: int, chosen: Chosen
) -> BaseException | None:
    """What is to be raised, if anything is."""
    ending = [
        index
        for index, error in failures.items()
        if chosen.errors == "raise" or not isinstance(error, Exception)
    ]
    if ending:
        return failures[min(ending)]
    if failures and chosen.errors == "group":
        return group_of([failures[index] for index in sorted(failures)], items)
    return None


async def each_of(
    fn: Any, items: Any, chosen: Chosen, ordered: bool, ahead: int | None, total: int | None
) -> AsyncGenerator[Any]:
    """The results one after another; `items` is closed when nobody takes more.

    total: how many there will be, where that is known.
    """
    results = _Results(running().signal(), ordered)
    awaiting = Awaiting(
        job_of(fn, chosen),
        items,
        most_of(chosen),
        results.tell,
        lambda index: index < results.taken + (ahead or AHEAD * awaiting.width),
    )
    account = Account(fn, chosen)
    account.follow(awaiting)
    keep_errors = chosen.errors == "return"
    shown, complete = _count(account, total, chosen.progress), False

    async def run() -> None:
        try:
            await awaiting.run()
        except awaiting.loop.own:
            raise
        except BaseException as error:
            results.error = error
        finally:
            results.end()

    task = awaiting.loop.background(run)
    try:
        while (came := await results.next()) is not None:
            awaiting.wake()
            good, value = came
            if not good and not (keep_errors and isinstance(value, Exception)):
                raise value
            yield value
            if shown is not None:
                shown.one()
        complete = True
    finally:
        task.cancel()
        await task.wait()
        close(items)
        account.close()
        if shown is not None:
            shown.end(complete=complete)


def _count(account: Account, total: int | None, progress: Any) -> Taken | None:
    """What shows how many results were taken, if that is wanted."""
    if progress is None:
        return None
    from ._displays import display
    from ._progress import Taken

    return Taken(display(progress), total, account.report)


class _Results:
    """Results on their way to whoever takes them.

    taken: how many were. error: what ended them, after the last.
    """

    def __init__(self, news: Any, ordered: bool) -> None:
        self.taken = 0
        self.error: BaseException | None = None
        self._news, self._ordered = news, ordered
        self._here: deque[tuple[bool, Any]] = deque()
        self._early: dict[int, tuple[bool, Any]] = {}
        self._next = 0
        self._over = False

    def tell(self, index: int, good: bool, value: Any) -> None:
        """An item's outcome."""
        if not self._ordered:
            self._here.append((good, value))
        else:
            self._early[index] = good, value
            while self._next in self._early:
                self._here.append(self._early.pop(self._next))
                self._next += 1
        if self._here:
            self._news.set()

    def end(self) -> None:
        """There are no more."""
        self._over = True
        self._news.set()

    async def next(self) -> tuple[bool, Any] | None:
        """Whether it is a result, and it or the exception; None at the end, or the error."""
        while not self._here:
            if self._over:
                error, self.error = self.error, None
                if error is None:
                    return None
                raise error
            await self._news.wait()
        self.taken += 1
        return self._here.popleft()
