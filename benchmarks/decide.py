"""Are autopar's decisions right, on real functions, quiet and beside busy programs?

The corpus holds functions of every nature (`corpus/`). Which way of running each is how fast was
measured once (`--label`): the loop, thread pools and forked process pools of several widths, both
together, all warm, taking turns; `corpus/labels.json` keeps each one's time as a multiple of the
best. A decision is how `autopar.auto_map` came to run the items, in a fresh process whose pool is
warm: once from nothing, and then with what it remembered. It is right when what it chose takes at
most a tenth longer than the best. Decisions beside busy programs are judged by the same labels,
which were made without.

Beside it, what simple rules would choose, from one item run in the same process:

    naive      waits (CPU / wall < 0.5): 32 threads; else a process a CPU
    threads    32 threads, always
    processes  a process a CPU, always
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _bystanders import Bystanders
from _child import Child, Failed
from _systems import CPUS, by_hand
from corpus import ENTRIES

LABELS = Path(__file__).parent / "corpus" / "labels.json"
RIGHT = 1.1  # times the best: as good
HOPELESS = 2.0  # times the best in the first round: not measured again
THREADS = (2, 4, 8, 16, 32, 100)
PROCESSES = (CPUS, 4 * CPUS)
STRATEGIES = (
    "serial",
    *(f"threads-{width}" for width in THREADS),
    *(f"processes-{width}" for width in PROCESSES),
    "2x16",
)
RULES = ("autopar", "naive", "threads", "processes")


# in a process of its own for each function


@contextmanager
def opened(strategy: str) -> Iterator[Callable[[Any, Sequence[Any]], list[Any]]]:
    """A `map` that runs things this way, its pool warm."""
    means, _, width = strategy.partition("-")
    if means == "serial":
        yield lambda fn, items: [fn(item) for item in items]
    elif means == "threads":
        with ThreadPoolExecutor(int(width)) as threads:
            list(threads.map(time.sleep, [1e-3] * int(width)))
            yield lambda fn, items: list(threads.map(fn, items))
    elif means == "processes":
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(int(width), context) as pool:
            list(pool.map(time.sleep, [1e-2] * int(width)))
            yield lambda fn, items: list(
                pool.map(fn, items, chunksize=max(1, len(items) // (4 * int(width))))
            )
    else:
        processes, _, each = strategy.partition("x")
        with by_hand(int(processes), int(each)) as run:
            run(time.sleep, [1e-2] * 32)
            yield lambda fn, items: run(fn, list(items))


def label(name: str, rounds: int) -> dict[str, float]:
    """Seconds that each strategy takes at its median, the hopeless ones but once."""
    entry = ENTRIES[name]
    items = entry.items()
    for item in items[:2]:
        entry.fn(item)
    took_s: dict[str, list[float]] = {strategy: [] for strategy in STRATEGIES}
    left = list(STRATEGIES)
    for _ in range(rounds):
        random.shuffle(left)
        for strategy in left:
            with opened(strategy) as run:
                began_s = time.perf_counter()
                run(entry.fn, items)
                took_s[strategy].append(time.perf_counter() - began_s)
        best_s = min(min(times) for times in took_s.values())
        left = [s for s in STRATEGIES if min(took_s[s]) < HOPELESS * best_s]
    return {strategy: statistics.median(times) for strategy, times in took_s.items()}


def decide(name: str, again: int) -> dict[str, Any]:
    """What autopar chooses, so many times, with the reason; and the share of CPU in an item."""
    import autopar

    entry = ENTRIES[name]
    items = entry.items()
    began_s, began_cpu_s = time.perf_counter(), time.thread_time()
    entry.fn(items[0])
    entry.fn(items[1])
    share = (time.thread_time() - began_cpu_s) / max(time.perf_counter() - began_s, 1e-9)
    autopar.auto_map(abs, range(8), backend="processes")
    with autopar.observe() as seen:
        for _ in range(again):
            autopar.auto_map(entry.fn, items)
    autopar.shutdown()
    return {
        "share": share,
        "chose": [[report.backend, report.workers] for report in seen.reports],
        "because": [report.because for report in seen.reports],
    }


def serve(name: str) -> None:
    """The script of a child: see `_child`."""
    print("{}", flush=True)
    for line in sys.stdin:
        what, _, count = line.partition(" ")
        answer = label(name, int(count)) if what == "label" else decide(name, int(count))
        print(json.dumps(answer), flush=True)


# in the process that judges


def ask(name: str, what: str) -> dict[str, Any]:
    """The answer of a fresh process about one function."""
    child = Child(__file__, "--serve", name)
    try:
        child.ready()
        return child.ask(what, 300.0)
    finally:
        child.close()


def regret(times: dict[str, float], backend: str, workers: int) -> float:
    """What a choice takes, as a multiple of the best: that of the nearest width measured."""
    if backend == "serial" or workers < 2:
        return times["serial"]
    widths = THREADS if backend == "threads" else PROCESSES
    nearest = min(widths, key=lambda width: abs(math.log(width / workers)))
    return times[f"{backend}-{nearest}"]


def chosen(rule: str, answer: dict[str, Any]) -> list[tuple[str, int]]:
    """What a rule makes of what was seen."""
    if rule == "autopar":
        return [(backend, workers) for backend, workers in answer["chose"]]
    if rule == "naive":
        rule = "threads" if answer["share"] < 0.5 else "processes"
    return [(rule, 32 if rule == "threads" else CPUS)]


@contextmanager
def beside(busy: int) -> Iterator[None]:
    """So many processes that spin meanwhile."""
    spinning = [
        subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(busy)
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def judge(names: Sequence[str], labels: dict[str, dict[str, float]], again: int) -> None:
    """Prints each decision, and how many are right."""
    regrets: dict[tuple[str, str], list[float]] = {}
    for title, busy in (("quiet", 0), ("loaded", CPUS)):
        print(f"\n{title}: {busy} busy processes beside\n")
        print(f"{'function':14}{'nature':12}{'best':14}{'autopar':34}{'naive':>7}")
        with beside(busy):
            for name in names:
                times = labels[name]
                try:
                    answer = ask(name, f"decide {again}")
                except Failed as failure:
                    print(f"{name:14}failed: {failure}")
                    continue
                for rule in RULES:
                    each = [regret(times, *choice) for choice in chosen(rule, answer)]
                    regrets.setdefault((title, rule), []).extend(each * (again // len(each)))
                print(_line(name, times, answer))
    print()
    for (title, rule), each in regrets.items():
        right = sum(one <= RIGHT for one in each) / len(each)
        mean = math.exp(statistics.fmean(map(math.log, each)))
        print(
            f"{title:8}{rule:11}{right:6.1%} right, geometric mean {mean:.2f}, worst {max(each):.1f}"
        )


def _line(name: str, times: dict[str, float], answer: dict[str, Any]) -> str:
    best = min(times, key=lambda strategy: times[strategy])
    choices = {
        f"{backend}-{workers} ({regret(times, backend, workers):.2f})": because
        for (backend, workers), because in zip(answer["chose"], answer["because"], strict=True)
    }
    naive = regret(times, *chosen("naive", answer)[0])
    line = f"{name:14}{ENTRIES[name].nature:12}{best:14}{' '.join(choices):34}{naive:7.2f}"
    wrong = [because for choice, because in choices.items() if _ratio(choice) > RIGHT]
    return "\n".join([line, *(f"      {because}" for because in wrong)])


def _ratio(choice: str) -> float:
    return float(choice.rpartition("(")[2].rstrip(")"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--functions", help="these only, with commas between")
    parser.add_argument("--label", action="store_true", help="measure what is best, and keep it")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring (3)")
    parser.add_argument("--again", type=int, default=3, help="decisions for each function (3)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    names = options.functions.split(",") if options.functions else list(ENTRIES)
    bystanders = Bystanders()
    labels = json.loads(LABELS.read_text()) if LABELS.exists() else {}
    if options.label:
        for name in names:
            took_s = ask(name, f"label {options.rounds}")
            best_s = min(took_s.values())
            labels[name] = {strategy: round(s / best_s, 3) for strategy, s in took_s.items()}
            print(f"{name:14} best {best_s * 1e3:6.0f} ms: {labels[name]}", flush=True)
        LABELS.write_text(json.dumps(labels, indent=1) + "\n")
    else:
        judge([name for name in names if name in labels], labels, options.again)
    print(f"\nother programs used {bystanders.share():.0%} of the machine")


if __name__ == "__main__":
    main()
