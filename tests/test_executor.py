"""`AutoExecutor` is a true `concurrent.futures.Executor`, which finds the means by itself."""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, as_completed

import pytest
from hypothesis import given
from hypothesis import strategies as st

import work
from autopar import (
    AutoExecutor,
    Plan,
    TransportError,
    WorkerCrashed,
)
from autopar._decide import planner
from autopar._observe.machine import machine
from autopar._platform import gil_enabled
from conftest import APART, children, eventually, is_alive, misled

KINDS = ["auto", "cpu", "io"]
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=KINDS)
def executor(request: pytest.FixtureRequest) -> Iterator[AutoExecutor]:
    with AutoExecutor(4, kind=request.param) as opened:
        yield opened


# results


def test_a_call_gives_its_result(executor: AutoExecutor) -> None:
    assert executor.submit(pow, 2, 8).result(30) == 256
    assert executor.submit(work.spread, 1, fn=2, self=3).result(30) == ((1,), {"fn": 2, "self": 3})


@given(numbers=st.lists(st.integers(-50, 50), max_size=40))
def test_map_is_the_builtin_one(numbers: list[int]) -> None:
    with AutoExecutor(kind="io") as executor:
        assert list(executor.map(pow, numbers, itertools.repeat(2))) == [n**2 for n in numbers]


def test_an_exception_comes_as_itself(executor: AutoExecutor) -> None:
    error = executor.submit(work.reciprocal, 0).exception(30)
    assert isinstance(error, ZeroDivisionError)
    with pytest.raises(KeyboardInterrupt):
        executor.submit(work.interrupt).result(30)
    assert executor.submit(work.double, 4).result(30) == 8


@pytest.mark.parametrize("count", [1, 2000])
def test_many_calls_of_many_functions_each_give_their_own(
    executor: AutoExecutor, count: int
) -> None:
    functions = [work.double, work.identity, abs]
    pairs = [(functions[number % 3], number) for number in range(count)]
    futures = [executor.submit(fn, number) for fn, number in pairs]
    assert [future.result(30) for future in futures] == [fn(number) for fn, number in pairs]


def test_results_are_told_as_they_come(executor: AutoExecutor) -> None:
    slow, quick = executor.submit(time.sleep, 0.4), executor.submit(work.double, 1)
    assert next(as_completed([slow, quick], 30)) is quick
    done, _ = concurrent.futures.wait([slow], 30, FIRST_COMPLETED)
    assert done == {slow}


def test_a_call_that_takes_long_does_not_hold_back_what_was_done_before_it(
    executor: AutoExecutor,
) -> None:
    for future in [executor.submit(time.sleep, 0) for _ in range(50)]:
        future.result(30)  # now they are known to be brief
    for _ in range(2):
        brief = [executor.submit(time.sleep, 0) for _ in range(50)]
        long = [executor.submit(time.sleep, 1) for _ in range(2)]
        for future in brief:
            future.result(30)
        assert not any(future.done() for future in long)


def test_a_callback_may_submit_the_next_call(executor: AutoExecutor) -> None:
    found: Future[int] = Future()

    def go_on(done: Future[int]) -> None:
        number = done.result()
        if number >= 64:
            found.set_result(number)
        else:
            executor.submit(work.double, number).add_done_callback(go_on)

    executor.submit(work.double, 1).add_done_callback(go_on)
    assert found.result(30) == 64


def gone(thing: weakref.ref[object]) -> bool:
    """Whether nobody has it any more."""
    if not gil_enabled():
        gc.collect()  # puts together what each thread has counted
    return thing() is None


# the means


