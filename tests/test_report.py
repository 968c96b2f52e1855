"""The account of a call: readable, complete, and collected from wherever calls are made."""

from __future__ import annotations

import contextvars
import gc
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import work
from autopar import AutoExecutor, Pool, WorkerCrashed, auto_imap, auto_map, observe
from autopar._engine import accounts
from autopar._engine.accounts import Account
from autopar._model import Machine, Observation, Plan
from autopar._platform import gil_enabled
from autopar._report.report import COLUMNS, Report
from conftest import BACKENDS, CPU_ALONE, eventually

SEEN = Observation(12, 3.1234e-3, 3.0987e-3, 2.9876e-3)
PREDICTED = {"serial": 1.2345, "threads": 1.3456, "processes": 0.6543}
PLAN = Plan("processes", 2, "items compute for 3 ms, all of it under the GIL", PREDICTED, SEEN)
FIRST = Plan("threads", 32, "items wait 90% of their 5 ms", {"serial": 9.0, "threads": 1.0})

words = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)
sentences = st.lists(words, min_size=1, max_size=80).map(" ".join)
numbers = st.one_of(st.just(0.0), st.floats(1e-12, 1e7))
plans = st.builds(
    Plan,
    backend=st.sampled_from(["serial", "threads", "processes", "ThreadPoolExecutor"]),
    workers=st.integers(1, 100_000),
    because=sentences,
    predicted_s=st.dictionaries(
        st.sampled_from(["serial", "threads", "processes", "interpreters"]),
        st.one_of(numbers, st.just(float("inf"))),
    ),
    observation=st.one_of(
        st.none(), st.builds(Observation, st.integers(0, 10**9), numbers, numbers, numbers)
    ),
    processes=st.one_of(st.just(0), st.integers(1, 1000)),
)
reports = st.builds(
    Report,
    function=words,
    kind=st.sampled_from(["auto", "cpu", "io"]),
    items=st.integers(0, 10**9),
    in_caller=st.integers(0, 10**9),
    wall_s=numbers,
    plans=st.lists(plans, min_size=1, max_size=4).map(tuple),
)


def report(**changes: Any) -> Report:
    return Report("parse", "auto", 300, 17, 0.7123, (PLAN,))._replace(**changes)


def words_of(text: str) -> str:
    """The text without its line breaks and indents."""
    return " ".join(text.split())


# the text


@given(reports)
def test_the_text_fits_80_columns(made: Report) -> None:
    assert max(len(line) for line in str(made).splitlines()) <= COLUMNS


@pytest.mark.parametrize(
    "name",
    [
        "a_module_of_some_length.AClassWithALongName.a_method_with_a_name_that_says_everything",
        "x" * 300,
    ],
)
def test_the_text_fits_80_columns_for_a_function_with_a_long_name(name: str) -> None:
    text = str(report(function=name))
    assert max(len(line) for line in text.splitlines()) <= COLUMNS
    assert name[:20] in text


def test_the_text_fits_80_columns_for_a_reason_that_is_one_long_word() -> None:
    text = str(report(plans=(PLAN._replace(because="/a/path" * 60),)))
    assert max(len(line) for line in text.splitlines()) <= COLUMNS


@given(sentences)
def test_the_whole_reason_is_told(because: str) -> None:
    text = str(report(plans=(PLAN._replace(because=because),)))
    assert words_of(because).replace(" ", "") in words_of(text).replace(" ", "")


def test_the_text_names_what_ran_on_what_and_how_long() -> None:
    first, ran_as, *_rest = str(report()).splitlines()
    assert "parse" in first
    assert "300 items" in first
    assert "0.7123 s" in first
    assert "processes x 2" in ran_as
    assert "17 items in the caller's thread" in ran_as


def test_the_text_tells_what_was_measured_and_predicted() -> None:
    text = words_of(str(report()))
    assert "because items compute for 3 ms, all of it under the GIL" in text
    assert "0.00312 s, of it 0.0031 s of CPU and 0.00299 s under the GIL" in text
    for name, cost in (("serial", "1.23 s"), ("threads", "1.35 s"), ("processes", "0.654 s")):
        assert f"predicted {name} {cost}" in text


