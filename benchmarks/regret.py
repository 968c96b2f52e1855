"""How close does autopar come to the best that can be tuned by hand?

For each case, regret is autopar's time over the time of the best of all others (the oracle): the
plain loop, thread pools, process pools with several chunk sizes, processes x threads, joblib and
mpire. 1.00 is as good as the oracle; below 1 is better.

Cold is the first call in a fresh process, pool start included, imports not. Warm is a later call
in the same process; the others keep their pools open.

Built for a small and noisy machine. First everybody is tried once, and those without a chance
leave. Then come rounds: each finalist gets a fresh process, all of them make one cold call each,
in random order, and then take turns at warm calls, so that every ratio compares two calls made
within seconds of each other. A case's regret against one rival is the median of those ratios,
and the rival that autopar looks worst against is the oracle.

To look worst against the luckiest of several is more than 1 also for whoever is as good as the best
of them. How much more, a twin shows: the rival that was best in the trial takes part a second time,
and its regret is worked out as autopar's is. What is above the twin's is autopar's own.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import _server
from _bystanders import Bystanders
from _cases import CASES, Case
from _child import Failed
from _measure import Call, Measured
from _more_cases import HELD_OUT, MORE
from _systems import CPUS, FAMILIES, QUICK, SYSTEMS

ALL: dict[str, Case] = CASES | {case.name: case for case in MORE + HELD_OUT}
OURS = "autopar"
TWIN = "the best again"
IN_REACH = 1.5  # times the best, in the trial: whoever is further off is not in the rounds
MOST = 2  # of those, cold and warm each
HOPELESS = 2.5  # times the best cold call: not tried warm


@dataclass
class Record:
    """The calls of one system on one case; `cold[i]` and `warm[i]` belong to round i."""

    system: str
    cold: list[float] = field(default_factory=list)
    warm: list[list[float]] = field(default_factory=list)
    import_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Regret:
    """autopar's time over the oracle's; `inf` when autopar failed."""

    ratio: float
    oracle: str
    spread: float


@dataclass
class Verdict:
    """What came of one case.

    twin_cold, twin_warm: the regret of the best rival's twin.
    wrong: systems whose results differ from the loop's.
    failed: systems that gave no result, and why.
    others: the share of the machine that programs which are not ours used meanwhile.
    """

    case: str
    records: dict[str, Record]
    cold: Regret
    warm: Regret
    twin_cold: Regret
    twin_warm: Regret
    ours: Call | None
    wrong: list[str]
    failed: dict[str, str]
    others: float


class Trouble:
    """What went wrong on one case: failures, and results that are not the loop's."""

    def __init__(self, expected: str) -> None:
        self.expected = expected
        self.failed: dict[str, str] = {}
        self.wrong: list[str] = []

    def call(self, measured: Measured) -> Call | None:
        """The call, or None if it failed, now or earlier."""
        if measured.system in self.failed:
            return None
        try:
            call = measured.call()
        except Failed as error:
            self.failed[measured.system] = str(error)
            return None
        if call.digest != self.expected and measured.system not in self.wrong:
            self.wrong.append(measured.system)
        return call

    def is_ready(self, measured: Measured) -> bool:
        """Wait for it; False if it does not start, as where its package is not installed."""
        try:
            measured.wait_until_ready()
        except Failed as error:
            self.failed[measured.system] = str(error)
            return False
        return True


@contextmanager
def opened(
    case: str, systems: Iterable[str], server: str, trouble: Trouble, twin_of: str = ""
) -> Iterator[list[Measured]]:
    """A fresh process for each system, ready to be called."""
    crew: list[Measured] = []
    try:
        for system in systems:
            crew.append(Measured(case, twin_of if system == TWIN else system, server))
            crew[-1].system = system
        yield [measured for measured in crew if trouble.is_ready(measured)]
    finally:
        for measured in crew:
            measured.close()


def expected_digest(case: str, server: str) -> str:
    with opened(case, ["serial"], server, Trouble("")) as (loop,):
        return loop.call().digest


