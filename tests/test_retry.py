"""`Retry`: which failures are tried again, how long after, and what ends the waiting."""

from __future__ import annotations

import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import faulty
from autopar import (
    AutoExecutor,
    OptionTypeError,
    OptionValueError,
    Retry,
    TaskTimeout,
    TransportError,
    WorkerCrashed,
    auto_imap,
    auto_map,
    auto_starmap,
    parallel,
)
from autopar._engine.call import Call
from autopar._model import Job, Options
from autopar._retry import may_try_again, pause_s, wait_before
from programs import Program

WAIT_S = 0.3  # a wait that is found again in what it took
LONG_S = 1000.0  # nobody waits so long

fields = st.builds(
    Retry,
    st.integers(0, 50),
    backoff=st.floats(0, 100),
    factor=st.floats(1, 1e3),
    most=st.floats(0, 1e4),
    jitter=st.floats(0, 1),
)


@pytest.fixture
def marks(tmp_path: Path) -> faulty.Marks:
    """Counts how often each item is begun and ended, whatever process runs it."""
    return faulty.Marks(tmp_path / "marks", 120)


def steps(marks: faulty.Marks, how: str, *at: int, times: int = 1000) -> list[faulty.Step]:
    """120 quick items, some of which do harm."""
    items = [faulty.Step(index, marks.path) for index in range(120)]
    return [item._replace(how=how, times=times) if item.index in at else item for item in items]


def as_asked(error: Exception) -> bool:
    return "as asked" in str(error)


def undecided(error: Exception) -> bool:
    raise LookupError("what is this?")


def never_with_a_word(_error: Exception) -> bool:
    raise AssertionError("nobody asks after the last try")


# the rule itself


@given(retry=fields, tries=st.integers(1, 2000), chance=st.floats(0, 1))
def test_waits_grow_up_to_a_bound_and_chance_takes_a_share_off(
    retry: Retry, tries: int, chance: float
) -> None:
    whole_s = pause_s(retry, tries, 0.0)
    assert 0 <= whole_s <= max(retry.most, 0)
    assert whole_s <= pause_s(retry, tries + 1, 0.0)
    assert whole_s * (1 - retry.jitter) <= pause_s(retry, tries, chance) * (1 + 1e-9)
    assert pause_s(retry, tries, chance) <= whole_s
    assert whole_s * (1 - retry.jitter) <= pause_s(retry, tries) * (1 + 1e-9) <= whole_s * 1.1


def test_the_first_wait_is_the_backoff_and_the_next_ones_are_multiples() -> None:
    retry = Retry(9, backoff=0.5, factor=3, most=10, jitter=0)
    assert [wait_before(retry, tries, OSError()) for tries in range(1, 6)] == [
        0.5,
        1.5,
        4.5,
        10,
        10,
    ]
    assert wait_before(Retry(2), 2, OSError()) == 0
    assert wait_before(Retry(2), 3, OSError()) is None


def test_what_is_tried_again_is_said_by_classes_or_a_function() -> None:
    assert may_try_again(Retry(1), 1, ValueError())
    assert may_try_again(Retry(1, OSError), 1, ConnectionError())
    assert not may_try_again(Retry(1, OSError), 1, ValueError())
    assert may_try_again(Retry(1, (OSError, ValueError)), 1, ValueError())
    assert may_try_again(Retry(1, as_asked), 1, ValueError("as asked"))
    assert not may_try_again(Retry(1, as_asked), 1, ValueError("unasked"))
    assert not may_try_again(Retry(1, never_with_a_word), 2, ValueError())


def test_it_is_a_frozen_record() -> None:
    retry = Retry(3, on=OSError, backoff=0.5)
    assert (retry.times, retry.on, retry.backoff) == (3, OSError, 0.5)
    assert retry == Retry(3, OSError, 0.5) != Retry(3)
    assert len({retry, Retry(3, OSError, 0.5)}) == 1
    assert pickle.loads(pickle.dumps(retry)) == retry
    assert repr(retry).startswith("Retry(times=3, on=<class 'OSError'>, backoff=0.5, ")
    with pytest.raises(AttributeError, match="does not change"):
        retry.times = 4
    with pytest.raises(AttributeError, match="does not change"):
        del retry.times


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"times": -1}, OptionValueError),
        ({"times": 1.5}, OptionTypeError),
        ({"times": True}, OptionTypeError),
        ({"on": "OSError"}, OptionTypeError),
        ({"on": int}, OptionTypeError),
        ({"on": KeyboardInterrupt}, OptionTypeError),
        ({"on": (OSError, SystemExit)}, OptionTypeError),
        ({"on": None}, OptionTypeError),
        ({"on": ()}, OptionTypeError),
        ({"backoff": -1}, OptionValueError),
        ({"backoff": float("nan")}, OptionValueError),
        ({"backoff": "1s"}, OptionTypeError),
        ({"factor": 0.5}, OptionValueError),
        ({"most": float("inf")}, OptionValueError),
        ({"jitter": 1.5}, OptionValueError),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Retry(**{"times": 1, **fields})


