"""`python -m autopar demo`, run as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

DEMO = [sys.executable, "-m", "autopar", "demo"]
GONE_WITHIN_S = 10.0


class Marked:
    """An environment by which every process of one run, however deep, is known."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.environ = {**os.environ, "AUTOPAR_TEST_RUN": self.mark, "PYTHONWARNINGS": "error"}

    def alive(self) -> list[str]:
        return [describe(process) for process in psutil.process_iter() if self._ours(process)]

    def left(self) -> list[str]:
        """What is still alive after a fair wait."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while (alive := self.alive()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return alive

    def _ours(self, process: psutil.Process) -> bool:
        try:
            return (
                process.environ().get("AUTOPAR_TEST_RUN") == self.mark
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False


def describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return str(process.pid)


@contextmanager
def demo_at_the_pages(run: Marked) -> Iterator[subprocess.Popen[str]]:
    """The demo, already past its server's start."""
    with subprocess.Popen(
        [*DEMO, "fetch", "fetch-parse"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=run.environ,
    ) as process:
        try:
            assert process.stdout is not None
            while not (line := process.stdout.readline()).startswith("fetch:"):
                assert line, "the demo ended before it fetched anything"
            assert len(run.alive()) > 1
            yield process
        finally:
            process.kill()


def test_the_demo_runs_workloads_and_leaves_nothing_behind():
    """Three of the five; `.ci/run` runs them all."""
    names = ["compress", "fetch", "trivial"]
    run = Marked()
    done = subprocess.run(
        [*DEMO, *names], capture_output=True, text=True, timeout=50, env=run.environ, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    summary = lines[-len(names) :]
    assert [line.split()[0] for line in summary] == names
    assert all(" equal " in line for line in summary)
    assert max(map(len, lines)) <= 80
    assert run.left() == []


def test_one_workload_can_be_chosen():
    done = subprocess.run(
        [*DEMO, "trivial"], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "serial" in done.stdout.splitlines()[-1]
    assert "parse" not in done.stdout


def test_an_unknown_workload_is_named():
    done = subprocess.run([*DEMO, "knit"], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 2
    assert "'knit'" in done.stderr


def test_ctrl_c_ends_the_demo_and_its_server():
    run = Marked()
    # Python itself drops a socket that an interrupt catches between being made and being returned.
    run.environ["PYTHONWARNINGS"] = "error,ignore::ResourceWarning"
    with demo_at_the_pages(run) as process:
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr == "\ninterrupted\n"
    assert run.left() == []


def test_killing_the_demo_ends_its_server():
    run = Marked()
    with demo_at_the_pages(run) as process:
        process.kill()
        process.wait(timeout=20)
    assert run.left() == []
