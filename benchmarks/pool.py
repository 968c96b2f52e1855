"""What does a process pool cost to start and to use, beside every other one?

A pool a row, a line of work a column: the first result of a fresh pool, small calls of a warm one,
64 MB there and 64 MB back, memory. Every pool has two workers. The rows below the pools are the
plain loop, and the floor: what the kernel asks for the least that would do the same.

Built for a small and noisy machine, as `regret.py` is. In each round every pool has its turn at
each line, in random order, so that what is compared was measured seconds apart. The cold lines and
the memory have a fresh process each; for the others a pool has one process a round, which waits
while the others have their turns. A ratio is the median of the ratios inside the rounds, and the
best peer is the one that autopar looks worst beside.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import psutil
from _bystanders import Bystanders
from _child import Child, Failed
from _pool_work import ARRAY_BYTES
from _pools import FLOOR, LOOP, MANY, POOLS, WORKERS

OURS = "autopar"
LIMIT_S = 20.0  # for one measurement
SCRIPT = str(Path(__file__).with_name("_pools.py"))
PACKAGES = ("loky", "mpire", "pebble", "numpy")


@dataclass(frozen=True)
class Line:
    """A column of the table.

    repeats: calls timed in one turn. turns: how often a pool has its turn in a round; 0 for what
    has a process of its own. chunks: the chunk sizes to try; the best counts.
    """

    name: str
    head: str
    what: str
    unit: float = 1e3
    digits: int = 1
    repeats: int = 1
    turns: int = 0
    chunks: tuple[int, ...] = (1,)


LINES = {
    line.name: line
    for line in (
        Line("cold-first", "first ms", "a fresh pool's first result of a function that does nothing"),
        Line("cold-work", "cold ms", "a fresh pool's first 8 items of 1 ms"),
        Line("warm-work", "8x1 ms", "8 items of 1 ms", repeats=5, turns=3),
        Line(
            "many", f"{MANY} ms", f"{MANY} items that do nothing, at the pool's best chunk size",
            digits=2, repeats=3, turns=2, chunks=(1, MANY // (4 * WORKERS)),
        ),
        Line("in", "in ms", "a 64 MB array to a worker that reads each page", repeats=2, turns=2),
        Line("out", "out ms", "a 64 MB array from a worker, each page read", repeats=2, turns=2),
        Line("memory", "MB", "PSS of all the pool's processes after small calls, a worker", unit=1e-6),
    )
}  # fmt: skip
BIG = ("in", "out")
# What the floor is made of; not columns.
PARTS = {
    "round-trip": Line("round-trip", "", "one byte to another process and one back", 1e6, turns=1),
    "copy-small": Line("copy-small", "", "64 MB into fresh pages of 4 kB", repeats=3, turns=1),
}
Chunks = dict[int, list[float]]  # figures by chunk size


@dataclass
class Figures:
    """What was measured: `found[pool][line][chunk]` has a median for each round.

    failed: by pool, the line at which it failed first, and why.
    """

    rounds: int
    found: dict[str, dict[str, Chunks]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, pool: str, line: str, chunk: int, turn: int, values: Sequence[float]) -> None:
        series = self.found.setdefault(pool, {}).setdefault(line, {})
        by_round = series.setdefault(chunk, [math.nan] * self.rounds)
        by_round[turn] = statistics.median(values)

    def fail(self, pool: str, line: str, error: Exception) -> None:
        self.failed.setdefault(pool, {}).setdefault(line, str(error))

    def lost(self, pool: str, line: str) -> bool:
        """Whether a pool has failed at a line, and is not asked again."""
        return line in self.failed.get(pool, {})

    def best(self, pool: str, line: str) -> tuple[int, list[float]] | None:
        """The pool's best chunk size and its figures, a round each; None if it failed."""
        chunks = self.found.get(pool, {}).get(line)
        if not chunks or self.lost(pool, line):
            return None
        return min(chunks.items(), key=lambda item: middle(item[1]))

    def ratio(self, pool: str, line: str) -> float:
        """autopar's figure over a pool's: the median of the ratios inside the rounds."""
        ours, theirs = self.best(OURS, line), self.best(pool, line)
        if ours is None or theirs is None:
            return math.nan
        return middle([a / b for a, b in zip(ours[1], theirs[1], strict=True)])


