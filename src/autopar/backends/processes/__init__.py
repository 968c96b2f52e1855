"""Worker processes, forked by a clean helper, each worker with a socket of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..._errors import BackendUnavailable
from ..._libraries import libraries_of
from ..._model import Job
from ..._native import USERS
from ..._platform import can_fork_helpers
from ..chunk import Traits
from .roster import ROSTER

if TYPE_CHECKING:
    from ..protocol import Desk
    from .crew import ProcessCrew


class Processes:
    """The backend of worker processes."""

    name = "processes"
    traits: Traits = Traits(shares_memory=False, escapes_gil=True, kills_items=True)

    def check(self) -> None:
        """Raises `BackendUnavailable` where processes cannot be forked by a helper."""
        why = can_fork_helpers()
        if why is not None:
            raise BackendUnavailable(self.name, why, "Use backend='threads' or kind='auto'.")

    @property
    def warm(self) -> bool:
        """Whether workers are waiting."""
        return ROSTER.warm

    @property
    def helped(self) -> bool:
        """Whether their helper is ready, so that workers need not wait for it."""
        return ROSTER.helped

    def prepare(self, fn: Any, *, by_value: bool = False, native: int = 1) -> None:
        """Starts the helper, so that a crew for `fn` opens sooner.

        native: as for `open`.
        """
        with self._started():
            helper = ROSTER.helper(lambda: _libraries(fn, native))
        if by_value:
            helper.load("cloudpickle")

    def open(
        self, job: Job, desk: Desk, workers: int, native: int = 0, processes: int = 0
    ) -> ProcessCrew:
        """A crew of `workers`, each with `native` threads of BLAS and the like (0 for one).

        processes: how many the workers are threads of; 0 when each has one of its own.
        Raises `TransportError` when the job does not travel.
        """
        self.check()
        with self._started():
            # Its interpreter starts while this one imports what is left.
            ROSTER.helper(lambda: _libraries(job.fn, native))
            from .crew import ProcessCrew

            return ProcessCrew(job, desk, workers, max(1, native), processes)

    @contextmanager
    def _started(self) -> Iterator[None]:
        """Turns the system's refusal to start the helper into our own."""
        try:
            yield
        except (OSError, TypeError, ValueError) as error:
            why = f"its helper could not be started with {sys.executable!r} ({error})"
            raise BackendUnavailable(self.name, why, "Use backend='threads'.") from error

    def shutdown(self, *, wait: bool = True) -> None:
        """Ends the helper and the workers that no call is using."""
        ROSTER.close(wait=wait)


def _libraries(fn: Any, native: int) -> list[str]:
    """What the helper imports for all workers.

    Once a library has been loaded for one native thread, not all of them can be given more.
    """
    found = libraries_of(fn)
    if native <= 1:
        return found
    return [name for name in found if name.partition(".")[0] not in USERS]
