"""Workers are no more than the free memory has room for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import faulty
from autopar._decide.room import SMALL_BYTES, fitting
from autopar._engine import knowledge
from autopar._engine.call import Call
from autopar._engine.desk import Desk
from autopar._engine.source import Source
from autopar._model import Job, Options, Travel
from autopar.backends.processes import Processes

GIB = 1 << 30
sizes = st.integers(0, 64 * GIB)
counts = st.integers(1, 256)


@given(counts, sizes, sizes, sizes)
def test_there_is_always_one_and_never_more_than_asked_for(
    workers: int, need: int, free: int, held: int
) -> None:
    assert 1 <= fitting(workers, need, free, held) <= workers


@given(counts, sizes, sizes)
def test_they_fit_into_what_is_free(workers: int, need: int, free: int) -> None:
    fit = fitting(workers, need, free)
    assert fit == 1 or workers * need < SMALL_BYTES or fit * need <= free


@given(counts, sizes, sizes, sizes)
def test_more_memory_never_means_fewer(workers: int, need: int, free: int, more: int) -> None:
    assert fitting(workers, need, free + more) >= fitting(workers, need, free)


def test_small_workers_fit_anywhere() -> None:
    assert fitting(8, 16 << 20, 0) == 8


def test_those_at_work_keep_what_they_hold() -> None:
    assert fitting(4, GIB, 0, 4 * GIB) == 4
    assert fitting(4, GIB, 0, 2 * GIB) == 2


def test_what_is_known_of_an_item_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "free_memory", lambda: 8 * GIB)
    known = knowledge.Knowledge(Call(Job(abs), [1, 2], Options(), None))
    assert known.fitting(64) == 64
    known.travel = Travel(payload_bytes=GIB)
    assert known.fitting(64) == 1  # an item is held several times where it is run
    assert known.fitting(64, held_bytes=4 * GIB, need_bytes=2 * GIB) == 5


def test_workers_say_how_much_memory_they_have_held() -> None:
    """From what they have held follows how many there may be."""
    desk = Desk(Source([50 << 20] * 3), None)
    crew = Processes().open(Job(faulty.occupy), desk, 1)
    try:
        while not desk.over:
            crew.step()
            crew.wait(0.1)
        together, most = crew.memory_bytes
    finally:
        crew.close()
    assert together == most > 50 << 20
