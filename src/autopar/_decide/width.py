"""How many threads wait at once: grow eagerly, shrink on evidence.

A polite number at once, doubled while throughput grows, and whenever nothing comes back any more:
those at work may all wait for an item that has not started (a scheduler that sees its threads
blocked starts more, as Go's does). Every number of threads is compared with the one before it, by
items that began among so many: first those in flight at the change end, then a round is counted.
Both signs of a full server are needed, throughput that did not grow *and* answers that took longer
or failed: latency alone fails on heavy tails. Throughput that fell is one by itself.

That all items are slow cannot be told from a server that is full by looking at one number of
threads: with n of them, both answer n items in the time that one takes. So where the ramp comes to
its limit with nothing to compare, half as many are tried: a server that was full gets as much done
by then, and sooner; if nothing came sooner, the rest start again after about half an item's time.
Where fewer did get as much done, still fewer are tried, until it is less (a search by halves, as
hill climbing on a logarithmic scale). No verdict is final: it is tried again after a number of
rounds that doubles, and at the limit when answers take longer than they did.

Where this process uses what CPU its threads can get, that is what is full, and not a server: answers
that come later and no more often are a queue for the GIL. Fewer threads would have as much to do,
so none are tried (tried all the same, loopback fetches took a third longer).
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

from .._model import Observation
from .costs import COLD

FIRST = 32  # at once, when that many items are left
POLITE = 100  # in flight at most unless `workers` says otherwise, as HTTP clients' pools have it
GROWTH = 2  # each step; three at once overshoots a full server by more than it is worth...
LEAP = 4  # ...but nothing is full yet where items take no longer...
ALONE = 1.2  # ...than so many times what one took alone
ROUND_S = 0.005  # with nothing finished at all so long, there are twice as many as at first...
STALL_S = 0.050  # ...and after this long, whatever was found before, all are taken to be blocked...
PATIENCE = 4  # ...and for so many times an item's time: twice as many may have to share a server
GAIN = 1.3  # a step that gains less than this in throughput...
SLOWER = 1.5  # ...while an item takes this much longer, or fails, went beyond the limit
KEPT = 0.85  # half the threads that get this share done are enough; of blocked ones, it is a half
JUDGED = 16  # items finished that a verdict is made from, at least
UP_BY, DOWN_BY = 1.5, 0.6  # of an item's time; by then, something of what is to come has come
TOO_FEW = 0.6  # by then, threads that get less than this share done are not waited for any more
FULL = 0.7  # of the CPUs in use here: whatever holds threads up, fewer would gain little...
BRIM = 0.95  # ...and more of them nothing
WORTH = 2  # rounds that have to be left for trying fewer without a sign that there are too many


class Tally(NamedTuple):
    """Of a call so far: the items that ended, those of them that failed, the seconds all took.

    cpu_s: CPU seconds that this process has used in its life, 0 where nobody counts them.
    """

    ended: int = 0
    failed: int = 0
    busy_s: float = 0.0
    cpu_s: float = 0.0


class Width(NamedTuple):
    """The state of the ramp.

    threads: threads wanted now; limit: never more than this.
    enough: more than this are only wanted when nothing comes back: they would fight for the GIL.
    since: what had been done when the round began; since_s: when that was.
    old: items that have to end first, as they began among another number of threads.
    base: the number that is compared with, 0 while there is none; rate and item_s: the items done a
        second, and the seconds each took, with it.
    few, many: numbers of threads found to be too few, and to be no better than half as many.
    calm_s: seconds an item took when `base` was found; alone_s: one that ran alone, if there was one.
    rounds: gone by since then; pause: after so many, it is doubted.
    seen: items ended at the last look; seen_s: when that number last grew.
    end: items that there will be, if that is known.
    cpus: those that threads of this process can use at once.
    used: the share of these that was used in the last round.
    """

    threads: int
    limit: int
    since: Tally = Tally()
    since_s: float = 0.0
    enough: int = sys.maxsize
    old: int = 0
    base: int = 0
    rate: float = 0.0
    item_s: float = 0.0
    few: int = 0
    many: int = sys.maxsize
    calm_s: float = 0.0
    alone_s: float = 0.0
    rounds: int = 0
    pause: int = 2
    seen: int = 0
    seen_s: float = 0.0
    end: int = sys.maxsize
    cpus: int = 1
    used: float = 0.0


class Round(NamedTuple):
    """What came of some time: items ended and failed, good ones a second, seconds each took.

    used: the share of the CPUs there are for it that this process used.
    """

    ended: int
    failed: int
    rate: float
    item_s: float
    used: float


def first_width(
    left: int | None, limit: int, tally: Tally, now_s: float, learned: int = 0
) -> Width:
    """The ramp's start: all that is left, up to the limit and to 32, or what was learned."""
    few = learned or FIRST
    few = few if left is None else min(left, few)
    threads = max(1, min(few, limit))
    end = sys.maxsize if left is None else tally.ended + left
    width = Width(threads, max(1, limit), tally, now_s, few=threads // 2 if learned else 0)
    return width._replace(seen=tally.ended, seen_s=now_s, end=end)


def enough_threads(seen: Observation) -> int:
    """Threads that keep the GIL busy: each holds it for G of the W seconds of its items.

    Eight times W / G: the shares come from few items, and answers are slower among many (measured
    on loopback fetches, W / G = 10: 64 threads are a tenth quicker than 32, 100 no quicker).
    """
    if not seen.items:
        return sys.maxsize  # nobody knows yet how long an item is
    return max(FIRST, int(8 * seen.wall_s / (seen.gil_s + COLD.gil_switch_s)))


def next_width(width: Width, tally: Tally, now_s: float) -> Width:
    """The ramp after all that has been done, at that time."""
    if tally.ended > width.seen:
        width = width._replace(seen=tally.ended, seen_s=now_s)
    found = _round(width, tally, now_s)
    if _is_blind(width, found):
        return width._replace(threads=width.threads // 2, base=width.threads, old=width.threads)
    complete = found.ended >= (width.old or _enough_ended(width))
    if not complete and not _is_late(width, found, now_s):
        return _unblocked(width, found, tally, now_s)
    fresh = width._replace(since=tally, since_s=now_s, old=0, used=found.used)
    if width.old and complete:
        return fresh if width.rate else _first_base(fresh, found)
    if width.old or not found.ended:  # what was to come has not come
        found = found._replace(rate=0.0, item_s=GROWTH * width.item_s)
    if 2 * found.failed > found.ended and width.threads == (width.base or width.threads):
        return fresh  # where most fail, more would: but whether fewer did not, nobody knows
    return _onward(_judged(fresh, found))


def next_look(width: Width) -> tuple[int, float]:
    """When there may be something to find: so many items have ended, or at that time."""
    ended = width.since.ended + (width.old or _enough_ended(width))
    at_s = width.seen_s + _patience_s(width, width.item_s)
    if _is_on_trial(width):
        at_s = min(at_s, width.since_s + _late_s(width))
    return ended, at_s


# what is known


def _round(width: Width, tally: Tally, now_s: float) -> Round:
    """What came of the time since the round began.

    The rate is the lower of two: that of what ended, which is wrong when items end all at once,
    and by Little's law (in flight = rate x time), which is wrong as long as only short ones ended.
    """
    ended, failed = tally.ended - width.since.ended, tally.failed - width.since.failed
    good = ended - failed
    elapsed_s = max(now_s - width.since_s, 1e-6)
    rate = good / elapsed_s
    item_s = (tally.busy_s - width.since.busy_s) / ended if ended else 0.0
    if item_s and width.threads >= width.base:
        rate = min(rate, width.threads / item_s)
    used = (tally.cpu_s - width.since.cpu_s) / (width.cpus * elapsed_s)
    return Round(ended, failed, rate, item_s, used)


def _enough_ended(width: Width) -> int:
    """Items whose end makes a round: a few at first, then whole rounds of all threads."""
    if not width.base:
        return min(width.threads, JUDGED)
    if width.threads > width.base:
        return width.threads
    return width.threads * -(-JUDGED // width.threads)


def _is_blind(width: Width, found: Round) -> bool:
    """Whether the first items come back at the limit, so that there is nothing to compare."""
    known = width.base or width.old or width.few >= width.threads // 2
    if known or found.used > FULL or width.threads < width.limit:
        return False
    return found.ended - found.failed >= min(width.threads, JUDGED) and _is_worth_it(width)


def _least(width: Width) -> int:
    """The fewest threads to try: twice what keeps the GIL busy, or nobody sees that they queue."""
    return width.enough // 4 if width.enough < width.limit else 1


def _is_worth_it(width: Width) -> bool:
    """Whether to try fewer threads without a sign that they are too many: if much is left.

    Not where the GIL may be what is full: to see that, others need threads that queue for it.
    """
    return width.enough >= width.limit and width.end - width.seen >= WORTH * width.threads


def _is_late(width: Width, found: Round, now_s: float) -> bool:
    """Whether a number of threads on trial has had the time to show that it is better, and has not.

    Judged before its round is over: what others wait for meanwhile is lost.
    """
    if not _is_on_trial(width) or now_s - width.since_s <= _late_s(width):
        return False
    return width.threads > width.base or found.rate < TOO_FEW * width.rate


def _is_on_trial(width: Width) -> bool:
    """Whether there is another number of threads than was found best, and something to compare."""
    up = width.threads > width.base
    return bool(width.base and width.rate and width.threads != width.base and (up or not width.old))


def _late_s(width: Width) -> float:
    """Seconds after which a number of threads on trial has had its time."""
    share = UP_BY if width.threads > width.base else DOWN_BY
    return max(share * width.item_s, JUDGED / width.rate)


def _first_base(width: Width, found: Round) -> Width:
    """The number of threads that the first items ran among, who all began at once."""
    item_s = found.item_s
    rate = width.base / item_s if item_s else found.rate
    return width._replace(rate=rate, item_s=item_s, calm_s=item_s)


# what follows


def _unblocked(width: Width, found: Round, tally: Tally, now_s: float) -> Width:
    """More threads if nothing comes back any more; what was found before says nothing then."""
    patience_s = _patience_s(width, max(found.item_s, width.item_s))
    if width.threads >= width.limit or now_s - width.seen_s <= patience_s:
        return width
    threads = min(GROWTH * width.threads, width.limit)
    if tally.ended > width.since.ended:
        width = width._replace(since=tally, since_s=now_s)
    return width._replace(threads=threads, old=0, base=0, rate=0.0, seen_s=now_s)


def _patience_s(width: Width, item_s: float) -> float:
    """Seconds with no item ended after which those at work are taken to be blocked."""
    if not width.seen and width.threads < GROWTH * FIRST:
        return ROUND_S
    return max(STALL_S, PATIENCE * item_s)


def _judged(width: Width, found: Round) -> Width:
    """The number of threads that was found to be best, as `base`, after a round."""
    threads, rate, item_s = width.threads, found.rate, found.item_s
    here = width._replace(base=threads, rate=rate, item_s=item_s, rounds=0, calm_s=item_s)
    if not width.base:
        return here
    if threads == width.base:
        return here._replace(rounds=width.rounds + 1, calm_s=width.calm_s)
    if threads > width.base:
        slower = item_s > SLOWER * width.item_s or found.failed > 0
        least = GAIN if slower else 1 if found.used > FULL else KEPT
        if rate < least * width.rate:
            return width._replace(many=threads, rounds=0)
        return here._replace(few=width.base, rate=max(rate, width.rate))
    if rate <= KEPT * width.rate:
        return width._replace(few=threads, rounds=0, calm_s=width.item_s)
    return here._replace(many=width.base)


def _onward(width: Width) -> Width:
    """Twice as many, half as many or as many as were found best, whatever is not known yet."""
    top = min(width.limit, max(width.base, width.enough))
    if width.rounds > width.pause:
        width = _doubted(width, top)
    free = width.base >= FIRST and width.item_s < ALONE * width.alone_s
    up, down = min((LEAP if free else GROWTH) * width.base, top), width.base // 2
    useful = width.used < BRIM or width.base < FIRST
    if useful and width.base < up and up + 1 < width.many:
        return _to(width, up)
    sign = width.many < sys.maxsize
    worth = width.used < FULL and down >= _least(width) and (sign or _is_worth_it(width))
    if worth and down > width.few:
        return _to(width, down)
    return _to(width, width.base)


def _doubted(width: Width, top: int) -> Width:
    """The verdict forgotten, so that it is tried again: things may have changed."""
    if width.base < top:
        return width._replace(few=0, many=sys.maxsize, rounds=0, pause=2 * width.pause)
    if width.item_s > SLOWER * width.calm_s:
        return width._replace(few=0, rounds=0, pause=2 * width.pause)
    return width


def _to(width: Width, threads: int) -> Width:
    """That many threads; those at work now end first."""
    if threads == width.threads:
        return width
    return width._replace(threads=threads, old=width.threads)


def worth_loading(load_s: float, loop_s: float, cpus: int) -> int:
    """How many processes are worth while for items that wait.

    load_s: what it took the first to load the job, the import of the function's module included.
    loop_s: what the loop would need. With l for the load and the fork, w processes on P CPUs need
    w l / P + loop_s / w seconds.
    """
    each_s = load_s + COLD.worker_start_s
    return max(cpus, min(FIRST, int(math.sqrt(loop_s * cpus / each_s))))
