"""The frozen records that travel between the rooms of autopar.

Named tuples rather than dataclasses: they are as frozen, and importing autopar stays quick (a
dataclass costs about 1 ms to define, and `dataclasses` itself 5 ms to import).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from ._retry import NEVER, Retry

Kind = Literal["auto", "cpu", "io"]
Errors = Literal["raise", "return", "group"]


class Job(NamedTuple):
    """What every worker of one call runs.

    fn: the callable, given one item.
    initializer, initargs: run once in each worker before its first item.
    keep_errors: exceptions are results of their items (`errors="return"` and `"group"`).
    retries: how many more tries an item gets when it fails, after which failures, and when.
    timeout_s: seconds one try may take, or None.
    memory_bytes: a worker process that holds more is replaced between items, or None.
    strict: what does not travel to a process fails its item, instead of the whole job being
        refused there.
    most_items: a worker process is replaced after so many, or None.
    silent: nobody wants what items give: it goes no further than the worker.
    """

    fn: Callable[[Any], Any]
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    keep_errors: bool = False
    retries: Retry = NEVER
    timeout_s: float | None = None
    memory_bytes: int | None = None
    strict: bool = False
    most_items: int | None = None
    silent: bool = False

    @property
    def singly(self) -> bool:
        """Whether threads are given items one by one: each has its time, or waits between tries."""
        return self.timeout_s is not None or self.retries.waits


class Options(NamedTuple):
    """What the caller asked for.

    backend: the name of the means, or None for autopar's choice.
    workers: upper bound on workers, or None.
    chunksize: items a chunk, or None for chunks sized by time.
    careful: faults matter to the caller: no item may run in its own thread.
    single: items must not run beside each other in one process.
    hybrid: items may share worker processes.
    """

    kind: Kind = "auto"
    backend: str | None = None
    workers: int | None = None
    chunksize: int | None = None
    errors: Errors = "raise"
    careful: bool = False
    single: bool = False
    hybrid: bool = True


class Travel(NamedTuple):
    """What it takes to send one item to a process and its result back.

    here_s: seconds an item costs the calling process: pickling it, and loading its result.
    there_s: seconds it costs a worker: loading it, and pickling its result.
    payload_bytes: bytes of an item and its result together.
    why_not: a sentence when the job must stay in shared memory, else None.
    """

    here_s: float = 0.0
    there_s: float = 0.0
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
    alone_s: of an item, as threads have shown, during which no other got on, whatever held it up.
    others_s: CPU seconds that other programs used for each item meanwhile, if that was seen.
    apart_s: seconds from one item to the next that a hybrid has shown, if there was one.
    """

    items: int
    wall_s: float
    cpu_s: float
    gil_s: float
    travel: Travel | None = None
    longest_s: float = 0.0
    alone_s: float = 0.0
    others_s: float = 0.0
    apart_s: float = 0.0


class Plan(NamedTuple):
    """How the rest of a call will run.

    backend: the name of the means.
    workers: how many items run at once, at least 1.
    because: the reason, as one readable sentence.
    predicted_s: seconds each strategy was predicted to need for what is left.
    observation: what the plan was made from, or None when the caller had already chosen.
    processes: for a hybrid, how many processes the workers are threads of; else 0.
    """

    backend: str
    workers: int
    because: str
    predicted_s: dict[str, float]
    observation: Observation | None = None
    processes: int = 0

    @property
    def means(self) -> str:
        """The means and how many of them, in words."""
        width = f" x {self.workers}" if self.workers > 1 else ""
        within = f" in {self.processes} processes" if self.processes else ""
        return f"{self.backend}{width}{within}"

    def __str__(self) -> str:
        return f"{self.means}: {self.because}"


class Machine(NamedTuple):
    """What this machine and interpreter allow now.

    cpus: usable CPUs, at least 1: scheduler affinity and cgroup quotas respected.
    gil: whether the interpreter's global lock is enabled.
    processes_why_not: a sentence when process workers cannot run here, else None.
    """

    cpus: int
    gil: bool = True
    processes_why_not: str | None = None
