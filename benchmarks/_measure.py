"""One (case, system) pair in a process of its own: the script, and the handle on it.

    python _measure.py CASE SYSTEM SERVER

The script makes its items, says so, and then runs the case once for each line that it reads.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from _child import Child

PACKAGES = {"autopar": "autopar", "loky": "joblib", "joblib": "joblib", "mpire": "mpire"}


@dataclass(frozen=True)
class Call:
    """One timed call.

    ran: what autopar chose, and its reason; empty for the others.
    """

    seconds: float
    digest: str
    ran: str = ""
    because: str = ""


class Measured(Child):
    """The handle on one pair's process."""

    def __init__(self, case: str, system: str, server: str) -> None:
        super().__init__(__file__, case, system, server)
        self.system = system
        self.import_s = 0.0

    def wait_until_ready(self) -> None:
        self.import_s = self.ready()["import_s"]

    def call(self) -> Call:
        """Run the case once more. Raises: Failed."""
        return Call(**self.ask("call"))


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

    if case_name not in CASES:
        from _more_cases import HELD_OUT, MORE

        CASES |= {case.name: case for case in MORE + HELD_OUT}
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