def test_what_computes_comes_to_run_in_processes_and_what_waits_in_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is predicted on a busy machine is not for this test to say: CPU time alone decides."""
    by_cpu = {True: Plan("processes", 2, "", {}), False: Plan("threads", 2, "", {})}
    monkeypatch.setattr(planner, "processes_may_gain", lambda seen, *_: seen.cpu_s > 1e-3)
    monkeypatch.setattr(planner, "plan", lambda seen, *_: by_cpu[seen.cpu_s > 1e-3])
    with AutoExecutor() as executor:
        places = [executor.submit(work.computed_in, 60_000) for _ in range(60)]
        waits = [executor.submit(work.waited_in, 0.02) for _ in range(40)]
        assert {future.result(30) for future in waits} == {os.getpid()}
        apart = sum(future.result(30) != os.getpid() for future in places)
        later = [executor.submit(work.computed_in, 60_000).result(30) for _ in range(3)]
    assert apart
    assert os.getpid() not in later


def test_what_does_not_travel_to_where_the_others_are_is_done_here() -> None:
    """Also when it turns out after the shutdown."""

    def trial() -> object:
        items = [at if at % 100 < 98 else work.Settled(at) for at in range(400)]
        with AutoExecutor() as executor:
            futures = [executor.submit(work.spin_and_count, item) for item in items]
        assert [future.result() for future in futures] == [*range(400)]
        (report,) = executor.reports
        apart = "processes" in {plan.backend for plan in report.plans}
        return None if apart or machine().cpus < 2 or not gil_enabled() else str(report)

    assert not misled(trial)


def test_what_changes_the_caller_stays_with_it() -> None:
    found: list[int] = []

    def add(number: int) -> None:
        found.append(work.compute(number))

    with AutoExecutor() as executor:
        for future in [executor.submit(add, 30_000) for _ in range(20)]:
            future.result(30)
    assert found == 20 * [work.compute(30_000)]


@kinds
@pytest.mark.parametrize("workers", [2, 5])
def test_no_more_calls_run_at_once_than_there_may_be_workers(kind: str, workers: int) -> None:
    with AutoExecutor(workers, kind=kind) as executor:
        spans = list(executor.map(work.span, [0.01] * 40))
        spans += list(executor.map(work.computing_span, [20_000] * 20))
    moments = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    at_once = list(itertools.accumulate(change for _, change in moments))
    assert max(at_once) <= workers


@pytest.mark.parametrize("workers", [3, 40])
def test_as_many_calls_as_workers_may_wait_for_each_other(workers: int) -> None:
    barrier = threading.Barrier(workers)
    for kind in ("auto", "io"):
        with AutoExecutor(workers, kind=kind) as executor:
            futures = [executor.submit(barrier.wait, 20) for _ in range(workers)]
            assert sorted(future.result(30) for future in futures) == [*range(workers)]


@kinds
def test_an_initializer_prepares_each_worker(kind: str) -> None:
    with AutoExecutor(2, kind=kind, initializer=work.prepare, initargs=("ready",)) as executor:
        assert {*executor.map(work.prepared, range(30))} == {"ready"}


@kinds
def test_an_initializer_that_fails_breaks_the_executor_and_nothing_waits(kind: str) -> None:
    with AutoExecutor(2, kind=kind, initializer=work.refuse_to_start) as executor:
        future = executor.submit(work.double, 1)
        with pytest.raises(BrokenExecutor, match="no worker for you"):
            future.result(30)
        with pytest.raises(BrokenExecutor):
            executor.submit(work.double, 1)


# map


def test_map_reads_no_further_than_its_buffer(executor: AutoExecutor) -> None:
    read = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    results = executor.map(work.double, items(), buffersize=5)
    assert len(read) == 5
    assert [next(results) for _ in range(10)] == [*range(0, 20, 2)]
    assert len(read) <= 15
    results.close()


def test_map_gives_up_at_its_time(executor: AutoExecutor) -> None:
    results = executor.map(time.sleep, [0, 0, 2], timeout=0.5)
    assert [next(results), next(results)] == [None, None]
    with pytest.raises(TimeoutError):
        next(results)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": "1"}, TypeError),
    ],
)
def test_map_refuses_what_cannot_be_meant(options: dict, error: type[Exception]) -> None:
    with AutoExecutor() as executor, pytest.raises(error):
        executor.map(work.double, [1], **options)


@pytest.mark.parametrize(
    ("args", "options", "error"),
    [
        ((0,), {}, ValueError),
        ((-1,), {}, ValueError),
        (("2",), {}, TypeError),
        ((), {"kind": "gpu"}, ValueError),
        ((), {"initializer": 1}, TypeError),
    ],
)
def test_it_refuses_what_cannot_be_meant(
    args: tuple, options: dict, error: type[Exception]
) -> None:
    with pytest.raises(error):
        AutoExecutor(*args, **options)


# the end


def test_after_shutdown_nothing_is_taken_and_all_is_done(executor: AutoExecutor) -> None:
    futures = [executor.submit(time.sleep, 0.02) for _ in range(20)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(work.double, 1)


def test_what_waits_can_be_cancelled(executor: AutoExecutor) -> None:
    futures = [executor.submit(time.sleep, 0.1) for _ in range(50)]
    last = futures[-1]
    assert last.cancel()
    futures[0].result(30)
    executor.shutdown(cancel_futures=True)
    assert last.cancelled()
    cancelled = sum(future.cancelled() for future in futures)
    assert 20 < cancelled < 50
    assert all(future.done() for future in futures)


@kinds
def test_an_executor_that_is_gone_ends_when_its_calls_have(kind: str) -> None:
    executor = AutoExecutor(2, kind=kind)
    dispatch = executor._dispatch
    results = executor.map(abs, range(-5, 5))
    del executor
    gc.collect()
    assert dispatch.wait(30)
    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


def test_nothing_of_a_call_is_kept(executor: AutoExecutor) -> None:
    thing = work.Thing(1)
    seen = weakref.ref(thing)
    executor.submit(work.other_thing, thing).result(30)
    del thing
    assert eventually(lambda: gone(seen))
    for got in executor.map(work.other_thing, map(work.Thing, range(5))):
        alive = weakref.ref(got)
        del got
        assert gone(alive)


def test_nothing_of_what_is_called_is_kept(executor: AutoExecutor) -> None:
    """Callables without code of their own, too: an executor that lives long sees many."""
    called, values = work.Called(1), work.Values([1, 1])
    seen = weakref.ref(called), weakref.ref(values)
    assert executor.submit(called, 2).result(30) == 3
    assert executor.submit(values.count, 1).result(30) == 2
    del called, values
    assert eventually(lambda: all(map(gone, seen)))


@pytest.mark.skipif(not APART, reason="there are no worker processes here")
def test_workers_are_let_go_while_there_is_nothing_to_do() -> None:
    with AutoExecutor(2, kind="cpu") as executor:
        executor.submit(work.double, 1).result(30)
        flow = executor._dispatch.flows[0]
        assert eventually(lambda: not flow._directed)
        assert executor.submit(work.double, 2).result(30) == 4


@kinds
@pytest.mark.parametrize("end", ["", "executor.shutdown(wait=False)", "del executor"])
def test_at_the_end_of_a_program_what_was_submitted_is_done(kind: str, end: str) -> None:
    script = f"""
