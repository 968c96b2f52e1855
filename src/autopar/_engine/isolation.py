"""Whether a function's tasks can begin in processes, away from the caller; or else in threads."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._errors import BackendUnavailable, TransportError
from .._model import Job
from .._observe import effects

APART = "faults matter, so that items run in processes of their own"


class Obstacle(NamedTuple):
    """Why tasks begin in threads all the same, as one sentence.

    for_good: it is certain. Else what tasks have done may show that they belong in processes.
    """

    why: str
    for_good: bool


def obstacle(fn: Any, args: tuple[Any, ...], job: Job) -> Obstacle | None:
    """What keeps `fn(*args)`, and what is like it, from beginning in a process; or None.

    job: what else has to travel there.
    """
    why = effects.writes_of(fn)
    if why is not None:
        return Obstacle(why, for_good=True)
    if not effects.watch(fn, args[0] if len(args) == 1 else args).empty:
        return Obstacle("a call could change what only this process sees", for_good=False)
    from .._transport.travel import travel  # pickle and all, for who is on the way to a process

    why = travel(job._replace(fn=fn), args, None).why_not
    return None if why is None else Obstacle(why, for_good=True)


def fails_anywhere(error: BaseException, job: Job) -> bool:
    """Whether a crew's error is that of the job's initializer, which fails in threads as well."""
    elsewhere = TransportError | BackendUnavailable | ImportError
    return job.initializer is not None and not isinstance(error, elsewhere)