def test_a_strategy_that_is_impossible_is_said_to_be() -> None:
    plan = PLAN._replace(predicted_s={**PREDICTED, "processes": float("inf")})
    assert "predicted processes cannot" in words_of(str(report(plans=(plan,))))


def test_a_change_of_course_is_told() -> None:
    changed = report(plans=(FIRST, PLAN))
    assert changed.changes == (PLAN,)
    assert changed.plan == PLAN
    text = words_of(str(changed))
    assert "ran as processes x 2" in text
    assert "before threads x 32, items wait 90% of their 5 ms" in text


def test_a_report_answers_for_the_plan_in_force_at_the_end() -> None:
    made = report(plans=(FIRST, PLAN))
    assert (made.backend, made.workers, made.because) == ("processes", 2, PLAN.because)
    assert made.predicted_s == PREDICTED
    assert made.observation == SEEN


# real calls


@pytest.mark.parametrize("name", ["serial", "threads", "processes"])
def test_the_report_of_a_call_tells_its_backend_reason_and_items(name: str) -> None:
    with observe() as seen:
        auto_map(work.nap, [0.01] * 50, backend=name)
    (made,) = seen.reports
    assert (made.function, made.kind, made.items, made.backend) == ("nap", "auto", 50, name)
    assert made.because in words_of(str(made))
    assert name in str(made)
    assert made.wall_s > 0


def test_the_report_of_a_decision_predicts_every_strategy() -> None:
    with observe() as seen:
        auto_map(work.nap, [0.005] * 60)
    (made,) = seen.reports
    assert set(made.predicted_s) == {"serial", "threads", "processes", "hybrid"}
    for name in made.predicted_s:
        assert f"predicted {name}" in words_of(str(made))
    assert made.observation is not None


def test_a_call_that_raises_is_reported_too() -> None:
    with observe() as seen, pytest.raises(ZeroDivisionError):
        auto_map(work.reciprocal, [1, 2, 0])
    assert [made.function for made in seen.reports] == ["reciprocal"]


# collecting

FRESH: dict[str, Any] = (
    # since 3.14 a thread may inherit its starter's context: say that this one does not
    {"context": contextvars.Context()} if hasattr(sys.flags, "thread_inherit_context") else {}
)


def test_without_calls_there_are_no_reports() -> None:
    with observe() as seen:
        pass
    assert seen.reports == []


def test_calls_before_and_after_are_not_collected() -> None:
    auto_map(work.double, range(3))
    with observe() as seen:
        auto_map(work.double, range(4))
    auto_map(work.double, range(5))
    assert [made.items for made in seen.reports] == [4]


def test_observers_nest_and_the_outer_sees_all() -> None:
    with observe() as outer:
        auto_map(work.double, range(1))
        with observe() as inner:
            auto_map(work.double, range(2))
        auto_map(work.double, range(3))
    assert [made.items for made in inner.reports] == [2]
    assert [made.items for made in outer.reports] == [1, 2, 3]


def test_an_observer_ends_with_its_block_also_when_that_raises() -> None:
    with pytest.raises(LookupError), observe() as seen:
        raise LookupError
    auto_map(work.double, range(3))
    assert seen.reports == []


def test_threads_started_with_the_context_are_collected_and_others_are_not() -> None:
    def call(count: int) -> None:
        auto_map(work.double, range(count))

    with observe() as seen:
        inside = [
            threading.Thread(target=contextvars.copy_context().run, args=(call, count))
            for count in (4, 5, 6, 7)
        ]
        outside = threading.Thread(target=call, args=(99,), **FRESH)
        for thread in [*inside, outside]:
            thread.start()
        for thread in [*inside, outside]:
            thread.join()
    assert sorted(made.items for made in seen.reports) == [4, 5, 6, 7]


def test_a_call_inside_a_call_is_collected_from_the_workers_of_this_process() -> None:
    def inner(count: int) -> int:
        return sum(auto_map(work.double, range(count)))

    with observe() as seen:
        auto_map(inner, [3, 4, 5], backend="threads", workers=2)
    assert sorted(made.items for made in seen.reports) == [3, 3, 4, 5]


# lazy maps

