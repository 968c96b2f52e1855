"""`amap` and `aimap`: the loop goes on, and what is cancelled ends. Under asyncio and trio."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loops
import work
from autopar import TaskTimeout, WorkerCrashed, aimap, amap, observe, parallel
from conftest import is_alive
from loops import LOOPS, later, listed, sleep

KINDS = ["auto", "cpu", "io"]
kinds = pytest.mark.parametrize("kind", KINDS)
each_loop = pytest.mark.parametrize("loop", LOOPS)
orders = pytest.mark.parametrize("ordered", [True, False])
variable = contextvars.ContextVar("variable", default="unset")


async def double(x: Any) -> Any:
    await sleep(0.001)
    return 2 * x


async def reciprocal(x: float) -> float:
    await sleep(0.001)
    return 1 / x


# Plain functions go to workers, coroutine functions are awaited: what comes back is the same.
both = pytest.mark.parametrize("fn", [work.double, double], ids=["function", "coroutine"])
both_fail = pytest.mark.parametrize(
    "fn", [work.reciprocal, reciprocal], ids=["function", "coroutine"]
)


# the same meaning


@each_loop
@both
@settings(max_examples=30)
@given(items=st.lists(st.integers(-100, 100), max_size=40), ordered=st.booleans())
def test_they_are_the_loop(loop: str, fn: Any, items: list[int], ordered: bool) -> None:
    async def main() -> None:
        expected = [2 * item for item in items]
        assert await amap(fn, items) == expected
        assert await amap(fn, iter(items)) == expected
        assert await amap(fn, later(items)) == expected
        for source in (items, iter(items), later(items)):
            found = await listed(aimap(fn, source, ordered=ordered))
            assert (found if ordered else sorted(found)) == (
                expected if ordered else sorted(expected)
            )

    loops.run(loop, main)


@each_loop
@pytest.mark.parametrize("asynchronous", [False, True])
def test_amap_on_every_backend(backend: str, loop: str, asynchronous: bool) -> None:
    async def main() -> list[int]:
        items = later(range(30)) if asynchronous else range(30)
        return await amap(work.slow_double, items, backend=backend)

    assert loops.run(loop, main) == [*range(0, 60, 2)]


@kinds
@both
@each_loop
def test_every_kind(kind: Any, fn: Any, loop: str) -> None:
    async def main() -> None:
        assert await amap(fn, range(20), kind=kind) == [*range(0, 40, 2)]
        assert await listed(aimap(fn, range(20), kind=kind)) == [*range(0, 40, 2)]

    loops.run(loop, main)


@each_loop
@orders
def test_aimap_on_every_backend(backend: str, loop: str, ordered: bool) -> None:
    async def main() -> None:
        for items in (range(30), later(range(30))):
            results = aimap(work.slow_double, items, backend=backend, ordered=ordered)
            assert sorted(await listed(results)) == [*range(0, 60, 2)]

    loops.run(loop, main)


@each_loop
def test_several_iterables_side_by_side(loop: str) -> None:
    async def power(base: int, exponent: int) -> int:
        await sleep(0)
        return int(base**exponent)

    async def main() -> None:
        for fn in (pow, power):
            assert await amap(fn, [2, 3], [3, 2, 1]) == [8, 9]
            assert await amap(fn, later([2, 3]), itertools.repeat(2)) == [4, 9]
            assert await listed(aimap(fn, [2, 3], later([3, 2]))) == [8, 9]

    loops.run(loop, main)


@both_fail
@each_loop
def test_what_an_item_raises_is_raised_with_its_name(fn: Any, loop: str) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            await amap(fn, [4, 2, 0, 1])
        assert "reciprocal() for item 2: 0" in "".join(caught.value.__notes__)
        async with aclosing(aimap(fn, [4, 2, 0, 1])) as results:
            assert [await anext(results), await anext(results)] == [0.25, 0.5]
            with pytest.raises(ZeroDivisionError) as caught:
                await anext(results)
            assert "reciprocal() for item 2" in "".join(caught.value.__notes__)
            with pytest.raises(StopAsyncIteration):
                await anext(results)

    loops.run(loop, main)


@both_fail
@each_loop
def test_failures_may_be_results_or_a_group(fn: Any, loop: str) -> None:
    async def main() -> None:
        for found in (
            await amap(fn, [2, 0, 4], errors="return"),
            await listed(aimap(fn, [2, 0, 4], errors="return")),
        ):
            assert [found[0], found[2]] == [0.5, 0.25]
            assert isinstance(found[1], ZeroDivisionError)
            assert "item 1" in "".join(found[1].__notes__)
        with pytest.raises(ExceptionGroup, match="2 of 3 items failed") as caught:
            await amap(fn, [0, 2, 0], errors="group")
        assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError] * 2

    loops.run(loop, main)


@both
@each_loop
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_the_iterable_raises_comes_after_the_results_before_it(
    fn: Any, loop: str, asynchronous: bool
) -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no sixth")

    async def main() -> None:
        def items() -> Any:
            return later(broken()) if asynchronous else broken()

        with pytest.raises(LookupError, match="no sixth"):
            await amap(fn, items())
        async with aclosing(aimap(fn, items())) as results:
            assert [await anext(results) for _ in range(5)] == [0, 2, 4, 6, 8]
            with pytest.raises(LookupError, match="no sixth"):
                await anext(results)

    loops.run(loop, main)


@each_loop
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_item_that_ends_the_program_does(loop: str, end: type[BaseException]) -> None:
    async def leave(x: int) -> int:
        await sleep(0 if x else 30)
        raise end

    async def main() -> None:
        with pytest.raises(end):
            await amap(leave, range(3))
        with pytest.raises(end):
            await listed(aimap(leave, range(3)))

    loops.run(loop, main)


@each_loop
def test_items_see_the_variables_of_who_asks(loop: str) -> None:
    def see(_item: int) -> str:
        return variable.get()

    async def look(_item: int) -> str:
        await sleep(0)
        return variable.get()

    async def main() -> None:
        variable.set("set")
        for fn in (see, look):
            assert await amap(fn, range(3)) == ["set"] * 3
            assert await amap(fn, range(3), kind="io") == ["set"] * 3
            assert await listed(aimap(fn, range(3))) == ["set"] * 3

    loops.run(loop, main)


@each_loop
def test_a_decorated_function_has_both(loop: str) -> None:
    async def main() -> None:
        for fn in (parallel(work.double), parallel(double, kind="io")):
            assert await fn.amap(later(range(5))) == [0, 2, 4, 6, 8]
            assert await listed(fn.aimap(range(5), buffersize=2)) == [0, 2, 4, 6, 8]
            assert await amap(fn, range(5)) == [0, 2, 4, 6, 8]

    loops.run(loop, main)


@each_loop
def test_a_call_is_reported(loop: str) -> None:
    async def main() -> None:
        with observe() as seen:
            await amap(work.slow_double, range(10), kind="io")
            await amap(double, range(10), workers=4)
            await listed(aimap(double, later(range(10))))
        plain, awaited, lazily = seen.reports
        assert (plain.backend, plain.items) == ("threads", 10)
        assert (awaited.backend, awaited.workers, awaited.items) == (loop, 4, 10)
        assert lazily.items == 10

    loops.run(loop, main)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"kind": "gpu"},
        {"timeout": -1},
        {"backend": "processes"},
        {"backend": "hybrid"},
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        asyncio.run(amap(double, [1], **options))
    with pytest.raises(ValueError):
        aimap(double, [1], **options)
    with pytest.raises(ValueError, match="seed="):
        asyncio.run(amap(double, [1], seed=1))
    with pytest.raises(TypeError):
        aimap(double, 5)  # type: ignore[call-overload]


# the loop goes on


@pytest.mark.parametrize("kind", ["auto", "cpu"])
@each_loop
def test_the_loop_goes_on_while_items_compute(kind: Any, loop: str) -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await sleep(0.001)
            beats += 1

    async def main() -> None:
        await loops.beside(lambda: amap(work.spin, [0.02] * 20, kind=kind), beat)
        before = beats
        assert before > 10  # a loop that is blocked has none
        await loops.beside(lambda: listed(aimap(work.spin, [0.02] * 20, kind=kind)), beat)
        assert beats - before > 10

    loops.run(loop, main)


@each_loop
def test_the_loop_goes_on_beside_coroutines_that_never_wait(loop: str) -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await sleep(0)
            beats += 1

    async def at_once(x: int) -> int:
        return x

    async def main() -> None:
        await loops.beside(lambda: amap(at_once, range(100_000)), beat)
        assert beats > 5

    loops.run(loop, main)


@each_loop
def test_two_maps_at_the_same_time(loop: str) -> None:
    meeting = threading.Barrier(2)

    async def main() -> None:
        async def other() -> None:
            await amap(meeting.wait, [10], kind="io")

        await loops.beside(lambda: amap(meeting.wait, [10], kind="io"), other)

    loops.run(loop, main)


# cancellation


def note_and_nap(path: str) -> None:
    """Leaves the number of its process, and stays."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


