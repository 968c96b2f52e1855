"""Families of shapes: what they have in common is in their names.

Every shape follows from its family's name and its number, so that a run can be repeated.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from .shapes import EVEN, UNEVEN, Item, Lengths, Server, Shape, items, slow_last

MS, US = 1e-3, 1e-6
CPUS = (1, 2, 2, 3, 4, 8, 16, 64, 256)

Family = Callable[[random.Random, str], Shape]


def shapes(family: Family, count: int) -> Iterator[Shape]:
    """The first so many shapes of a family."""
    for number in range(count):
        name = f"{family.__name__} {number}"
        yield family(random.Random(name), name)


def _between(chance: random.Random, least: float, most: float) -> float:
    """A number whose logarithm is as likely anywhere between the two."""
    return float(least * (most / least) ** chance.random())


def _count(chance: random.Random, item_s: float, cpus: float, widest: int = 0) -> int:
    """Items for a call of 50 ms to 4 s when all CPUs, or so many threads, are at it."""
    width = max(cpus, widest)
    whole_s = _between(chance, 50 * MS, 3.0)
    return max(2, min(int(whole_s * width / item_s), 2000))


def _computing(chance: random.Random, name: str, lengths: Lengths, held: float = 1.0) -> Shape:
    cpus = chance.choice(CPUS)
    item_s = _between(chance, 50 * US, 200 * MS)
    of = Item(0.0, held * item_s, (1 - held) * item_s)
    made = items(chance, _count(chance, item_s, cpus), lengths, of)
    return Shape(name, made, cpus, warm=chance.random() < 0.5, pack_s=_between(chance, US, 30 * US))


def _waiting(chance: random.Random, name: str, lengths: Lengths, most: float = 0.02) -> Shape:
    """Items that compute under the GIL for up to `most` of their time."""
    cpus = chance.choice(CPUS)
    item_s = _between(chance, 500 * US, 200 * MS)
    held_s = item_s * chance.uniform(0, most)
    made = items(chance, _count(chance, item_s, 50), lengths, Item(item_s - held_s, held_s, 0.0))
    return Shape(name, made, cpus, warm=chance.random() < 0.5, pack_s=_between(chance, US, 30 * US))


# the families


def python(chance: random.Random, name: str) -> Shape:
    """Pure Python: on the CPU with the GIL all the time."""
    return _computing(chance, name, chance.choice(EVEN))


def native(chance: random.Random, name: str) -> Shape:
    """Native code that lets go of the GIL."""
    return _computing(chance, name, chance.choice(EVEN), held=chance.choice((0.005, 0.02, 0.05)))


def partly_native(chance: random.Random, name: str) -> Shape:
    """Native code with a good part of Python in it."""
    return _computing(chance, name, chance.choice(EVEN), held=chance.uniform(0.1, 0.8))


def waiting(chance: random.Random, name: str) -> Shape:
    """Waits, with hardly any Python."""
    return _waiting(chance, name, chance.choice(EVEN))


def mixed(chance: random.Random, name: str) -> Shape:
    """Waits, with as much Python as a GIL has room for in few threads."""
    return _waiting(chance, name, chance.choice(EVEN), most=0.4)


def no_gil(chance: random.Random, name: str) -> Shape:
    """Anything, on an interpreter without a GIL."""
    make = chance.choice((python, native, mixed, uneven_computing))
    return make(chance, name)._replace(gil=False)


def quota(chance: random.Random, name: str) -> Shape:
    """Computing, with a quota that is no whole number of CPUs."""
    cpus = chance.choice((1.05, 1.3, 1.5, 2.5, 3.7, 7.2))
    return python(chance, name)._replace(cpus=cpus)


def slow_start(chance: random.Random, name: str) -> Shape:
    """Computing, where processes take far longer to start than planned for."""
    return python(chance, name)._replace(warm=False, slow=_between(chance, 2, 30))


def uneven_computing(chance: random.Random, name: str) -> Shape:
    """Computing for lengths that differ widely."""
    return _computing(chance, name, chance.choice(UNEVEN), held=chance.choice((0.02, 1.0)))


def uneven_waiting(chance: random.Random, name: str) -> Shape:
    """Waits whose lengths differ widely."""
    return _waiting(chance, name, chance.choice(UNEVEN))


def last_is_slow(chance: random.Random, name: str) -> Shape:
    """The last item takes twenty times as long as the others."""
    return _computing(chance, name, slow_last, held=chance.choice((0.02, 1.0)))


def dear_travel(chance: random.Random, name: str) -> Shape:
    """Computing on items that are dear to pickle."""
    shape = python(chance, name)
    return shape._replace(pack_s=shape.serial_s / len(shape.items) * _between(chance, 0.03, 2))


def full_server(chance: random.Random, name: str) -> Shape:
    """Waits for a server of few slots, which is merely full beyond them."""
    shape = _waiting(chance, name, chance.choice((*EVEN, UNEVEN[0])))
    return shape._replace(server=Server(chance.choice((4, 8, 16, 32, 50))))


def strained_server(chance: random.Random, name: str) -> Shape:
    """Waits for a server that gets less done the more it is asked for."""
    shape = full_server(chance, name)
    assert shape.server is not None
    return shape._replace(server=Server(shape.server.slots, chance.choice((0.2, 0.5))))


def slow_server(chance: random.Random, name: str) -> Shape:
    """Waits for long answers of a server that gets less done the more it is asked for.

    More threads than it has slots are at work before any answer comes, whoever asks.
    """
    item_s, slots = _between(chance, 20 * MS, 200 * MS), chance.choice((4, 8, 8, 16))
    count = chance.choice((300, 500, 800))
    made = items(chance, count, chance.choice(EVEN), Item(item_s, 0.1 * MS, 0.0))
    server = Server(slots, chance.choice((0.2, 0.5)))
    return Shape(name, made, chance.choice(CPUS), warm=chance.random() < 0.5, server=server)


def turning(chance: random.Random, name: str) -> Shape:
    """From the middle on, other items: what waited computes, or the other way round."""
    cpus = chance.choice(CPUS)
    item_s = _between(chance, MS, 30 * MS)
    waits, computes = Item(0.98 * item_s, 0.02 * item_s, 0.0), Item(0.0, item_s, 0.0)
    halves = (waits, computes) if chance.random() < 0.5 else (computes, waits)
    count = max(20, min(int(_between(chance, 1.0, 20.0) / item_s), 2000))
    made = items(chance, count, chance.choice(EVEN), *halves)
    return Shape(name, made, cpus, warm=chance.random() < 0.5)


FAMILIES: tuple[Family, ...] = (
    python,
    native,
    partly_native,
    waiting,
    mixed,
    no_gil,
    quota,
    slow_start,
    uneven_computing,
    uneven_waiting,
    last_is_slow,
    dear_travel,
    full_server,
    strained_server,
    slow_server,
    turning,
)


def misjudged(family: Family) -> Family:
    """The family, with a probe whose numbers are wrong by up to a fifth."""

    def wrong(chance: random.Random, name: str) -> Shape:
        return family(chance, name)._replace(error=0.2)

    wrong.__name__ = family.__name__
    return wrong
