"""What it takes to send a job to a process: measured on one item and one result."""

from __future__ import annotations

import pickle
import time
from typing import Any

from .._model import Job, Travel
from . import wire


def travel(job: Job, item: Any, result: Any) -> Travel:
    """What sending `item` there and `result` back costs, or why it cannot be.

    Pickles the function, the item and the result, and loads the latter two again.
    """
    try:
        wire.dumps((job.fn, job.initializer, job.initargs))
    except Exception as error:
        return Travel(why_not=_refusal("the function", error))
    there = _round_trip("an item", item)
    if there.why_not is not None:
        return there
    back = _round_trip("a result", result)
    if back.why_not is not None:
        return back
    return Travel((there.pack_s + back.pack_s) / 2, there.payload_bytes + back.payload_bytes)


def _round_trip(what: str, value: Any) -> Travel:
    """What a value's way costs, large buffers' copies left out of the seconds."""
    aside: list[pickle.PickleBuffer] = []
    began_s = time.perf_counter()
    try:
        body = wire.dumps(value, aside)
        pickle.loads(body, buffers=aside)
    except Exception as error:
        return Travel(why_not=_refusal(what, error))
    took_s = time.perf_counter() - began_s
    return Travel(took_s, len(body) + sum(buffer.raw().nbytes for buffer in aside))


def _refusal(what: str, error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{what} does not pickle ({type(error).__name__}: {first[:80]})"
