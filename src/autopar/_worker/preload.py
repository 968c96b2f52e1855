"""Imports libraries once for all workers to come, instead of once in each of them.

Only what belongs to the standard library or is installed: a user's own module may hold what workers
must not share (a connection, numbers drawn at random), and each imports it for itself.
Guarantees: what an import leaves behind that forks must not share is found (threads, descriptors,
random generators, children, and who keeps the standard streams, which are others in a worker), so
that the helper can begin again without it; one that never ends ends the helper, which then is
replaced by one that imports nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` costs a new worker 5 ms
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import Any
else:
    import _signal as signal  # without `enum` around it

MOST_S = 20.0  # an import that takes longer ends the helper


def preload(names: Sequence[str]) -> bool:
    """Imports modules; false when something was left behind that forks must not share."""
    before = _held()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, MOST_S)
    for name in names:
        try:
            __import__(name)
        except BaseException:  # the worker that needs it will say so
            continue
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        return not (_threads() > 1 or _held() != before or _children() or _generators())
    except Exception:  # nobody knows, then
        return False


def _held() -> tuple[set[str], list[int]]:
    """The descriptors there are, and how many refer to each of the standard streams."""
    streams = sys.stdin, sys.stdout, sys.stderr
    return set(os.listdir("/proc/self/fd")), [sys.getrefcount(stream) for stream in streams]


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _generators() -> bool:
    """Whether there are random generators that `differ` does not know of: all workers' would be the
    same.
    """
    random: Any = sys.modules.get("random")
    if random is None:
        return False
    kinds, own = [random.Random], [random._inst]
    numpy: Any = sys.modules.get("numpy.random")
    if numpy is not None:
        kinds += [numpy.Generator, numpy.RandomState, numpy.BitGenerator]
        own += [numpy.mtrand._rand, numpy.mtrand._rand._bit_generator]
    import gc

    found = gc.get_objects()
    classes = {cls for cls in set(map(type, found)) if issubclass(cls, tuple(kinds))}
    classes.discard(random.SystemRandom)
    known = set(map(id, own))
    return any(type(each) in classes and id(each) not in known for each in found)
