"""Event loops for the tests: asyncio, uvloop and trio, and what tests ask of all of them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import pytest

LOOPS = ("asyncio", "uvloop", "trio")
Main = Callable[[], Coroutine[Any, Any, Any]]


def run(loop: str, main: Main) -> Any:
    """What a coroutine returns that runs on this kind of loop."""
    if loop == "trio":
        return pytest.importorskip("trio").run(main)
    if loop == "asyncio":
        return asyncio.run(main())
    factory = pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def in_trio() -> Any:
    """trio where it runs."""
    trio = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_run() else None


async def sleep(seconds: float) -> None:
    """Lets others run for so long."""
    trio = in_trio()
    await (asyncio if trio is None else trio).sleep(seconds)


async def cancelled(main: Main, when: Callable[[], object]) -> bool:
    """Runs a coroutine, and cancels it once `when()` is true; whether it was cancelled."""
    trio = in_trio()
    if trio is not None:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(_then, when, scope.cancel)
                await main()
        return bool(scope.cancelled_caught)
    task = asyncio.ensure_future(main())
    await _then(when, task.cancel)
    await asyncio.wait([task])
    return task.cancelled()


async def beside(main: Main, other: Main) -> Any:
    """What `main` returns, while `other` runs, which is cancelled then."""
    trio = in_trio()
    if trio is not None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            found = await main()
            nursery.cancel_scope.cancel()
        return found
    task = asyncio.ensure_future(other())
    try:
        return await main()
    finally:
        task.cancel()


async def eventually(holds: Callable[[], object], within_s: float = 10.0) -> bool:
    """Whether `holds()` becomes true while others run."""
    until = time.monotonic() + within_s
    while time.monotonic() < until and not holds():
        await sleep(0.005)
    return bool(holds())


async def later(items: Iterable[Any], pause_s: float = 0.0) -> AsyncIterator[Any]:
    """The items, asynchronously."""
    for item in items:
        await sleep(pause_s)
        yield item


async def listed(results: AsyncIterator[Any]) -> list[Any]:
    """All of them."""
    return [result async for result in results]


async def _then(when: Callable[[], object], do: Callable[[], object]) -> None:
    assert await eventually(when)
    do()
