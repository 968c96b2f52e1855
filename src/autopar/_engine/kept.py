"""What is kept of the items that ended, until it is asked for in item order."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from ..backends.chunk import Failure


class Kept:
    """Results of consecutive items, in parts as they came.

    silent: no result is asked for. failures_too: exceptions may be among the results; where they
    are all that is asked for, they are all that is kept.
    """

    def __init__(self, *, silent: bool, failures_too: bool) -> None:
        self._silent, self._failures_too = silent, failures_too
        self._parts: list[tuple[int, list[Any]]] = []

    def add(self, start: int, values: list[Any]) -> None:
        """What came of the items from `start` on."""
        if not self._silent:
            self._parts.append((start, values))
        elif self._failures_too:
            found = enumerate(values, start)
            self._parts += [(index, [value]) for index, value in found if type(value) is Failure]

    def failures(self) -> list[tuple[int, BaseException]]:
        """Which items failed, and with what, in item order, where that is all there is to keep."""
        return [(index, value.error) for index, (value,) in self._taken()]

    def results(self) -> list[Any]:
        """Every result, in item order."""
        parts = self._taken()
        if not parts:
            return []
        joined = parts[0][1]
        for _start, values in parts[1:]:
            joined += values
        return joined

    def _taken(self) -> list[tuple[int, list[Any]]]:
        """All parts in item order, which are not kept any longer."""
        parts, self._parts = self._parts, []
        parts.sort(key=itemgetter(0))
        return parts
