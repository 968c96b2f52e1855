"""Coroutine functions in the maps that block: an event loop of the map's own awaits them."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import operator
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loops
from autopar import (
    Retry,
    TaskTimeout,
    amap,
    auto_foreach,
    auto_imap,
    auto_map,
    auto_reduce,
    auto_starmap,
    observe,
    parallel,
    plan,
)
from autopar._shapes import awaits
from loops import LOOPS, sleep

KINDS = ["auto", "cpu", "io"]
kinds = pytest.mark.parametrize("kind", KINDS)
orders = pytest.mark.parametrize("ordered", [True, False])


async def double(x: Any) -> Any:
    await sleep(0.001)
    return 2 * x


async def add(x: int, y: int) -> int:
    await sleep(0)
    return x + y


async def reciprocal(x: float) -> float:
    await sleep(0.001 / (x + 1))
    return 1 / x


class Doubler:
    async def __call__(self, x: int) -> int:
        return await self.double(x)

    async def double(self, x: int) -> int:
        await sleep(0)
        return 2 * x

    @parallel
    async def decorated(self, x: int) -> int:
        return await self.double(x)


class Crowd:
    """Counts how many await at once."""

    def __init__(self, seconds: float = 0.005) -> None:
        self.now = self.most = self.begun = 0
        self._seconds = seconds

    async def join(self, x: Any) -> Any:
        self.begun += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.now -= 1
        return x


# the same meaning


@given(items=st.lists(st.integers(-100, 100), max_size=60), ordered=st.booleans())
def test_it_is_the_loop(items: list[int], ordered: bool) -> None:
    expected = [2 * item for item in items]
    assert auto_map(double, items) == auto_map(double, iter(items)) == expected
    found = list(auto_imap(double, iter(items), ordered=ordered))
    assert (found if ordered else sorted(found)) == (expected if ordered else sorted(expected))


@kinds
@pytest.mark.parametrize("backend", [None, "serial", "threads"])
def test_every_shape_every_kind_and_every_backend_that_can_be_meant(
    kind: Any, backend: str | None
) -> None:
    options: Any = {"kind": kind, "backend": backend}
    assert auto_map(double, range(20), **options) == [*range(0, 40, 2)]
    assert auto_map(add, [1, 2], [3, 4], **options) == [4, 6]
    assert auto_starmap(add, [(1, 3), (2, 4)], **options) == [4, 6]
    assert list(auto_imap(double, range(20), **options)) == [*range(0, 40, 2)]
    decorated = parallel(double, **options)
    assert decorated.map(range(3)) == list(decorated.imap(range(3))) == [0, 2, 4]


@pytest.mark.parametrize("backend", ["processes", "hybrid"])
def test_coroutines_do_not_leave_their_loop(backend: str) -> None:
    with pytest.raises(ValueError, match="awaited on an event loop"):
        auto_map(double, [1], backend=backend)
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="event loop"):
        auto_map(double, [1], backend=executor)
    with pytest.raises(ValueError, match="awaited on an event loop"):
        auto_imap(double, [1], backend="processes")
    with pytest.raises(ValueError, match="seed="):
        auto_map(double, [1], seed=1)


everything = pytest.mark.parametrize(
    "fn",
    [
        double,
        functools.partial(add, 1),
        functools.partial(functools.partial(add), y=1),
        Doubler(),
        Doubler().double,
        Doubler().decorated,
        parallel(double),
        functools.partial(parallel(add), 1),
    ],
    ids=lambda fn: type(fn).__name__,
)


@everything
def test_everything_that_is_to_be_awaited_is(fn: Any) -> None:
    expected = [asyncio.run(fn(item)) for item in range(3)]
    assert auto_map(fn, range(3)) == expected
    assert list(auto_imap(fn, range(3))) == expected
    assert asyncio.run(amap(fn, range(3))) == expected


def test_what_is_not_to_be_awaited_is_not_taken_for_it() -> None:
    class Runs:
        """Has a coroutine function, and awaits it itself."""

        func = staticmethod(double)

        def __call__(self, x: int) -> int:
            return asyncio.run(double(x))  # type: ignore[no-any-return]

    for fn in (abs, str, int.bit_length, Runs(), Runs, lambda x: x, functools.partial(pow, 2)):
        assert not awaits(fn)
    assert auto_map(Runs(), [1, 2]) == [2, 4]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="functions cannot say so before 3.12")
def test_a_function_may_say_that_it_gives_coroutines() -> None:
    import inspect

    def give(x: int) -> Any:
        return double(x)

    assert auto_map(inspect.markcoroutinefunction(give), [1, 2]) == [2, 4]


# exceptions


@pytest.mark.parametrize("delays", [[0.05, 0.0], [0.0, 0.05]])
def test_the_first_in_order_that_fails_is_raised(delays: list[float]) -> None:
    ended = []

    async def fail(item: tuple[int, float]) -> None:
        number, seconds = item
        try:
            await asyncio.sleep(seconds)
            raise LookupError(number)
        finally:
            ended.append(number)

    with pytest.raises(LookupError, match="0") as caught:
        auto_map(fail, [*enumerate(delays), (2, 60.0)])
    assert "fail() for item 0: (0, " in "".join(caught.value.__notes__)
    assert sorted(ended) == [0, 1, 2][: len(ended)]  # and the last was cancelled


def test_items_before_the_one_that_fails_are_done() -> None:
    done = []

    async def item(x: int) -> int:
        await asyncio.sleep(0.05 if x < 3 else 0 if x == 3 else 60)
        if x == 3:
            raise LookupError
        done.append(x)
        return x

    with pytest.raises(LookupError):
        auto_map(item, range(10))
    assert sorted(done) == [0, 1, 2]
    done.clear()
    results = auto_imap(item, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LookupError) as caught:
        next(results)
    assert "item() for item 3" in "".join(caught.value.__notes__)
    assert list(results) == []


def test_exceptions_can_be_results_or_a_group() -> None:
    for found in (
        auto_map(reciprocal, [2, 0, 4], errors="return"),
        list(auto_imap(reciprocal, [2, 0, 4], errors="return")),
    ):
        assert [found[0], found[2]] == [0.5, 0.25]
        assert isinstance(found[1], ZeroDivisionError)
    with pytest.raises(ExceptionGroup, match="2 of 3 items failed"):
        auto_map(reciprocal, [0, 2, 0], errors="group")


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("errors", ["raise", "return"])
def test_an_item_that_ends_the_program_does(end: type[BaseException], errors: Any) -> None:
    async def leave(x: int) -> int:
        await asyncio.sleep(0 if x else 60)
        raise end

    with pytest.raises(end):
        auto_map(leave, range(3), errors=errors)
    with pytest.raises(end):
        list(auto_imap(leave, range(3), errors=errors))


def test_a_failure_keeps_nothing_alive() -> None:
    class Thing:
        pass

    alive = 0

    def end() -> None:
        nonlocal alive
        alive -= 1

    import weakref

    async def item(x: int) -> Thing:
        nonlocal alive
        thing = Thing()
        alive += 1
        weakref.finalize(thing, end)
        if x == 5:
            raise LookupError
        return thing

    try:
        auto_map(item, range(10))
    except LookupError:
        pass
    gc.collect()
    assert alive == 0


def test_time_and_tries() -> None:
    tries: dict[int, int] = {}

    async def item(x: int) -> int:
        tries[x] = tries.get(x, 0) + 1
        await asyncio.sleep(60 if x == 2 else 0)
        if tries[x] <= x:
            raise LookupError(x)
        return x

    found = auto_map(item, range(4), timeout=0.1, retries=1, errors="return")
    assert found[:2] == [0, 1]
    assert isinstance(found[2], TaskTimeout)
    assert str(found[2]) == "item 2 ran longer than timeout=0.1 s; it was cancelled."
    assert isinstance(found[3], LookupError)
    assert tries == {0: 1, 1: 2, 2: 2, 3: 2}


def test_an_items_own_timeout_is_its_own() -> None:
    async def item(_x: int) -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        auto_map(item, [1], timeout=60)
    assert not isinstance(caught.value, TaskTimeout)


# how many


@pytest.mark.parametrize("items", [[*range(300)], iter(range(300))], ids=["list", "iterator"])
def test_never_more_than_the_workers_asked_for(items: Any) -> None:
    for workers in (1, 7):
        crowd = Crowd(0.001)
        auto_map(crowd.join, range(50), workers=workers)
        list(auto_imap(crowd.join, iter(range(50)), workers=workers))
        assert crowd.most == workers
    crowd = Crowd()
    auto_map(crowd.join, items)
    assert 8 < crowd.most <= 100


def test_items_may_wait_for_each_other() -> None:
    async def main() -> None:
        barrier = asyncio.Barrier(100)

        async def meet(_x: int) -> None:
            await barrier.wait()

        await amap(meet, range(100))

    asyncio.run(main())


def test_one_that_takes_long_holds_up_no_other() -> None:
    async def main() -> None:
        others = asyncio.Event()
        done = itertools.count(1)

        async def item(x: int) -> None:
            if x == 0:
                await others.wait()
            elif next(done) == 499:
                others.set()

        await amap(item, range(500), workers=2)

    asyncio.run(main())


def test_what_was_cancelled_is_not_tried_again() -> None:
    tries = itertools.count()

    async def item(x: int) -> None:
        if x == 0:
            await asyncio.sleep(0.01)
            raise LookupError
        next(tries)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise OSError("the connection was lost") from None

    async def fail(x: int) -> None:
        await item(x)

    with pytest.raises(LookupError):
        auto_map(fail, range(2), workers=2, retries=0)
    assert next(tries) == 1
    with pytest.raises(LookupError):
        auto_map(fail, range(2), workers=2, retries=3)
    assert next(tries) == 3


# where the loop runs


def test_it_runs_in_the_calling_thread_where_no_loop_does() -> None:
    async def where(_x: int) -> int:
        return threading.get_ident()

    assert set(auto_map(where, range(3))) == {threading.get_ident()}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_map_that_blocks_may_be_called_from_a_coroutine(loop: str) -> None:
    kind = ""

    async def where(_x: int) -> int:
        nonlocal kind
        kind = "trio" if loops.in_trio() else type(asyncio.get_running_loop()).__module__
        await sleep(0)
        return threading.get_ident()

    async def main() -> None:
        found = [*auto_map(where, range(3)), *auto_imap(where, range(3))]
        assert threading.get_ident() not in found

    loops.run(loop, main)
    assert kind.startswith(loop)


def test_the_threads_current_loop_stays() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        auto_map(double, range(3))
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


# one after another


@orders
@pytest.mark.parametrize("buffersize", [None, 3])
def test_the_iterable_is_read_only_as_far_as_results_are_taken(
    ordered: bool, buffersize: int | None
) -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for number in itertools.count():
            read += 1
            yield number

    results = auto_imap(double, items(), ordered=ordered, buffersize=buffersize, workers=4)
    for _ in range(5):
        next(results)
    time.sleep(0.1)  # for it to read on, if it did
    assert read <= 5 + (buffersize or 2 * 4)
    results.close()  # type: ignore[attr-defined]


def test_an_iterable_that_blocks_does_not_hold_back_what_is_there() -> None:
    given_out: queue.Queue[int] = queue.Queue()
    for number in range(5):
        given_out.put(number)
    results = auto_imap(double, iter(given_out.get, None))
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    given_out.put(5)
    assert next(results) == 10
    results.close()  # type: ignore[attr-defined]
    given_out.put(0)  # lets its reader go


@pytest.mark.parametrize("how", ["closed", "gone", "failed"])
def test_when_nobody_takes_results_any_more_all_ends(how: str) -> None:
    closed = threading.Event()
    crowd = Crowd()

    def items() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    def consume(results: Iterator[int]) -> None:
        for number, _ in enumerate(results):
            if number == 20:
                raise RuntimeError("enough")

    results = auto_imap(crowd.join, items())
    if how == "failed":
        with pytest.raises(RuntimeError, match="enough"):
            consume(results)
    else:
        for _ in range(20):
            next(results)
    if how == "closed":
        results.close()  # type: ignore[attr-defined]
        assert crowd.now == 0
    del results
    gc.collect()
    assert closed.wait(10)


# what is said of it


def test_a_call_is_reported_and_planned() -> None:
    with observe() as seen:
        auto_map(double, range(50), workers=5)
        list(auto_imap(double, range(50), workers=5))
    for report in seen.reports:
        assert (report.function, report.items) == ("double", 50)
        assert (report.backend, report.workers) == ("asyncio", 5)
    assert [report.in_caller for report in seen.reports] == [50, 0]
    crowd = Crowd()
    assert plan(crowd.join, range(50), workers=5).workers == 5
    assert parallel(double).plan(range(3)).backend == "asyncio"
    assert crowd.begun == 0


# the end of the program


def finished(script: str, then: Callable[[subprocess.Popen[str]], None] | None = None) -> Any:
    """How a program ends."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    if then is not None:
        then(program)
    out, err = program.communicate(timeout=50)
    return program.returncode, out, err


