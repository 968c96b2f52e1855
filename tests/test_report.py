"""The account of a call: readable, complete, and collected from wherever calls are made."""

from __future__ import annotations

import contextvars
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import work
from autopar import auto_map, observe
from autopar._model import Observation, Plan
from autopar._report.report import COLUMNS, Report

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
    assert set(made.predicted_s) == {"serial", "threads", "processes"}
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
