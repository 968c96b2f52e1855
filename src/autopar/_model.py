"""The frozen records that travel between the rooms of autopar.

Named tuples rather than dataclasses: they are as frozen, and importing autopar stays quick (a
dataclass costs about 1 ms to define, and `dataclasses` itself 5 ms to import).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

Kind = Literal["auto", "cpu", "io"]
Errors = Literal["raise", "return", "group"]


class Job(NamedTuple):
    """What every worker of one call runs.

    fn: the callable, given one item.
    initializer, initargs: run once in each worker before its first item.
    keep_errors: exceptions are results of their items (`errors="return"` and `"group"`).
    """

    fn: Callable[[Any], Any]
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    keep_errors: bool = False


class Options(NamedTuple):
    """What the caller asked for.

    backend: the name of the means, or None for autopar's choice.
    workers: upper bound on workers, or None.
    chunksize: items a chunk, or None for chunks sized by time.
    """

    kind: Kind = "auto"
    backend: str | None = None
    workers: int | None = None
    chunksize: int | None = None
    errors: Errors = "raise"


class Travel(NamedTuple):
    """What it takes to send one item to a process and its result back.

    pack_s: seconds of pickling and unpickling an item costs each side.
    payload_bytes: bytes of an item and its result together.
    why_not: a sentence when the job must stay in shared memory, else None.
    """

    pack_s: float = 0.0
    payload_bytes: int = 0
    why_not: str | None = None


class Observation(NamedTuple):
    """What the probe saw; seconds are means per item.

    items: items finished while it watched; 0 when the first was still running.
    wall_s: seconds an item takes, time spent queueing for a CPU left out.
    cpu_s: CPU seconds of an item, native helper threads and children included.
    gil_s: seconds of the item during which it held the GIL.
    travel: None where processes were not in question.
    longest_s: the longest item seen (of items too short to be timed alone, of their means).
    """

    items: int
    wall_s: float
    cpu_s: float
    gil_s: float
    travel: Travel | None = None
    longest_s: float = 0.0


class Plan(NamedTuple):
    """How the rest of a call will run.

    backend: the name of the means.
    workers: how many workers, at least 1.
    because: the reason, as one readable sentence.
    predicted_s: seconds each strategy was predicted to need for what is left.
    observation: what the plan was made from, or None when the caller had already chosen.
    """

    backend: str
    workers: int
    because: str
    predicted_s: dict[str, float]
    observation: Observation | None = None

    def __str__(self) -> str:
        width = f" x {self.workers}" if self.workers > 1 else ""
        return f"{self.backend}{width}: {self.because}"


class Machine(NamedTuple):
    """What this machine and interpreter allow now.

    cpus: usable CPUs, at least 1: scheduler affinity and cgroup quotas respected.
    gil: whether the interpreter's global lock is enabled.
    processes_why_not: a sentence when process workers cannot run here, else None.
    """

    cpus: int
    gil: bool = True
    processes_why_not: str | None = None
