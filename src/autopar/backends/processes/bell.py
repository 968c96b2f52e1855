"""A bell that wakes whoever waits for descriptors."""

from __future__ import annotations

import os


class Bell:
    """A pipe with something in it when it has been rung."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)
        os.set_blocking(self._in, False)

    def fileno(self) -> int:
        """The descriptor that is readable when it has been rung."""
        return self._out

    def ring(self) -> None:
        """Wakes whoever waits; from any thread."""
        try:
            os.write(self._in, b"!")
        except (BlockingIOError, OSError):
            pass  # it is ringing already, or has been closed

    def hush(self) -> None:
        """Makes it silent again."""
        try:
            os.read(self._out, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Gives the descriptors back."""
        os.close(self._out)
        os.close(self._in)
