"""Turns at the GIL are short while something is prepared, and afterwards as they were."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import work
from autopar import auto_map
from autopar._engine.turns import LATE_S, TURN_S, Courtesy, QuickTurns, quick_turns
from autopar._platform import own_switches


@pytest.fixture(params=[0.005, 0.02, TURN_S / 2])
def usual_s(request: pytest.FixtureRequest) -> Iterator[float]:
    """The switch interval that the program has; one shorter than ours is left alone."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(request.param)
    yield sys.getswitchinterval()
    sys.setswitchinterval(before_s)


def test_inside_turns_are_short_and_afterwards_as_before(usual_s: float) -> None:
    turns = QuickTurns()
    for _ in range(2):
        with turns:
            with turns:
                assert sys.getswitchinterval() <= TURN_S * 1.01
            assert sys.getswitchinterval() <= TURN_S * 1.01
        assert sys.getswitchinterval() == usual_s


def test_an_error_inside_leaves_turns_as_before(usual_s: float) -> None:
    with pytest.raises(LookupError), quick_turns:
        raise LookupError
    assert sys.getswitchinterval() == usual_s


def test_turns_that_somebody_sets_meanwhile_are_kept(usual_s: float) -> None:
    with quick_turns:
        sys.setswitchinterval(0.0125)
    assert sys.getswitchinterval() == pytest.approx(0.0125)


def test_a_child_forked_meanwhile_has_turns_as_before(usual_s: float) -> None:
    with quick_turns:
        pid = os.fork()
        if not pid:
            with quick_turns:
                pass
            os._exit(sys.getswitchinterval() != usual_s)
        assert os.waitpid(pid, 0)[1] == 0
    assert sys.getswitchinterval() == usual_s


def test_a_call_leaves_turns_as_before(usual_s: float, backend: str) -> None:
    assert auto_map(abs, range(-50, 0), backend=backend) == [*range(50, 0, -1)]
    assert sys.getswitchinterval() == usual_s


# who is late


def gives_way(courtesy: Courtesy) -> bool:
    """Whether a thread that looks lets go of its CPU."""
    before = own_switches()
    courtesy.give_way()
    after = own_switches()
    assert before is not None
    assert after is not None
    return after > before


@pytest.mark.skipif(own_switches() is None, reason="nobody counts a thread's switches here")
def test_whoever_runs_items_gives_way_once_the_director_is_late() -> None:
    courtesy = Courtesy()
    assert not gives_way(courtesy)  # it is at work
    courtesy.leave(60.0)
    assert not gives_way(courtesy)
    courtesy.leave(0.0)
    time.sleep(2 * LATE_S)
    assert gives_way(courtesy)
    assert gives_way(courtesy)
    courtesy.be_back()
    assert not gives_way(courtesy)


@pytest.mark.parametrize("options", [{}, {"backend": "threads", "workers": 2}], ids=str)
def test_whoever_runs_items_looks_between_two_chunks(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(Courtesy, "give_way", lambda _self: looked.append(threading.get_ident()))
    auto_map(work.nap, [0.001] * 40, **options)
    assert len(looked) > 10
