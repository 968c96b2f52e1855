"""What shows how far a map has come: a bar, a line on the terminal, or what the caller brought."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ._report.report import COLUMNS, Report

EVERY_S = 0.1
A_MOMENT_S = 1e-9

Teller = Callable[[int, int | None, Report], object]


class Bar(Protocol):
    """One bar, such as a `tqdm`."""

    total: Any

    def update(self, n: Any = ..., /) -> Any:
        """Go on by so many."""
        ...

    def refresh(self) -> Any:
        """Show how it is now."""
        ...

    def close(self) -> Any:
        """Show it for the last time."""
        ...


class Bars(Protocol):
    """Several bars, such as a `rich.progress.Progress`."""

    def add_task(self, description: str, *, total: float | None = ...) -> Any:
        """Add a bar."""
        ...

    def update(
        self, task_id: Any, /, *, total: float | None = ..., completed: float | None = ...
    ) -> Any:
        """Say how far one has come."""
        ...


ProgressOption = bool | str | Teller | Bar | Bars


class Stand(NamedTuple):
    """How far a map has come.

    total: None where nobody knows, yet or any more. report: makes the report so far.
    """

    done: int
    total: int | None
    report: Callable[[], Report]


class Display(Protocol):
    """Who shows how far a map has come."""

    def begin(self, name: str, total: int | None) -> None:
        """Nothing is done yet."""
        ...

    def update(self, stand: Stand) -> None:
        """So much is done."""
        ...

    def end(self, stand: Stand, complete: bool) -> None:
        """So much is done, which is all, or all that will be."""
        ...


def display(progress: Any) -> Display:
    """What shows it in the way that the option says."""
    if isinstance(progress, bool | str):
        title = progress if isinstance(progress, str) else None
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return _Line(title)
        return _OwnBar(tqdm, title)
    if hasattr(progress, "add_task"):
        return _Task(progress)
    if hasattr(progress, "refresh"):
        return _Bar(progress, measures=progress.total is None)
    return _Told(progress)


class _Told:
    """A callable of the caller's, which is told what is new, and at last that all is done."""

    def __init__(self, tell: Teller) -> None:
        self._tell, self._done = tell, 0

    def begin(self, name: str, total: int | None) -> None:
        """See `Display`."""

    def update(self, stand: Stand) -> None:
        """See `Display`."""
        if stand.done > self._done:
            self._done = stand.done
            self._tell(stand.done, stand.total, stand.report())

    def end(self, stand: Stand, complete: bool) -> None:
        """See `Display`."""
        if complete:
            self._tell(stand.done, stand.total, stand.report())


class _Bar:
    """A bar of the caller's, who closes it.

    measures: its total is set to that of the items; else it is part of something larger.
    """

    def __init__(self, bar: Bar, *, measures: bool) -> None:
        self._bar, self._measures = bar, measures
        self._done = 0

    def begin(self, name: str, total: int | None) -> None:
        """See `Display`."""
        self._measure(total)

    def update(self, stand: Stand) -> None:
        """See `Display`."""
        self._measure(stand.total)
        news, self._done = max(0, stand.done - self._done), max(stand.done, self._done)
        self._bar.update(news)

    def end(self, stand: Stand, complete: bool) -> None:
        """See `Display`."""
        self.update(stand)
        self._bar.refresh()

    def _measure(self, total: int | None) -> None:
        if self._measures and total is not None and self._bar.total != total:
            self._bar.total = total
            self._bar.refresh()


class _OwnBar:
    """A bar made for this map."""

    def __init__(self, make: Callable[..., Any], title: str | None) -> None:
        self._make, self._title = make, title
        self._made: Any = None
        self._bar: Any = None

    def begin(self, name: str, total: int | None) -> None:
        """See `Display`."""
        title = name if self._title is None else self._title
        # Shown anew at each update, whose pace is ours, also when no more items were done.
        pace = {"miniters": 0, "mininterval": EVERY_S / 2}
        # It must not show itself before it is here to be closed: Ctrl-C may come in between.
        self._made = self._make(total=total, desc=title, delay=A_MOMENT_S, **pace)
        self._bar = _Bar(self._made, measures=True)
        self._made.refresh()

    def update(self, stand: Stand) -> None:
        """See `Display`."""
        self._bar.update(stand)

    def end(self, stand: Stand, complete: bool) -> None:
        """See `Display`."""
        if self._bar is None:  # there was not even a beginning
            return
        try:
            self._bar.end(stand, complete)
        finally:
            self._made.close()


class _Task:
    """One more among the bars of the caller."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._id: Any = None

    def begin(self, name: str, total: int | None) -> None:
        """See `Display`."""
        self._id = self._bars.add_task(name, total=total)

    def update(self, stand: Stand) -> None:
        """See `Display`."""
        self._bars.update(self._id, total=stand.total, completed=stand.done)

    def end(self, stand: Stand, complete: bool) -> None:
        """See `Display`."""
        if self._id is None:  # there was not even a beginning
            return
        self.update(stand)
        stop = getattr(self._bars, "stop_task", None)
        if stop is not None and not complete:  # its clock goes no further either
            stop(self._id)


class _Line:
    """A line on the terminal that is written again and again; nothing where there is none."""

    def __init__(self, title: str | None) -> None:
        self._title = title
        self._stream: Any = None
        self._written = 0

    def begin(self, name: str, total: int | None) -> None:
        """See `Display`."""
        self._began_s = time.perf_counter()
        self._title = name if self._title is None else self._title
        stream = sys.stderr  # None where a program has no streams at all
        self._stream = stream if stream is not None and stream.isatty() else None

    def update(self, stand: Stand) -> None:
        """See `Display`."""
        if self._stream is None:
            return
        of = f" of {stand.total}" if stand.total is not None else ""
        share = f" ({stand.done / stand.total:.0%})" if stand.total else ""
        elapsed_s = time.perf_counter() - self._began_s
        text = f"{self._title}: {stand.done}{of}{share}, {elapsed_s:.1f} s"
        text = text[: _columns(self._stream) - 1]
        self._stream.write("\r" + text.ljust(self._written))
        self._stream.flush()
        self._written = len(text)

    def end(self, stand: Stand, complete: bool) -> None:
        """See `Display`."""
        if self._stream is not None:
            self.update(stand)
            self._stream.write("\n")
            self._stream.flush()


def _columns(stream: Any) -> int:
    """How long the lines of a terminal are."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or COLUMNS
    except (OSError, ValueError):  # it only says that it is one
        return COLUMNS
