"""Reads an iterable in a thread of its own, as far ahead as there is use for results."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from ._engine.accounts import Task
from ._engine.desk import SIGNALS_S
from ._engine.dispatch import Dispatch
from ._engine.inbox import Entry
from ._pending import Part, ResultIterator


class Feeder:
    """Has `func(item)` done for each item, and the results put where they are taken from.

    ahead: tells how many items are read beyond the results that were taken.
    paused: it was, and there may be more to read.

    Guarantees: it reads no more once nobody can take results any more, and closes the iterator
    then; it does not keep the results alive.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        func: Callable[[Any], Any],
        items: Iterator[Any],
        results: ResultIterator[Any],
        ahead: Callable[[], int],
    ) -> None:
        self._dispatch, self._func, self._items = dispatch, func, items
        self._account = dispatch.account(func)
        self._results = weakref.ref(results)
        self._moved = results.moved
        self._ahead = ahead
        self._stopped = False
        self.paused = False

    def pause(self) -> None:
        """Has it read no more; the iterator can be read on when all results have been taken."""
        self.paused = True

    def stop(self) -> None:
        """Has it read no more."""
        self._stopped = True
        if not self._dispatch.foreign:
            with self._moved:
                self._moved.notify_all()

    def run(self) -> None:
        """The whole of it, in a thread of its own."""
        try:
            self._feed()
        finally:
            self._dispatch.release()

    def _feed(self) -> None:
        index, ended = 0, False
        failed: BaseException | None = None
        while self._may_read(index):
            try:
                item = next(self._items)
            except StopIteration:
                ended = True
                break
            except BaseException as error:
                failed = error
                break
            try:
                if not self._put(index, item):
                    failed = self._dispatch.broken
                    break
            except BaseException as error:  # no thread can be started, or the item defies a look
                failed = error
                break
            index += 1
        self.paused = self.paused and not (self._stopped or failed or ended)
        if self._stopped:
            close(self._items)
        results = self._results()
        if results is not None:
            results.end(index, failed)

    def _put(self, index: int, item: Any) -> bool:
        results = self._results()
        if results is None:
            return False
        task: Task = (self._func, (item,), {})
        return self._dispatch.put([Entry(Part(results, index), task, None, self._account)])

    def _may_read(self, index: int) -> bool:
        """Waits until there is use for one more; False when there will be none."""
        while not (self._stopped or self.paused):
            results = self._results()
            if results is None:
                self._stopped = True
                return False
            with self._moved:
                if index - results.taken < self._ahead():
                    return True
                del results
                self._moved.wait(SIGNALS_S)
        return False


def close(items: Iterator[Any]) -> None:
    """Closes a generator, and whatever else can be closed as one."""
    closing = getattr(items, "close", None)
    if closing is not None:
        closing()
