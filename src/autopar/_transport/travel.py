"""What it takes to send a job to a process: measured on one item and one result."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._model import Job, Travel
from . import wire

ITEM_S = 0.5e-6  # an item's place in a message, and its worker's account of it
SEARCH_S = 5e-3  # the call is waiting to go on, and only its report loses by a shorter search


def travel(job: Job, item: Any, result: Any) -> Travel:
    """What sending `item` there and `result` back costs, or why it cannot be.

    Pickles the function, the item and the result, and loads the latter two again. Items travel by
    the chunk: what pickling costs whatever is pickled, some five microseconds, is not theirs.
    """
    try:
        wire.dumps((job.fn, job.initializer, job.initargs, job.retries.on))
    except Exception as error:
        return Travel(why_not=_job_refusal(job, error))
    _way("nothing", "nothing", None)  # the first takes longer than any other
    nothing = min(_way("nothing", "nothing", None) for _ in range(2))
    there = _way("an item", "item", item)
    back = _way("a result", "result", result)
    for way in (there, back):
        if way.why_not is not None:
            return Travel(why_not=way.why_not)
    fixed_s = nothing.pack_s + nothing.load_s
    return Travel(
        ITEM_S + max(0.0, there.pack_s + back.load_s - fixed_s),
        ITEM_S + max(0.0, there.load_s + back.pack_s - fixed_s),
        there.payload_bytes + back.payload_bytes,
    )


class _Way(NamedTuple):
    """What one way of a value costs: seconds of pickling and of loading it, and its bytes."""

    pack_s: float = 0.0
    load_s: float = 0.0
    payload_bytes: int = 0
    why_not: str | None = None


def _way(what: str, name: str, value: Any) -> _Way:
    """What a value's way costs, large buffers' copies left out of the seconds.

    By the clock of CPU time: beside threads that compute, most of the others' is for the GIL.
    """
    try:
        payload_bytes, pack_s, load_s = wire.round_trip(value)
    except Exception as error:
        return _Way(why_not=_refusal(what, name, value, error))
    return _Way(pack_s, load_s, payload_bytes)


def _job_refusal(job: Job, error: Exception) -> str:
    from . import guilty

    pieces = (
        ("the function", "fn", job.fn),
        ("the initializer", "initializer", job.initializer),
        ("an argument of the initializer", "initargs", job.initargs),
        ("what is said of retries", "retries", job.retries),
    )
    for what, name, value in pieces:
        own = guilty.unpicklable(value)
        if own is not None:
            return _refusal(what, name, value, own)
    return f"{pieces[0][0]} does not pickle ({guilty.reason(error)})"


def _refusal(what: str, name: str, value: Any, error: BaseException) -> str:
    from . import guilty

    found = guilty.blame(value, name, guilty.unloadable, error=error, within_s=SEARCH_S)
    return f"{what} does not pickle ({found or guilty.reason(error)})"
