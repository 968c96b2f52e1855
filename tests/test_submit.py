"""`auto_submit`: one call beside everything else, on an executor that is there when needed."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from typing import Any

import pytest

import decorated
import faulty
import work
from autopar import auto_submit, parallel, shutdown
from autopar._executor import submit_shared
from programs import run_program


def test_a_call_is_a_future_with_what_it_returns_or_raises() -> None:
    assert auto_submit(pow, 2, 10).result() == 1024
    assert auto_submit(int, "ff", base=16).result() == 255
    assert auto_submit(work.spread, fn=1, self=2).result() == ((), {"fn": 1, "self": 2})
    future = auto_submit(work.reciprocal, 0)
    assert isinstance(future, Future)
    assert isinstance(future.exception(), ZeroDivisionError)


async def halve(x: float) -> float:
    await asyncio.sleep(0.001)
    return x / 2


@parallel
async def double(x: float) -> float:
    await asyncio.sleep(0.001)
    return 2 * x


def test_what_a_coroutine_function_gives_is_awaited() -> None:
    assert auto_submit(halve, 3).result() == 1.5
    assert auto_submit(halve, x=5).result() == 2.5
    assert double.submit(4).result() == 8
    assert [submit_shared(kind, 2, halve, 7).result() for kind in ("io", "cpu")] == [3.5, 3.5]
    assert isinstance(auto_submit(halve, "no number").exception(), TypeError)

    async def within() -> float:
        return await asyncio.wrap_future(auto_submit(halve, 9))

    assert asyncio.run(within()) == 4.5


def test_it_can_be_waited_for_as_any_future() -> None:
    release = threading.Event()
    soon, late = auto_submit(pow, 2, 3), auto_submit(release.wait)
    done, not_done = wait([soon, late], return_when=FIRST_COMPLETED)
    assert (done, not_done) == ({soon}, {late})
    release.set()
    assert {future.result() for future in as_completed([soon, late])} == {8, True}
    told: list[int] = []
    called = threading.Event()
    auto_submit(pow, 3, 2).add_done_callback(
        lambda future: (told.append(future.result()), called.set())
    )  # type: ignore[func-returns-value]
    assert called.wait(10)
    assert told == [9]


def test_what_has_not_begun_can_be_cancelled() -> None:
    release = threading.Event()
    running = [submit_shared("io", 1, release.wait)]
    waiting = submit_shared("io", 1, pow, 2, 3)
    assert waiting.cancel()
    release.set()
    assert running[0].result()
    assert waiting.cancelled()


def test_it_is_one_executor_for_all_and_each_kind_has_its_own() -> None:
    names = {auto_submit(threading.get_ident).result() for _ in range(50)}
    assert len(names) < 50
    assert decorated.nap.submit(0.001).result() == 0.001
    assert decorated.place.submit(None).result() != os.getpid()


def test_a_worker_that_dies_costs_its_call_alone() -> None:
    dying = submit_shared("cpu", None, faulty.do, "SIGKILL")
    with pytest.raises(Exception, match="died"):
        dying.result()
    assert submit_shared("cpu", None, pow, 2, 3).result() == 8


@pytest.mark.parametrize("waits", [True, False])
def test_shutdown_has_everything_done_and_the_next_call_makes_another(waits: bool) -> None:
    futures = [auto_submit(work.nap, 0.01) for _ in range(20)]
    shutdown(wait=waits)
    if waits:
        assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == [0.01] * 20
    assert auto_submit(pow, 2, 3).result() == 8


def test_calls_are_taken_whatever_is_shut_down_meanwhile() -> None:
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            shutdown(wait=False)
            time.sleep(0.0005)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        futures = [auto_submit(pow, number, 2) for number in range(500)]
        assert [future.result() for future in futures] == [number**2 for number in range(500)]
    finally:
        over.set()
        disturber.join()


word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")


def test_nobody_sees_the_context_of_who_submitted_first() -> None:
    shutdown()

    def first() -> str:
        word.set("mine")
        return auto_submit(word.get).result()

    assert contextvars.copy_context().run(first) == "none"
    assert auto_submit(word.get).result() == "none"


def test_a_call_may_submit_others() -> None:
    assert auto_submit(lambda: auto_submit(pow, 2, 5).result()).result() == 32


def test_what_was_submitted_is_done_before_the_interpreter_ends() -> None:
    script = """
import time
from autopar import auto_submit
def late():
    time.sleep(0.2)
    print("done", flush=True)
auto_submit(late)
"""
    assert run_program(script) == "done\n"


def test_after_the_end_no_more_is_taken() -> None:
    script = """
import atexit
from autopar import auto_submit
auto_submit(pow, 2, 3).result()
def late():
    try:
        auto_submit(pow, 2, 3)
    except RuntimeError as error:
        print(error)
atexit.register(late)
"""
    assert "after interpreter shutdown" in run_program(script)


def test_a_forked_child_has_an_executor_of_its_own() -> None:
    script = """
import os, warnings
warnings.simplefilter("ignore")  # later interpreters warn of a fork beside threads
from autopar import auto_submit
assert auto_submit(pow, 2, 3).result() == 8
pid = os.fork()
if not pid:
    ok = auto_submit(pow, 2, 4).result() == 16
    os._exit(0 if ok else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), auto_submit(pow, 2, 5).result())
"""
    assert run_program(script, flags=()) == "0 32\n"


def test_what_cannot_be_called_fails_its_future() -> None:
    nothing: Any = 3
    assert isinstance(auto_submit(nothing).exception(), TypeError)
