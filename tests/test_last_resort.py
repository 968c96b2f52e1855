"""Where processes cannot be had, what is not bound to them is done in threads, and the report says why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from types import ModuleType
from typing import Any

import pytest

import work
from autopar import (
    AutoExecutor,
    BackendUnavailable,
    Pool,
    TransportError,
    auto_imap,
    auto_map,
    backends,
    observe,
)
from autopar._engine import budget
from autopar._observe.machine import machine
from conftest import eventually, misled

pytestmark = pytest.mark.skipif(
    machine().processes_why_not is not None, reason="there are no worker processes here"
)

Results = Callable[..., Iterable[Any]]


@pytest.fixture(autouse=True)
def shares_go_back() -> Iterator[None]:
    """Workers that could not be had are not counted as had by the calls that come after."""
    yield
    cpus = machine().cpus
    assert eventually(lambda: budget.free(cpus) == cpus)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """No process can be opened."""

    def refuse(*_given: object, **_options: object) -> None:
        raise BackendUnavailable("processes", "this test has none", "Use threads.")

    monkeypatch.setattr(type(backends.backend("processes")), "open", refuse)
    return {"initializer": None}


@pytest.fixture
def bound() -> dict[str, Any]:
    """What prepares a worker cannot be sent to one."""
    return {"initializer": work.spin_and_count, "initargs": (work.Settled(1),)}


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What prepares a worker is in a module that no worker can import."""
    ghost = ModuleType("ghost")
    exec("def prepare(): pass", vars(ghost))
    monkeypatch.setitem(sys.modules, "ghost", ghost)
    return {"initializer": ghost.prepare}


causes = pytest.mark.parametrize("cause", ["refused", "bound", "lost"])


def submitted(fn: Callable[..., Any], items: Iterable[Any], **how: Any) -> list[Any]:
    with AutoExecutor(**how) as executor:
        futures = [executor.submit(fn, item) for item in items]
    return [future.result() for future in futures]


def pooled(fn: Callable[..., Any], items: Iterable[Any], **how: Any) -> list[Any]:
    with Pool(**how) as pool:
        return pool.map(fn, items)


def unordered(fn: Callable[..., Any], items: Iterable[Any], **how: Any) -> list[Any]:
    return sorted(auto_imap(fn, items, ordered=False, **how))


shapes = pytest.mark.parametrize("shape", [submitted, pooled, auto_imap, unordered, auto_map])


@causes
@shapes
def test_all_is_done_in_threads(shape: Results, cause: str, request: pytest.FixtureRequest) -> None:
    how = request.getfixturevalue(cause)

    def trial() -> object:
        with observe() as seen:
            assert [*shape(work.spin_and_count, range(300), **how)] == [*range(300)]
        (report,) = seen.reports
        return None if "processes are out" in report.because else str(report)

    assert not misled(trial)


@causes
@pytest.mark.parametrize("how", [{"retries": 1}, {"errors": "return"}], ids=str)
def test_what_would_begin_in_processes_begins_in_threads(
    how: dict[str, Any], cause: str, request: pytest.FixtureRequest
) -> None:
    options = request.getfixturevalue(cause) | how
    with observe() as seen:
        assert [*auto_imap(work.slow_whereabouts, range(20), **options)]
    (report,) = seen.reports
    assert report.backend == "threads"
    assert any(why in report.because for why in ("processes are out", "does not pickle"))


@causes
@pytest.mark.parametrize("shape", [submitted, pooled, auto_imap, unordered])
def test_what_is_bound_to_processes_fails(
    shape: Results, cause: str, request: pytest.FixtureRequest
) -> None:
    options = request.getfixturevalue(cause)
    with pytest.raises((BrokenExecutor, TransportError, BackendUnavailable, ImportError)):
        list(shape(work.double, range(20), kind="cpu", **options))


@shapes
def test_what_prepares_a_worker_and_fails_ends_all(shape: Results) -> None:
    with pytest.raises((BrokenExecutor, RuntimeError), match="no worker for you"):
        list(shape(work.spin_and_count, range(300), initializer=work.refuse_to_start))
