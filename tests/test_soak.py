"""The soak: that its rules notice what is wrong, and that a short one finds nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autopar import WorkerCrashed

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import _soak_model as model  # noqa: E402
from _soak_items import value_of  # noqa: E402

CALM = model.Workload(
    seed=1,
    count=3,
    item_s=0.0,
    how="spin",
    spread="even",
    payload=0,
    source="list",
    shape="instance",
    options={"backend": "processes", "errors": "raise"},
)
RETURNING = replace(CALM, options={"backend": "processes", "errors": "return"})
FAILING = replace(CALM, faults={1: "raise"})
RIGHT = [value_of(CALM.work(""), index) for index in range(3)]


def named(error: Exception, index: int) -> Exception:
    error.add_note(f"autopar: raised by run() for item {index}: ...")
    return error


def outcome(
    values: list[Any] | None = None,
    error: BaseException | None = None,
    begun: tuple[int, ...] = (1, 1, 1),
    ended: tuple[int, ...] = (1, 1, 1),
    killed: int = 0,
) -> model.Outcome:
    return model.Outcome(values, error, begun, ended, killed)


CRASH = WorkerCrashed(1, -9)
ALLOWED = {
    "the loop's results": (CALM, outcome(RIGHT)),
    "the error of a failing item": (
        FAILING,
        outcome(None, named(ValueError("item 1"), 1), ended=(1, 0, 1)),
    ),
    "a crash for a worker that was killed": (
        RETURNING,
        outcome([RIGHT[0], CRASH, RIGHT[2]], ended=(1, 0, 1), killed=1),
    ),
}
BROKEN = {
    "a wrong value": (CALM, outcome([RIGHT[0], RIGHT[0], RIGHT[2]])),
    "a lost result": (CALM, outcome(RIGHT[:2])),
    "an item evaluated twice": (CALM, outcome(RIGHT, begun=(1, 2, 1), ended=(1, 2, 1))),
    "an item begun twice": (CALM, outcome(RIGHT, begun=(1, 2, 1))),
    "an item not evaluated": (CALM, outcome(RIGHT, begun=(1, 0, 1), ended=(1, 0, 1))),
    "a lost error": (FAILING, outcome(RIGHT)),
    "an error of another item": (
        FAILING,
        outcome(None, named(ValueError("item 1"), 2), ended=(1, 0, 1)),
    ),
    "an error of no item": (FAILING, outcome(None, ValueError("item 1"), ended=(1, 0, 1))),
    "another error": (FAILING, outcome(None, named(KeyError(1), 1), ended=(1, 0, 1))),
    "an earlier item not run": (
        FAILING,
        outcome(None, named(ValueError("item 1"), 1), begun=(0, 1, 0), ended=(0, 0, 0)),
    ),
    "an error raised though they are to be returned": (
        replace(FAILING, options=RETURNING.options),
        outcome(None, named(ValueError("item 1"), 1), ended=(1, 0, 1)),
    ),
    "a crash though nobody died": (
        RETURNING,
        outcome([RIGHT[0], CRASH, RIGHT[2]], ended=(1, 0, 1)),
    ),
    "two items lost with one worker": (
        RETURNING,
        outcome([WorkerCrashed(0, -9), CRASH, RIGHT[2]], ended=(0, 0, 1), killed=1),
    ),
    "a crash of no item": (CALM, outcome(None, WorkerCrashed(None, -9), killed=1)),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_the_rules_allow(what: str) -> None:
    assert model.violations(*ALLOWED[what]) == []


@pytest.mark.parametrize("what", BROKEN)
def test_the_rules_notice(what: str) -> None:
    assert model.violations(*BROKEN[what])


def test_a_seed_and_a_number_say_what_a_round_is() -> None:
    import soak

    assert [soak.round_of(7, n) for n in range(50)] == [soak.round_of(7, n) for n in range(50)]


def test_a_short_soak_finds_nothing() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "soak.py"), "--minutes", "0.1", "--seed", "7"],
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stdout + done.stderr
