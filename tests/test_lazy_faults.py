"""Lazy maps where faults matter: items are in processes if that changes nothing but the place."""

from __future__ import annotations

import itertools
import os
import threading
from typing import Any

import pytest

import work
from autopar import TaskTimeout, WorkerCrashed, auto_imap, auto_map, observe
from autopar._observe.machine import machine
from conftest import misled

pytestmark = pytest.mark.skipif(
    machine().processes_why_not is not None, reason="there are no worker processes here"
)

CARES: list[dict[str, Any]] = [{"retries": 1}, {"timeout": 60}, {"errors": "return"}]
cares = pytest.mark.parametrize("how", CARES, ids=str)


@cares
@pytest.mark.parametrize("workers", [None, 1, 3])
def test_items_are_in_processes_from_the_first_on(how: dict[str, Any], workers: int | None) -> None:
    with observe() as seen:
        places = list(auto_imap(work.slow_whereabouts, range(20), workers=workers, **how))
    assert os.getpid() not in {process for process, _thread in places}
    assert len(set(places)) <= (workers or 20)
    (plan,) = seen.reports[0].plans
    assert plan.backend == "processes"
    assert "faults matter" in plan.because


def test_a_crash_does_not_end_the_program() -> None:
    found: Any = list(auto_imap(work.die_slowly, ["kill", "good", "kill"], errors="return"))
    assert found[1] == "good"
    assert [type(found[0]), type(found[2])] == [WorkerCrashed, WorkerCrashed]
    with pytest.raises(WorkerCrashed):
        list(auto_imap(work.die_slowly, itertools.repeat("kill"), retries=1))


def test_an_item_that_runs_past_its_time_is_ended() -> None:
    found: Any = list(auto_imap(work.nap, [0.0, 60.0, 0.0], timeout=0.5, errors="return"))
    assert [found[0], found[2]] == [0.0, 0.0]
    assert isinstance(found[1], TaskTimeout)
    assert found[1].ended


@cares
def test_what_others_would_miss_is_done_here(how: dict[str, Any]) -> None:
    items: list[list[int]] = [[] for _ in range(20)]
    with observe() as seen:
        assert set(auto_imap(work.where_and_append, items, **how)) == {os.getpid()}
    assert items == [[os.getpid()]] * 20
    assert seen.reports[0].backend == "threads"
    work.seen.clear()
    assert list(auto_imap(work.remember, range(20), **how)) == [*range(20)]
    assert sorted(work.seen) == [*range(20)]


@cares
@pytest.mark.parametrize("at", [0, 7, 19])
@pytest.mark.parametrize("ordered", [True, False])
def test_what_does_not_travel_is_done_here(how: dict[str, Any], at: int, ordered: bool) -> None:
    items: list[Any] = [1] * 20
    items[at] = threading.Lock()
    with observe() as seen:
        found = list(auto_imap(work.name_type, items, ordered=ordered, workers=2, **how))
    expected = [type(item).__name__ for item in items]
    assert (found if ordered else sorted(found)) == (expected if ordered else sorted(expected))
    (made,) = seen.reports
    assert made.items == 20
    if at == 0:  # then no other had travelled, and it is taken for one of many
        assert made.backend == "threads"
        assert "lock" in made.because


def test_a_function_that_does_not_travel_is_done_here() -> None:
    lock = threading.Lock()
    found = list(auto_imap(lambda x: (x, os.getpid(), lock.locked()), range(5), retries=1))
    assert found == [(x, os.getpid(), False) for x in range(5)]


@pytest.mark.parametrize("counted", [True, False])
def test_items_that_wait_get_more_processes_than_there_are_cpus(counted: bool) -> None:
    def trial() -> str | None:
        items = [0.01] * 300
        with observe() as seen:
            assert list(auto_imap(work.nap, items if counted else iter(items), retries=1)) == items
        (plan,) = seen.reports[0].plans
        assert plan.backend == "processes"
        return None if plan.workers > machine().cpus else str(seen.reports[0])

    assert not misled(trial)


def test_no_more_run_at_once_than_are_allowed() -> None:
    spans = list(auto_imap(work.span, [0.01] * 40, workers=3, retries=1))
    moments = sorted([(begun, 1) for begun, _ in spans] + [(ended, -1) for _, ended in spans])
    assert max(itertools.accumulate(step for _, step in moments)) <= 3


def test_maps_inside_a_worker_do_not_mind() -> None:
    def inside(x: int) -> set[bool]:
        return {pid == os.getpid() for pid, _ in auto_imap(work.whereabouts, [x], retries=1)}

    assert auto_map(inside, range(3), backend="processes") == [{True}] * 3


class Defiant(tuple[int, ...]):
    """Cannot even be tried to be pickled."""

    __slots__ = ()

    def __reduce_ex__(self, _protocol: object) -> Any:
        raise KeyboardInterrupt


def test_an_item_that_defies_a_look_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(auto_imap(work.name_type, [Defiant()], retries=1))