@each_loop
@pytest.mark.parametrize("lazily", [False, True])
def test_cancelled_processes_are_gone(loop: str, lazily: bool, tmp_path: Path) -> None:
    path = tmp_path / "pid"

    async def work_on() -> None:
        if lazily:
            await listed(aimap(note_and_nap, [str(path)], backend="processes"))
        else:
            await amap(note_and_nap, [str(path)], backend="processes")

    async def main() -> None:
        assert await loops.cancelled(work_on, lambda: path.exists() and path.read_text())
        assert await loops.eventually(lambda: not is_alive(int(path.read_text())))

    loops.run(loop, main)


@each_loop
@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("kind", ["auto", "io"])
def test_cancelled_threads_begin_no_more(loop: str, lazily: bool, kind: Any) -> None:
    begun = itertools.count()
    started = threading.Event()

    def item(_number: int) -> None:
        next(begun)
        started.set()
        time.sleep(0.01)

    async def work_on() -> None:
        if lazily:
            await listed(aimap(item, itertools.count(), kind=kind))
        else:
            await amap(item, range(100_000), kind=kind)

    async def main() -> None:
        assert await loops.cancelled(work_on, started.is_set)
        await sleep(0.1)  # for those that were at work
        so_far = next(begun)
        await sleep(0.1)
        assert next(begun) == so_far + 1

    loops.run(loop, main)


