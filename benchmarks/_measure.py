"""One (case, system) pair in a process of its own: the script, and the handle on it.

    python _measure.py CASE SYSTEM SERVER

The script makes its items, says so, and then runs the case once for each line that it reads.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

START_LIMIT_S = 60.0
CALL_LIMIT_S = 60.0
# Compiled modules are kept, as an installed package's are, even where development switches it off.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
PACKAGES = {"autopar": "autopar", "loky": "joblib", "joblib": "joblib", "mpire": "mpire"}


class Failed(Exception):
    """A measurement that gave no time; the text says why."""


@dataclass(frozen=True)
class Call:
    """One timed call.

    ran: what autopar chose, and its reason; empty for the others.
    """

    seconds: float
    digest: str
    ran: str = ""
    because: str = ""


class Measured:
    """The handle on one pair's process."""

    def __init__(self, case: str, system: str, server: str) -> None:
        self.system = system
        self.import_s = 0.0
        self._process = subprocess.Popen(
            [sys.executable, __file__, case, system, server],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=ENVIRONMENT,
        )

    def wait_until_ready(self) -> None:
        self.import_s = self._answer(START_LIMIT_S)["import_s"]

    def call(self) -> Call:
        """Run the case once more. Raises: Failed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"call\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"exit status {self._process.wait()}") from None
        answer = self._answer(CALL_LIMIT_S)
        if "error" in answer:
            raise Failed(answer["error"])
        return Call(**answer)

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
        return json.loads(line)

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


def main(case_name: str, system: str, server: str) -> None:
    # What the measured libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    started = time.perf_counter()
    package = PACKAGES.get(system.partition("-")[0])
    if package is not None:
        importlib.import_module(package)
    import_s = time.perf_counter() - started

    from _cases import CASES, digest
    from _systems import SYSTEMS

    case = CASES[case_name]
    items = case.items(server)
    print(json.dumps({"import_s": import_s}), file=answers)
    with ExitStack() as stack:
        run = None
        for _ in sys.stdin:
            with _observed(system) as seen:
                started = time.perf_counter()
                try:
                    if run is None:
                        run = stack.enter_context(SYSTEMS[system]())
                    results = run(case.fn, items)
                except Exception as error:
                    print(json.dumps({"error": repr(error)}), file=answers)
                    continue
                seconds = time.perf_counter() - started
            answer = {"seconds": seconds, "digest": digest(results), **_account(seen)}
            del results
            print(json.dumps(answer), file=answers)


def _observed(system: str) -> Any:
    if system != "autopar":
        return nullcontext()
    from autopar import observe

    return observe()


def _account(seen: Any) -> dict[str, str]:
    if seen is None:
        return {}
    report = seen.reports[-1]
    ran = report.backend if report.workers == 1 else f"{report.workers} {report.backend}"
    return {"ran": ran, "because": str(report)}


if __name__ == "__main__":
    main(*sys.argv[1:])