# exceptions of the function


@pytest.mark.parametrize("backoff", [0.0, 0.001])
@pytest.mark.parametrize("on", [ValueError, (OSError, ValueError), as_asked], ids=str)
@pytest.mark.parametrize("errors", ["raise", "return", "group"])
def test_what_matches_is_tried_again_on_every_backend(
    backend: str, errors: Any, on: Any, backoff: float, marks: faulty.Marks
) -> None:
    items = steps(marks, "raise", 7, 70, times=2)
    retries = Retry(2, on=on, backoff=backoff)
    assert auto_map(faulty.step, items, backend=backend, errors=errors, retries=retries) == [
        *range(120)
    ]
    assert marks.begun() == [3 if index in (7, 70) else 1 for index in range(120)]


@pytest.mark.parametrize("backoff", [0.0, 60.0])
def test_what_does_not_match_fails_at_once(
    backend: str, backoff: float, marks: faulty.Marks
) -> None:
    items = steps(marks, "raise", 70)
    retries = Retry(5, on=OSError, backoff=backoff)
    with pytest.raises(ValueError) as caught:
        auto_map(faulty.step, items, backend=backend, retries=retries)
    assert marks.begun()[70] == 1
    notes = "\n".join(caught.value.__notes__)
    assert "for item 70" in notes
    assert "tried" not in notes


@pytest.mark.parametrize("backoff", [0.0, 0.001])
@pytest.mark.parametrize("errors", ["raise", "return"])
def test_the_last_exception_says_how_many_tries_there_were(
    backend: str, errors: Any, backoff: float, marks: faulty.Marks
) -> None:
    items = steps(marks, "raise", 70)
    retries = Retry(2, backoff=backoff)
    try:
        error = auto_map(faulty.step, items, backend=backend, retries=retries, errors=errors)[70]
    except ValueError as raised:
        error = raised
    assert marks.begun()[70] == 3
    notes = "\n".join(error.__notes__)
    assert notes.count("autopar: tried 3 times") == 1
    assert "for item 70" in notes


@pytest.mark.parametrize("backoff", [0.0, 0.001])
def test_a_predicate_that_raises_fails_the_item(
    backend: str, backoff: float, marks: faulty.Marks
) -> None:
    items = steps(marks, "raise", 70)
    with pytest.raises(LookupError, match="what is this") as caught:
        auto_map(faulty.step, items, backend=backend, retries=Retry(5, undecided, backoff))
    assert isinstance(caught.value.__context__, ValueError)
    assert marks.begun()[70] == 1


def test_all_shapes_of_call_take_it(marks: faulty.Marks) -> None:
    retries = Retry(1, on=ValueError, backoff=0.001)
    decorated = parallel(retries=retries)(faulty.step)
    kinds: list[Any] = ["auto", "cpu", "io"]
    calls: list[Callable[[list[faulty.Step]], Iterable[int]]] = [
        lambda items: auto_starmap(faulty.step, [(item,) for item in items], retries=retries),
        *(
            lambda items, kind=kind: auto_imap(faulty.step, items, kind, retries=retries)
            for kind in kinds
        ),
        decorated.map,
        lambda items: decorated.imap(items, kind="cpu"),
    ]
    for at, call in enumerate(calls):
        items = steps(marks, "raise", at, times=at + 1)  # it has been run in the calls before
        assert list(call(items)) == [*range(120)]
        assert marks.begun() == [at + 1 + (index <= at) for index in range(120)]


def test_an_executor_of_the_callers_waits_and_tries_too(marks: faulty.Marks) -> None:
    items = steps(marks, "raise", 70, times=1)
    began_s = time.monotonic()
    with AutoExecutor(1, kind="cpu") as executor:
        retries = Retry(1, backoff=WAIT_S, jitter=0)
        assert auto_map(faulty.step, items, backend=executor, retries=retries) == [*range(120)]
    assert time.monotonic() - began_s >= WAIT_S
    assert marks.begun()[70] == 2


