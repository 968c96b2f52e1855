"""Running the workloads and saying what came of it, in at most 80 columns."""

from __future__ import annotations

import platform
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import autopar
from autopar._demo.workloads import Workload, workloads

COLUMNS = 80
INDENT = " " * 12


@dataclass(frozen=True)
class Outcome:
    """What one workload gave.

    chose: the backend, with its number of workers.
    expected: whether the choice is one that suits the workload.
    """

    name: str
    chose: str
    loop_s: float
    autopar_s: float
    equal: bool
    expected: bool

    @property
    def ratio(self) -> float:
        return self.loop_s / self.autopar_s


def demo(names: Sequence[str]) -> int:
    """Run and compare the named workloads; 0 when every result equals the loop's, else 1."""
    cpus = _usable_cpus()
    gil = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
    lock = "with the GIL" if gil else "without the GIL"
    _say(
        f"autopar on {platform.python_implementation()} {platform.python_version()} {lock}, "
        f"{cpus} CPU{'s' * (cpus != 1)}\n"
    )
    try:
        with workloads(names, gil=gil) as chosen:
            outcomes = [_compare(workload, cpus) for workload in chosen]
    finally:
        autopar.shutdown()
    _summarise(outcomes)
    return 0 if all(outcome.equal for outcome in outcomes) else 1


def _usable_cpus() -> int:
    from autopar._observe.machine import usable_cpus

    return usable_cpus()


def _compare(workload: Workload, cpus: int) -> Outcome:
    _say(f"{workload.name}: {workload.what} ({workload.behaviour})")
    fn, items = workload.fn, workload.items
    loop_s = autopar_s = float("inf")
    equal = True
    with autopar.observe() as seen:
        for _ in range(workload.repeats):
            took_s, expected = _timed("the loop", lambda: [fn(item) for item in items])
            loop_s = min(loop_s, took_s)
            took_s, results = _timed("autopar", lambda: autopar.auto_map(fn, items))
            autopar_s = min(autopar_s, took_s)
            equal = equal and results == expected
    report = seen.reports[-1]
    outcome = Outcome(
        workload.name,
        _choice(report.backend, report.workers),
        loop_s,
        autopar_s,
        equal,
        report.backend in (workload.suits if cpus > 1 else workload.suits | {"serial"}),
    )
    _tell(outcome, report.because)
    return outcome


def _timed(who: str, run: Callable[[], list[Any]]) -> tuple[float, list[Any]]:
    with _Live(f"  {who} runs ..."):
        started = time.perf_counter()
        results = run()
        return time.perf_counter() - started, results


class _Live:
    """A line that is there while something runs, on a terminal only."""

    def __init__(self, line: str) -> None:
        self._line = line

    def __enter__(self) -> None:
        if sys.stdout.isatty():
            print(self._line, end="", flush=True)

    def __exit__(self, *_: object) -> None:
        if sys.stdout.isatty():
            print("\r" + " " * len(self._line), end="\r", flush=True)


def _choice(backend: str, workers: int) -> str:
    return backend if backend == "serial" else f"{workers} {backend}"


def _tell(outcome: Outcome, because: str) -> None:
    suits = "as expected" if outcome.expected else "NOT what suits this work"
    equal = "equal results" if outcome.equal else "DIFFERENT RESULTS"
    _row("chose", f"{outcome.chose}, {suits}")
    _row("because", because)
    _row("the loop", _seconds(outcome.loop_s))
    _row("autopar", f"{_seconds(outcome.autopar_s)}, {_faster(outcome.ratio)}, {equal}\n")


def _row(label: str, text: str) -> None:
    end = "\n" if text.endswith("\n") else ""
    lines = textwrap.wrap(text, COLUMNS - len(INDENT))
    _say(f"  {label:<{len(INDENT) - 2}}" + f"\n{INDENT}".join(lines) + end)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"


def _faster(ratio: float) -> str:
    if 0.9 <= ratio < 1.1:
        return "the same speed"
    return f"{ratio:.1f} times as fast"


def _summarise(outcomes: Sequence[Outcome]) -> None:
    _say(
        f"{'workload':<13}{'autopar chose':<16}{'loop':>9}{'autopar':>9}{'ratio':>8}"
        f"  {'results':<10}choice"
    )
    for outcome in outcomes:
        _say(
            f"{outcome.name:<13}{outcome.chose:<16}{_seconds(outcome.loop_s):>9}"
            f"{_seconds(outcome.autopar_s):>9}{outcome.ratio:>7.1f}x"
            f"  {'equal' if outcome.equal else 'DIFFERENT':<10}"
            f"{'expected' if outcome.expected else 'not expected'}"
        )


def _say(line: str) -> None:
    print(line, flush=True)
