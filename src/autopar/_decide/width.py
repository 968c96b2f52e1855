"""How many threads wait at once: grow eagerly, shrink on evidence.

The rule is slow start: a polite number at once, doubled for each round of completions while
throughput grows, and whenever nothing comes back any more: those at work may all wait for an item
that has not started (a scheduler that sees its threads blocked starts more, as Go's does). Both
signs of a full server are needed, throughput that stopped growing *and* latency that rose: latency
alone fails on heavy tails.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from .._model import Observation
from .costs import COLD

FIRST = 32  # at once, when that many items are left
POLITE = 100  # in flight at most unless `workers` says otherwise, as HTTP clients' pools have it
GROWTH = 2  # each step; three at once overshoots a full server by more than it is worth
ROUND_S = 0.005  # with nothing finished after this long, all are blocked: grow...
STALL_S = 0.050  # ...and after this long, or twice an item's time, whatever was found before
GAIN = 1.3  # a step that gains less than this in throughput...
SLOWER = 1.5  # ...while an item takes this much longer has found the limit


class Width(NamedTuple):
    """The state of the ramp.

    threads: threads wanted now; limit: never more than this.
    enough: more than this are only wanted when nothing comes back: they would fight for the GIL.
    done: items finished when the round began; since_s: when it began.
    seen: items finished at the last look; seen_s: when that number last grew.
    rate, item_s: throughput and seconds an item took in the best round so far (0: none yet).
    settled: the limit of the other side was found, or ours suits it; no more growing.
    """

    threads: int
    limit: int
    done: int = 0
    since_s: float = 0.0
    rate: float = 0.0
    item_s: float = 0.0
    settled: bool = False
    enough: int = sys.maxsize
    seen: int = 0
    seen_s: float = 0.0


def first_width(left: int | None, limit: int, done: int, now_s: float, learned: int = 0) -> Width:
    """The ramp's start: all that is left, up to the limit and to 32, or what was learned."""
    few = learned or FIRST
    few = few if left is None else min(left, few)
    threads = max(1, min(few, limit))
    return Width(threads, max(1, limit), done, now_s, seen=done, seen_s=now_s)


def enough_threads(seen: Observation) -> int:
    """Threads that keep the GIL busy: each holds it for G of the W seconds of its items.

    Eight times W / G: the shares come from few items, and answers are slower among many (measured
    on loopback fetches, W / G = 10: 64 threads are a tenth quicker than 32, 100 no quicker).
    """
    if not seen.items:
        return sys.maxsize  # nobody knows yet how long an item is
    return max(FIRST, int(8 * seen.wall_s / (seen.gil_s + COLD.gil_switch_s)))


def next_width(width: Width, done: int, item_s: float, now_s: float) -> Width:
    """The ramp after `done` items in all have finished, the last ones in `item_s` each."""
    if done > width.seen:
        width = width._replace(seen=done, seen_s=now_s)
    finished, elapsed = done - width.done, now_s - width.since_s
    if finished < _round(width):
        if now_s - width.seen_s <= _patience_s(width, finished, item_s):
            return width
        return _grown(width)._replace(seen_s=now_s)
    rate = finished / max(elapsed, 1e-6)
    fresh = width._replace(done=done, since_s=now_s)
    if width.settled:
        return fresh
    if width.rate and rate < GAIN * width.rate and item_s > SLOWER * width.item_s:
        fair = int(1.25 * width.rate * width.item_s) + 1  # Little's law: in flight = rate x time
        return fresh._replace(threads=max(1, min(fair, width.limit)), settled=True)
    if width.threads >= min(width.limit, width.enough):
        return fresh._replace(settled=True)
    best = max(rate, width.rate)
    grown = min(_grown(fresh).threads, max(width.threads, width.enough))
    return fresh._replace(threads=grown, rate=best, item_s=min(item_s, width.item_s or item_s))


def _round(width: Width) -> int:
    """Items whose completion makes a round: a few while growing, or all that began at the limit."""
    return 2 * width.threads if width.threads >= width.limit else min(width.threads, 16)


def _patience_s(width: Width, finished: int, item_s: float) -> float:
    """Seconds without an item finished after which all threads are taken to be blocked."""
    early = not width.settled and finished == 0 and width.threads < 2 * FIRST
    return ROUND_S if early else max(STALL_S, 2 * item_s)


def _grown(width: Width) -> Width:
    return width._replace(threads=min(GROWTH * width.threads, width.limit))