def interrupt(program: subprocess.Popen[str]) -> None:
    """Ctrl-C, once it has said that it is at work."""
    assert program.stdout is not None
    assert program.stdout.readline() == "at work\n"
    program.send_signal(signal.SIGINT)


@pytest.mark.parametrize("call", ["auto_map(item, range(3))", "list(auto_imap(item, range(3)))"])
@pytest.mark.parametrize("inside", [False, True])
def test_ctrl_c_is_one_interrupt_and_leaves_nothing(call: str, inside: bool) -> None:
    script = f"""
import asyncio
from autopar import auto_map, auto_imap
async def item(x):
    if x == 2:
        print("at work", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("cancelled", flush=True)
async def main():
    {call}
    await asyncio.sleep(60)
try:
    asyncio.run(main()) if {inside} else {call}
except KeyboardInterrupt:
    print("interrupted")
"""
    if inside:  # there, the handler of asyncio.run() only cancels what awaits
        script = script.replace("import asyncio\n", "import asyncio, signal\n", 1).replace(
            f"    {call}\n    await",
            f"    signal.signal(signal.SIGINT, signal.default_int_handler)\n    {call}\n    await",
            1,
        )
    assert finished(script, interrupt) == (0, "cancelled\n" * 3 + "interrupted\n", "")