def trial(case: str, systems: Sequence[str], server: str, trouble: Trouble) -> list[str]:
    """Those of `systems` that are in reach of the best, cold or warm.

    autopar comes along, so that its modules are compiled and on hand like everybody's.
    """
    cold: dict[str, float] = {}
    warm: dict[str, float] = {}
    with opened(case, [OURS, *systems], server, trouble) as crew:
        for measured in crew:
            if (call := trouble.call(measured)) is not None:
                cold[measured.system] = call.seconds
        for measured in crew:
            system = measured.system
            hopeless = cold.get(system, math.inf) > HOPELESS * min(cold.values(), default=0.0)
            if not hopeless and (call := trouble.call(measured)) is not None:
                warm[system] = call.seconds
    return list(dict.fromkeys([*in_reach(warm), *in_reach(cold)]))


def in_reach(seconds: dict[str, float]) -> list[str]:
    ranked = sorted(seconds.keys() - {OURS}, key=seconds.__getitem__)
    return [system for system in ranked[:MOST] if seconds[system] <= IN_REACH * seconds[ranked[0]]]


def one_round(
    case: str,
    records: dict[str, Record],
    turns: int,
    server: str,
    trouble: Trouble,
    twin_of: str = "",
) -> Call | None:
    """Add a round to `records`; autopar's last call, if it made one."""
    ours = None
    for record in records.values():
        record.cold.append(math.inf)
        record.warm.append([math.inf] * turns)
    with opened(case, records, server, trouble, twin_of) as crew:
        random.shuffle(crew)
        for measured in crew:
            if (call := trouble.call(measured)) is not None:
                records[measured.system].cold[-1] = call.seconds
                records[measured.system].import_s.append(measured.import_s)
        for turn in range(turns):
            for measured in crew:
                if (call := trouble.call(measured)) is not None:
                    records[measured.system].warm[-1][turn] = call.seconds
                    ours = call if measured.system == OURS else ours
    return ours


def regret_against(ours: Sequence[float], theirs: dict[str, Sequence[float]]) -> Regret:
    """The worst median of ratios over the rivals; calls at the same place were made together."""
    worst = Regret(0.0, "nobody", 0.0)
    for system, seconds in theirs.items():
        ratios = [
            mine / other for mine, other in zip(ours, seconds, strict=True) if other < math.inf
        ]
        if not ratios:
            continue
        median = statistics.median(ratios)
        if median > worst.ratio:
            worst = Regret(median, system, max(ratios) - min(ratios))
    return worst


def measure(case: str, systems: Sequence[str], rounds: int, turns: int, server: str) -> Verdict:
    """Everything about one case."""
    bystanders = Bystanders()
    trouble = Trouble(expected_digest(case, server))
    finalists = trial(case, systems, server, trouble)
    twins = [TWIN] if finalists else []
    records = {system: Record(system) for system in [OURS, *finalists, *twins]}
    ours = None
    for _ in range(rounds):
        ours = one_round(case, records, turns, server, trouble, *finalists[:1]) or ours

    def cold(system: str) -> list[float]:
        return records[system].cold

    def warm(system: str) -> list[float]:
        return [seconds for turn in records[system].warm for seconds in turn]

    def regret(system: str, of: Callable[[str], list[float]]) -> Regret:
        if system not in records:
            return Regret(math.inf, "nobody", 0.0)
        return regret_against(of(system), {name: of(name) for name in finalists})

    return Verdict(
        case,
        records,
        regret(OURS, cold),
        regret(OURS, warm),
        regret(TWIN, cold),
        regret(TWIN, warm),
        ours,
        trouble.wrong,
        trouble.failed,
        bystanders.share(),
    )


HEAD = (
    f"{'case':<13}{'cold':>6}{'twin':>6}  {'oracle':<18}{'warm':>6}{'twin':>6}  {'oracle':<18}"
    f"{'autopar':>9}{'others':>8}  chose"
)


def line(verdict: Verdict) -> str:
    warm_s = [seconds for turn in verdict.records[OURS].warm for seconds in turn]
    ms = f"{statistics.median(warm_s) * 1e3:.0f} ms" if warm_s else "-"
    return (
        f"{verdict.case:<13}{verdict.cold.ratio:>6.2f}{verdict.twin_cold.ratio:>6.2f}"
        f"  {verdict.cold.oracle:<18}"
        f"{verdict.warm.ratio:>6.2f}{verdict.twin_warm.ratio:>6.2f}"
        f"  {verdict.warm.oracle:<18}{ms:>9}"
        f"{verdict.others:>8.0%}"
        f"  {verdict.ours.ran if verdict.ours else 'FAILED'}"
    )