@each_loop
@pytest.mark.parametrize("lazily", [False, True])
def test_cancelled_coroutines_have_ended(loop: str, lazily: bool) -> None:
    running = 0

    async def item(_number: int) -> None:
        nonlocal running
        running += 1
        try:
            await sleep(60)
        finally:
            running -= 1

    async def work_on() -> None:
        try:
            if lazily:
                async with aclosing(aimap(item, range(10))) as results:
                    await anext(results)
            else:
                await amap(item, range(10))
        finally:
            assert running == 0

    async def main() -> None:
        assert await loops.cancelled(work_on, lambda: running == 10)

    loops.run(loop, main)


@each_loop
def test_a_cancellation_that_comes_while_it_is_closed_waits_for_the_end(loop: str) -> None:
    running, ending = 0, False

    async def item(number: int) -> None:
        nonlocal running, ending
        running += 1
        try:
            await sleep(60 if number else 0)
        finally:
            ending = number > 0
            if ending and loops.in_trio() is None:
                await sleep(0.05)
            running -= 1

    async def work_on() -> None:
        try:
            async with aclosing(aimap(item, range(5))) as results:
                await anext(results)
        finally:
            assert running == 0

    async def main() -> None:
        await loops.cancelled(work_on, lambda: ending)

    loops.run(loop, main)


@each_loop
@both
def test_a_time_limit_around_it_is_that(loop: str, fn: Any) -> None:
    async def main() -> None:
        trio = loops.in_trio()
        nap = work.nap if fn is work.double else sleep
        if trio is not None:
            with trio.move_on_after(0.1) as scope:
                await amap(nap, [0.5] * 3, kind="io")
            assert scope.cancelled_caught
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await amap(nap, [0.5] * 3, kind="io")
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
        assert await amap(fn, range(3)) == [0, 2, 4]

    loops.run(loop, main)


def test_a_cancellation_is_never_lost() -> None:
    """Also one that comes when the results are there, but were not taken."""

    async def main() -> None:
        async def last(_x: int) -> None:
            task.cancel()

        async def waits() -> None:
            await amap(last, [1])

        task = asyncio.ensure_future(waits())
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())