def test_what_does_not_pickle_is_named_or_keeps_the_work_here(marks: faulty.Marks) -> None:
    lock = threading.Lock()

    def on(_error: Exception) -> bool:
        return not lock.locked()

    items = steps(marks, "raise", 70, times=1)
    with pytest.raises(TransportError, match="what is said of retries") as caught:
        auto_map(faulty.step, items, backend="processes", retries=Retry(1, on))
    assert caught.value.path.startswith("retries")
    assert sum(marks.begun()) == 0
    assert auto_map(faulty.step, items, "cpu", retries=Retry(1, on)) == [*range(120)]


# crashes and timeouts


@pytest.mark.parametrize("backoff", [0.0, 0.01])
def test_a_crash_is_tried_again_where_it_matches(backoff: float, marks: faulty.Marks) -> None:
    items = steps(marks, "SIGKILL", 70, times=2)
    retries = Retry(2, on=WorkerCrashed, backoff=backoff)
    assert auto_map(faulty.step, items, backend="processes", retries=retries) == [*range(120)]
    assert marks.begun() == [3 if index == 70 else 1 for index in range(120)]


def test_a_crash_that_does_not_match_fails_at_once(marks: faulty.Marks) -> None:
    items = steps(marks, "SIGKILL", 70)
    got = auto_map(
        faulty.step, items, backend="processes", retries=Retry(5, on=ValueError), errors="return"
    )
    assert isinstance(got[70], WorkerCrashed)
    assert marks.begun() == [1] * 120


@pytest.mark.parametrize("on", [TaskTimeout, ValueError], ids=str)
def test_a_late_item_is_tried_again_where_that_matches(
    on: type[Exception], marks: faulty.Marks
) -> None:
    late = {"timeout": 0.3, "retries": Retry(1, on=on), "errors": "return"}
    items = steps(marks, "sleep", 70, times=1)
    got = auto_map(faulty.step, items, backend="processes", **late)  # type: ignore[call-overload]
    assert marks.begun()[70] == (2 if on is TaskTimeout else 1)
    assert isinstance(got[70], TaskTimeout) == (on is not TaskTimeout)

    tries: list[int] = []
    release = threading.Event()

    def wait_once(x: int) -> int:
        tries.append(x)
        if x == 7 and tries.count(7) == 1:
            release.wait()
        return x

    got = auto_map(wait_once, range(20), backend="threads", **late)  # type: ignore[call-overload]
    release.set()
    assert tries.count(7) == (2 if on is TaskTimeout else 1)
    assert isinstance(got[7], TaskTimeout) == (on is not TaskTimeout)


def test_a_late_item_in_a_process_says_how_many_tries_there_were(marks: faulty.Marks) -> None:
    items = steps(marks, "sleep", 7)
    with pytest.raises(TaskTimeout) as caught:
        auto_map(faulty.step, items, backend="processes", timeout=0.2, retries=1)
    assert "autopar: tried 2 times" in caught.value.__notes__


# waiting


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_maps_in_a_worker_wait_and_try_too(backend: str) -> None:
    def inner(number: int) -> list[int]:
        tried: list[int] = []

        def flaky(item: int) -> int:
            tried.append(item)
            if item % 3 == 1 and tried.count(item) < 3:
                raise ValueError(item)
            return item + number

        return auto_map(flaky, range(7), retries=Retry(2, on=ValueError, backoff=0.002))

    got = auto_map(inner, range(4), backend=backend, workers=2)
    assert got == [[item + number for item in range(7)] for number in range(4)]


def test_many_of_one_chunk_are_each_tried_again(backend: str, marks: faulty.Marks) -> None:
    items = steps(marks, "raise", 0, 3, 4, 5, 38, 39, 40, 79, 119, times=3)
    retries = Retry(3, on=ValueError, backoff=0.002)
    options: dict[str, Any] = {"backend": backend, "chunksize": 40, "workers": 2}
    assert auto_map(faulty.step, items, retries=retries, **options) == [*range(120)]
    assert marks.begun() == [4 if item.how else 1 for item in items]


@pytest.mark.parametrize("backend", ["serial", "threads", "processes"])
def test_waits_are_not_taken_for_work(backend: str, marks: faulty.Marks) -> None:
    job = Job(faulty.step, retries=Retry(1, backoff=1.5, jitter=0))
    items = steps(marks, "raise", 3, times=1)
    call = Call(job, items, Options(backend=backend, workers=1), None)
    assert call.run() == [*range(120)]
    assert call.desk.busy_s < 1.0


