"""What travels to worker processes and back: how it arrives, and what is said when it does not."""

from __future__ import annotations

import array
import functools
import gc
import os
import pickle
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cargo
import work
from autopar import TransportError, WorkerCrashed, auto_map, observe, shutdown
from autopar._engine import memory
from autopar._model import Job
from autopar._platform import gil_enabled
from autopar._transport.failures import RemoteError
from autopar._transport.travel import travel
from conftest import eventually, open_descriptors
from test_ends import run_script

LOCK = threading.Lock()
processes = functools.partial(auto_map, backend="processes", workers=2)

MB = 1 << 20


@pytest.fixture(params=["cold", "warm"])
def crew(request: pytest.FixtureRequest) -> None:
    """Once with workers that have to be started, once with some that wait."""
    if request.param == "cold":
        shutdown()
    else:
        assert processes(work.double, range(9)) == [*range(0, 18, 2)]


@pytest.fixture(autouse=True)
def _nothing_is_left_lying_about(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(temporary))  # workers take it over
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield
    assert not list(temporary.iterdir())
    assert not [name for name in os.listdir("/dev/shm") if "autopar" in name]


def echoes(values: list[Any]) -> list[Any]:
    """The values, each sent to a worker and back."""
    return processes(cargo.identity, values)


LOCKED_PATH = '.parts["jobs"][1]["lock"]'


# What does not travel


REFUSED: dict[str, tuple[Callable[[], Any], str, int | None, str]] = {
    "function": (
        lambda: processes(cargo.Locked(), range(20)),
        "the function",
        None,
        f"fn{LOCKED_PATH}",
    ),
    "closure": (
        lambda: processes(closing_over(LOCK), range(20)),
        "the function",
        None,
        "fn.<closure variable inside>",
    ),
    "bound method": (
        lambda: processes(cargo.Locked().__call__, range(20)),
        "the function",
        None,
        f"fn.__self__{LOCKED_PATH}",
    ),
    "argument": (
        lambda: processes(cargo.parts_of, [*range(5), cargo.Locked(), *range(5)]),
        "an argument",
        5,
        f"item{LOCKED_PATH}",
    ),
    "memoryview": (
        lambda: processes(len, [b"x", b"y", memoryview(b"z"), b"w"]),
        "an argument",
        2,
        "item",
    ),
    "result": (
        lambda: processes(cargo.locked, range(20)),
        "the result",
        5,
        f"result{LOCKED_PATH}",
    ),
    "initializer": (
        lambda: processes(work.double, range(20), initializer=cargo.Locked()),
        "the initializer",
        None,
        f"initializer{LOCKED_PATH}",
    ),
    "initargs": (
        lambda: processes(work.double, range(20), initializer=print, initargs=(1, LOCK)),
        "the arguments of the initializer",
        None,
        "initargs[1]",
    ),
}


def closing_over(inside: Any) -> Callable[[Any], Any]:
    return lambda x: (inside, x)


@pytest.mark.usefixtures("crew")
@pytest.mark.parametrize("which", REFUSED)
def test_what_does_not_travel_is_refused_at_once_and_named(which: str) -> None:
    call, what, index, path = REFUSED[which]
    began_s = time.monotonic()
    with pytest.raises(TransportError) as caught:
        call()
    assert time.monotonic() - began_s < 5
    assert (caught.value.what, caught.value.index, caught.value.path) == (what, index, path)
    assert caught.value.__cause__ is not None
    assert f"{path} is a " in str(caught.value)
    assert "backend='threads'" in str(caught.value)
    assert processes(work.double, range(9)) == [*range(0, 18, 2)]


