"""Does autopar hold its promises for hours, whatever goes wrong?

Random calls with random faults, each checked when it returns: the results are exact, errors name
the right items, every item was evaluated once. Workers and helpers are killed, items crash and
hang, whole programs are interrupted. Nothing may be left behind: processes, threads, descriptors,
files.

    python benchmarks/soak.py --minutes 2 --seed 7
    python benchmarks/soak.py --seed 7 --only 123       one round again, with its description

A seed makes the sequence of rounds; only the moments at which others kill are the machine's. Exit
status 1: a promise was broken, and which; 2: a round took longer than a minute (all stacks follow).
What is allowed is in `_soak_model.violations`.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import _soak_items
import _soak_model
from _soak_items import Ledger
from _soak_model import Outcome, Workload

from autopar import auto_map, shutdown

ROUND_S = 60.0  # longer means that it hangs
GONE_S = 2.0  # nobody may outlive a program by longer
CHECK_EVERY = 20  # rounds between two looks at descriptors, threads and files
MANY = 4 * (os.cpu_count() or 1)  # where items wait and must not share memory
IDLE_WORKERS = 6
FREE_WORKERS = 16  # a call that may choose has at most so many processes
MARK = "AUTOPAR_SOAK_MARK"


@dataclass(frozen=True)
class Round:
    """Calls made at once, and what others do to them.

    kills: who is killed how many seconds after the calls began; idle: killed before they begin,
    when the workers of another call wait.
    program: the signal that a program of its own gets in the middle of the call, after `after_s`.
    """

    calls: tuple[Workload, ...]
    kills: tuple[tuple[float, str], ...] = ()
    idle: str | None = None
    program: str | None = None
    after_s: float = 0.0


def round_of(seed: int, number: int) -> Round:
    """What is tried in this round."""
    dice = random.Random(f"{seed}:{number}")
    what = dice.random()
    if what < 0.08:
        return _program(dice)
    count = dice.choice([1, 1, 1, 1, dice.randint(2, 6)])
    if what < 0.14:
        idle = dice.choice(["worker", "workers", "helper"])
        return Round((_in_processes(dice, calm=False),), idle=idle)
    if what < 0.30:
        calls = tuple(_in_processes(dice, calm=True) for _ in range(min(count, 3)))
        whom = ["worker", "worker", "worker", "helper"]
        soon_s = dice.choice([0.02, 0.1, 0.5])
        kills = [(dice.uniform(0, soon_s), dice.choice(whom)) for _ in range(dice.randint(1, 4))]
        return Round(calls, kills=tuple(sorted(kills)))
    return Round(tuple(_soak_model.workload(dice) for _ in range(count)))


def _in_processes(dice: random.Random, *, calm: bool) -> Workload:
    made = _soak_model.workload(dice, calm=calm)
    if made.faults:  # they were chosen to suit the backend
        return made
    return replace(made, options={**made.options, "backend": dice.choice(["processes", None])})


def _program(dice: random.Random) -> Round:
    made = _soak_model.workload(dice, calm=True)
    made = replace(made, count=400, item_s=0.02, payload=min(made.payload, 10_000))
    number = dice.choice(["SIGINT", "SIGTERM", "SIGKILL"])
    return Round((made,), program=number, after_s=dice.choice([0.1, 1.0]) * dice.random())


class Soak:
    """A run: the rounds done, what they were made of, and the world that has to stay as it was."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.counts: collections.Counter[str] = collections.Counter()
        self._ledgers, self._scratch = folder / "ledgers", folder / "scratch"
        self._ledgers.mkdir()
        self._scratch.mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(self._scratch)
        self._warm_most = 0
        self._shm = set(_shared_memory())
        auto_map(abs, range(3), backend="processes")
        auto_map(abs, range(3), backend="threads")
        shutdown()
        gc.collect()
        self._descriptors = _descriptors()

    def try_round(self, number: int) -> list[str]:
        """What was wrong with one round."""
        made = round_of(self.seed, number)
        with _watchdog(f"--seed {self.seed} --only {number}\n{made}"):
            if made.program is not None:
                found = self._interrupt(number, made)
            else:
                found = self._call(made)
            if number % CHECK_EVERY == CHECK_EVERY - 1:
                found += self.leaks()
        return found

    # calls in this process

    def _call(self, made: Round) -> list[str]:
        found, killed = ([], 0) if made.idle is None else self._kill_idle(made.idle)
        runs = [Run(call, self._ledgers / uuid.uuid4().hex) for call in made.calls]
        for run in runs:
            run.start()
        killed += self._kill_among(runs, made.kills)
        for run in runs:
            run.join()
        for run in runs:
            self._count(run.made)
            outcome = run.outcome(killed)
            broken = _soak_model.violations(run.made, outcome)
            if broken:
                found += [*broken[:9], f"  in {run.made}, killed: {killed}, got {_shown(outcome)}"]
        return found + self._too_many(made)

    def _kill_idle(self, whom: str) -> tuple[list[str], int]:
        """Kills those who wait for the next call; a blow may fall when that has begun."""
        try:
            auto_map(_soak_items.nap, [1e-3] * 24, backend="processes", workers=IDLE_WORKERS)
        except Exception as error:
            return [f"a call without faults raised {error!r}"], 0
        return [], self._kill(whom)

    def _kill_among(self, runs: Sequence[Run], kills: Sequence[tuple[float, str]]) -> int:
        began_s, killed = time.monotonic(), 0
        for after_s, whom in kills:
            while time.monotonic() < began_s + after_s and any(run.is_alive() for run in runs):
                time.sleep(0.002)
            if any(run.is_alive() for run in runs):
                killed += self._kill(whom)
        return killed

    def _kill(self, whom: str) -> int:
        """Kills a worker, all workers or the helper; how many workers that costs."""
        helpers = children(os.getpid())
        workers = [pid for helper in helpers for pid in children(helper)]
        victims = helpers if whom == "helper" else workers
        if not victims:
            return 0
        for pid in victims if whom == "workers" else [random.choice(victims)]:
            _send(pid, signal.SIGKILL)
        self.counts[f"{whom} killed"] += 1
        # With the helper, one more may go that was on its way between the look and the shot.
        return {"worker": 1, "workers": len(workers), "helper": len(workers) + 1}[whom]

    def _count(self, made: Workload) -> None:
        self.counts["calls"] += 1
        self.counts["items"] += made.count
        self.counts.update(made.faults.values())
        self.counts["iterable raises"] += made.midway is not None
        self.counts["unpicklable argument"] += made.homebody is not None
        self.counts["unpicklable function"] += made.shape == "unpicklable"

    # what is left behind

    def _too_many(self, made: Round) -> list[str]:
        """Processes beyond those that may stay warm."""
        at_once = sum(_workers(call) for call in made.calls)
        at_once = max(at_once, IDLE_WORKERS if made.idle is not None else 0)
        nested = 3 if any(call.inner is not None for call in made.calls) else 1
        self._warm_most = max(self._warm_most, nested * (1 + at_once))
        if eventually(lambda: len(_descendants()) <= self._warm_most):
            return []
        return [f"{len(_descendants())} processes, {self._warm_most} may be warm, after {made}"]

    def leaks(self) -> list[str]:
        """What is left after a shutdown."""
        shutdown()
        self._warm_most = 0
        _soak_items.open_ledger.cache_clear()
        gc.collect()
        looks: dict[str, Callable[[], object]] = {
            "processes": _descendants,
            "threads": lambda: [t for t in threading.enumerate() if t.name == "autopar"],
            "descriptors": lambda: _descriptors() if _descriptors() > self._descriptors else None,
            "files": lambda: os.listdir(self._scratch),
            "shared memory": lambda: set(_shared_memory()) - self._shm,
        }
        found = []
        for what, look in looks.items():
            if not eventually(lambda look=look: not look()):
                found.append(f"{what} are left after a shutdown: {look()}")
        return found

    # calls in a program of their own

    def _interrupt(self, number: int, made: Round) -> list[str]:
        """Ends a program in the middle of its call; everybody below it has to go as well."""
        assert made.program is not None
        mark = uuid.uuid4().hex
        program = subprocess.Popen(
            [
                sys.executable,
                __file__,
                f"--seed={self.seed}",
                f"--program={number}",
                str(self._ledgers),
            ],
            env={**os.environ, MARK: mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert program.stdout is not None
        program.stdout.readline()
        time.sleep(made.after_s)
        send = os.killpg if made.program == "SIGINT" else os.kill
        ended = program.poll() is not None
        while program.poll() is None:
            send(program.pid, signal.Signals[made.program])  # it is ours until it is waited for
            try:
                program.wait(
                    3
                )  # a signal that meets a main thread about to block is CPython's to lose
            except subprocess.TimeoutExpired:
                self.counts["signals that had to be repeated"] += 1
        gone = eventually(lambda: not _marked(mark), GONE_S)
        left = _marked(mark)
        for pid in left:
            _send(pid, signal.SIGKILL)
        self.counts[f"programs ended by {made.program}"] += not ended
        errors = program.communicate()[1]
        return _program_violations(made, ended, gone, left, errors)


def _workers(call: Workload) -> int:
    """Processes a call may have: many for items that wait where they must not share memory."""
    waits = call.options["kind"] == "io" and call.options.get("seed") is not None
    return int(call.options["workers"] or (MANY if waits else FREE_WORKERS))


def _shown(outcome: Outcome) -> str:
    return repr(outcome.error) if outcome.values is None else f"{len(outcome.values)} results"


def _program_violations(
    made: Round, ended: bool, gone: bool, left: Sequence[int], errors: str
) -> list[str]:
    """Rules about a program that was ended in the middle of its call."""
    found = []
    if not gone:
        found.append(f"{len(left)} processes outlive their program by {GONE_S} s, after {made}")
    interrupt = made.program == "SIGINT" and not ended
    if interrupt and errors.count("Traceback") <= 1 and errors.endswith("KeyboardInterrupt\n"):
        return found
    if errors:
        found.append(f"a program wrote, after {made}\n{errors}")
    return found


class Run(threading.Thread):
    """One call in a thread of its own."""

    def __init__(self, made: Workload, path: Path) -> None:
        super().__init__(daemon=True)
        self.made = made
        self._path = path
        self._values: list[Any] | None = None
        self._error: BaseException | None = None
        Ledger.create(path, made.count)

    def run(self) -> None:
        """Makes the call."""
        try:
            self._values = make(self.made, str(self._path))
        except BaseException as error:
            self._error = error

    def outcome(self, killed: int) -> Outcome:
        """What came of it."""
        begun, ended = Ledger(str(self._path)).close()
        self._path.unlink()
        error = None if self._error is None else self._error.with_traceback(None)
        return Outcome(self._values, error, begun, ended, killed)


def make(made: Workload, path: str) -> Any:
    """Makes the call that a workload describes."""
    work = made.work(path)
    fn = _soak_items.callable_of(made.shape, work)
    payload = 0 if work.payload else made.payload
    items = _soak_items.items_of(made.source, made.count, payload, made.midway, made.homebody)
    options = dict(made.options)
    if made.initializer:
        options |= {"initializer": _soak_items.start, "initargs": (path,)}
    return auto_map(fn, items, **options)


def be_program(seed: int, number: int, folder: Path) -> None:
    """The program that is to be ended: one long call."""
    made = round_of(seed, number).calls[0]
    path = folder / f"{number}-program"
    Ledger.create(path, made.count)
    print("ready", flush=True)
    make(made, str(path))


@contextmanager
def _watchdog(description: str) -> Iterator[None]:
    """Ends this process with status 2 and everybody's stack when its body takes too long."""
    over = threading.Event()

    def watch() -> None:
        if not over.wait(ROUND_S):
            print(f"HANGS: {description}", file=sys.stderr, flush=True)
            faulthandler.dump_traceback(all_threads=True)
            os._exit(2)

    faulthandler.dump_traceback_later(ROUND_S + 10, exit=True)  # if no thread of ours runs either
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        faulthandler.cancel_dump_traceback_later()


# who and what is there


def children(pid: int) -> list[int]:
    """The living children of a process, zombies left out."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            words = Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
            found += [int(word) for word in words if _is_alive(int(word))]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def _descendants(pid: int | None = None) -> list[int]:
    below = children(os.getpid() if pid is None else pid)
    return below + [deeper for child in below for deeper in _descendants(child)]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended by itself


def _marked(mark: str) -> list[int]:
    """Living processes that carry a mark in their environment, whoever their parent is."""
    found = []
    for name in os.listdir("/proc"):
        try:
            environ = Path(f"/proc/{name}/environ").read_bytes() if name.isdigit() else b""
        except OSError:
            continue
        if mark.encode() in environ and _is_alive(int(name)):
            found.append(int(name))
    return found


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _shared_memory() -> list[str]:
    """Named shared memory of the kinds a Python library makes; other programs make others."""
    names = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    return [name for name in names if name.startswith(("psm_", "sem.mp-")) or "autopar" in name]


def eventually(holds: Callable[[], object], within_s: float = 5.0) -> bool:
    """Whether `holds()` becomes true in time."""
    until_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.01)
    return True


# the command


def soak(
    seed: int, numbers: Iterator[int], seconds: float, *, keep_going: bool = False
) -> tuple[int, collections.Counter[str]]:
    """Tries rounds until the time is up or a promise is broken: the exit status, and the counts."""
    until_s = time.monotonic() + seconds
    status = 0
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        run = Soak(seed, Path(folder))
        for number in numbers:
            found = run.try_round(number)
            run.counts["rounds"] += 1
            late = time.monotonic() > until_s
            if late and not found:
                found = run.leaks()
            if found:
                print(f"BROKEN: --seed {seed} --only {number}", *found, sep="\n", file=sys.stderr)
                run.counts["rounds broken"] += 1
                status = 1
            if late or (found and not keep_going):
                break
        return status, run.counts


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    parser.add_argument("--only", type=int, help="try this round, again and again")
    parser.add_argument("--keep-going", action="store_true", help="after a broken promise")
    parser.add_argument("--program", type=int, help=argparse.SUPPRESS)
    parser.add_argument("folder", type=Path, nargs="?", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.program is not None:
        be_program(asked.seed, asked.program, asked.folder)
        return 0
    numbers = _forever(asked.only)
    print(f"--seed {asked.seed}, {asked.minutes:g} minutes", flush=True)
    if asked.only is not None:
        print(round_of(asked.seed, asked.only), flush=True)
    status, counts = soak(asked.seed, numbers, 60 * asked.minutes, keep_going=asked.keep_going)
    for what, count in sorted(counts.items()):
        print(f"{count:9}  {what}")
    return status


def _forever(only: int | None) -> Iterator[int]:
    number = 0 if only is None else only
    while True:
        yield number
        number += only is None


if __name__ == "__main__":
    import soak  # so that functions travel by name: this file as a module, not as __main__

    sys.exit(soak.main())
