"""What is remembered of a function: used when it fits, forgotten when it does not."""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any

import pytest

import work
from autopar import Observation, Report, Travel, auto_map, observe
from autopar._engine import memory
from conftest import CPU_ALONE, eventually, misled


def call(fn: Any, items: Any, **options: Any) -> tuple[list[Any], Report]:
    with observe() as seen:
        results = auto_map(fn, items, **options)
    return results, seen.reports[0]


def remembered(report: Report) -> bool:
    return any("as in its last call" in plan.because for plan in report.plans)


def test_the_second_call_of_a_function_that_waits_starts_from_the_first() -> None:
    def wait(x: int) -> int:
        time.sleep(0.01)
        return x

    assert not remembered(call(wait, range(100))[1])

    def trial() -> Report | None:
        results, report = call(wait, range(100))
        assert results == list(range(100))
        return None if remembered(report) and report.backend == "threads" else report

    assert not misled(trial)


def test_a_function_is_judged_afresh_for_items_of_another_type() -> None:
    def wait(x: object) -> object:
        time.sleep(0.01)
        return x

    call(wait, range(100))
    assert not remembered(call(wait, [str(x) for x in range(100)])[1])


class Phase:
    """A function whose nature can be changed without its code changing."""

    def __init__(self) -> None:
        self.computes = False

    def __call__(self, x: int) -> int:
        if self.computes:
            work.spin(0.003)
        else:
            time.sleep(0.005)
        return x


@pytest.mark.parametrize("first", ["waits", "computes"])
def test_what_stopped_being_true_is_forgotten_within_the_call(first: str) -> None:
    phase = Phase()
    phase.computes = first == "computes"
    for _ in range(2):
        assert call(phase, range(150))[0] == list(range(150))
    phase.computes = not phase.computes

    def trial() -> Report | None:
        results, changed = call(phase, range(900))
        assert results == list(range(900))
        # What the first calls showed under load may not have been kept.
        return changed if remembered(changed) and "as in its last call" in changed.because else None

    assert not misled(trial)


def test_functions_that_end_are_not_kept_alive() -> None:
    space: dict[str, Any] = {}
    source = "def f(x):\n    import time\n    time.sleep(0.01)\n    return x"
    exec(compile(source, "<made>", "exec"), space)
    fn = space.pop("f")
    call(fn, range(60))
    alive = weakref.ref(fn.__code__)
    del fn

    def is_gone() -> bool:
        gc.collect()
        return alive() is None

    assert eventually(is_gone)


@pytest.mark.skipif(CPU_ALONE != "processes", reason="what is not kept is a plan for processes")
def test_the_length_of_a_first_item_that_was_never_seen_to_end_is_not_kept() -> None:
    """It may have been an import: the next call looks again."""

    def first_is_long(x: int) -> int:
        work.spin(1.0 if x == 0 else 0.02)
        return x

    def trial() -> Report | None:
        memory.learned.forget(first_is_long, 0)
        results, report = call(first_is_long, range(40))
        assert results == list(range(40))
        made_from = report.plans[-1].observation
        if report.backend != "processes" or made_from is None or made_from.items:
            return report
        assert not remembered(call(first_is_long, range(40))[1])
        return None

    assert not misled(trial)


@pytest.mark.skipif(CPU_ALONE != "processes", reason="what is kept is a plan for processes")
def test_what_was_planned_while_the_first_item_ran_is_kept_if_the_others_were_like_it() -> None:
    def compute(x: int) -> int:
        work.spin(0.05)
        return x

    def trial() -> Report | None:
        call(compute, range(12))  # most often decided before the first has ended
        results, report = call(compute, range(12))
        assert results == list(range(12))
        return None if "as in its last call" in report.plans[0].because else report

    assert not misled(trial)


@pytest.mark.parametrize("computes", [False, True])
def test_a_false_memory_is_dropped_within_the_call(computes: bool) -> None:
    phase = Phase()
    phase.computes = computes
    lasts_s, cpu_s = 0.005, 5e-5 if computes else 0.005
    seen = Observation(items=10, wall_s=lasts_s, cpu_s=cpu_s, gil_s=cpu_s)
    travel = Travel(here_s=1e-5, there_s=1e-5, payload_bytes=10)
    false = memory.Learned(
        seen._replace(travel=travel), lasts_s, 32 if computes else 0, not computes
    )

    def trial() -> Report | None:
        memory.learned.keep(phase, 0, false)
        results, report = call(phase, range(600))
        assert results == list(range(600))
        assert "as in its last call" in report.plans[0].because
        return report if "as in its last call" in report.because else None

    assert not misled(trial)
