"""The helper and the workers that wait for the next call; one roster serves the whole process.

The helper is started when first needed. Workers that a call gives back stay with the roster, and
go to the next call.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .helper import Helper

if TYPE_CHECKING:
    from .remote import Remote


READY_S = 0.15  # a helper that was started so long ago has imported what it is to import


class Roster:
    """The helper and the workers that wait for a call; one for the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: Helper | None = None
        self._idle: list[Remote] = []
        self._number = 0
        self._owner = os.getpid()

    @property
    def warm(self) -> bool:
        """Whether workers wait for a call."""
        return bool(self._idle)

    @property
    def helped(self) -> bool:
        """Whether the helper has been there for long enough to be ready."""
        helper = self._helper
        return helper is not None and not helper.gone and helper.age_s > READY_S

    def helper(self, libraries: Callable[[], Sequence[str]] = tuple) -> Helper:
        """The helper, started if there is none.

        libraries: gives the modules that a new one imports for all its workers.
        """
        with self._lock:
            if self._helper is None:
                self._helper = Helper(libraries())
            return self._living()

    def borrow(self, count: int, used: Helper | None) -> tuple[Helper, list[Remote]]:
        """`count` workers, waiting ones first, and the helper that knows of them.

        used: the helper the crew has used so far; another counts it among its users until `leave`.
        """
        with self._lock:
            helper = self._living()
            helper.users += helper is not used
            remotes: list[Remote] = []
            while self._idle and len(remotes) < count:
                remote = self._idle.pop()
                if remote.number in helper.ended:
                    del helper.ended[remote.number]
                    remote.close()
                else:
                    remotes.append(remote)
            fresh = [self._new() for _ in range(count - len(remotes))]
            helper.fork(fresh)
            return helper, remotes + fresh

    def give(self, helper: Helper, remotes: Sequence[Remote]) -> None:
        """Takes workers that have nothing to do."""
        with self._lock:
            if helper is self._helper and not helper.gone:
                self._idle.extend(remotes)
                return
        for remote in remotes:
            remote.close()

    def leave(self, helper: Helper) -> None:
        """A crew does not use a helper any more."""
        with self._lock:
            helper.users -= 1
            last = helper.retired and not helper.users
        if last:
            helper.close(wait=True)

    def close(self, *, wait: bool = True, at_exit: bool = False) -> None:
        """Ends every waiting worker, and the helper, or else it ends with its last crew.

        at_exit: only threads that nobody waits for can be in a call still; none of them is to
        complain that its workers are gone.
        """
        with self._lock:
            idle, self._idle = self._idle, []
            helper, self._helper = self._helper, None
            if helper is not None:
                helper.ending = at_exit
                helper.retired = helper.users > 0 and not at_exit
        for remote in idle:
            remote.close()
        if helper is not None and not helper.retired:
            helper.close(wait=wait)

    def forget(self) -> None:
        """Lets go of what belongs to the parent, in a child that the user forked."""
        self._lock = threading.Lock()
        for remote in self._idle:
            remote.close()
        self._idle = []
        if self._helper is not None:
            self._helper.forget()
        self._helper = None

    def _living(self) -> Helper:
        helper = self._helper
        if helper is not None:
            helper.listen()
        if helper is not None and helper.gone:
            for remote in self._idle:
                remote.close()
            self._idle = []
            helper.close(wait=True)
            helper = None
        if helper is None:  # nor does this one import what the other may have ended of
            helper = self._helper = Helper()
        return helper

    def _new(self) -> Remote:
        from .remote import Remote  # and all it needs, which the helper's start does not wait for

        self._number += 1
        return Remote(self._number)


ROSTER = Roster()
atexit.register(ROSTER.close, wait=False, at_exit=True)
os.register_at_fork(after_in_child=ROSTER.forget)
