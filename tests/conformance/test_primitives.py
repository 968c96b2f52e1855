"""The interpreter's own tests pass on autopar's names; `rooms.py` lists what is left out."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance import rooms, suites

TESTS = Path(__file__).parents[1]
ALL = os.environ.get("AUTOPAR_CONFORMANCE") == "all"
WITHIN_S = 900 if ALL else 240
CLASSES = (*rooms.MP_CASES, *rooms.LOCK_CASES)

pytestmark = [
    pytest.mark.skipif(suites.missing() is not None, reason=str(suites.missing())),
    pytest.mark.timeout(WITHIN_S + 30),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests run."""
    return tmp_path_factory.mktemp("conformance")


@pytest.fixture(scope="module")
def runs(folder: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A run of each room's tests, all at once: they mostly sleep."""
    path = os.pathsep.join([str(TESTS), *sys.path])
    begun = {}
    for room in rooms.ROOMS:
        (folder / room.name).mkdir()
        with (folder / f"{room.name}.err").open("w") as errors:
            begun[room.name] = subprocess.Popen(
                [sys.executable, "-m", "conformance.run", room.name],
                env={**os.environ, "PYTHONPATH": path},
                cwd=folder / room.name,  # the tests make files, of the same names in every room
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,  # also what processes print that fail, as the tests want
                text=True,
            )
    yield begun
    for run in begun.values():
        run.kill()
        run.communicate()


@pytest.fixture(scope="module")
def verdicts(runs: dict[str, subprocess.Popen[str]], folder: Path) -> Any:
    """What became of a room's tests."""

    @functools.cache
    def of(room: str) -> list[dict[str, Any]]:
        told, _ = runs[room].communicate(timeout=WITHIN_S)
        assert runs[room].returncode == 0, (folder / f"{room}.err").read_text()[-3000:]
        return [json.loads(line) for line in told.splitlines()]

    return of


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("room", [room.name for room in rooms.ROOMS])
def test_the_interpreters_own_tests_pass(room: str, name: str, verdicts: Any) -> None:
    seen = [each for each in verdicts(room) if each["of"] == name]
    failed = [each for each in seen if each["outcome"] == "failed"]
    assert not failed, "\n\n".join(f"{each['test']}: {each['words']}" for each in failed)
    if not any(each["outcome"] == "passed" for each in seen):
        pytest.skip("this interpreter has no such tests, or all are left out or too slow")


@pytest.mark.parametrize("room", rooms.ROOMS, ids=lambda room: room.name)
def test_what_is_left_out_names_a_class_that_is_run_and_a_reason(room: rooms.Room) -> None:
    for test, reason in room.excluded.items():
        assert test.partition(".")[0] in CLASSES
        assert reason
