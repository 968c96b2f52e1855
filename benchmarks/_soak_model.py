"""What `soak.py` tries, and what it allows: random workloads, and the rules their outcomes obey.

`violations` is the whole model. Everything else here makes workloads from a random generator, so
that a seed and a number say what a call was.
"""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from _soak_items import FAULTS, SIZES_S, Homebody, Midway, Odd, Work, value_of

import autopar
from autopar import AutoparError, TransportError, WorkerCrashed, auto_map

OPTIONS = set(inspect.signature(auto_map).parameters)  # of the version that is tried
TIMEOUT_S = 2.0  # far above the longest item, whatever else the machine does
MOST_S = 1.2  # work in a call
MOST_BYTES = 40_000_000  # payload of a call
DEADLY = ("kill", "os._exit", "segfault")
RAISED = {"raise": ValueError, "odd": Odd, "flaky": ConnectionError, "sys.exit": SystemExit}


@dataclass(frozen=True)
class Workload:
    """One call: its items, its options, and what goes wrong on purpose.

    faults: what items do instead of returning, by index; midway: where the iterable raises;
    homebody: an item that refuses to be pickled.
    """

    seed: int
    count: int
    item_s: float
    how: str
    spread: str
    payload: int
    source: str
    shape: str
    options: dict[str, Any]
    faults: dict[int, str] = field(default_factory=dict)
    tries: int = 0
    inner: dict[str, Any] | None = None
    initializer: bool = False
    midway: int | None = None
    homebody: int | None = None

    @property
    def errors(self) -> str:
        """How the call deals with failures."""
        return self.options.get("errors", "raise")

    @property
    def retries(self) -> int:
        """How many more tries an item gets."""
        return self.options.get("retries", 0)

    @property
    def in_processes(self) -> bool:
        """Whether the caller insists on processes."""
        return self.options.get("backend") in ("processes", "hybrid")

    @property
    def at_once(self) -> int:
        """Items that may run in one process at once, and are lost together."""
        return self.options["workers"] or 32 if self.options.get("backend") == "hybrid" else 1

    @property
    def isolated(self) -> bool:
        """Whether every item surely runs in a process of its own."""
        # A function that cannot travel runs in the caller's process, and takes it along.
        cpu = self.options.get("kind") == "cpu" and self.options.get("backend") is None
        travels = self.shape != "unpicklable" and self.homebody is None
        plain = "unpicklable result" not in self.faults.values()
        apart = self.in_processes and self.at_once == 1
        return (apart or cpu) and travels and plain and self.count > 1

    def work(self, path: str) -> Work:
        """What travels with the function."""
        return Work(
            path,
            self.seed,
            self.item_s,
            self.how,
            self.spread,
            self.payload if self.source == "range" or self.seed % 2 else 0,
            self.faults,
            self.tries,
            self.inner,
            self.initializer,
        )


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    begun, ended: evaluations of each item; killed: workers that others have ended meanwhile.
    """

    values: list[Any] | None
    error: BaseException | None
    begun: Sequence[int]
    ended: Sequence[int]
    killed: int


# making workloads


def workload(dice: random.Random, *, calm: bool = False) -> Workload:
    """Some call; a calm one can stand next to processes that are killed."""
    count = dice.choice(
        [0, 1, 2, 3, dice.randint(4, 60), dice.randint(4, 60), dice.randint(60, 3000)]
    )
    item_s = min(dice.choice([0, 1e-5, 1e-4, 1e-3, 1e-2, SIZES_S]), MOST_S / max(1, count))
    payload = dice.choice([0, 0, 0, 100, 20_000, dice.randint(0, 5_000_000)])
    made = Workload(
        seed=dice.randrange(1 << 30),
        count=count,
        item_s=item_s,
        how=dice.choice(["spin", "nap", "both"]),
        spread=dice.choice(["even", "random", "heavy"]),
        payload=min(payload, MOST_BYTES // max(1, count)),
        source=dice.choice(["list", "list", "generator", "range"]),
        shape=dice.choice(["instance", "lambda", "closure", "partial", "method"]),
        options=_options(dice),
        initializer=dice.random() < 0.2,
    )
    if made.options["backend"] == "hybrid":
        made = replace(made, initializer=False)
    if calm:
        return made
    if dice.random() < 0.1:
        made = replace(made, shape="unpicklable")
    if dice.random() < 0.12 and made.count <= 60:
        made = replace(made, inner=dice.choice([{}, {"kind": "cpu"}, {"kind": "io"}]))
    if dice.random() < 0.1 and made.source == "generator" and count:
        return replace(made, midway=dice.randrange(count))
    if dice.random() < 0.1 and made.source == "list" and count:
        return replace(made, homebody=dice.randrange(count))
    return _faulty(made, dice) if dice.random() < 0.5 and count else made


def _options(dice: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {
        "kind": dice.choice(["auto", "auto", "cpu", "io"]),
        "backend": dice.choice(
            [None, None, None, "threads", "processes", "processes", "hybrid", "serial"]
        ),
        "workers": dice.choice([None, None, 1, 2, 3, 6]),
        "chunksize": dice.choice([None, None, None, 1, 7, 50]),
        "errors": dice.choice(["raise", "raise", "return", "group"]),
    }
    later: dict[str, Any] = {
        "retries": dice.choice([0, 0, 1, 2]),
        "timeout": dice.choice([None, None, TIMEOUT_S]),
        "seed": dice.choice([None, None, 5]),
        "max_worker_memory": dice.choice([None, None, 1 << 32]),
    }
    if options["backend"] == "serial":
        later["timeout"] = None  # the caller's thread is nobody's to end
    if options["backend"] in ("serial", "threads"):
        later["seed"] = None  # they share a generator
    if options["backend"] == "hybrid":
        later |= {"timeout": None, "seed": None, "max_worker_memory": None}
    return options | {name: value for name, value in later.items() if name in OPTIONS}


def _faulty(made: Workload, dice: random.Random) -> Workload:
    """The workload with a few items that fail, in ways that its options can bear."""
    kinds = ["raise", "odd", "flaky", "unpicklable result"]
    if made.options.get("timeout"):
        kinds = ["hang"]  # alone, or other faults' retries might wait for a worker beyond it
    elif dice.random() < 0.1:
        kinds = ["sys.exit"]
    elif made.isolated and dice.random() < 0.6:
        kinds = [*DEADLY]
    assert set(kinds) <= set(FAULTS)
    few = dice.sample(range(made.count), min(made.count, dice.choice([1, 1, 2, 4])))
    faults = {index: dice.choice(kinds) for index in few}
    return replace(made, faults=faults, tries=dice.randint(1, 2), inner=None)


# what is allowed


def violations(made: Workload, outcome: Outcome) -> list[str]:
    """Everything about the outcome that no rule allows."""
    found = _counts(made, outcome)
    if outcome.error is None:
        return found + _values(made, outcome)
    if isinstance(outcome.error, BaseExceptionGroup) and made.errors == "group":
        return found + _group(made, outcome)
    return found + _raised(made, outcome)


def _counts(made: Workload, outcome: Outcome) -> list[str]:
    """Rules about how often items run, whatever came of them."""
    found = []
    complete = outcome.error is None or isinstance(outcome.error, BaseExceptionGroup)
    for index, (begun, ended) in enumerate(zip(outcome.begun, outcome.ended, strict=True)):
        tries = 1 + (made.retries if index in made.faults or outcome.killed else 0)
        # One that has ended may be killed before its result is on its way; then it gets its tries.
        if ended > (tries if outcome.killed else 1):
            found.append(f"item {index} was evaluated {ended} times")
        elif begun > tries:
            found.append(f"item {index} was begun {begun} times")
        if complete and not begun and not outcome.killed and index != made.homebody:
            found.append(f"item {index} was never begun")
    return found


def _values(made: Workload, outcome: Outcome) -> list[str]:
    """Rules about a list that was returned."""
    values = outcome.values
    assert values is not None
    if made.midway is not None:
        return ["the iterable's exception was lost"]
    if len(values) != made.count:
        return [f"{len(values)} results of {made.count} items"]
    if made.errors != "return" and any(isinstance(value, BaseException) for value in values):
        return [f"errors={made.errors!r}, and yet exceptions are among the results"]
    if made.errors == "raise" and "sys.exit" in made.faults.values():
        return ["a SystemExit was lost"]
    wrong = [_item(made, outcome, index, value) for index, value in enumerate(values)]
    return [text for text in wrong if text] + _crashes(made, outcome, values)


def _group(made: Workload, outcome: Outcome) -> list[str]:
    """Rules about an `ExceptionGroup`: the failures in item order, and no others."""
    errors = list(outcome.error.exceptions)  # type: ignore[union-attr]
    got = {index_of(error): error for error in errors}
    if made.midway is not None:
        return ["the iterable's exception was lost"]
    if None in got or list(got) != sorted(got) or len(got) != len(errors):  # type: ignore[type-var]
        return [f"not one exception an item, in item order: {errors!r}"]
    wrong = [_item(made, outcome, index, error) for index, error in got.items()]
    expected = {index for index in made.faults if not _may_succeed(made, index)}
    missing = [f"item {index} is not in the group" for index in sorted(expected - set(got))]
    return [text for text in wrong if text] + missing + _crashes(made, outcome, errors)


def _raised(made: Workload, outcome: Outcome) -> list[str]:
    """Rules about an exception that ended the call: the one that the loop would have raised."""
    error, index = outcome.error, index_of(outcome.error)
    if isinstance(error, Midway):
        return [] if made.midway is not None else ["an iterable's exception from nowhere"]
    if isinstance(error, SystemExit):
        return [] if made.faults.get(error.code) == "sys.exit" else [f"{error!r} from nowhere"]  # type: ignore[call-overload]
    refused = isinstance(error, TransportError) and index is None and made.in_processes
    if refused and made.shape == "unpicklable":
        return [] if not any(outcome.begun) else ["items ran before the refusal"]
    if made.errors != "raise" and made.homebody is None:
        return [f"errors={made.errors!r}, and yet it raised {error!r}"]
    if index is None:
        return [f"no item is named by {error!r} with {getattr(error, '__notes__', None)}"]
    wrong = _item(made, outcome, index, error)
    if isinstance(error, WorkerCrashed) and index not in made.faults:
        return [wrong] if wrong else []  # killed by others: any time, any item
    first = min((i for i in made.faults if not _may_succeed(made, i)), default=index)
    found = [wrong] if wrong else []
    if index > first:
        found.append(f"item {index} was raised, item {first} had failed before it")
    unfinished = [i for i in range(index) if not outcome.ended[i] and i not in made.faults]
    if unfinished and not outcome.killed:
        found.append(f"items before the failure have not run: {unfinished[:5]}")
    return found


def _item(made: Workload, outcome: Outcome, index: int, value: Any) -> str | None:
    """What is wrong with what came of one item, or None."""
    if not 0 <= index < made.count:
        return f"there is no item {index}: {value!r}"
    fault = made.faults.get(index)
    if index == made.homebody and isinstance(value, TransportError):
        return None if made.in_processes and value.index == index else f"{value!r}, needlessly"
    if isinstance(value, WorkerCrashed):
        by_itself = fault in DEADLY or (fault == "sys.exit" and made.errors != "raise")
        return None if by_itself or outcome.killed else f"{value!r} though nobody died"
    if fault is None or (fault == "flaky" and made.tries <= made.retries):
        return _value(made, outcome, index, value)
    if fault == "hang":
        expected: Any = getattr(autopar, "TaskTimeout", TimeoutError)
    elif fault == "unpicklable result":
        if isinstance(value, Homebody) and not (made.in_processes and made.count > 1):
            return _value(made, outcome, index, value.value)
        expected = TransportError
    elif fault in DEADLY:
        expected = WorkerCrashed
    else:
        expected = RAISED[fault]
    if not isinstance(value, expected):
        return f"item {index} ({fault}) gave {value!r}"
    if index_of(value) != index:
        return f"item {index} ({fault}) gave an error that names item {index_of(value)}"
    return None


def _value(made: Workload, outcome: Outcome, index: int, value: Any) -> str | None:
    if isinstance(value, BaseException):
        return f"item {index} gave {value!r}"
    expected = value_of(made.work(""), index)
    if value != expected:
        return f"item {index} gave {str(value)[:60]}, not {str(expected)[:60]}"
    if not outcome.ended[index] or (outcome.ended[index] > 1 and not outcome.killed):
        return f"item {index} has a result of {outcome.ended[index]} evaluations"
    return None


def _crashes(made: Workload, outcome: Outcome, values: Sequence[Any]) -> list[str]:
    """Each worker that is killed costs at most the items it was running."""
    crashed = [v.index for v in values if isinstance(v, WorkerCrashed)]
    others = [index for index in crashed if made.faults.get(index) not in (*DEADLY, "sys.exit")]
    if len(others) > outcome.killed * made.at_once:
        return [f"{outcome.killed} workers were killed, {len(others)} items lost: {others[:9]}"]
    return []


def _may_succeed(made: Workload, index: int) -> bool:
    """Whether the item's fault need not end in an error."""
    fault = made.faults[index]
    if fault == "unpicklable result":
        return not made.in_processes or made.count == 1
    return fault == "flaky" and made.tries <= made.retries


def index_of(error: Any) -> int | None:
    """The item that an exception names, in an attribute or in its note."""
    if isinstance(error, AutoparError):
        return getattr(error, "index", None)
    for note in getattr(error, "__notes__", ()):
        named = re.match(r"autopar: .* for item (\d+)", note)
        if named:
            return int(named[1])
    return None