def middle(values: Sequence[float]) -> float:
    """The median of those that were measured."""
    measured = [value for value in values if not math.isnan(value)]
    return statistics.median(measured) if measured else math.nan


@contextmanager
def child(pool: str) -> Iterator[Child]:
    """A pool's process, its package imported."""
    process = Child(SCRIPT, pool)
    try:
        process.ready()
        yield process
    finally:
        process.close()


def seconds(process: Child, line: Line, chunk: int) -> list[float]:
    answer = process.ask(f"{line.name} {line.repeats} {chunk}", LIMIT_S)
    found: list[float] = answer["seconds"]
    return found


def alone(figures: Figures, pools: Sequence[str], line: Line, turn: int) -> None:
    """A line for which every pool has a fresh process."""
    for pool in random.sample(pools, len(pools)):
        if figures.lost(pool, line.name) or (pool == LOOP and line.name == "memory"):
            continue
        try:
            with child(pool) as process:
                if line.name == "memory":
                    process.ask("prepare", LIMIT_S)
                    values = [memory_bytes(process.pid) / WORKERS]
                else:
                    values = seconds(process, line, 1)
        except (Failed, psutil.Error) as error:
            figures.fail(pool, line.name, error)
        else:
            figures.add(pool, line.name, 1, turn, values)


def memory_bytes(pid: int) -> int:
    """Memory of all processes below one, what several share divided among them."""
    held = 0
    for below in psutil.Process(pid).children(True):
        try:
            held += below.memory_full_info().pss
        except psutil.NoSuchProcess:
            pass  # it has ended meanwhile, and holds nothing
    return held


def warm(figures: Figures, pools: Sequence[str], lines: Sequence[Line], turn: int) -> None:
    """The lines that a warm pool is asked, of all pools in turns."""
    crew: dict[str, Child] = {}
    arrays = any(line.name in BIG for line in lines)
    try:
        for pool in random.sample(pools, len(pools)):
            crew[pool] = Child(SCRIPT, pool)
        for pool, process in list(crew.items()):
            try:
                process.ready()
                for order in ("prepare", "arrays")[: 1 + arrays]:
                    process.ask(order, LIMIT_S)
            except Failed as error:
                for line in lines:
                    figures.fail(pool, line.name, error)
                crew.pop(pool).close()
        for line in lines:
            take_turns(figures, crew, line, turn)
    finally:
        for process in crew.values():
            process.close()


def take_turns(figures: Figures, crew: dict[str, Child], line: Line, turn: int) -> None:
    """One line for every pool of the crew; a pool that fails leaves it."""
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(line.turns):
        for pool in random.sample(list(crew), len(crew)):
            if figures.lost(pool, line.name) or (line.name in PARTS and pool != FLOOR):
                continue
            # Only autopar, the loop and the floor have no chunk size to be tried.
            chunks = line.chunks[:1] if pool in (OURS, LOOP, FLOOR) else line.chunks
            try:
                for chunk in chunks:
                    found.setdefault((pool, chunk), []).extend(seconds(crew[pool], line, chunk))
            except Failed as error:
                figures.fail(pool, line.name, error)
                crew.pop(pool).close()
    for (pool, chunk), values in found.items():
        figures.add(pool, line.name, chunk, turn, values)


def measure(pools: Sequence[str], lines: Sequence[Line], rounds: int) -> Figures:
    """Everything about some pools."""
    figures = Figures(rounds)
    lasting = [line for line in lines if line.turns]
    if lasting:
        big = any(line.name in BIG for line in lines)
        lasting += [part for part in PARTS.values() if big or part.name != "copy-small"]
    for pool in pools:  # so that its modules are compiled and on hand
        try:
            with child(pool) as process:
                process.ask("prepare", LIMIT_S)
        except Failed as error:
            for line in lines:
                figures.fail(pool, line.name, error)
    pools = [pool for pool in pools if pool not in figures.failed]
    for turn in range(rounds):
        for line in lines:
            if not line.turns:
                alone(figures, pools, line, turn)
        if lasting:
            warm(figures, pools, lasting, turn)
        print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    return figures