lazies = pytest.mark.parametrize("name", BACKENDS)


@lazies
def test_a_lazy_map_is_reported_when_it_ends(name: str) -> None:
    with observe() as seen:
        results = auto_imap(work.double, range(30), backend=name)
        assert next(results) == 0
        assert seen.reports == []
        assert len(list(results)) == 29
    (made,) = seen.reports
    assert (made.function, made.kind, made.items, made.backend) == ("double", "auto", 30, name)
    assert made.in_caller == (30 if name == "serial" else 0)
    assert f"the caller chose {name}" in made.because
    assert made.wall_s > 0
    assert name in str(made)


@pytest.mark.parametrize("end", [lambda results: results.close(), lambda results: None])
@lazies
def test_a_lazy_map_that_nobody_takes_from_any_more_is_reported(
    name: str, end: Callable[[Any], object]
) -> None:
    with observe() as seen:
        results = auto_imap(work.double, itertools.count(), backend=name)
        assert list(itertools.islice(results, 7)) == [*range(0, 14, 2)]
        end(results)
        del results
        gc.collect()
    assert [made.items for made in seen.reports] == [7]


@lazies
def test_a_lazy_map_that_raises_is_reported_too(name: str) -> None:
    with observe() as seen, pytest.raises(ZeroDivisionError):
        list(auto_imap(work.reciprocal, [1, 2, 0, 4], backend=name))
    assert [(made.function, made.items) for made in seen.reports] == [("reciprocal", 3)]


def test_a_lazy_map_whose_iterable_raises_is_reported_too() -> None:
    def broken() -> Iterator[int]:
        yield from range(4)
        raise OSError("unplugged")

    with observe() as seen, pytest.raises(OSError, match="unplugged"):
        list(auto_imap(work.double, broken()))
    assert [made.items for made in seen.reports] == [4]


def test_a_lazy_map_that_was_asked_for_nothing_has_nothing_to_report() -> None:
    with observe() as seen:
        auto_imap(work.double, range(5))
        gc.collect()
    assert seen.reports == []


def test_a_lazy_map_is_reported_where_it_was_called_wherever_its_results_are_taken() -> None:
    with observe() as called:
        results = auto_imap(work.double, range(5))
    with observe() as taken:
        threading.Thread(target=list, args=(results,), **FRESH).start()
        assert eventually(lambda: called.reports)
        list(auto_imap(work.double, range(6)))
    assert [made.items for made in called.reports] == [5]
    assert [made.items for made in taken.reports] == [6]


def test_what_a_lazy_map_chose_is_told_with_its_numbers() -> None:
    """Whatever it is: the items turn from trifles to naps and back."""
    naps = [0.0] * 3000 + [0.004] * 60 + [0.0] * 3000
    with observe() as seen:
        list(auto_imap(work.nap, naps))
    (made,) = seen.reports
    assert made.items == len(naps)
    assert 0 < made.in_caller <= len(naps)
    assert all(plan.because for plan in made.plans)
    assert {plan.backend for plan in made.plans} <= {"serial", "threads", "processes"}
    assert all(plan.backend != later.backend for plan, later in itertools.pairwise(made.plans))
    assert made.observation is not None
    assert made.because in words_of(str(made))


# executors and pools

KINDS = ["auto", "cpu", "io"]
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_an_executor_is_reported_by_function_when_it_is_shut_down(kind: Any) -> None:
    with observe() as seen, AutoExecutor(2, kind=kind) as executor:
        list(executor.map(work.double, range(30)))
        assert executor.submit(work.nap, 0.01).result(30) == 0.01
        assert list(executor.map(work.double, range(5)))
        assert seen.reports == []
    assert [(made.function, made.items) for made in seen.reports] == [("double", 35), ("nap", 1)]
    for made in seen.reports:
        assert (made.kind, made.in_caller) == (kind, 0)
        assert made.because in words_of(str(made))
        assert made.workers >= 1
        assert made.wall_s > 0


