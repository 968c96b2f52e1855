"""What was learned of functions, for their next call in this process.

Only what the next call can check as it goes is kept: that items wait, or that they compute and
went to processes. What does not fit any more is forgotten, and the function probed afresh.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from .._model import Observation

MOST = 1000  # functions remembered
FITS = 2.0  # an item may take this many times longer or less than was learned
SHARE_FITS = 0.3  # the share of CPU in it may differ by this much


class Learned(NamedTuple):
    """What the last call of a function showed.

    seen: the probe's observation, its times per item those of the whole call where only that
        showed them.
    item_s: seconds an item took in the whole call, among all that ran beside it.
    threads: how many were at work at the end, where items wait.
    """

    seen: Observation
    item_s: float
    threads: int

    def fits(self, item_s: float, cpu_share: float) -> bool:
        """Whether items that take `item_s`, with this share of CPU in it, are as learned.

        For items that wait only the share counts: how long they do depends on how many wait
        beside them, and the number of threads follows that by itself.
        """
        if not self.threads and not self.item_s / FITS < item_s < self.item_s * FITS:
            return False
        return abs(cpu_share - self.seen.cpu_s / self.seen.wall_s) < SHARE_FITS


_known: dict[tuple[int, type], tuple[weakref.ref[Any], Learned]] = {}


def recall(fn: Any, item: Any) -> Learned | None:
    """What is known of `fn` for items of this type."""
    body = _body(fn)
    found = _known.get((id(body), type(item)))
    return found[1] if found is not None and found[0]() is body else None


def keep(fn: Any, item: Any, learned: Learned) -> None:
    """Remembers what a call has shown, as long as the function's code exists."""
    body = _body(fn)
    key = (id(body), type(item))  # by id: the hash of a code object is that of all its constants
    try:
        alive = weakref.ref(body, lambda _: _known.pop(key, None))
    except TypeError:  # some callables cannot be referred to weakly
        return
    if len(_known) < MOST:
        _known[key] = alive, learned


def forget(fn: Any, item: Any) -> None:
    """Forgets what stopped being true."""
    _known.pop((id(_body(fn)), type(item)), None)


def _body(fn: Any) -> Any:
    """The code behind a callable, where it can be seen; else the callable itself."""
    for _ in range(8):
        inner = getattr(fn, "func", None) or getattr(fn, "__func__", None)
        if inner is None:
            break
        fn = inner
    return getattr(fn, "__code__", fn)