def table(figures: Figures, pools: Sequence[str], lines: Sequence[Line]) -> Iterator[str]:
    """The table, a pool a row, and autopar's ratios."""
    yield f"{'':<20}" + "".join(
        f"{line.head:>10}" + (f"{'GB/s':>7}" if line.name in BIG else "") for line in lines
    )
    for pool in pools:
        yield f"{pool:<20}" + "".join(cell(figures, pool, line) for line in lines)
    peers = [pool for pool in pools if pool not in (OURS, LOOP, FLOOR)]
    ratios = {line.name: beside(figures, peers, line) for line in lines}
    if OURS in pools and peers:
        yield ""
        yield f"{'autopar/best peer':<20}" + "".join(
            ratio(line, ratios[line.name][0]) for line in lines
        )
    if OURS in pools and FLOOR in pools:
        floor = {line.name: figures.ratio(FLOOR, line.name) for line in lines}
        yield f"{'autopar/floor':<20}" + "".join(ratio(line, floor[line.name]) for line in lines)
    if OURS in pools and peers:
        best = ", ".join(f"{line.name} {ratios[line.name][1]}" for line in lines)
        yield f"best peers: {best}"


def cell(figures: Figures, pool: str, line: Line) -> str:
    best = figures.best(pool, line.name)
    value = math.nan if best is None else middle(best[1])
    text = f"{value * line.unit:>10.{line.digits}f}" if value == value else f"{'-':>10}"
    if line.name in BIG:  # the loop moves nothing
        moved = value == value and pool != LOOP
        text += f"{ARRAY_BYTES / value / 1e9:>7.2f}" if moved else f"{'-':>7}"
    return text


def ratio(line: Line, value: float) -> str:
    text = f"{value:>10.2f}" if value == value else f"{'-':>10}"
    return text + " " * 7 * (line.name in BIG)


def beside(figures: Figures, peers: Sequence[str], line: Line) -> tuple[float, str]:
    """autopar's worst ratio, and the peer that it is worst beside."""
    ratios = [(figures.ratio(peer, line.name), peer) for peer in peers]
    return max(
        (found for found in ratios if not math.isnan(found[0])), default=(math.nan, "nobody")
    )


def notes(figures: Figures, pools: Sequence[str], lines: Sequence[Line]) -> Iterator[str]:
    """What the table leaves out: the columns in words, chunk sizes, the floor's parts, failures."""
    for line in lines:
        yield f"  {line.head}: {line.what}"
    if any(line.name == "many" for line in lines):
        sizes = [(pool, figures.best(pool, "many")) for pool in pools if pool in POOLS]
        chosen = [f"{pool} {best[0]}" for pool, best in sizes if best and pool != OURS]
        yield f"best chunk sizes for {MANY} items: {', '.join(chosen)}"
    for part in PARTS.values():
        best = figures.best(FLOOR, part.name)
        if best is not None:
            unit = "us" if part.unit == 1e6 else "ms"
            yield f"floor: {part.what}: {middle(best[1]) * part.unit:.1f} {unit}"
    for pool, lost in figures.failed.items():
        for why in dict.fromkeys(lost.values()):
            at = ", ".join(line for line, reason in lost.items() if reason == why)
            yield f"- {pool} has no figure for {at}: {why}"


def versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join([f"CPython {platform.python_version()}", *found])


def named(text: str | None, known: Sequence[str]) -> list[str]:
    names = text.split(",") if text else list(known)
    for name in names:
        if name not in known:
            sys.exit(f"{name!r} is none of {', '.join(known)}")
    return names


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--pools", help=f"comma-separated: {', '.join([*POOLS, LOOP, FLOOR])}")
    parser.add_argument("--lines", help=f"comma-separated: {', '.join(LINES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    rounds = max(1, chosen.rounds)
    pools = named(chosen.pools, [*POOLS, LOOP, FLOOR])
    lines = [LINES[name] for name in named(chosen.lines, list(LINES))]
    started_s, bystanders = time.monotonic(), Bystanders()
    figures = measure(pools, lines, rounds)
    print(f"{os.cpu_count()} CPUs, {WORKERS} workers, {rounds} rounds; {versions()}\n")
    print(*table(figures, pools, lines), "", *notes(figures, pools, lines), sep="\n")
    others, took_s = bystanders.share(), time.monotonic() - started_s
    print(f"other programs took {others:.0%} of the machine; took {took_s:.0f} s")
    if chosen.json:
        ended = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        report = {"ended": ended, "versions": versions(), "others": others, **asdict(figures)}
        chosen.json.write_text(json.dumps(report, indent=1))
    return 1 if OURS in figures.failed else 0


if __name__ == "__main__":
    sys.exit(main())
