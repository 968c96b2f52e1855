"""Random numbers that depend on a seed and the item alone: not on workers, order or the run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Seed = int | str | bytes

used = False  # a seed has been set here, so what follows would no more be random
_numpy: Any = None
_looked = False


class Seeded:
    """A function whose items have random numbers of their own: call it with `(index, item)`.

    Seeds the generators of `random` and of `numpy.random` (the global ones; a generator that the
    function makes without a seed stays random), then calls `func(item)`.
    """

    seen_through = True  # what it does to the generators is no effect of the caller's function

    def __init__(self, fn: Callable[[Any], Any], seed: Seed) -> None:
        self.func = fn
        self.seed = seed
        self._tag = _tag(seed)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _numpy_random()  # in a worker: before the time of its first item begins

    def __call__(self, pair: tuple[int, Any]) -> Any:
        index, item = pair
        _sow(b"%d:%b" % (index, self._tag))
        return self.func(item)


def seeded(
    fn: Callable[[Any], Any], items: Iterable[Any], seed: Seed
) -> tuple[Seeded, Iterable[Any]]:
    """The function of (index, item) that seeds the generators, and what it is to be called with."""
    pairs = enumerate(items)
    return Seeded(fn, seed), list(pairs) if isinstance(items, list | tuple | range) else pairs


def numbered(items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """`enumerate(items)`, which closes them when it is closed."""
    iterator = iter(items)
    try:
        yield from enumerate(iterator)
    finally:
        closing = getattr(iterator, "close", None)
        if closing is not None:
            closing()


def _tag(seed: Seed) -> bytes:
    """The seed as bytes; seeds of different type or value give different ones."""
    if isinstance(seed, bytes):
        return b"b" + seed
    if isinstance(seed, str):
        return b"s" + seed.encode("utf-8", "surrogatepass")
    return b"i%x" % seed


def _sow(key: bytes) -> None:
    global used
    used = True
    random.seed(key)  # hashed by SHA-512 there, so that neighbouring keys have nothing in common
    numpy = _numpy_random()
    if numpy is not None:
        import hashlib

        digest = hashlib.blake2b(key, digest_size=16).digest()
        numpy.seed([int.from_bytes(digest[at : at + 4], "little") for at in range(0, 16, 4)])


def _numpy_random() -> Any:
    """`numpy.random`, or None without numpy.

    Imported even when nothing has asked for it yet: the function may, after it was to be seeded.
    """
    global _numpy, _looked
    if not _looked:
        _looked = True
        try:
            import numpy.random

            _numpy = numpy.random
        except ImportError:
            pass
    return _numpy


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Puts the generators of `random` and `numpy.random` back as they were when it was opened."""
    global used
    numpy, before = _numpy_random(), used
    ours = random.getstate()
    theirs = None if numpy is None else numpy.get_state(legacy=False)
    try:
        yield
    finally:
        random.setstate(ours)
        if numpy is not None:
            numpy.set_state(theirs)
        used = before
