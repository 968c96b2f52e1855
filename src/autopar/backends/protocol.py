"""What a backend is: the few things the engine knows of one, and what a crew sees of the engine.

A crew *draws*: every worker of every crew takes its next chunk from the one desk of the call and
puts its results back there. Types only: nothing here is needed at run time, and protocols are
slow to define. So nobody has to divide the work beforehand, two crews can share a
call, and changing course means letting one crew finish while another begins to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .._model import Job
from .chunk import Chunk, Lent, Traits


class Desk(Protocol):
    """A call as its workers see it; safe to use from any thread."""

    @property
    def over(self) -> bool:
        """Nothing is left to do or to wait for."""
        ...

    @property
    def limit(self) -> int:
        """No item from this index on may start: one failed there, or the caller gave up."""
        ...

    def draw(self, workers: int, message_s: float, longest_s: float) -> Chunk | None:
        """The next chunk for one of `workers`, or None when there is none now."""
        ...

    def take(
        self, workers: int, message_s: float, longest_s: float
    ) -> tuple[int, Sequence[Any]] | None:
        """As `draw`, for workers in another process: the first index, and the items."""
        ...

    def settle(
        self, start: int, values: list[Any], wall_s: float, cpu_s: float | None = None
    ) -> None:
        """Results of consecutive items, and how long they took together."""
        ...

    def finish(
        self, chunk: Chunk, values: list[Any], wall_s: float, cpu_s: float | None = None
    ) -> bool:
        """All results of a chunk that was run through `todo`; False when it had been given up."""
        ...

    def rest(self, chunk: Chunk, unwanted: Callable[[], bool]) -> None:
        """Returns when a chunk's item may be tried again, or nothing is left in the chunk.

        unwanted: whether who rests is to rest no more; whoever makes it so calls `tell`.
        """
        ...

    def abandon(self, start: int, chunk: Chunk, error: BaseException) -> bool:
        """The item of `chunk` that `todo` yielded last raised; the rest is given back.

        start: the first item whose result is lost with it.
        False when the chunk had been given up.
        """
        ...

    def fail(self, index: int, error: BaseException) -> None:
        """One item failed, and has no try left."""
        ...

    def reject(self, index: int, item: Any, error: Exception) -> None:
        """One item does not travel to the workers of this crew; others may be able to run it."""
        ...

    def lose(self, index: int, item: Any, error: Exception, tries: int) -> None:
        """One item failed after so many tries; it gets another if it may."""
        ...

    def postpone(self, index: int, item: Any, tries: int) -> None:
        """One item, which has had so many tries, is to have another one, alone."""
        ...

    def tries(self, index: int) -> int:
        """How many tries an item has had."""
        ...

    def give_back(self, start: int, items: Sequence[Any]) -> None:
        """Drawn items that were not started."""
        ...

    def refuse(self, error: BaseException) -> None:
        """The job cannot be done by this crew at all (it would not travel, or not start)."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Returns when there may be something to draw, or after `timeout_s`."""
        ...

    def wait_change(self, timeout_s: float) -> None:
        """Returns when something happened that the engine may want to know, or later."""
        ...

    def give_way(self) -> None:
        """Let the engine's thread in if it is late; to be called between two chunks."""
        ...

    @property
    def drained(self) -> bool:
        """Nothing is there to be drawn, nor will be, unless somebody gives something back."""
        ...

    def pass_on(self) -> None:
        """Have another worker look who waits; called by one that ends."""
        ...

    def tell(self) -> None:
        """Have everyone who waits look again."""
        ...

    def listen(self, wake: Callable[[], object] | None) -> None:
        """`wake` is called whenever `wait` would return."""
        ...

    @property
    def item_s(self) -> float:
        """Mean seconds an item took lately; 0 when none has finished."""
        ...

    moved_s: float
    """Seconds spent here on packing, sending and loading."""


class CallerDesk(Protocol):
    """What the caller's thread needs of the desk beside what every crew does."""

    @property
    def item_s(self) -> float: ...
    def draw_count(self, count: int) -> Chunk | None: ...
    def rest(self, chunk: Chunk, unwanted: Callable[[], bool]) -> None: ...
    def give_way(self) -> None: ...
    def follow(self, chunk: Chunk, wall_s: float, count: int) -> Chunk | None: ...
    def cut_short(self, chunk: Lent, end: int, wall_s: float) -> None: ...
    def settle_followed(self, start: int, values: list[Any]) -> None: ...
    def finish(self, chunk: Chunk, values: list[Any], wall_s: float) -> bool: ...
    def abandon(self, start: int, chunk: Chunk, error: BaseException) -> bool: ...


class Crew(Protocol):
    """An open set of workers that draw from one desk."""

    @property
    def ready(self) -> int:
        """Workers able to run items now."""
        ...

    @property
    def hired(self) -> int:
        """Workers that no other call can have."""
        ...

    @property
    def busy(self) -> bool:
        """Some worker holds items."""
        ...

    @property
    def load_s(self) -> float:
        """Seconds that the job took to load in a worker with memory of its own; or zero."""
        ...

    @property
    def memory_bytes(self) -> tuple[int, int]:
        """What workers with memory of their own hold together, and the most of one; or zeros."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Return when `step` has something to do, or after `timeout_s`."""
        ...

    def step(self) -> None:
        """Give work out and take results in, without waiting."""
        ...

    def resize(self, workers: int) -> None:
        """Have this many workers, as soon as the ones too many finish what they run."""
        ...

    def replace(self, lost: int) -> None:
        """Do without so many workers whose items were given up; start others in their stead."""
        ...

    def retire(self) -> None:
        """Draw no more; give back what has not started."""
        ...

    def close(self, *, kill: bool = False) -> None:
        """Let the workers go; `kill` does not wait for what they run."""
        ...


class Backend(Protocol):
    """A means of running items."""

    @property
    def name(self) -> str: ...

    @property
    def traits(self) -> Traits: ...

    def check(self) -> None:
        """Raises `BackendUnavailable` where this backend cannot run."""
        ...

    def open(self, job: Job, desk: Desk, workers: int, native: int) -> Crew:
        """A crew of `workers`; each may use `native` threads of BLAS and the like, 0 for any."""
        ...
