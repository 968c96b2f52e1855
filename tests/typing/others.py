"""Executors, pools and lazy maps, with the types that have to come out. Checked, never run."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import assert_type

from rich.progress import Progress
from tqdm import tqdm

from autopar import (
    AutoExecutor,
    Parallel,
    Pool,
    Report,
    auto_imap,
    auto_map,
    auto_submit,
    parallel,
)


def parse(text: str) -> int:
    return int(text)


def power(base: int, exponent: int) -> float:
    return float(base**exponent)


assert_type(auto_imap(parse, ["1", "2"]), Iterator[int])
assert_type(auto_imap(parse, iter("12"), "io", ordered=False, buffersize=4), Iterator[int])
assert_type(auto_imap(parse, ["1"], errors="return"), Iterator[int | Exception])
auto_imap(parse, [1, 2])  # type: ignore[arg-type]

assert_type(auto_submit(parse, "1"), Future[int])
assert_type(auto_submit(power, 2, exponent=3).result(), float)


async def fetched(x: int) -> bytes:
    return bytes(x)


@parallel
async def decorated(x: int) -> bytes:
    return bytes(x)


assert_type(auto_submit(fetched, 1), Future[bytes])
assert_type(decorated.submit(1), Future[bytes])
auto_submit(parse, 1)  # type: ignore[call-overload]

with AutoExecutor(4, kind="io") as executor:
    plain: Executor = executor
    assert_type(executor.submit(parse, "1"), Future[int])
    assert_type(executor.submit(power, 2, exponent=3).result(), float)
    assert_type(executor.map(power, [1, 2], [3, 4]), Iterator[float])
    executor.submit(parse, 1)  # type: ignore[arg-type]
    assert_type(executor.reports, list[Report])

with Pool(2, kind="cpu", maxtasksperchild=10) as pool:
    assert_type(pool.apply(parse, ("1",)), int)
    assert_type(pool.apply_async(power, (2, 3)).get(timeout=5), float)
    assert_type(pool.map(parse, ["1", "2"]), list[int])
    assert_type(pool.starmap_async(power, [(1, 2)]).get(), list[float])
    for number in pool.imap_unordered(parse, ["1"]):
        assert_type(number, int)
    assert_type(pool.reports, list[Report])


# whatever shows progress


def tell(done: int, total: int | None, report: Report) -> None: ...
def mistaken(done: str) -> None: ...


with Progress() as bars:
    assert_type(auto_map(parse, ["1"], progress=bars), list[int])
assert_type(auto_map(parse, ["1"], progress=tqdm(total=1)), list[int])
assert_type(auto_map(parse, ["1"], progress=tell, errors="return"), list[int | Exception])
assert_type(auto_imap(parse, ["1"], progress=True), Iterator[int])
assert_type(auto_imap(parse, ["1"], progress="parsing", errors="return"), Iterator[int | Exception])
auto_map(parse, ["1"], progress=mistaken)  # type: ignore[arg-type]
auto_imap(parse, ["1"], progress=1.5)  # type: ignore[call-overload]


@parallel
def length(text: str) -> int:
    return len(text)


@parallel(kind="io", workers=4)
def scaled(value: float, factor: int = 2) -> float:
    return value * factor


class Scale:
    @parallel
    def weigh(self, x: int) -> float:
        return x / 2


assert_type(length("abc"), int)
assert_type(length.map(["a", "b"]), list[int])
assert_type(length.map(["a"], errors="return"), list[int | Exception])
assert_type(length.imap(["a"]), Iterator[int])
assert_type(length.submit("a"), Future[int])
length.foreach(["a"], errors="group")
assert_type(length.reduce(["a"], max), int)
assert_type(length.reduce(["a"], lambda so_far, number: [*so_far, number], [0]), list[int])
assert_type(length.reduce(["a"], lambda so_far, number: so_far + number, initial=0.5), float)
assert_type(scaled(1.0, factor=3), float)
assert_type(scaled.starmap([(1.0, 2)], timeout=3.0), list[float])
assert_type(scaled.with_(workers=2).map([1.0]), list[float])
assert_type(Scale().weigh(3), float)
assert_type(Scale().weigh.map([1, 2]), list[float])
plainly: Parallel[[str], int] = length
length(3)  # type: ignore[arg-type]
length.foreach(["a"], errors="return")  # type: ignore[arg-type]
length.map(["a"], n_jobs=2)  # type: ignore[call-overload]
parallel(n_jobs=2)  # type: ignore[call-overload]