def test_an_item_whose_own_wait_is_cancelled_raises_that() -> None:
    async def main() -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gone.cancel()

        async def item(x: int) -> int:
            if x == 2:
                await gone
            await asyncio.sleep(0.01)
            return x

        with pytest.raises(asyncio.CancelledError):
            await amap(item, range(5))
        assert not asyncio.all_tasks() - {asyncio.current_task()}

    asyncio.run(main())


def test_a_trio_program_outlives_what_goes_wrong() -> None:
    trio = pytest.importorskip("trio")

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await listed(aimap(reciprocal, later([1, 0, 0])))
            with pytest.raises(ZeroDivisionError):
                await listed(aimap(work.reciprocal, later([1, 0, 0])))
        with trio.move_on_after(0.05):
            async for _ in aimap(double, later(itertools.count(), 0.001)):
                pass

    trio.run(main)


# one after another


@both
@each_loop
@orders
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", ["auto", "io"])
def test_no_more_is_read_than_there_is_use_for(
    fn: Any, loop: str, ordered: bool, asynchronous: bool, kind: Any
) -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for number in itertools.count():
            read += 1
            yield number

    async def main() -> None:
        source = later(items()) if asynchronous else items()
        results = aimap(fn, source, ordered=ordered, buffersize=3, kind=kind)
        async with aclosing(results):
            for _ in range(5):
                await anext(results)
            await sleep(0.05)  # for it to read on, if it did
            assert read <= 5 + 3

    loops.run(loop, main)


@both
@each_loop
@pytest.mark.parametrize("asynchronous", [False, True])
def test_it_may_be_endless(fn: Any, loop: str, asynchronous: bool) -> None:
    async def main() -> None:
        source = later(itertools.count()) if asynchronous else itertools.count()
        async with aclosing(aimap(fn, source)) as results:
            assert [await anext(results) for _ in range(300)] == [*range(0, 600, 2)]

    loops.run(loop, main)


@both
@each_loop
@orders
def test_results_do_not_wait_for_items_that_are_to_come(fn: Any, loop: str, ordered: bool) -> None:
    async def main() -> None:
        taken = 0

        async def items() -> AsyncIterator[int]:
            for number in range(5):
                yield number
                assert await loops.eventually(lambda wanted=number: taken > wanted)

        async for result in aimap(fn, items(), ordered=ordered):
            assert result == 2 * taken
            taken += 1
        assert taken == 5

    loops.run(loop, main)


