"""Programs that the tests start, with a watch on everybody in their process trees."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from conftest import eventually, is_alive

STRICT = ("-X", "dev", "-W", "error")
GONE_S = 2.0  # nobody may outlive a program by longer
PRELUDE = f"""
import os, signal, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import work
from autopar import auto_map, shutdown
"""


class Program:
    """A program of its own; everybody below it carries its mark, whoever their parent is now."""

    def __init__(
        self,
        script: str | Path,
        flags: Sequence[str] = STRICT,
        *,
        prelude: str = PRELUDE,
        stdin: bool = False,
    ) -> None:
        self._mark = f"AUTOPAR_TEST_MARK={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        what = [str(script)] if isinstance(script, Path) else ["-c", prelude + script]
        self.process = subprocess.Popen(
            [sys.executable, *flags, *what],
            env={**os.environ, name: value},
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self.process.pid

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_exc: object) -> None:
        for pid in self.tree():
            _send(pid, signal.SIGKILL)
        self.process.communicate()

    def tree(self) -> list[int]:
        """Everybody of this program who is alive."""
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return [pid for pid in pids if self._mark in _environ(pid) and is_alive(pid)]

    def read(self, words: str) -> None:
        """Returns when the program, or those below it, have written so much."""
        assert self.process.stdout is not None
        got, wanted = b"", words.encode()
        # Not one byte more: `communicate` does not know what the stream itself has read ahead.
        while len(got) < len(wanted):
            part = os.read(self.process.stdout.fileno(), len(wanted) - len(got))
            if not part:
                break
            got += part
        assert got == wanted, (got, self.process.stderr.read() if self.process.stderr else "")

    def read_and_wait(self, words: str) -> None:
        """As `read`, and then until a moment later.

        A Python whose signal arrives just as the main thread is about to sleep or block handles it
        when that is over: CPython's own race, which programs that begin with many threads lose
        most easily in their first millisecond.
        """
        self.read(words)
        time.sleep(random.uniform(0.03, 0.1))

    def close_stdin(self) -> None:
        """Lets a program go on that reads its input to the end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None  # or communicate() would close it again

    def signal_group(self, number: signal.Signals) -> None:
        """Signals everybody, as a terminal does."""
        os.killpg(self.pid, number)

    def all_end(self) -> bool:
        """Whether the whole tree is gone in time, once the program is."""
        self.process.wait(timeout=30)
        return eventually(lambda: not self.tree(), GONE_S)

    def finish(self, timeout_s: float = 50.0) -> tuple[str, str, int]:
        """What the program has written, and its exit code; nobody is left of it then."""
        out, err = self.process.communicate(timeout=timeout_s)
        assert eventually(lambda: not self.tree(), GONE_S), (self.tree(), out, err)
        return out, err, self.process.returncode


def run_program(script: str | Path, flags: Sequence[str] = STRICT) -> str:
    """What a program prints that has to end well, silently, and leave nobody behind."""
    with Program(script, flags) as program:
        out, err, code = program.finish()
    assert (code, err) == (0, ""), err
    return out


def time_of(program: Program, number: signal.Signals) -> float:
    """Seconds a program takes to end after a signal to everybody in it.

    Like a person, it asks again when nothing happens: see `read_and_wait`.
    """
    began_s = time.monotonic()
    for _ in range(10):
        program.signal_group(number)
        try:
            program.process.wait(timeout=3)
            break
        except subprocess.TimeoutExpired:
            pass
    return time.monotonic() - began_s


def _environ(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except (OSError, ProcessLookupError):
        return ""


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
