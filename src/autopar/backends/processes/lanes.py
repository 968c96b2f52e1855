"""Lanes: more threads in a worker process, each a worker with a socket and a cell of its own.

For items that wait and compute: where a process a worker would be too many, and the threads of one
process stand in the queue for its GIL. A process that dies takes all of its lanes along.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

from ..._transport import wire
from ..._transport.wire import Head
from .remote import Remote


def missing(remotes: Iterable[Remote], wanted: int) -> list[Remote]:
    """Whose process shall have another lane, so that there come to be `wanted` workers.

    Those with the fewest come first: after a death there are fresh ones beside full ones.
    """
    sizes = Counter(remote.home for remote in remotes)
    found = []
    while sizes and sizes.total() < wanted:
        home = min(sizes, key=lambda home: sizes[home])
        sizes[home] += 1
        found.append(home)
    return found


def opened(home: Remote, number: int, job: int) -> Remote | None:
    """A lane, on its way to its process; None when the system has no more for us."""
    try:
        lane = Remote(number, home)
    except OSError:  # a process may hold only so many descriptors
        return None
    request = wire.Parcel(Head(wire.LANE, job, number).packed(), lane.back.fileno(), lane.cell_fd)
    try:
        wire.send(home.sock, request)
    except (BlockingIOError, ConnectionError):
        lane.close()
        return None
    os.close(lane.cell_fd)  # it is on its way, and a process may hold only so many
    lane.cell_fd = -1
    lane.awake, lane.ready = home.awake, home.ready
    return lane
