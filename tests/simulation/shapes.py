"""What is simulated: a machine, a call's items, and what is on their other side."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

from autopar._decide.costs import COLD, WARM, Costs


class Item(NamedTuple):
    """What one item does, in this order: it waits, computes under the GIL, and outside of it."""

    wait_s: float
    gil_s: float
    free_s: float


class Server:
    """What items wait for; the name is for messages.

    slots: as many are served at full speed. strain: with m there, all of them together are served
    at (slots / m) ** strain of that; 0 for a server that is merely full.
    """

    def __init__(self, slots: int, strain: float = 0.0) -> None:
        self.slots, self.strain = slots, strain

    def pace(self, present: int) -> float:
        """The speed at which each of so many is served."""
        over = present / self.slots
        return 1.0 if over <= 1 else over ** -(1 + self.strain)

    def __repr__(self) -> str:
        return f"Server({self.slots}, {self.strain})"


class Shape(NamedTuple):
    """One call on one machine.

    name: for messages. cpus: usable, or a quota with a fraction. pack_s: what an item and its
    result cost each side of a process border. slow: how many times longer crews take to start
    than the planner thinks. error: the probe's numbers are wrong by up to this share.
    """

    name: str
    items: tuple[Item, ...]
    cpus: float = 2.0
    gil: bool = True
    server: Server | None = None
    warm: bool = False
    pack_s: float = 10e-6
    slow: float = 1.0
    error: float = 0.0

    @property
    def whole_cpus(self) -> int:
        """CPUs as the machine's facts have them: a quota is rounded up."""
        return max(1, math.ceil(self.cpus - 0.1))

    @property
    def believed(self) -> Costs:
        """The costs that the planner reckons with."""
        return WARM if self.warm else COLD

    @property
    def true(self) -> Costs:
        """The costs that things have."""
        costs = self.believed
        return costs._replace(
            crew_start_s=self.slow * costs.crew_start_s,
            worker_start_s=self.slow * costs.worker_start_s,
            takeover_s=self.slow * costs.takeover_s,
        )

    @property
    def serial_s(self) -> float:
        """Seconds that the loop takes."""
        return sum(item.wait_s + item.gil_s + item.free_s for item in self.items)


# how long items take

Lengths = Callable[[random.Random, int], list[float]]  # so many, of mean 1 or nearly


def constant(_chance: random.Random, count: int) -> list[float]:
    """All alike."""
    return [1.0] * count


def varied(chance: random.Random, count: int) -> list[float]:
    """Within a factor of three."""
    return [chance.uniform(0.5, 1.5) for _ in range(count)]


def heavy(chance: random.Random, count: int) -> list[float]:
    """Lognormal: one in a hundred takes ten times the mean, or more."""
    return [chance.lognormvariate(-0.72, 1.2) for _ in range(count)]


def bimodal(chance: random.Random, count: int) -> list[float]:
    """One in twenty takes ten times as long as the others."""
    return [6.9 if chance.random() < 0.05 else 0.69 for _ in range(count)]


def slow_last(_chance: random.Random, count: int) -> list[float]:
    """The last takes twenty times as long as the others."""
    return [*([1.0] * (count - 1)), 20.0]


def growing(_chance: random.Random, count: int) -> list[float]:
    """Each takes a little longer than the one before, up to twice the mean."""
    return [2 * (at + 1) / count for at in range(count)]


def longer(_chance: random.Random, count: int) -> list[float]:
    """From the middle on, eight times as long."""
    return [0.25 if at < count // 2 else 2.0 for at in range(count)]


EVEN: tuple[Lengths, ...] = (constant, varied)
UNEVEN: tuple[Lengths, ...] = (heavy, bimodal, slow_last, growing, longer)


def items(
    chance: random.Random, count: int, lengths: Lengths, of: Item, then: Item | None = None
) -> tuple[Item, ...]:
    """So many items like `of`, each with a length of its own; from the middle on, like `then`."""
    made = []
    for at, length in enumerate(lengths(chance, count)):
        like = of if then is None or at < count // 2 else then
        made.append(Item(*(length * part_s for part_s in like)))
    return tuple(made)
