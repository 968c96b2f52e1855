"""Random numbers that depend on a seed and the item alone."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import world_work as work
from autopar import OptionTypeError, OptionValueError, auto_imap, auto_map, auto_reduce
from autopar._seeds import Seed, Seeded, random_state_kept
from conftest import eventually
from work import reciprocal, spin, whereabouts

seeds = st.one_of(st.integers(), st.text(), st.binary())


@pytest.fixture(autouse=True)
def generators_as_they_were() -> object:
    with random_state_kept():
        yield


@given(seeds, st.integers(0, 10**9))
def test_an_item_has_the_same_numbers_every_time(seed: Seed, index: int) -> None:
    seeded = Seeded(work.draw, seed)
    first = seeded((index, None))
    random.random()
    np.random.random()
    assert seeded((index, None)) == first == pickle.loads(pickle.dumps(seeded))((index, None))


@given(seeds, seeds, st.integers(0, 99), st.integers(0, 99))
def test_other_seeds_and_other_items_have_other_numbers(
    seed: Seed, other: Seed, index: int, other_index: int
) -> None:
    one, two = Seeded(work.draw, seed), Seeded(work.draw, other)
    same = (seed, type(seed), index) == (other, type(other), other_index)
    numbers = zip(one((index, None)), two((other_index, None)), strict=True)
    assert [a == b for a, b in numbers] == [same, same]


def test_the_function_gets_its_item_and_can_be_asked_for() -> None:
    seeded = Seeded(str.upper, 1)
    assert seeded((0, "a")) == "A"
    assert seeded.func is str.upper


@pytest.mark.parametrize("seed", [3, "three", b"three", -(10**4000)])
def test_the_numbers_are_those_of_every_other_process(seed: Seed) -> None:
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer)((4, None)))"
    paths = os.pathsep.join(sys.path)
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            input=pickle.dumps(Seeded(work.draw, seed)),
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
        ).stdout.decode()
        for hash_seed in ("1", "2")
    }
    assert printed == {f"{Seeded(work.draw, seed)((4, None))}\n"}


def test_the_callers_generators_go_on_as_if_nothing_had_been_drawn() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = [work.draw(None) for _ in range(3)]
    random.seed(1)
    np.random.seed(1)
    drawn = []
    for _ in range(3):
        with random_state_kept():
            Seeded(work.draw, 5)((0, None))
        drawn.append(work.draw(None))
    assert drawn == expected


@pytest.mark.parametrize("options", [{"kind": "cpu"}, {"errors": "return"}])
def test_seeded_items_that_compute_leave_the_caller_like_others(options: dict[str, Any]) -> None:
    """The seeding itself changes generators, which is no effect of the function's."""
    pids = auto_map(whereabouts, range(20), seed=1, **options)
    assert os.getpid() not in {pid for pid, _thread in pids}


def test_a_seeded_call_gives_the_same_wherever_it_runs() -> None:
    expected = auto_map(draw, range(40), seed="x", backend="serial")
    assert len(set(expected)) == 40
    for options in ({"backend": "processes"}, {"kind": "cpu"}, {"kind": "io"}, {}):
        assert auto_map(draw, range(40), seed="x", **options) == expected  # type: ignore[call-overload]
    state = random.getstate()
    auto_map(draw, range(40), seed="x")
    assert random.getstate() == state


def test_results_one_after_another_are_the_same_too() -> None:
    expected = auto_map(draw, range(40), seed="x", backend="serial")
    state = random.getstate()
    for options in ({}, {"backend": "processes"}, {"kind": "io"}, {"errors": "return"}):
        assert list(auto_imap(draw, range(40), seed="x", **options)) == expected  # type: ignore[call-overload]
    assert sorted(auto_imap(draw, range(40), seed="x", ordered=False)) == sorted(expected)
    assert auto_reduce(draw, range(40), max, seed="x") == max(expected)
    assert random.getstate() == state


def test_who_takes_seeded_results_may_draw_in_between() -> None:
    random.seed(3)
    expected = [random.random() for _ in range(5)]
    random.seed(3)
    assert [random.random() for _ in auto_imap(draw, range(5), seed="x")] == expected


def test_a_generator_of_seeded_items_is_closed() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    results: Any = auto_imap(draw, items(), seed=1, buffersize=4)
    next(results)
    results.close()
    assert eventually(lambda: closed == [True])


def test_lazily_too_there_has_to_be_a_process() -> None:
    for backend in ("threads", "serial"):
        with pytest.raises(OptionValueError, match="seed"):
            auto_imap(draw, range(4), seed=1, backend=backend)


def test_an_exception_names_the_item_and_not_its_number() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(auto_imap(reciprocal, [1, 0], seed=1))
    assert caught.value.__notes__[-1] == "autopar: raised by reciprocal() for item 1"


def test_threads_share_a_generator_and_cannot_be_seeded() -> None:
    with pytest.raises(OptionValueError, match="seed"):
        auto_map(draw, range(4), seed=1, backend="threads")
    with pytest.raises(OptionTypeError, match="seed"):
        auto_map(draw, range(4), seed=1.5)  # type: ignore[call-overload]


def draw(_item: int) -> float:
    spin(0.001)
    return random.random()
