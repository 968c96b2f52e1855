"""Maps inside maps, for the tests: importable, so that they travel to processes by name."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import work
from autopar import auto_map

BRANCHES = 4


class Nest(NamedTuple):
    """One item of a map whose function is a map; `levels` are the options of those below."""

    levels: tuple[dict[str, Any], ...]
    number: int


def grow(nest: Nest) -> Any:
    """A tree of results, one level of maps after the other, with a little work at the leaves."""
    if not nest.levels:
        work.spin(0.002)
        time.sleep(0.001)
        return nest.number
    return auto_map(grow, below(nest), **nest.levels[0])


def grow_in_a_loop(nest: Nest) -> Any:
    """What `grow` has to give."""
    if not nest.levels:
        return nest.number
    return [grow_in_a_loop(inner) for inner in below(nest)]


def below(nest: Nest) -> list[Nest]:
    return [Nest(nest.levels[1:], nest.number * BRANCHES + i) for i in range(BRANCHES)]


def spin_until(cpu_s: float) -> float:
    """Computes, and returns the moment it ended, on the clock that all processes share."""
    work.spin(cpu_s)
    return time.monotonic()


def begin_and_end(cpu_s: float) -> tuple[float, float]:
    """Computes, and returns when it began and when it ended."""
    return time.monotonic(), spin_until(cpu_s)
