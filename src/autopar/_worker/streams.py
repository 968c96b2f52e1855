"""A worker's sys.stdout and sys.stderr: what is written goes to the caller, line by line.

What code writes to the descriptors 1 and 2 directly (C libraries, child processes, `os.write`)
does not come this way: it goes where the caller's own descriptors lead.
"""

from __future__ import annotations

import _thread
import codecs
import io
import os
import sys

from autopar._transport.wire import OUT

TYPE_CHECKING = False  # `typing` costs a new worker 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from autopar._transport.world import Stdio

    Send = Callable[[int, Any], None]

_streams: list[io.TextIOWrapper | None] = [None, None]
_raws: list[Wire | None] = [None, None]
_stdio: list[Stdio | None] = [None, None]
_alone = False  # in a child that the user has forked, which ends without a word


class Wire(io.RawIOBase):
    """The lowest layer of a stream: sends whole lines, and holds an unfinished one back."""

    def __init__(self, number: int, encoding: str, errors: str, isatty: bool, send: Send) -> None:
        self.name = ("<stdout>", "<stderr>")[number - 1]
        self.mode = "wb"
        self.send = send
        self._number = number
        self._isatty = isatty
        # Bytes that are no text come back as the same bytes at the other end.
        lone = errors if errors == "surrogatepass" else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(_native(encoding))(lone)
        self._held: list[str] = []
        self._lock = _thread.allocate_lock()

    def write(self, data: Any) -> int:
        """Takes all of `data`."""
        with self._lock:
            text = self._decoder.decode(bytes(data))
            cut = len(text) if _alone else text.rfind("\n") + 1
            if cut:
                lines = "".join((*self._held, text[:cut]))
                self._held = []
                self.send(OUT, (self._number, lines))
            if cut < len(text):
                self._held.append(text[cut:])
        return len(data)

    def drain(self) -> None:
        """Sends the unfinished line."""
        if self._held:
            with self._lock:
                lines, self._held = "".join(self._held), []
                if lines:
                    self.send(OUT, (self._number, lines))

    def forked(self) -> None:
        """Forgets what the parent holds and will send."""
        self._lock = _thread.allocate_lock()
        self._held = []

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return self._isatty


def install(stdio: tuple[Stdio | None, Stdio | None], send: Send) -> None:
    """Makes sys.stdout and sys.stderr lead to the caller, and look like the caller's."""
    for index, wanted in enumerate(stdio):
        raw, stream = _raws[index], _streams[index]
        if raw is None or stream is None or wanted != _stdio[index] or _closed(stream):
            raw, stream = _open(index + 1, wanted, send) if wanted else (None, None)
            _raws[index], _streams[index], _stdio[index] = raw, stream, wanted
        if raw is not None:
            raw.send = send
        for name in (("stdout", "__stdout__"), ("stderr", "__stderr__"))[index]:
            setattr(sys, name, stream)


def _closed(stream: io.TextIOWrapper) -> bool:
    try:
        return stream.closed
    except ValueError:  # detached
        return True


def _open(number: int, stdio: Stdio, send: Send) -> tuple[Wire, io.TextIOWrapper]:
    """A stream with its lowest layer."""
    encoding, errors, isatty = stdio
    if encoding is None:  # io.StringIO has none, and takes whatever a str can hold
        encoding, errors = "utf-8", "surrogatepass"
    try:
        codecs.lookup_error(errors or "strict")
        codecs.lookup(encoding)
    except LookupError:  # one that only the caller has
        encoding, errors = "utf-8", "backslashreplace"
    raw = Wire(number, encoding, errors or "strict", isatty, send)
    layers = io.BufferedWriter(raw)
    stream: Any = io.TextIOWrapper(layers, encoding, errors, newline="\n", line_buffering=True)
    stream.mode = "w"
    return raw, stream


def _native(encoding: str) -> str:
    """The encoding as io writes it to what cannot seek: without a mark of the byte order."""
    if codecs.lookup(encoding).name in ("utf-16", "utf-32"):
        return f"{encoding}-{sys.byteorder[0]}e"
    return encoding


def flush() -> None:
    """Sends what has been written and not been sent: called at the end of each task."""
    for stream in (*_streams, sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except Exception:
                pass  # the user has closed it, or put something of his own in its place
    for raw in _raws:
        if raw is not None:
            raw.drain()


def _after_fork() -> None:
    global _alone
    _alone = True
    for raw in _raws:
        if raw is not None:
            raw.forked()


os.register_at_fork(after_in_child=_after_fork)