import atexit, time
from autopar import AutoExecutor

def say(text):
    time.sleep(0.2)
    print(text, flush=True)

def too_late():
    try:
        other.submit(id, None)
    except RuntimeError as error:
        print(error)

atexit.register(too_late)
executor, other = AutoExecutor(3, kind={kind!r}), AutoExecutor()
executor.submit(say, "apple")
{end}
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=script,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "apple",
        "cannot schedule new futures after interpreter shutdown",
    ]


def test_a_forked_child_is_told_to_make_its_own_and_ends() -> None:
    script = """
import multiprocessing, os, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from autopar import AutoExecutor, Pool, auto_imap
executor, pool = AutoExecutor(2), Pool(2, kind="cpu")
results = auto_imap(time.sleep, [0.01] * 1000, "io")
print(executor.submit(abs, -1).result(), pool.map(abs, [-2]), next(results))

def child():
    global results
    for call in (lambda: executor.submit(abs, -1), lambda: pool.apply(abs, (-1,))):
        try:
            call()
        except RuntimeError as error:
            print(error)
    del results
    with AutoExecutor(2) as own:
        print(own.submit(abs, -3).result(), flush=True)

worker = multiprocessing.get_context("fork").Process(target=child)
worker.start()
worker.join(20)
print(worker.exitcode, executor.submit(abs, -4).result(), pool.map(abs, [-5]), next(results))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=50
    )
    told = "this was made before the process was forked: make another one here"
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["1 [2] None", told, told, "3", "0 4 [5] None"]


# faults


@pytest.mark.skipif(not APART, reason="there are no worker processes here")
@pytest.mark.parametrize(
    "crash",
    [
        functools.partial(os._exit, 3),
        functools.partial(work.die, "exit0"),
        functools.partial(work.die, "kill"),
        functools.partial(work.die, "segv"),
    ],
    ids=["3", "0", "SIGKILL", "SIGSEGV"],
)
def test_a_worker_that_dies_costs_the_call_it_was_running_and_no_other(
    crash: functools.partial[None],
) -> None:
    with AutoExecutor(2, kind="cpu") as executor:
        good = [executor.submit(work.slow_double, number) for number in range(20)]
        bad = executor.submit(crash)
        good += [executor.submit(work.slow_double, number) for number in range(20, 40)]
        with pytest.raises(WorkerCrashed):
            bad.result(30)
        assert [future.result(30) for future in good] == [*range(0, 80, 2)]


@pytest.mark.skipif(not APART, reason="there are no worker processes here")
def test_what_does_not_travel_fails_its_call_and_no_other() -> None:
    lock = threading.Lock()
    with AutoExecutor(2, kind="cpu") as executor:
        futures = [executor.submit(work.identity, 1), executor.submit(work.identity, lock)]
        futures += [executor.submit(work.identity, 2), executor.submit(work.make_lock)]
        assert futures[0].result(30) == 1
        assert futures[2].result(30) == 2
        for future in (futures[1], futures[3]):
            with pytest.raises(TransportError, match="lock"):
                future.result(30)


@pytest.mark.skipif(not APART, reason="there are no worker processes here")
def test_a_parent_that_is_killed_leaves_no_worker() -> None:
    script = """