def test_a_program_that_leaves_it_open_ends() -> None:
    script = """
import asyncio, itertools
from autopar import auto_imap
async def double(x):
    await asyncio.sleep(0)
    return 2 * x
results = auto_imap(double, itertools.count())
for _ in range(20):
    next(results)
print("fine")
"""
    assert finished(script) == (0, "fine\n", "")


def test_importing_autopar_imports_no_asyncio() -> None:
    script = "import sys, autopar; autopar.auto_map(abs, [1]); print('asyncio' in sys.modules)"
    assert finished(script) == (0, "False\n", "")


class Flaky:
    """Fails for the first tries of each item."""

    def __init__(self, fails: int, error: type[Exception]) -> None:
        self.fails, self.error = fails, error
        self.tries: dict[int, int] = {}

    async def __call__(self, x: int) -> int:
        self.tries[x] = self.tries.get(x, 0) + 1
        if self.tries[x] <= self.fails:
            raise self.error(x)
        return 2 * x


def test_coroutines_are_tried_again_after_what_is_said_and_no_other_failure() -> None:
    retry = Retry(2, on=OSError, backoff=0.01)
    assert auto_map(Flaky(2, OSError), range(5), retries=retry) == [0, 2, 4, 6, 8]
    others = Flaky(1, KeyError)
    with pytest.raises(KeyError):
        auto_map(others, [1], retries=retry)
    assert others.tries == {1: 1}
    with pytest.raises(OSError) as caught:
        auto_map(Flaky(9, OSError), [1], retries=retry)
    assert "autopar: tried 3 times" in caught.value.__notes__


def test_other_coroutines_go_on_while_one_waits_for_its_next_try() -> None:
    began: list[int] = []

    async def work(x: int) -> int:
        began.append(x)
        if x == 0 and began.count(0) == 1:
            raise OSError
        return x

    assert auto_map(work, range(8), retries=Retry(1, backoff=0.2, jitter=0)) == [*range(8)]
    assert began[-1] == 0


def test_for_effects_and_for_one_value() -> None:
    done: list[int] = []

    async def work(x: int) -> int:
        await asyncio.sleep(0.001)
        done.append(x)
        return x

    assert auto_foreach(work, iter(range(50))) is None
    assert sorted(done) == [*range(50)]
    assert auto_reduce(work, range(10), operator.add) == 45