@pytest.mark.parametrize(("kind", "means"), [("cpu", CPU_ALONE), ("io", "threads")])
def test_what_the_caller_said_is_the_reason_with_what_it_came_to(kind: Any, means: str) -> None:
    with AutoExecutor(2, kind=kind) as executor:
        list(executor.map(work.nap, [0.01] * 4))
        (made,) = executor.reports
    assert made.backend == means
    does = "compute" if kind == "cpu" else "wait"
    assert made.because.startswith(f"the caller said that the items {does}; they took ")
    assert " ms each" in made.because


@pytest.mark.parametrize("make", [AutoExecutor, Pool])
def test_its_reports_can_be_had_while_it_lives_and_afterwards(make: Any) -> None:
    with make(2) as made:
        assert made.reports == []
        list(made.map(work.double, range(3)))
        assert [(each.function, each.items) for each in made.reports] == [("double", 3)]
        list(made.map(work.nap, [0.001] * 2))
    assert [(each.function, each.items) for each in made.reports] == [("double", 3), ("nap", 2)]


@kinds
def test_calls_that_fail_are_reported(kind: Any) -> None:
    with AutoExecutor(2, kind=kind) as executor:
        futures = [executor.submit(work.reciprocal, number) for number in (0, 1, 0, 2)]
        assert sum(future.exception(30) is not None for future in futures) == 2
        assert [made.items for made in executor.reports] == [4]


def test_calls_that_were_cancelled_did_not_end() -> None:
    begun, go = threading.Event(), threading.Event()

    def stay() -> bool:
        begun.set()
        return go.wait(30)

    with AutoExecutor(1, kind="io") as executor:
        first, later = executor.submit(stay), executor.submit(work.double, 1)
        assert begun.wait(30)
        assert later.cancel()
        go.set()
        assert first.result(30)
    assert [made.items for made in executor.reports] == [1, 0]


def test_a_call_whose_worker_died_is_reported() -> None:
    with AutoExecutor(2, kind="cpu") as executor:
        if not gil_enabled():
            pytest.skip("calls run in threads, which cannot be killed")
        with pytest.raises(WorkerCrashed):
            executor.submit(die).result(30)
        assert [(made.function, made.items) for made in executor.reports] == [("die", 1)]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_executor_that_is_dropped_is_reported_when_its_calls_have_ended() -> None:
    go = threading.Event()
    with observe() as seen:
        executor = AutoExecutor(2)
        future = executor.submit(go.wait, 30)
        del executor
        gc.collect()
        assert seen.reports == []
        go.set()
        assert future.result(30)
        assert eventually(lambda: seen.reports)
    assert [(made.function, made.items) for made in seen.reports] == [("Event.wait", 1)]


def test_a_shutdown_that_does_not_wait_is_reported_when_the_calls_have_ended() -> None:
    go = threading.Event()
    with observe() as seen:
        executor = AutoExecutor(2)
        future = executor.submit(go.wait, 30)
        executor.shutdown(wait=False)
    assert seen.reports == []
    go.set()
    assert future.result(30)
    executor.shutdown()
    executor.shutdown()
    assert [(made.function, made.items) for made in seen.reports] == [("Event.wait", 1)]


@kinds
def test_a_pool_is_reported_at_once_when_it_is_terminated(kind: Any) -> None:
    with observe() as seen:
        with Pool(2, kind=kind) as pool:
            pool.map(work.double, range(20))
            assert pool.apply(pow, (2, 3)) == 8
            assert len(list(pool.imap(work.nap, [0.001] * 6))) == 6
        reported = [(made.function, made.items) for made in seen.reports]
        pool.join()
    assert reported == [("double", 20), ("pow", 1), ("nap", 6)]
    assert len(seen.reports) == 3


def test_a_pool_that_is_closed_is_reported_when_it_has_been_joined() -> None:
    with observe() as seen:
        pool = Pool(2)
        results = pool.map_async(work.nap, [0.01] * 6)
        pool.close()
        pool.join()
    assert results.get(10) == [0.01] * 6
    assert [(made.function, made.items) for made in seen.reports] == [("nap", 6)]


def test_an_executor_is_reported_where_it_was_made() -> None:
    with AutoExecutor(2) as executor, observe() as around:
        assert executor.submit(work.double, 2).result(30) == 4
        with observe() as within, AutoExecutor(2) as another:
            assert another.submit(work.double, 3).result(30) == 6
    assert [made.items for made in within.reports] == [1]
    assert around.reports == within.reports


