"""What was learned of functions, for their next call in this process.

Only what the next call can check as it goes is kept: that items wait, or that they compute and
went to processes. What does not fit any more is forgotten, and the function probed afresh.
"""

from __future__ import annotations

import weakref
from typing import Any, Generic, NamedTuple, TypeVar

from .._model import Observation

T = TypeVar("T")

MOST = 1000  # functions remembered
FITS = 2.0  # an item may take this many times longer or less than was learned
SHARE_FITS = 0.3  # the share of CPU in it may differ by this much


class Learned(NamedTuple):
    """What the last call of a function showed.

    seen: the probe's observation, its times per item those of the whole call where only that
        showed them.
    item_s: seconds an item took in the whole call, among all that ran beside it.
    threads: how many were at work at the end, where items wait.
    apart: they were in processes.
    """

    seen: Observation
    item_s: float
    threads: int
    apart: bool

    def fits(self, item_s: float, cpu_share: float) -> bool:
        """Whether items that take `item_s`, with this share of CPU in it, are as learned.

        For items that wait only the share counts: how long they do depends on how many wait
        beside them, and the number of threads follows that by itself.
        """
        if not self.threads and not self.item_s / FITS < item_s < self.item_s * FITS:
            return False
        return abs(cpu_share - self.seen.cpu_s / self.seen.wall_s) < SHARE_FITS


class _Known(Generic[T]):
    """Something known of each function, for items of each type, as long as its code exists."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, type], tuple[weakref.ref[Any], T]] = {}

    def get(self, fn: Any, item: Any) -> T | None:
        """What is known of `fn` for items of this type."""
        body = body_of(fn)
        found = self._known.get((id(body), type(item)))
        return found[1] if found is not None and found[0]() is body else None

    def of(self, fn: Any) -> dict[type, T]:
        """What is known of `fn`, by the type of its items."""
        body = body_of(fn)
        known = list(self._known.items())
        return {cls: what for (_, cls), (alive, what) in known if alive() is body}

    def keep(self, fn: Any, item: Any, what: T) -> None:
        """Remembers it."""
        body, known = body_of(fn), self._known
        key = (id(body), type(item))  # by id: a code object's hash is that of all its constants
        try:
            alive = weakref.ref(body, lambda _: known.pop(key, None))
        except TypeError:  # some callables cannot be referred to weakly
            return
        if len(known) < MOST or key in known:
            known[key] = alive, what

    def forget(self, fn: Any, item: Any) -> None:
        """Forgets what stopped being true."""
        self._known.pop((id(body_of(fn)), type(item)), None)


learned: _Known[Learned] = _Known()
paces: _Known[float] = _Known()  # seconds an item took in processes: how many to send at first


def body_of(fn: Any) -> Any:
    """The code behind a callable, where it can be seen; else the callable itself."""
    for _ in range(8):
        inner = getattr(fn, "func", None) or getattr(fn, "__func__", None)
        if inner is None:
            break
        fn = inner
    return getattr(fn, "__code__", fn)
