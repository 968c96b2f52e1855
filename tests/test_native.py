"""The threads of native libraries, kept within bounds."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
import threadpoolctl

from autopar._native import bounded, unset
from test_ends import run_script


def threads() -> int:
    """How many threads BLAS uses."""
    np.ones(1)  # loads it
    info = threadpoolctl.threadpool_info()
    return max(int(each["num_threads"]) for each in info if each["user_api"] == "blas")


@pytest.fixture(autouse=True)
def three_threads() -> object:
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        yield


def test_a_bound_holds_while_it_is_open_and_the_lowest_counts() -> None:
    with bounded(2):
        assert threads() == 2
        with bounded(1):
            assert threads() == 1
            with bounded(2):
                assert threads() == 1
        assert threads() == 2
    assert threads() == 3


def test_the_last_one_out_puts_back_what_was_before_the_first() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with bounded(2):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with bounded(1):
        thread.start()
        inside.wait()
        assert threads() == 1
    assert threads() == 2
    leave.set()
    thread.join()
    assert threads() == 3


def test_an_exception_goes_through_and_ends_the_bound() -> None:
    with pytest.raises(LookupError), bounded(1):
        raise LookupError
    assert threads() == 3


def test_without_threadpoolctl_nothing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with bounded(1):
        monkeypatch.undo()
        assert threads() == 3


def test_without_a_native_library_nothing_is_loaded_for_it() -> None:
    script = """
import sys
from autopar._native import bounded
with bounded(1):
    print("threadpoolctl" in sys.modules)
"""
    assert run_script(script).stdout == "False\n"


def test_what_the_user_has_set_is_not_ours_to_set() -> None:
    assert "MKL_NUM_THREADS" in unset({})
    assert "MKL_NUM_THREADS" not in unset({"MKL_NUM_THREADS": "3"})
    assert unset({"OMP_NUM_THREADS": "3"}) == []


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_workers_and_their_native_threads_fit_the_cpus_together(backend: str) -> None:
    script = f"""
import time
import numpy as np, threadpoolctl
from autopar import auto_map
from autopar._observe.machine import machine
def blas(_item):
    np.ones((8, 8)) @ np.ones((8, 8))
    until = time.thread_time() + 0.005
    while time.thread_time() < until:
        pass
    return {{p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"}}
before = blas(0)
seen = auto_map(blas, range(8), "cpu", workers=machine().cpus, backend={backend!r})
print(set().union(*seen), blas(0) == before)
"""
    assert run_script(script).stdout == "{1} True\n"