def test_calls_of_many_threads_are_all_counted() -> None:
    with AutoExecutor(4, kind="io") as executor:

        def submit() -> None:
            for future in [executor.submit(work.double, number) for number in range(200)]:
                future.result(30)

        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [made.items for made in executor.reports] == [1600]


def test_an_account_that_makes_room_for_others_is_reported_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accounts, "MOST", 3)
    with observe() as seen, AutoExecutor(2) as executor:
        for number in range(5):
            space: dict[str, Any] = {}
            exec(f"def made_{number}(): return {number}", space)
            assert executor.submit(space[f"made_{number}"]).result(30) == number
        assert [made.function for made in seen.reports] == ["made_0", "made_1"]
        assert len(executor.reports) == 3
    assert [(made.function, made.items) for made in seen.reports] == [
        (f"made_{number}", 1) for number in range(5)
    ]


# why there

FACTS = Machine(2)


def account(trial: list[tuple[float, float]], **changes: Any) -> Account:
    """That of a function whose tasks were seen to take so many seconds, and CPU seconds."""
    made = Account("key", "fetch")
    for wall_s, cpu_s in trial:
        made.trial = made.trial.with_one(wall_s, cpu_s, 0.0)
        made.tally("threads").add(1, wall_s, None)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


COMPUTES = [(0.02, 0.0199)] * 4
WAITS = [(0.02, 0.0001)] * 4
MOVED = Plan("processes", 2, "items compute for 20 ms", PREDICTED, SEEN)


@pytest.mark.parametrize(
    ("made", "facts", "words"),
    [
        (account([]), FACTS, ["the first items of a function run in threads"]),
        (account(WAITS), FACTS, ["items wait", "of their 20 ms", "beside each other"]),
        (account(COMPUTES), FACTS, ["items compute for 20 ms", "not worth processes"]),
        (
            account(COMPUTES, why_not="it writes the global 'seen'"),
            FACTS,
            ["items compute for 20 ms", "processes are out: it writes the global 'seen'"],
        ),
        (
            account(COMPUTES),
            Machine(2, processes_why_not="there is no fork"),
            ["items compute for 20 ms", "processes cannot run here: there is no fork"],
        ),
        (account(COMPUTES, plan=PLAN._replace(backend="serial")), FACTS, [PLAN.because]),
    ],
    ids=["new", "waits", "brief", "writes", "no processes", "planned"],
)
def test_why_the_tasks_of_a_function_stay_in_threads(
    made: Account, facts: Machine, words: list[str]
) -> None:
    (plan,) = made.plans("auto", {"threads": 7, "processes": 2}, facts, None)
    assert (plan.backend, plan.workers) == ("threads", 7)
    assert [each for each in words if each not in plan.because] == []


def test_why_the_tasks_of_a_function_moved_to_processes() -> None:
    made = account(COMPUTES, means="processes", plan=MOVED)
    first, then = made.plans("auto", {"threads": 7, "processes": 2}, FACTS, None)
    assert (first.backend, first.workers) == ("threads", 7)
    assert first.observation is not None
    assert first.observation.items == 4
    assert then == MOVED


def test_tasks_that_were_only_looked_at_elsewhere_are_not_said_to_have_run_in_threads() -> None:
    made = account([], means="processes", plan=MOVED)
    assert made.plans("auto", {"threads": 7, "processes": 2}, FACTS, None) == (MOVED,)


@pytest.mark.parametrize(
    ("kind", "said", "because"),
    [
        ("io", None, "the caller said that the items wait; they took 20 ms each"),
        ("cpu", None, "the caller said that the items compute; they took 20 ms each"),
        ("io", "the caller chose threads", "the caller chose threads; they took 20 ms each"),
    ],
)
def test_what_was_chosen_beforehand_is_told_with_what_it_took(
    kind: Any, said: str | None, because: str
) -> None:
    (plan,) = account(COMPUTES).plans(kind, {"threads": 3}, FACTS, said)
    assert (plan.backend, plan.workers, plan.because) == ("threads", 3, because)