def notes(verdict: Verdict) -> Iterator[str]:
    for system in verdict.wrong:
        yield f"  WRONG RESULTS from {system}"
    for system, why in verdict.failed.items():
        yield f"  FAILED: {system}: {why}"


def summary(verdicts: Sequence[Verdict]) -> Iterator[str]:
    for name in ("cold", "warm"):
        regrets: list[tuple[float, str]] = [(getattr(v, name).ratio, v.case) for v in verdicts]
        finite = [ratio for ratio, _ in regrets if 0 < ratio < math.inf]
        if not finite:
            continue
        worst, case = max(regrets)
        twins = [getattr(v, f"twin_{name}").ratio for v in verdicts]
        floor = statistics.geometric_mean([ratio for ratio in twins if 0 < ratio < math.inf] or [1])
        yield (
            f"{name}: geometric mean {statistics.geometric_mean(finite):.2f}, "
            f"worst {worst:.2f} ({case}); the best rival's twin: {floor:.2f}"
        )
    others = statistics.mean(verdict.others for verdict in verdicts)
    yield f"other programs took {others:.0%} of the machine, {max(v.others for v in verdicts):.0%} at worst"
    imports = [s for verdict in verdicts for s in verdict.records[OURS].import_s]
    if any(imports):
        yield f"import autopar: {statistics.median(imports) * 1e3:.0f} ms, in none of the above"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", help=f"comma-separated: {', '.join(ALL)}")
    parser.add_argument(
        "--more", action="store_true", help=f"{', '.join(case.name for case in MORE)}"
    )
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="those that nothing was tuned on, to be looked at last",
    )
    parser.add_argument("--systems", help=f"comma-separated rivals: {', '.join(SYSTEMS)}")
    parser.add_argument("--all", action="store_true", help="measure everybody on every case")
    parser.add_argument("--rounds", type=int, help="rounds a case (default 4, quick 1)")
    parser.add_argument("--turns", type=int, help="warm calls a round (default 2)")
    parser.add_argument("--quick", action="store_true", help="few rivals, for a first look")
    parser.add_argument("--why", action="store_true", help="print autopar's report on each case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    return parser.parse_args()


def named(text: str | None, known: dict[str, object]) -> list[str]:
    names = text.split(",") if text else list(known)
    for name in names:
        if name not in known:
            sys.exit(f"{name!r} is none of {', '.join(known)}")
    return names


def chosen_cases(chosen: argparse.Namespace) -> list[str]:
    if chosen.cases:
        return named(chosen.cases, dict(ALL))
    sets = [case.name for case in chosen.more * MORE + chosen.held_out * HELD_OUT]
    return sets or list(CASES)


def rivals(case: str, chosen: argparse.Namespace) -> list[str]:
    if chosen.systems or chosen.all:
        return [name for name in named(chosen.systems, dict(SYSTEMS)) if name != OURS]
    return list((QUICK if chosen.quick else FAMILIES)[ALL[case].family])


def main() -> int:
    chosen = options()
    rounds = chosen.rounds or (1 if chosen.quick else 4)
    turns = chosen.turns or 2
    cases = chosen_cases(chosen)
    started = time.monotonic()
    verdicts: list[Verdict] = []
    print(f"{CPUS} CPUs, {rounds} rounds of 1 cold and {turns} warm calls\n\n{HEAD}", flush=True)
    with _server.running() as server:
        for case in cases:
            verdict = measure(case, rivals(case, chosen), rounds, turns, server)
            verdicts.append(verdict)
            print(line(verdict), *notes(verdict), sep="\n", flush=True)
            if chosen.why and verdict.ours:
                print(verdict.ours.because, end="\n\n", flush=True)
    print("", *summary(verdicts), f"took {time.monotonic() - started:.0f} s", sep="\n")
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1))
    return 1 if any(OURS in verdict.wrong or OURS in verdict.failed for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
