"""The other shapes of a map: several iterables, and arguments by name."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest

import work
from autopar import OptionTypeError, auto_imap, auto_map, auto_starmap, observe, plan

LISTS: list[tuple[Any, ...]] = [
    ([2, 3, 10], [3, 2, 0]),
    (range(5), (4, 3, 2)),
    (iter([1, 2, 3]), [2, 2, 2]),
    ([], [1]),
]


@pytest.mark.parametrize(
    "lists", LISTS, ids=["same length", "shortest ends it", "iterator", "none"]
)
def test_several_iterables_are_several_arguments(lists: tuple[Any, ...], backend: str) -> None:
    mine, theirs = itertools.tee(lists[0]) if hasattr(lists[0], "__next__") else (lists[0],) * 2
    expected = list(map(pow, theirs, lists[1]))
    assert auto_map(pow, mine, lists[1], backend=backend) == expected


def test_an_endless_iterable_beside_a_finite_one_ends_with_it(backend: str) -> None:
    got = auto_map(pow, itertools.count(), itertools.repeat(2, 50), backend=backend)
    assert got == [number**2 for number in range(50)]


def test_lazily_too() -> None:
    got = auto_imap(pow, itertools.count(), itertools.repeat(2))
    assert list(itertools.islice(got, 5)) == [0, 1, 4, 9, 16]


def test_three_iterables_and_arguments_by_name(backend: str) -> None:
    assert auto_map(pow, [2, 3], [3, 4], [5, 7], backend=backend) == [3, 4]
    in_base_2 = functools.partial(int, base=2)
    assert auto_map(in_base_2, ["10", "11"], backend=backend) == [2, 3]


def test_an_error_names_the_item_of_all_iterables(backend: str) -> None:
    with pytest.raises(ValueError) as caught:
        auto_map(pow, [2, 2, 2], [3, -1, 3], [5, 4, 5], backend=backend)
    assert "pow() for item 1: (2, -1, 4)" in str(caught.value.__notes__)


def test_the_kind_may_follow_a_single_iterable() -> None:
    with observe() as seen:
        assert auto_map(work.double, [1, 2, 3], "io") == [2, 4, 6]
        assert list(auto_imap(work.double, [1, 2, 3], "io")) == [2, 4, 6]
        assert plan(work.double, [1, 2, 3], "io").backend == "threads"
    assert seen.reports[0].kind == "io"


def test_words_of_other_iterables_are_items() -> None:
    assert auto_map(max, "abc", "bbb") == ["b", "b", "c"]


@pytest.mark.parametrize("every", [auto_map, auto_imap, plan])
def test_what_cannot_be_meant_is_refused_before_anything_runs(every: Any) -> None:
    with pytest.raises(OptionTypeError, match="given by their names"):
        every(pow, [2], "cpu", "threads")
    with pytest.raises(OptionTypeError, match="iterable 2 of 2 is 7"):
        every(pow, [2], 7)
    with pytest.raises(OptionTypeError, match="fn must be callable, not int"):
        every(3, [2], [3])


def test_starmap_wants_a_function() -> None:
    with pytest.raises(OptionTypeError, match="fn must be callable"):
        auto_starmap(3, [(1, 2)])  # type: ignore[call-overload]