import os, time
from autopar import AutoExecutor
executor = AutoExecutor(2, kind="cpu")
print(*{executor.submit(os.getpid).result() for _ in range(2)}, flush=True)
[executor.submit(time.sleep, 60) for _ in range(4)]
time.sleep(60)
"""
    program = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert program.stdout is not None
    workers = [int(pid) for pid in program.stdout.readline().split()]
    assert workers
    below = children(program.pid)
    program.kill()
    program.wait()
    program.stdout.close()
    assert eventually(lambda: not any(map(is_alive, [*workers, *below])))


@kinds
@pytest.mark.parametrize(
    "call",
    [
        "with AutoExecutor(2, kind=kind) as executor: list(executor.map(time.sleep, [60] * 4))",
        "e = AutoExecutor(2, kind=kind); e.submit(time.sleep, 60); e.submit(time.sleep, 60).result()",
        "with Pool(2, kind=kind) as pool: pool.map(time.sleep, [60] * 4)",
        "Pool(2, kind=kind).apply(time.sleep, (60,))",
        "list(auto_imap(time.sleep, [0.01, 0.01, 0.01, 60, 60, 60], kind))",
    ],
    ids=["executor", "future", "pool", "open pool", "lazy"],
)
def test_control_c_is_one_keyboard_interrupt_and_leaves_nothing(kind: str, call: str) -> None:
    script = f"""
import threading, time
from autopar import AutoExecutor, Pool, auto_imap
kind = {kind!r}
threading.Timer(0.5, print, ("ready",), {{"flush": True}}).start()
{call}
"""
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    below = children(program.pid)
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=20)
    assert errors.count("Traceback") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert eventually(lambda: not any(map(is_alive, below)))