MANY = 200  # of 2 ms: on a busy machine it takes some tenths of a second to look at the first ones
SHARED: dict[str, Callable[[], Any]] = {
    "function": lambda: auto_map(cargo.Locked(), range(MANY)),
    "argument": lambda: [
        x for x in auto_map(cargo.parts_of, [cargo.Locked() for _ in range(MANY)]) if x == 1
    ],
    "result": lambda: [x.parts["jobs"][0] for x in auto_map(cargo.always_locked, range(MANY))],
    "initializer": lambda: auto_map(cargo.Locked(), range(MANY), initializer=cargo.Locked()),
}
WHY = {
    "function": f"fn{LOCKED_PATH} is a _thread.lock",
    "argument": f"item{LOCKED_PATH} is a _thread.lock",
    "result": f"result{LOCKED_PATH} is a _thread.lock",
    "initializer": f"fn{LOCKED_PATH} is a _thread.lock",
}


@pytest.mark.usefixtures("crew")
@pytest.mark.parametrize("which", SHARED)
def test_left_the_choice_what_does_not_travel_stays_in_shared_memory(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What an earlier call has shown is not asked again; and how long a search may take is no matter.
    monkeypatch.setattr(memory.learned, "_known", {})
    monkeypatch.setattr("autopar._transport.travel.SEARCH_S", 5.0)
    with observe() as seen:
        got = SHARED[which]()
    assert got == ([1] * MANY if which in ("argument", "result") else [*range(MANY)])
    assert "processes" not in {plan.backend for plan in seen.reports[0].plans}
    if gil_enabled():  # else nobody asks what travels: threads are best anyway
        weighed = [plan.observation for plan in seen.reports[0].plans if plan.observation]
        why_not = [str(observed.travel.why_not) for observed in weighed if observed.travel]
        assert any(WHY[which] in why for why in why_not), seen.reports[0]
    assert processes(work.double, range(9)) == [*range(0, 18, 2)]


@pytest.mark.usefixtures("crew")
def test_results_that_do_not_travel_are_errors_of_their_items() -> None:
    got = processes(cargo.locked, range(20), errors="return")
    assert isinstance(got[5], TransportError)
    assert got[5].path == f"result{LOCKED_PATH}"
    assert got[:5] + got[6:] == [*range(5), *range(6, 20)]
    with pytest.raises(ExceptionGroup) as caught:
        processes(cargo.locked, range(20), errors="group")
    assert [type(error) for error in caught.value.exceptions] == [TransportError]


# What pickles, and does not load


@pytest.mark.usefixtures("crew")
def test_an_argument_that_does_not_load_is_named_by_the_worker() -> None:
    with pytest.raises(TransportError) as caught:
        processes(cargo.identity, [0, 1, (2, cargo.Unloadable(3)), 4])
    assert (caught.value.what, caught.value.index, caught.value.path) == (
        "an argument",
        2,
        "item[1]",
    )
    assert "no way back" in str(caught.value)


@pytest.mark.usefixtures("crew")
def test_a_result_that_does_not_load_costs_no_other_result() -> None:
    got = processes(cargo.unloadable, range(40), errors="return")
    assert [x for x in got if not isinstance(x, TransportError)] == [
        x for x in range(40) if x % 10 != 5
    ]
    refused = [x for x in got if isinstance(x, TransportError)]
    assert [(x.index, x.path) for x in refused] == [
        (at, 'result["in"][0]') for at in range(5, 40, 10)
    ]
    with pytest.raises(TransportError) as caught:
        processes(cargo.unloadable, range(40))
    assert caught.value.index == 5


@pytest.mark.usefixtures("crew")
def test_a_function_that_does_not_load_over_there_is_named() -> None:
    with pytest.raises(TransportError) as caught:
        processes(functools.partial(map, cargo.LoadsOnlyHere()), range(9))
    assert (caught.value.what, caught.value.path) == ("the function", "fn.args[0]")
    assert "not at home" in str(caught.value)
    assert auto_map(cargo.LoadsOnlyHere(), range(60), "cpu") == [*range(60)]


# Exceptions


def failure_of(make: Callable[[], Exception]) -> Any:
    """The exception as it comes back, by every way errors can be asked for."""
    items = [None, make, None]
    got = processes(cargo.raise_made_by, items, errors="return")
    assert [got[0], got[2]] == [None, None]
    with pytest.raises(Exception) as raised:
        processes(cargo.raise_made_by, items)
    with pytest.raises(ExceptionGroup) as caught:
        processes(cargo.raise_made_by, items, errors="group")
    (in_group,) = caught.value.exceptions
    assert type(raised.value).__name__ == type(in_group).__name__ == type(got[1]).__name__
    assert str(raised.value) == str(in_group) == str(got[1])
    assert "item 1" in "".join(got[1].__notes__)
    return got[1]


@pytest.mark.usefixtures("crew")
class TestExceptions:
    def test_one_that_takes_two_arguments_is_itself(self) -> None:
        error = failure_of(functools.partial(work.TwoArguments, 1, "b"))
        assert type(error) is work.TwoArguments
        assert (error.first, error.second) == (1, "b")

    def test_one_with_slots_is_itself(self) -> None:
        assert failure_of(functools.partial(cargo.Slotted, 4)).code == 4

    def test_one_that_holds_a_lock_is_itself_without_the_lock(self) -> None:
        error = failure_of(functools.partial(cargo.HoldsALock, "text"))
        assert type(error) is cargo.HoldsALock
        assert error.kept == "kept"
        assert "lock" in "".join(error.__notes__)

    def test_causes_and_contexts_come_along(self) -> None:
        error = failure_of(cargo.caused)
        assert type(error.__cause__) is KeyError
        assert type(error.__cause__.__context__) is work.TwoArguments

    def test_notes_come_along(self) -> None:
        assert failure_of(cargo.noted).__notes__[0] == "by the user"

    def test_a_group_comes_with_its_members(self) -> None:
        error = failure_of(cargo.grouped)
        assert [type(each) for each in error.exceptions] == [
            work.TwoArguments,
            cargo.HoldsALock,
            FileNotFoundError,
        ]

    def test_a_class_made_in_the_function_is_caught_by_its_base(self) -> None:
        error = failure_of(cargo.local)
        assert isinstance(error, KeyError)
        assert "here" in str(error)

    @pytest.mark.parametrize("cls", [cargo.FailsToLoad, cargo.EndsTheProcessWhenLoaded])
    def test_one_that_fails_to_load_is_at_least_of_its_base(self, cls: Any) -> None:
        error = failure_of(functools.partial(cls, "text"))
        assert isinstance(error, LookupError)
        assert isinstance(error, cls | RemoteError)
        assert "text" in str(error)

    def test_a_recursion_without_end_is_a_recursion_error(self) -> None:
        with pytest.raises(RecursionError) as caught:
            processes(cargo.recurse, range(4))
        assert sum(map(len, caught.value.__notes__)) < 20_000
        assert processes(work.double, [1, 2, 3]) == [2, 4, 6]


@pytest.mark.usefixtures("crew")
def test_what_is_nested_too_deeply_is_refused_and_the_crew_lives_on() -> None:
    with pytest.raises(TransportError) as caught:
        processes(cargo.nest, [1, cargo.TOO_DEEP, 2])
    assert (caught.value.what, caught.value.index) == ("the result", 1)
    assert "nested too deeply" in str(caught.value)
    with pytest.raises(TransportError) as caught:
        processes(cargo.depth_of, [cargo.nest(1), cargo.nest(cargo.TOO_DEEP), cargo.nest(2)])
    assert (caught.value.what, caught.value.index) == ("an argument", 1)
    assert processes(cargo.depth_of, [cargo.nest(3), cargo.nest(2)]) == [3, 2]
    with observe():
        assert auto_map(cargo.depth_of, [cargo.nest(cargo.TOO_DEEP)] * 5) == [cargo.TOO_DEEP] * 5


# Arrays


POINTS = np.dtype([("x", "<f8"), ("name", "S3"), ("at", "<M8[ms]")])
LAYOUTS: dict[str, Callable[[int], Any]] = {
    "C": lambda n: np.arange(4 * n, dtype=float).reshape(4, n),
    "F": lambda n: np.asfortranarray(np.arange(4 * n, dtype=np.int32).reshape(4, n)),
    "strided": lambda n: np.arange(4 * n, dtype=np.int16).reshape(4, n)[::2, ::3],
    "negative strides": lambda n: np.arange(2 * n, dtype=float)[::-1],
    "transposed": lambda n: np.arange(6 * n).reshape(2, 3, n).transpose(1, 2, 0),
    "0-d": lambda n: np.array(n, dtype=np.float32),
    "empty": lambda _n: np.empty((3, 0, 2)),
    "structured": lambda n: np.array([(i, b"ab", i) for i in range(n // 8)], dtype=POINTS),
    "object": lambda n: np.array([1, "two", None, [4]] * (n // 1000), dtype=object),
    "big-endian": lambda n: np.arange(n, dtype=">f8"),
    "bool": lambda n: np.arange(n) % 3 == 0,
    "complex": lambda n: np.arange(n) * 1j,
    "text": lambda n: np.array(["é", "xyz"] * (n // 8)),
    "datetime64": lambda n: np.arange(n).astype("M8[s]"),
    "read-only": lambda n: cargo.read_only(np.arange(n)),
    "read-only F": lambda n: cargo.read_only(np.asfortranarray(np.ones((4, n)))),
    "matrix": lambda n: np.arange(4 * n).reshape(4, n).view(np.matrix),
    "masked": lambda n: np.ma.masked_array(np.arange(n), mask=np.arange(n) % 7 == 0),
    "subclass": lambda n: np.arange(n, dtype=float).view(cargo.Tagged),
    "record": lambda n: np.rec.fromarrays([np.arange(n), np.arange(n) * 2.0], names="a,b"),
    "view": lambda n: np.zeros(50 * n)[7 : n + 7],
    "broadcast": lambda n: np.broadcast_to(np.arange(4.0), (n // 4, 4)),
    "odd offset": lambda n: np.frombuffer(b"x" + bytes(8 * n), dtype="<i8", offset=1),
}


@pytest.mark.parametrize("size", [64_000, 200_000], ids=["small", "large"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_array_arrives_as_a_pickled_copy_would_be(layout: str, size: int) -> None:
    value = LAYOUTS[layout](size // 8 if size == 64_000 else size)
    copy = pickle.loads(pickle.dumps(value, protocol=5))
    there, back = processes(cargo.account_and_sum, [value, value]), echoes([value, 0, value])
    assert there == [(cargo.account(copy), cargo.contents(value))] * 2
    for got in (back[0], back[2]):
        assert cargo.account(got) == cargo.account(copy)
        assert cargo.contents(got) == cargo.contents(value)


def test_a_mapped_file_arrives_as_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    np.arange(200_000.0).tofile(path)
    mapped = np.memmap(path, mode="r+")
    (got,) = echoes([mapped, 1])[:1]
    assert np.array_equal(got, mapped)
    got[:] = 0
    assert np.fromfile(path)[1] == 1


def test_only_what_a_view_shows_travels() -> None:
    base = np.zeros(50 * MB, dtype=np.uint8)
    view = base[5 : 2 * MB + 5]
    (carried,) = set(processes(cargo.bytes_behind, [view, view]))
    assert carried <= 3 * MB


@pytest.mark.parametrize("count", [10, 5_000, 300_000])
def test_writing_into_what_arrived_changes_nothing_of_the_senders(count: int) -> None:
    mine = [np.ones(count) for _ in range(4)]
    assert processes(cargo.overwrite, mine) == [7.0 * count] * 4
    assert all((each == 1).all() for each in mine)
    both = processes(cargo.pair, [count, count])
    both[0][0][:] = 5
    assert (both[0][1] == 1).all()
    assert (both[1][0] == 1).all()
    one = np.ones(count)
    assert processes(cargo.overwritten_in_place, [[one]] * 8, chunksize=1) == [False] * 8


# Bytes


SIZES = [0, 1, 31_999, 32_000, 59_900, 60_000, 68_192, MB - 1, MB, MB + 1, 100 * MB]


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_every_size_arrive(size: int) -> None:
    block = bytes(range(256)) * (size // 256 + 1)
    for value in (block[:size], bytearray(block[:size])):
        got, small = echoes([value, b"after"])
        assert got == value
        assert type(got) is type(value)
        assert small == b"after"


@pytest.mark.parametrize("size", [0, 1, 10_000, 200_000])
def test_an_array_of_the_standard_library_arrives(size: int) -> None:
    value = array.array("d", range(size))
    got = echoes([value, value])
    assert got == [value, value]
    got[0].append(1.5)


def test_buffers_arrive_whatever_else_travels_along() -> None:
    values = [
        {"a": [np.arange(n), bytes(n)], "b": (np.ones(n, np.uint8), bytearray(n))}
        for n in (1, 33_001, 7, 1_000_003)
    ]
    for got, sent in zip(echoes(values), values, strict=True):
        assert np.array_equal(got["a"][0], sent["a"][0])
        assert got["a"][1] == sent["a"][1]
        assert np.array_equal(got["b"][0], sent["b"][0])
        assert got["b"][1] == sent["b"][1]


def test_three_hundred_megabytes_go_in_one_piece_and_come_back() -> None:
    size = 300 * MB
    assert processes(len, [bytes(size), b""]) == [size, 0]
    came = processes(bytes, [size, 1])
    assert [len(each) for each in came] == [size, 1]
    assert came[0].count(0) == size


# Nothing is left


def test_the_memory_that_things_travel_in_has_no_name() -> None:
    value = np.ones(2 * MB)
    before = cargo.named_memory(None)
    got = processes(cargo.large_and_named_memory, [value] * 4)
    assert [names for _, names in got] == [set()] * 4
    assert cargo.named_memory(got) <= before


@pytest.mark.usefixtures("crew")
def test_no_descriptor_is_left_of_what_has_travelled() -> None:
    values = [np.ones(n) for n in (10, 10_000, 300_000)] * 5
    processes(cargo.identity, values)
    shutdown()
    gc.collect()
    before = open_descriptors()
    for _ in range(5):
        got = processes(cargo.identity, values)
        with pytest.raises(TransportError):
            processes(cargo.identity, [np.ones(300_000), LOCK])
        with pytest.raises(TransportError):
            processes(cargo.locked_beside_an_array, [1, 2, 3])
        with pytest.raises(TransportError):
            processes(cargo.identity, [(np.ones(300_000), cargo.Unloadable(1))] * 3)
        processes(cargo.unloadable_beside_an_array, [1, 2, 3], errors="return")
    del got
    shutdown()
    gc.collect()
    assert open_descriptors() <= before


def test_workers_killed_while_large_results_are_on_their_way_leave_nothing(
    tmp_path: Path,
) -> None:
    shutdown()
    busy = tmp_path / "busy"
    items = [(str(busy), x) for x in range(16)]
    processes(cargo.large, [(str(tmp_path / "before"), x) for x in range(2)])
    busy.touch()
    shutdown()  # a worker that waits keeps some open, and how many wait is a race
    gc.collect()
    before = open_descriptors()
    over = threading.Event()

    def shoot() -> None:
        known: set[str] = set()
        while not over.is_set():
            # Only workers that have begun an item, for those that die before stop the call.
            begun = set(cargo.read_lines(str(busy))) - known
            known |= begun
            for worker in begun:
                over.wait(random.uniform(0, 0.02))
                kill(int(worker))

    shooter = threading.Thread(target=shoot)
    shooter.start()
    try:
        got = processes(cargo.large, items, errors="return")
    finally:
        over.set()
        shooter.join()
    crashed = [index for index, value in enumerate(got) if isinstance(value, WorkerCrashed)]
    assert crashed
    for index, value in enumerate(got):
        if index not in crashed:
            assert (value == index).all()
    del got, value
    shutdown()
    gc.collect()
    assert eventually(lambda: open_descriptors() <= before)
    assert (processes(cargo.large, items[:2])[1] == 1).all()


def test_what_an_item_takes_to_travel_is_its_share_of_a_chunk() -> None:
    """Not what pickling takes whatever is pickled: a thousand small items are no dear load."""

    def here_s(value: Any) -> float:
        return statistics.median(travel(Job(abs), value, value).here_s for _ in range(15))

    assert here_s(1000) < here_s(list(range(1000, 2000))) / 5


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # the call was over first


# Once per worker


def capturing(weighty: cargo.Weighty) -> Callable[[str], tuple[int, int, int]]:
    return lambda x: weighty(x)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weighty: weighty,
        lambda weighty: weighty.method,
        lambda weighty: functools.partial(cargo.with_the_first, weighty),
        capturing,
    ],
    ids=["instance", "bound method", "partial", "closure"],
)
def test_what_a_function_holds_is_sent_once_to_each_worker(wrap: Any, tmp_path: Path) -> None:
    shutdown()  # so that nobody has unpacked anything before
    cargo.Weighty.packed = 0
    got = processes(wrap(cargo.Weighty()), [str(tmp_path / "meeting")] * 40)
    assert cargo.Weighty.packed <= 2  # by pickle, and where that refused, by cloudpickle
    assert len({pid for pid, _, _ in got}) == 2
    assert {(unpacked, byte) for _, unpacked, byte in got} == {(1, 1)}


# Plain pickle first


def test_cloudpickle_is_loaded_only_for_what_has_no_name() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(work.__file__).parent)!r})
import work
from autopar import auto_map
assert auto_map(work.double, range(9), backend="processes") == [*range(0, 18, 2)]
assert auto_map(work.digest, [b"x"] * 3, backend="processes")
try:
    auto_map(work.fail_oddly, range(20), backend="processes")
except work.TwoArguments:
    pass
print("cloudpickle" in sys.modules, "autopar._transport.guilty" in sys.modules)
assert auto_map(lambda x: x + 1, range(3), backend="processes") == [1, 2, 3]
print("cloudpickle" in sys.modules, "autopar._transport.guilty" in sys.modules)
"""
    assert run_script(script).stdout == "False False\nTrue False\n"


def test_a_function_with_a_name_is_the_workers_own() -> None:
    assert processes(cargo.is_the_modules_own, [cargo.identity, work.double]) == [True, True]


@pytest.mark.usefixtures("crew")
def test_a_worker_has_loaded_nothing_that_only_failures_need() -> None:
    heavy = {"cloudpickle", "autopar._transport.guilty", "autopar._transport.salvage"}
    shutdown()
    assert processes(cargo.loaded_of, [heavy] * 4) == [set()] * 4


def test_a_worker_loads_what_came_by_value_without_what_pickles_so() -> None:
    script = """
import sys
from autopar import auto_map
def loaded(_):
    return [name in sys.modules for name in ("cloudpickle", "autopar._transport.byvalue")]
print(auto_map(loaded, [0], backend="processes"))
"""
    assert run_script(script).stdout == "[[True, False]]\n"


def test_without_files_in_memory_large_things_travel_in_files_that_have_no_name(
    tmp_path: Path,
) -> None:
    script = f"""
import os, sys, tempfile
sys.path.insert(0, {str(Path(cargo.__file__).parent)!r})
tempfile.tempdir = {str(tmp_path)!r}
del os.memfd_create
from autopar import auto_map, shutdown
def forget():
    del os.memfd_create
    tempfile.tempdir = {str(tmp_path)!r}
sent = [bytes([n]) * 3_000_000 for n in range(4)]
assert auto_map(lambda data: data + data, sent, backend="processes", initializer=forget) == [
    data + data for data in sent
]
shutdown()
print(os.listdir({str(tmp_path)!r}))
"""
    assert run_script(script).stdout == "[]\n"
