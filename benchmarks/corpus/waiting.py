"""Functions that wait, for time, threads, sockets, files or processes, and some that also compute."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import queue
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial

from .entry import Entry, turns

WITH_GIL = ctypes.PyDLL(None)  # its functions keep the GIL while they run
BLOCK = bytes(1 << 20)


def nap(ms: float) -> float:
    time.sleep(ms / 1e3)
    return ms


def select_socket(turn: int) -> int:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return len(select.select([ours], [], [], 4e-3)[0]) + turn


def answer(turn: int) -> int:
    """A question to another thread through a socket, which takes its time."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        threading.Timer(4e-3, theirs.send, [b"answer"]).start()
        return len(ours.recv(10)) + turn


def wait_event(turn: int) -> int:
    return threading.Event().wait(4e-3) + turn


def wait_queue(turn: int) -> int:
    try:
        queue.Queue[int]().get(timeout=4e-3)
    except queue.Empty:
        pass
    return turn


def run_program(turn: int) -> int:
    return subprocess.run(["true"], check=True).returncode + turn


def run_sleeper(turn: int) -> int:
    return subprocess.run(["sleep", "0.02"], check=True).returncode + turn


def nap_with_gil(microseconds: int) -> int:
    WITH_GIL.usleep(microseconds)
    return microseconds


@functools.cache
def _file() -> str:
    """Two megabytes in a file that goes with the last process that knows it."""
    descriptor = os.memfd_create("corpus")
    os.write(descriptor, BLOCK * 2)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def read_file(turn: int) -> int:
    with open(_file(), "rb") as file:
        return len(file.read()) + turn


def write_file(turn: int) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(BLOCK)
        file.flush()
        os.fsync(file.fileno())
    return turn


def list_folder(turn: int) -> int:
    folder = os.path.dirname(os.__file__)
    return sum(entry.stat().st_size for entry in os.scandir(folder)) + turn


def compute(ms: float) -> None:
    until_s = time.thread_time() + ms / 1e3
    while time.thread_time() < until_s:
        pass


def wait_much(turn: int) -> int:
    time.sleep(8e-3)
    compute(0.5)
    return turn


def wait_and_compute(turn: int) -> int:
    time.sleep(4e-3)
    compute(1)
    return turn


def compute_and_wait(turn: int) -> int:
    compute(4)
    time.sleep(1e-3)
    return turn


def wait_and_hash(turn: int) -> int:
    time.sleep(3e-3)
    return hashlib.sha256(BLOCK).digest()[0] + turn


def _naps(ms: float, count: int) -> Callable[[], list[float]]:
    return partial(list, [ms + turn / 1e6 for turn in range(count)])


ENTRIES = [
    Entry("sleep-1ms", "waits", nap, _naps(1, 500)),
    Entry("sleep-5ms", "waits", nap, _naps(5, 200)),
    Entry("sleep-50ms", "waits", nap, _naps(50, 60)),
    Entry("select", "waits", select_socket, turns(200)),
    Entry("answer", "waits", answer, turns(200)),
    Entry("event", "waits", wait_event, turns(200)),
    Entry("queue", "waits", wait_queue, turns(200)),
    Entry("run-true", "children", run_program, turns(150)),
    Entry("run-sleep", "children", run_sleeper, turns(40)),
    Entry("nap-with-gil", "holds", nap_with_gil, partial(list, range(3000, 3200))),
    Entry("read-file", "files", read_file, turns(600)),
    Entry("write-file", "files", write_file, turns(200)),
    Entry("list-folder", "files", list_folder, turns(400)),
    Entry("wait-much", "mixed", wait_much, turns(100)),
    Entry("wait-compute", "mixed", wait_and_compute, turns(150)),
    Entry("compute-wait", "mixed", compute_and_wait, turns(120)),
    Entry("wait-hash", "mixed", wait_and_hash, turns(150)),
]
