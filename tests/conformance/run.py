"""Runs the interpreter's tests on a room: one line of JSON for each test.

    python -m conformance.run ROOM [CLASS or CLASS.test ...]

In a process of its own, because the tests change signal handlers, streams and the start method.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
import traceback
import unittest
import warnings
from typing import Any, TextIO

from . import rooms, suites


class Told(unittest.TestResult):
    """Prints what becomes of each test."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out, self._began_s = out, 0.0
        self._words: list[str] = []
        self._outcome = "passed"

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._began_s, self._words, self._outcome = time.perf_counter(), [], "passed"

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        tell(
            self._out,
            of=type(test).__name__.removeprefix("Room"),
            test=test.id().rpartition(".")[2],
            outcome=self._outcome,
            words="\n".join(self._words),
            seconds=round(time.perf_counter() - self._began_s, 2),
        )

    def _failed(self, error: Any) -> None:
        self._outcome = "failed"
        self._words.append("".join(traceback.format_exception(*error)))

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._failed(err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._failed(err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._failed(err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._outcome = "skipped"
        self._words.append(reason)


def tell(out: TextIO, **what: object) -> None:
    """One line."""
    out.write(json.dumps(what) + "\n")
    out.flush()


def chosen(
    case: type[unittest.TestCase], name: str, room: rooms.Room, only: list[str]
) -> list[str]:
    """The tests of a class that are to be run."""
    tests = unittest.defaultTestLoader.getTestCaseNames(case)
    if only:
        tests = [test for test in tests if name in only or f"{name}.{test}" in only]
    slow_too = only or os.environ.get("AUTOPAR_CONFORMANCE") == "all"
    left_out = {*room.excluded, *(() if slow_too else rooms.SLOW)}
    return [test for test in tests if f"{name}.{test}" not in left_out]


def main() -> None:
    """Runs what the command line says."""
    room, only = rooms.room_named(sys.argv[1]), sys.argv[2:]
    out = os.fdopen(os.dup(1), "w")  # the tests print, and replace the streams
    os.dup2(2, 1)
    warnings.simplefilter("ignore")  # of forks beside threads, which the tests do
    method = os.environ.get("AUTOPAR_START_METHOD") or multiprocessing.get_start_method()
    set_up, tear_down = suites.around(room, method)
    set_up()
    try:
        for name, case in suites.cases(room).items():
            suite = unittest.TestSuite(map(case, chosen(case, name, room, only)))
            suite.run(Told(out))
    finally:
        tear_down()


if __name__ == "__main__":
    main()