@pytest.mark.parametrize("how", ["raise", "SIGKILL"])
def test_each_try_waits_and_has_the_whole_timeout(how: str, marks: faulty.Marks) -> None:
    items = steps(marks, how, 7, times=2)
    began_s = time.monotonic()
    retries = Retry(2, backoff=WAIT_S, factor=1, jitter=0)
    timeout_s = WAIT_S / 1.5  # less than a wait: none of that counts
    got = auto_map(faulty.step, items, backend="processes", retries=retries, timeout=timeout_s)
    assert time.monotonic() - began_s >= 2 * WAIT_S
    assert got == [*range(120)]
    assert marks.begun()[7] == 3


def test_in_threads_too(marks: faulty.Marks) -> None:
    items = steps(marks, "raise", 7, times=2)
    began_s = time.monotonic()
    retries = Retry(2, backoff=WAIT_S, factor=1, jitter=0)
    got = auto_map(faulty.step, items, "io", retries=retries, timeout=WAIT_S / 1.5)
    assert time.monotonic() - began_s >= 2 * WAIT_S
    assert got == [*range(120)]
    assert marks.begun()[7] == 3


@pytest.mark.parametrize(
    ("backend", "chunksize"),
    [("threads", None), ("processes", None), ("processes", 40), ("hybrid", 40)],
)
def test_others_go_on_while_one_waits(
    backend: str, chunksize: int | None, marks: faulty.Marks
) -> None:
    """All have been done before the one that waits may go on: it waits for the last of them."""
    items = steps(marks, "raise", 3, times=1)
    over = threading.Event()

    def watch() -> None:
        while sum(marks.ended()) < 119 and not over.wait(0.01):
            pass
        done.append(sum(marks.ended()))

    done: list[int] = []
    watcher = threading.Thread(target=watch)
    watcher.start()
    retries = Retry(1, backoff=3.0, jitter=0)
    got = auto_map(
        faulty.step, items, backend=backend, workers=2, chunksize=chunksize, retries=retries
    )
    over.set()
    watcher.join()
    assert got == [*range(120)]
    assert done == [119]


@pytest.mark.parametrize("backend", ["threads", "processes", "hybrid"])
def test_a_failure_ends_the_waiting_of_those_behind_it(backend: str, marks: faulty.Marks) -> None:
    items = steps(marks, "raise", 5)
    items[2] = items[2]._replace(how="sys.exit(3)", nap_s=0.5)  # when the other has begun to wait
    began_s = time.monotonic()
    with pytest.raises(SystemExit):
        auto_map(
            faulty.step,
            items,
            backend=backend,
            workers=2,
            retries=Retry(9, backoff=LONG_S, most=LONG_S),
        )
    assert time.monotonic() - began_s < LONG_S / 10
    assert marks.begun()[5] <= 1


@pytest.mark.parametrize("kind", ["io", "cpu"])
def test_closing_a_lazy_map_ends_the_waiting(kind: Any, marks: faulty.Marks) -> None:
    items = steps(marks, "raise", 3)
    results = auto_imap(faulty.step, items, kind, retries=Retry(9, backoff=LONG_S, most=LONG_S))
    began_s = time.monotonic()
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began_s < LONG_S / 10
    assert marks.begun()[3] <= 1


@pytest.mark.parametrize("backend", ["serial", "threads", "processes", "hybrid"])
def test_ctrl_c_ends_the_waiting(backend: str) -> None:
    script = f"""
from autopar import Retry
def fail(x):
    print("failed", flush=True)
    raise ValueError(x)
auto_map(fail, [1, 2], backend={backend!r}, workers=1, retries=Retry(3, backoff={LONG_S}, most={LONG_S}))
"""
    with Program(script) as program:
        program.read_and_wait("failed")
        program.process.send_signal(signal.SIGINT)
        _out, errors = program.process.communicate(timeout=30)
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_seeded_numbers_do_not_depend_on_tries(marks: faulty.Marks) -> None:
    import random

    def draw(item: faulty.Step) -> float:
        before = faulty.mark(item.path, item.index, ended=False)
        if item.how and before < item.times:
            random.random()
            raise ValueError
        return random.random()

    plain = auto_map(draw, steps(marks, ""), backend="processes", seed=3)
    retries = Retry(1, backoff=0.001)
    items = steps(marks, "raise", 5, 6, times=2)
    assert auto_map(draw, items, backend="processes", seed=3, retries=retries) == plain
    assert marks.begun()[5] == 3
