"""Workers that wait: which of them are kept, and that none is asked for more than there is to do."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import work
from autopar import WorkerCrashed, auto_map, shutdown
from conftest import children, eventually, is_alive

processes = functools.partial(auto_map, backend="processes", workers=2)


def meet(path: str, side: int) -> int:
    """The process, when one with the other side is there as well."""
    os.close(os.open(path, os.O_WRONLY if side % 2 else os.O_RDONLY))
    return os.getpid()


@pytest.fixture
def both(tmp_path: Path) -> Callable[[], set[int]]:
    """The processes of two workers, each of which has run an item."""
    path = str(tmp_path / "meeting")
    os.mkfifo(path)
    return lambda: set(processes(functools.partial(meet, path), [0, 1], chunksize=1))


def arrive(path: str, seconds: float) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        os.makedirs(f"{path}/second", exist_ok=True)
        time.sleep(seconds)


def wait_for_second(path: str, item: int) -> int:
    assert eventually(lambda: os.path.exists(f"{path}/second"))
    return item


def note(path: str) -> None:
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")


def workers() -> set[int]:
    return {pid for helper in children() for pid in children(helper)}


def quick_unless(harm: int, item: int) -> int:
    return item if item != harm else os._exit(3)


@pytest.mark.parametrize("which", [0, 1])
def test_a_task_that_a_worker_does_not_come_to_is_run_by_another(
    which: int, both: Callable[[], set[int]]
) -> None:
    stopped = sorted(both())[which]
    os.kill(stopped, signal.SIGSTOP)
    try:
        for _ in range(5):
            assert processes(work.double, [1, 2]) == [2, 4]
    finally:
        os.kill(stopped, signal.SIGCONT)


def test_a_worker_that_runs_an_initializer_still_is_ended_with_the_call(tmp_path: Path) -> None:
    shutdown()
    path = str(tmp_path / "late")
    options: dict[str, Any] = {"initializer": arrive, "initargs": (path, 60.0)}
    assert processes(functools.partial(wait_for_second, path), [1, 2], **options) == [1, 2]
    assert eventually(lambda: len(workers()) == 1)


def test_a_worker_without_anything_to_do_does_not_open_the_job(
    tmp_path: Path, both: Callable[[], set[int]]
) -> None:
    both()
    path = tmp_path / "opened"
    options: dict[str, Any] = {"initializer": note, "initargs": (str(path),)}
    processes(work.double, range(8), chunksize=8, **options)
    assert len(path.read_text().splitlines()) == 1
    processes(work.double, range(8), chunksize=4, **options)
    assert 2 <= len(path.read_text().splitlines()) <= 3


@pytest.mark.parametrize("chunksize", [None, 1, 100])
def test_a_brief_item_that_kills_its_worker_is_found_in_a_warm_one(
    both: Callable[[], set[int]], chunksize: int | None
) -> None:
    for harm in (-1, 0, 57, 99):
        was = both()
        fn = functools.partial(quick_unless, harm)
        got = processes(fn, range(100), chunksize=chunksize, errors="return")
        assert [each for each in got if not isinstance(each, Exception)] == [
            item for item in range(100) if item != harm
        ]
        assert [each.index for each in got if isinstance(each, WorkerCrashed)] == [harm] * (
            harm >= 0
        )
        assert harm < 0 or any(not is_alive(pid) for pid in was)


def test_a_large_job_or_item_reaches_a_worker_that_waits(both: Callable[[], set[int]]) -> None:
    for size in (1, 59_000, 60_000, 200_000):
        for count in (1, 59_000, 200_000):
            both()
            fn = functools.partial(bytes.startswith, b"x" * size)
            assert processes(fn, [b"x" * count] * 2) == [count <= size] * 2


def test_a_job_that_a_waiting_worker_cannot_open_leaves_its_items_to_others(
    both: Callable[[], set[int]],
) -> None:
    both()
    with pytest.raises(ZeroDivisionError):
        processes(work.double, range(100), initializer=work.reciprocal, initargs=(0,))
    assert processes(work.double, range(100)) == [*range(0, 200, 2)]
