"""A call with options that have been checked, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ._engine.call import Call
from ._model import Job, Options
from ._options import Chosen, check_awaited
from ._shapes import awaits


def run(
    fn: Callable[[Any], Any], items: Iterable[Any], chosen: Chosen, *, silent: bool = False
) -> list[Any]:
    """What the call comes to; nothing if it is to be silent."""
    if awaits(fn):
        check_awaited(chosen)
        from . import _own_loop  # asyncio, and what stands on it, is not needed by others

        return _own_loop.results(fn, items, chosen, silent=silent)
    return outcome_of(call_of(fn, items, chosen, silent=silent), chosen)


def outcome_of(call: Call, chosen: Chosen) -> list[Any]:
    """What a call comes to, with its progress shown if that is wanted."""
    if chosen.progress is None:
        return _result(call, chosen)
    from ._progress import shown

    return shown(chosen.progress, call, lambda: _result(call, chosen))


def _result(call: Call, chosen: Chosen) -> list[Any]:
    if chosen.seed is None:
        return call.run()
    from ._seeds import random_state_kept

    with random_state_kept():
        return call.run()


def call_of(
    fn: Callable[[Any], Any], items: Iterable[Any], chosen: Chosen, *, silent: bool = False
) -> Call:
    """A call with options that have been checked."""
    if chosen.seed is not None:
        from ._seeds import seeded

        fn, items = seeded(fn, items, chosen.seed)
    job = Job(
        fn,
        chosen.initializer,
        chosen.initargs,
        chosen.errors != "raise",
        chosen.retries,
        chosen.timeout_s,
        chosen.memory_bytes,
        chosen.backend in ("processes", "hybrid"),
        silent=silent,
    )
    options = Options(
        chosen.kind,
        chosen.backend,
        chosen.workers,
        chosen.chunksize,
        chosen.errors,
        chosen.faults_matter,
        chosen.seed is not None,
    )
    return Call(job, items, options, chosen.executor)
