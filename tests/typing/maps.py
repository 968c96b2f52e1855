"""What a user writes, with the types that have to come out. Checked, never run."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, assert_type

from autopar import (
    Plan,
    Report,
    Retry,
    auto_foreach,
    auto_map,
    auto_reduce,
    auto_starmap,
    observe,
    plan,
    shutdown,
)


class Price:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def times(self, count: int) -> "Price":
        return Price(self.cents * count)


def parse(text: str) -> int:
    return int(text)


def power(base: int, exponent: int) -> float:
    return float(base**exponent)


def plus(left: int, right: int) -> int:
    return left + right


def gather(so_far: list[float], number: int) -> list[float]:
    return [*so_far, number]


def lines(path: Path) -> Iterator[str]:
    yield from path.read_text().splitlines()


def prepare(path: str, size: int) -> None: ...


# functions, classes, methods, partials, lambdas; any iterable
assert_type(auto_map(parse, ["1", "2"]), list[int])
assert_type(auto_map(Price, range(3)), list[Price])
assert_type(auto_map(Price(5).times, {1, 2}), list[Price])
assert_type(auto_map(partial(power, 2), (1, 2)), list[float])
assert_type(auto_map(str.upper, lines(Path("words"))), list[str])
assert_type(auto_map(lambda cents: Price(cents).cents, [1, 2]), list[int])

# several arguments an item
assert_type(auto_map(power, [2, 3], [3, 2]), list[float])
assert_type(auto_map(power, [2, 3], [3, 2], kind="io", errors="return"), list[float | Exception])
assert_type(auto_map(pow, [2], [3], [5], workers=2), list[int])
assert_type(auto_starmap(power, [(2, 3), (3, 2)]), list[float])
assert_type(auto_starmap(power, zip([2], [3])), list[float])

# what happens to failures is part of the type
assert_type(auto_map(parse, ["1"], errors="raise"), list[int])
assert_type(auto_map(parse, ["1"], errors="group"), list[int])
assert_type(auto_map(parse, ["1"], errors="return"), list[int | Exception])
assert_type(auto_starmap(power, [(1, 2)], errors="raise"), list[float])
assert_type(auto_starmap(power, [(1, 2)], errors="group"), list[float])
assert_type(auto_starmap(power, [(1, 2)], errors="return"), list[float | Exception])

# every option
assert_type(
    auto_map(
        parse,
        ["1"],
        "cpu",
        backend="processes",
        workers=2,
        chunksize=10,
        errors="raise",
        initializer=prepare,
        initargs=("corpus", 3),
    ),
    list[int],
)
assert_type(auto_map(parse, ["1"], kind="io", backend="threads"), list[int])
with ThreadPoolExecutor() as executor:
    assert_type(auto_map(parse, ["1"], backend=executor), list[int])

# options that a caller passes on
kind: Literal["auto", "cpu", "io"] = "auto"
assert_type(auto_map(parse, ["1"], kind), list[int])

# for what they do, and for one value
auto_foreach(Price(5).times, [1, 2], errors="group", seed=3)
auto_foreach(power, [2, 3], [3, 2], kind="io")
auto_foreach(pow, [2], [3], [5], workers=2)
assert_type(auto_reduce(parse, ["1", "2"], plus), int)
assert_type(auto_reduce(parse, ["1"], lambda so_far, number: f"{so_far}{number}", ""), str)
assert_type(auto_reduce(parse, ["1"], gather, initial=[2.5], kind="io", buffersize=3), list[float])

# what is tried again
patient = Retry(3, on=(OSError, TimeoutError), backoff=0.5, jitter=0)
assert_type(auto_map(parse, ["1"], retries=patient), list[int])
assert_type(auto_reduce(parse, ["1"], plus, retries=Retry(1, lambda error: bool(error.args))), int)
auto_foreach(parse, ["1"], retries=Retry(2, ConnectionError))

# plans and reports
assert_type(plan(parse, ["1"]), Plan)
with observe() as seen:
    auto_map(parse, ["1"])
assert_type(seen.reports, list[Report])
for report in seen.reports:
    assert_type(report.backend, str)
    assert_type(report.because, str)
    assert_type(report.workers, int)
    assert_type(report.items, int)
    assert_type(report.wall_s, float)
shutdown(wait=False)


# inside a coroutine, on a thread
async def together() -> list[int]:
    return await asyncio.to_thread(auto_map, parse, ["1"])


# what must not type-check: an unused ignore is an error
auto_map(parse, [1])  # type: ignore[arg-type]
auto_map(parse, ["1"], kind="gpu")  # type: ignore[call-overload]
auto_map(parse, ["1"], errors="ignore")  # type: ignore[call-overload]
auto_map(power, [2], ["3"])  # type: ignore[arg-type]
auto_map(parse, ["1"], ["2"])  # type: ignore[arg-type]
auto_map(parse, ["1"], n_jobs=2)  # type: ignore[call-overload]
auto_foreach(parse, [1])  # type: ignore[arg-type]
auto_foreach(parse, ["1"], errors="return")  # type: ignore[call-overload]
auto_reduce(parse, ["1"], gather)  # type: ignore[misc]
auto_reduce(parse, ["1"], plus, ordered=False)  # type: ignore[call-overload]
Retry(1, on=int)  # type: ignore[arg-type]