@both
@each_loop
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # so trio calls for aclosing
@pytest.mark.parametrize("how", ["closed", "gone", "failed"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_when_nobody_takes_results_any_more_all_ends(
    fn: Any, loop: str, how: str, asynchronous: bool
) -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    async def items_later() -> AsyncIterator[int]:
        try:
            for number in itertools.count():
                await sleep(0)
                yield number
        finally:
            closed.set()

    async def main() -> None:
        results = aimap(fn, items_later() if asynchronous else items())
        if how == "failed":
            with pytest.raises(RuntimeError, match="enough"):
                async with aclosing(results):
                    async for result in results:
                        if result > 20:
                            raise RuntimeError("enough")
        else:
            for _ in range(20):
                await anext(results)
        if how == "closed":
            await results.aclose()
        del results
        gc.collect()
        assert await loops.eventually(closed.is_set)

    loops.run(loop, main)


@pytest.mark.parametrize("kind", ["auto", "io"])
@each_loop
def test_an_iterable_that_blocks_holds_up_neither_the_loop_nor_the_end(
    loop: str, kind: Any
) -> None:
    given_out: queue.Queue[int] = queue.Queue()
    for number in range(5):
        given_out.put(number)

    async def main() -> None:
        async with aclosing(aimap(work.slow_double, iter(given_out.get, None), kind=kind)) as found:
            assert [await anext(found) for _ in range(5)] == [0, 2, 4, 6, 8]
            await sleep(0.01)

    loops.run(loop, main)
    given_out.put(0)  # lets its reader go


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")
@pytest.mark.parametrize("pause_s", [None, 0.001])
def test_on_a_loop_whose_tasks_begin_at_once(pause_s: float | None) -> None:
    async def item(x: int) -> float:
        if pause_s is not None:
            await asyncio.sleep(pause_s)
        return 1 / (x - 20)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        for items in (range(20), later(range(20))):
            assert len(await amap(item, items)) == 20
            assert len(await listed(aimap(work.double, later(range(20))))) == 20
        assert len(await listed(aimap(item, later(range(20))))) == 20
        with pytest.raises(ZeroDivisionError):
            await amap(item, range(100))
        with pytest.raises(ZeroDivisionError):
            await listed(aimap(item, range(100)))

    asyncio.run(main())


# faults


@each_loop
def test_a_worker_that_dies_costs_its_item(loop: str) -> None:
    items = ["good"] * 5 + ["kill"] + ["good"] * 5

    async def main() -> None:
        for found in (
            await amap(work.die_slowly, items, backend="processes", errors="return"),
            await listed(aimap(work.die_slowly, items, backend="processes", errors="return")),
        ):
            assert [item for item in found if item != "good"] == [found[5]]
            assert isinstance(found[5], WorkerCrashed)

    loops.run(loop, main)


@each_loop
@pytest.mark.parametrize("fn", [work.nap, sleep], ids=["function", "coroutine"])
def test_an_item_that_runs_past_its_time_is_named(loop: str, fn: Any) -> None:
    async def main() -> None:
        for found in (
            await amap(fn, [0.0, 2.0, 0.0], kind="io", timeout=0.2, errors="return"),
            await listed(aimap(fn, [0.0, 2.0, 0.0], kind="io", timeout=0.2, errors="return")),
        ):
            assert [isinstance(item, TaskTimeout) for item in found] == [False, True, False]
            assert "item 1 ran longer than timeout=0.2 s" in str(found[1])

    loops.run(loop, main)


@each_loop
def test_an_item_may_be_tried_again(loop: str) -> None:
    tries: dict[int, int] = {}

    async def item(x: int) -> int:
        tries[x] = tries.get(x, 0) + 1
        await sleep(0.3 if x == 3 and tries[x] == 1 else 0)
        if tries[x] <= x < 3:
            raise LookupError(x)
        return x

    async def main() -> None:
        assert await amap(item, range(4), retries=2, timeout=0.2) == [0, 1, 2, 3]
        assert tries == {0: 1, 1: 2, 2: 3, 3: 2}
        tries.clear()
        with pytest.raises(LookupError, match="2"):
            await amap(item, range(4), retries=1)

    loops.run(loop, main)


def finished(script: str, interrupt: bool = False) -> tuple[int, str, str]:
    """How a program ends; interrupted once it has said that it is at work."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    if interrupt:
        assert program.stdout is not None
        assert program.stdout.readline() == "at work\n"
        program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=50)
    return program.returncode, out, err


@pytest.mark.parametrize("fn", ["work.nap", "sleep"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_ctrl_c_is_one_interrupt(fn: str, loop: str) -> None:
    pytest.importorskip(loop)
    script = f"""
import threading, work, {loop}
from autopar import amap
from loops import sleep
async def main():
    threading.Timer(0.5, print, ["at work"], {{"flush": True}}).start()
    try:
        await amap({fn}, [60.0] * 3, kind="cpu")
    finally:
        print("cancelled")
try:
    {loop}.run(main{"()" if loop == "asyncio" else ""})
except KeyboardInterrupt:
    print("interrupted")
"""
    assert finished(script, interrupt=True) == (0, "cancelled\ninterrupted\n", "")


@pytest.mark.parametrize("fn", ["work.double", "double"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_program_that_leaves_it_open_ends(fn: str, loop: str) -> None:
    pytest.importorskip(loop)
    script = f"""
import itertools, {loop}, work
from autopar import aimap
from loops import sleep
async def double(x):
    await sleep(0)
    return 2 * x
async def main():
    global results
    results = aimap({fn}, itertools.count())
    for _ in range(20):
        await anext(results)
    print("fine")
{loop}.run(main{"()" if loop == "asyncio" else ""})
"""
    assert finished(script) == (0, "fine\n", "")
