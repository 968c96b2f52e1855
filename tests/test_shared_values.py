"""Values and arrays are seen by all, keep `multiprocessing`'s ways, and cost no copies."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

import autopar
import primitives_work as work
from autopar import (
    Array,
    Lock,
    OwnerDied,
    RawArray,
    RawValue,
    RLock,
    Semaphore,
    Value,
    auto_map,
)
from autopar._primitives import arena
from conftest import eventually, open_descriptors

CODES = "bBhHiIlLqQfd"


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_double), ("y", ctypes.c_int))


@pytest.mark.parametrize("code", CODES)
def test_values_and_arrays_hold_what_the_standard_ones_hold(code: str) -> None:
    ours, theirs = Value(code, 7), multiprocessing.Value(code, 7)
    assert ours.value == theirs.value == RawValue(code, 7).value
    mine: Any = Array(code, [1, 2, 3])
    its: Any = multiprocessing.Array(code, [1, 2, 3])
    assert (mine[:], mine[1], mine[-1], mine[::2], len(mine), list(mine)) == (
        its[:], its[1], its[-1], its[::2], len(its), list(its),
    )  # fmt: skip
    mine[0:2] = its[0:2] = [9, 8]
    assert mine[:] == its[:] == [9, 8, 3]
    assert Array(code, 4)[:] == RawArray(code, 4)[:] == [0, 0, 0, 0]


def test_ctypes_types_structures_and_text_are_as_the_standard_ones() -> None:
    point: Any = Value(Point, 1.5, 2)
    assert (point.x, point.y) == (1.5, 2)
    point.y = 5
    assert point.get_obj().y == pickle.loads(pickle.dumps(point)).y == 5
    text: Any = Array("c", b"hello")
    assert (text.value, text.raw, text[1]) == (b"hello", b"hello", b"e")
    text.value = b"yo"
    assert (text.value, text.raw) == (b"yo", b"yo\0lo")
    points: Any = Array(Point, [(1, 2), (3, 4)])
    assert [(point.x, point.y) for point in points] == [(1.0, 2), (3.0, 4)]
    assert Value(ctypes.c_bool, True).value is True


def test_the_lock_is_the_one_that_was_asked_for() -> None:
    lock = Lock()
    assert Value("i", lock=lock).get_lock() is lock
    assert isinstance(Array("i", 3).get_lock(), RLock)
    assert not hasattr(Value("i", 5, lock=False), "get_lock")
    assert isinstance(Array("i", 3, lock=False), ctypes.Array)
    for refused in (5, "lock"):
        with pytest.raises(AttributeError):
            Value("i", lock=refused)
        with pytest.raises(AttributeError):
            Array("i", 3, lock=refused)


def test_what_is_not_a_type_or_a_size_is_refused() -> None:
    for wrong in ("x", "ii"):
        with pytest.raises(TypeError):
            Value(wrong)
    with pytest.raises(ValueError, match="at least 0"):
        Array("i", -1)
    with pytest.raises(TypeError, match="complex64"):
        Array(np.complex64, 3)


def test_with_a_value_its_lock_is_held() -> None:
    value, refused = Value("i"), list[bool]()
    with value:
        value.value += 1
        thread = threading.Thread(target=lambda: refused.append(value.acquire(False)))
        thread.start()
        thread.join()
    assert (refused, value.value, value.add(4), value.add(-2)) == ([False], 1, 5, 3)


def _set_value(value: Any) -> None:
    value.value = 7


def _set_item(array: Any) -> None:
    array[1] = 7


@pytest.mark.parametrize("lock", [Lock, RLock, Semaphore, threading.RLock])
@pytest.mark.parametrize(
    ("make", "use", "left"),
    [
        (lambda **lock: Value("i", 5, **lock), lambda value: value.value, 2),
        (lambda **lock: Value("i", 5, **lock), _set_value, 7),
        (lambda **lock: Value("i", 5, **lock), lambda value: value.add(3), 5),
        (lambda **lock: Array("i", [4, 5], **lock), lambda array: array[1], 2),
        (lambda **lock: Array("i", [4, 5], **lock), _set_item, 7),
    ],
    ids=["read", "write", "add", "item", "set item"],
)
def test_nobody_reads_or_writes_while_another_has_the_lock(
    make: Any, use: Any, left: int, lock: Any
) -> None:
    shared = make(lock=lock())
    raw: Any = shared.get_obj()
    used: list[Any] = []
    thread = threading.Thread(target=lambda: used.append(use(shared)))
    with shared:
        thread.start()
        # As much time as it would take, were it not for the lock.
        assert not eventually(lambda: used, within_s=0.05)
        _put(raw, 1)
        _put(raw, 2)
    thread.join(30)
    assert used[0] in (None, left)
    assert (raw.value if hasattr(raw, "value") else raw[1]) == left


def _put(raw: Any, number: int) -> None:
    if hasattr(raw, "value"):
        raw.value = number
    else:
        raw[1] = number


@pytest.mark.parametrize("lock", [Lock, RLock])
def test_a_value_whose_lock_died_with_its_owner_is_read_and_written_on(lock: Any) -> None:
    value: Any = Value("i", 5, lock=lock())
    pid = work.forked(_die_with, value)
    os.waitpid(pid, 0)
    with pytest.warns(OwnerDied) as told:
        assert value.value == 6
    assert told[0].filename == __file__  # whoever reads is told, not what reads for them
    value.value = 8
    assert (value.value, value.get_lock().locked()) == (8, False)


def _die_with(value: Any) -> None:
    value.acquire()
    value.get_obj().value = 6
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("error::autopar.OwnerDied")
def test_what_was_not_read_for_a_death_leaves_the_lock_free() -> None:
    value: Any = Value("i", 5)
    os.waitpid(work.forked(_die_with, value), 0)
    with pytest.raises(OwnerDied):
        _ = value.value
    assert not value.get_lock().locked()
    assert value.value == 6


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_counter_of_many_processes_and_threads_is_exact() -> None:
    counter = Value("q")
    pids = [work.forked(work.add, counter, 4000) for _ in range(4)]
    threads = [threading.Thread(target=work.add, args=(counter, 1000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    assert counter.value == 20_000


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "f4", "i8", "f8"])
@pytest.mark.parametrize("shape", [3, (4,), (5, 3), (2, 3, 4)])
@pytest.mark.parametrize("make", [Array, RawArray])
def test_numpy_sees_the_memory_itself(make: Any, shape: Any, dtype: str) -> None:
    array = make(np.dtype(dtype), shape)
    seen = np.asarray(array)
    assert seen.shape == (shape if isinstance(shape, tuple) else (shape,))
    assert seen.dtype == np.dtype(dtype)
    seen[...] = 1
    at = (1,) * seen.ndim
    assert (array[at] if make is Array else array.view()[at]) == 1
    assert memoryview(array).nbytes == seen.nbytes
    assert array.view().tolist() == seen.tolist()
    array.view()[at] = 0
    assert seen[at] == 0
    assert np.shares_memory(seen, np.asarray(array))


def test_an_array_takes_numpys_types_shapes_and_values() -> None:
    given = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(np.asarray(Array(np.float32, given)), given)
    assert np.array_equal(np.asarray(Array("d", given)), given)
    assert Array(np.int16, [4, 5])[:] == [4, 5]
    assert Array("i", (4, 5))[:] == [4, 5]
    array = Array(np.float64, (2, 3))
    array[1, 2] = 5
    assert array[1, 2] == array[1][2] == 5
    assert array[0][:] == [0, 0, 0]
    assert Value(np.int64, 5).value == 5


def test_a_view_outlives_the_array() -> None:
    seen = np.asarray(Array(np.int64, 500_000))
    seen += 1
    gc.collect()
    others = [np.asarray(Array(np.int64, 500_000)) for _ in range(3)]
    assert seen.sum() == 500_000
    assert not any(other.any() for other in others)


@pytest.mark.parametrize("make", [Array, RawArray])
def test_workers_write_into_an_array_that_is_never_copied(make: Any) -> None:
    array: Any = make(np.int64, 1_000_000)
    assert len(pickle.dumps(array)) < 2000
    put = partial(work.put_number, array)
    lengths = auto_map(lambda x: put(x, x * x), range(20), backend="processes", workers=2)
    assert lengths == [1_000_000] * 20
    assert np.asarray(array)[:20].tolist() == [x * x for x in range(20)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_of_the_standard_library_sees_the_same_memory(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    array, raw, value = Array(np.float64, (2, 2)), RawArray("d", [1, 2]), RawValue(Point, 1, 2)
    np.asarray(array)[...] = 3
    for each in (array, raw):
        process = context.Process(target=work.double, args=(each,))
        process.start()
        process.join(30)
    assert np.asarray(array).tolist() == [[6, 6], [6, 6]]
    assert raw[:] == [2, 4]
    assert pickle.loads(pickle.dumps(value)).y == 2
    work.end_standard_helpers()


def test_large_arrays_are_given_back() -> None:
    arena.forget_sent()
    gc.collect()
    files = open_descriptors()
    for _ in range(50):
        Array("b", 20_000_000)[5] = 1
    gc.collect()
    assert open_descriptors() <= files
    assert autopar.Array("b", 0)[:] == []
