"""What a function of the corpus comes with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A function and the items it is called with.

    nature: its group in the tables, for people; decisions do not depend on it.
    items: makes them; they take about half a second in a loop, unless they are trivial.
    """

    name: str
    nature: str
    fn: Callable[[Any], Any]
    items: Callable[[], Sequence[Any]]


def turns(count: int) -> Callable[[], list[int]]:
    """Makes the items 0, 1, 2, ..."""
    return partial(list, range(count))
