"""A process of its own for each measurement: the handle on a script that answers line by line.

The script reads a line from its standard input, does what the line asks, and answers with one
line of JSON; its first answer says that it is ready.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

START_LIMIT_S = 60.0
CALL_LIMIT_S = 60.0
# Compiled modules are kept, as an installed package's are, even where development switches it off.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}


class Failed(Exception):
    """A measurement that gave no time; the text says why."""


class Child:
    """The handle on one script's process."""

    def __init__(self, script: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=ENVIRONMENT,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self) -> dict[str, Any]:
        """The first answer. Raises: Failed."""
        return self._answer(START_LIMIT_S)

    def ask(self, line: str, limit_s: float = CALL_LIMIT_S) -> dict[str, Any]:
        """What the script answers to a line. Raises: Failed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"exit status {self._process.wait()}") from None
        return self._answer(limit_s)

    def _answer(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        line = b""
        deadline = time.monotonic() + limit_s
        while not line.endswith(b"\n"):
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left_s)[0]:
                raise Failed(f"no result within {limit_s:.0f} s")
            part = os.read(descriptor, 1 << 16)
            if not part:
                raise Failed(f"exit status {self._process.wait()}")
            line += part
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def close(self) -> None:
        """End the process and whatever it left in its session."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._process.stdout.close()
