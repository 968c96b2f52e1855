"""`progress=`: how far a map has come is shown while it goes on, and exactly so at its end."""

from __future__ import annotations

import asyncio
import contextvars
import io
import itertools
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress
from tqdm import tqdm
from tqdm.auto import tqdm as auto_tqdm

import autopar
import work
from autopar import Report, aimap, amap, auto_imap, auto_map, auto_starmap, parallel
from conftest import BACKENDS, eventually

Told = list[tuple[int, int | None, Report]]
SHOWING = [True, "title", "tqdm", "rich"]


@pytest.fixture(autouse=True)
def no_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """tqdm has a thread of its own look at bars that nobody moves; it would stay."""
    monkeypatch.setattr(auto_tqdm, "monitor_interval", 0)
    monkeypatch.setattr(tqdm, "monitor_interval", 0)


def telling(told: Told) -> Callable[[int, int | None, Report], None]:
    def tell(done: int, total: int | None, report: Report) -> None:
        told.append((done, total, report))

    return tell


def run(shape: str, items: Iterable[Any], fn: Any = work.double, **options: Any) -> list[Any]:
    """A map of a shape, "map" or "imap"; its results."""
    if shape == "map":
        return auto_map(fn, items, **options)
    return list(auto_imap(fn, items, **options))


MAPS = [(shape, name) for shape in ("map", "imap") for name in BACKENDS]
maps = pytest.mark.parametrize(("shape", "name"), MAPS)
shapes = pytest.mark.parametrize("shape", ["map", "imap"])


class Sized:
    """Something with a length that is no sequence."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


# how far, and of how many


@maps
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_at_last_all_items_are_done(shape: str, name: str, count: int) -> None:
    told: Told = []
    results = run(shape, range(count), backend=name, progress=telling(told))
    assert results == [2 * item for item in range(count)]
    done, total, report = told[-1]
    assert (done, total) == (count, count)
    assert (report.function, report.items) == ("double", count)


@maps
def test_it_is_told_while_items_run(shape: str, name: str) -> None:
    told: Told = []
    options: dict[str, Any] = {"backend": name, "workers": 2, "progress": telling(told)}
    run(shape, [0.05] * 16, work.nap, **options)
    counts = [done for done, _, _ in told]
    assert counts == sorted(counts)
    assert 0 < counts[0] < 16
    assert {total for _, total, _ in told} == {16}
    assert {report.function for _, _, report in told} == {"nap"}


@shapes
@pytest.mark.parametrize(
    ("items", "totals"),
    [
        (list, {100}),
        (tuple, {100}),
        (dict.fromkeys, {100}),
        (lambda items: Sized(len(items)), {100}),
        (iter, {None, 100}),
        (lambda items: (item for item in items), {None, 100}),
    ],
    ids=["list", "tuple", "dict", "sized", "iterator", "generator"],
)
def test_the_total_is_known_from_the_length_or_at_the_end(
    shape: str, items: Callable[[range], Any], totals: set[int | None]
) -> None:
    told: Told = []

    def nap(_item: float) -> None:
        time.sleep(0.01)

    run(shape, items(range(100)), nap, workers=1, progress=telling(told))
    assert {total for _, total, _ in told} == totals
    assert told[-1][:2] == (100, 100)


def test_a_list_that_grows_has_more_in_the_end() -> None:
    told: Told = []
    items = [0, 1, 2, 3]

    def more(item: int) -> int:
        if item < 4:
            items.append(item + 4)
        return item

    assert auto_map(more, items, backend="serial", progress=telling(told)) == [*range(8)]
    assert told[-1][:2] == (8, 8)


@shapes
def test_several_iterables_have_the_length_of_the_shortest(shape: str) -> None:
    told: Told = []
    mapped: Any = auto_map if shape == "map" else auto_imap
    assert list(mapped(pow, [2, 3, 4], [2, 2], progress=telling(told))) == [4, 9]
    assert told[-1][:2] == (2, 2)


def test_its_sisters_show_it_too() -> None:
    told: Told = []
    auto_starmap(pow, [(2, 3), (3, 2)], progress=telling(told))
    assert told[-1][:2] == (2, 2)
    doubled = parallel(work.double)
    doubled.map(range(5), progress=telling(told))
    assert told[-1][:2] == (5, 5)
    list(doubled.imap(range(6), progress=telling(told)))
    assert told[-1][:2] == (6, 6)
    auto_map(work.double, range(7), seed=1, progress=telling(told))
    assert told[-1][:2] == (7, 7)


def test_the_report_so_far_tells_what_is_being_done() -> None:
    told: Told = []
    auto_map(work.nap, [0.05] * 20, backend="threads", workers=2, progress=telling(told))
    during = told[0][2]
    assert (during.backend, during.kind) == ("threads", "auto")
    assert 0 < during.items < 20
    assert during.wall_s < told[-1][2].wall_s


# who tells


def test_a_thread_of_its_own_tells_meanwhile_and_the_calling_one_at_the_end(backend: str) -> None:
    threads: list[int] = []
    auto_map(
        work.nap,
        [0.05] * 16,
        backend=backend,
        workers=2,
        progress=lambda *_stand: threads.append(threading.get_ident()),
    )
    here = threading.get_ident()
    assert threads[-1] == here
    assert here not in threads[:-1]
    assert threads[:-1]


def test_an_item_may_wait_for_what_it_is_told() -> None:
    """The calling thread is in the middle of an item then."""
    told = threading.Event()

    def work_and_wait(item: int) -> bool:
        return item != 3 or told.wait(20)

    def tell(done: int, total: int | None, report: Report) -> None:
        if done == 3:
            told.set()

    assert auto_map(work_and_wait, range(9), backend="serial", progress=tell) == [True] * 9


@pytest.mark.parametrize("name", BACKENDS)
def test_lazily_taken_results_are_told_by_the_thread_that_takes(name: str) -> None:
    threads: list[int] = []
    told = auto_imap(
        work.nap,
        [0.05] * 8,
        backend=name,
        progress=lambda *_stand: threads.append(threading.get_ident()),
    )
    taker = threading.Thread(target=list, args=(told,))
    taker.start()
    taker.join()
    assert set(threads) == {taker.ident}


def test_the_context_of_the_call_is_there() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
    seen: list[str] = []
    token = name.set("somebody")
    try:
        auto_map(work.nap, [0.05] * 6, workers=1, progress=lambda *_stand: seen.append(name.get()))
    finally:
        name.reset(token)
    assert set(seen) == {"somebody"}


# what it raises


def told_enough(done: int, total: int | None, report: Report) -> None:
    raise LookupError(f"told of {done}")


@pytest.mark.parametrize("errors", ["raise", "return", "group"])
def test_what_it_raises_ends_even_a_call_without_an_end(backend: str, errors: str) -> None:
    options: dict[str, Any] = {"backend": backend, "workers": 2, "errors": errors}
    with pytest.raises(LookupError, match="told of"):
        auto_map(work.nap, itertools.repeat(0.01), progress=told_enough, **options)


@pytest.mark.parametrize("name", BACKENDS)
def test_what_it_raises_ends_even_a_lazy_map_without_an_end(name: str) -> None:
    closed = threading.Event()

    def items() -> Iterator[float]:
        try:
            yield from itertools.repeat(0.01)
        finally:
            closed.set()

    results = auto_imap(work.nap, items(), backend=name, progress=told_enough)
    with pytest.raises(LookupError, match="told of") as caught:
        for _ in results:
            pass
    with pytest.raises(StopIteration):
        next(results)
    assert closed.wait(20)
    assert caught.value.__traceback__ is not None  # which keeps what it leads to


@maps
def test_what_it_raises_at_the_end_is_raised(shape: str, name: str) -> None:
    def tell(done: int, total: int | None, report: Report) -> None:
        if done == total == 5:
            raise LookupError("told of all")

    with pytest.raises(LookupError, match="told of all"):
        run(shape, range(5), backend=name, progress=tell)


def test_what_it_raises_before_an_item_does_is_raised() -> None:
    told = threading.Event()

    def fail(item: int) -> None:
        if item:
            assert told.wait(20)
            time.sleep(0.05)  # the call is being ended by now, and the item goes on
            raise KeyError(item)

    def tell(done: int, total: int | None, report: Report) -> None:
        told.set()
        raise LookupError("told")

    with pytest.raises(LookupError, match="told"):
        auto_map(fail, range(2), backend="serial", progress=tell)


def test_nothing_it_raised_is_kept_afterwards() -> None:
    """Where the garbage collector does not help: no reference leads round from the error."""
    import gc
    import weakref

    class Kept:
        pass

    kept = Kept()
    known = weakref.ref(kept)

    def tell(_done: int, _total: int | None, _report: Report, _kept: Kept = kept) -> None:
        raise LookupError

    del kept
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(LookupError):
            auto_map(work.nap, itertools.repeat(0.01), backend="serial", progress=tell)
        del tell
        assert eventually(lambda: known() is None, 5)
    finally:
        gc.enable()


# items that fail


@maps
def test_an_item_that_fails_is_no_end(shape: str, name: str) -> None:
    told: Told = []
    items = [1.0] * 40 + [0.0] + [1.0] * 40
    with pytest.raises(ZeroDivisionError):
        run(shape, items, work.reciprocal, backend=name, progress=telling(told))
    assert [done for done, _, _ in told if done >= 81] == []


@shapes
def test_an_iterable_that_raises_is_no_end(shape: str) -> None:
    told: Told = []

    def broken() -> Iterator[int]:
        yield from range(4)
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        run(shape, broken(), progress=telling(told))
    assert [done for done, total, _ in told if done == total] == []


@pytest.mark.parametrize("errors", ["return", "group"])
def test_items_that_fail_are_done_where_exceptions_are_kept(backend: str, errors: str) -> None:
    told: Told = []
    items, options = [1, 0, 2, 0], {"backend": backend, "progress": telling(told)}
    if errors == "return":
        auto_map(work.reciprocal, items, errors="return", **options)  # type: ignore[arg-type]
    else:
        with pytest.raises(ExceptionGroup, match="2 of 4"):
            auto_map(work.reciprocal, items, errors="group", **options)  # type: ignore[arg-type]
    assert told[-1][:2] == (4, 4)


def test_a_worker_that_dies_and_an_item_tried_again_are_counted_once(tmp_path: Any) -> None:
    told: Told = []
    marks = str(tmp_path / "mark")

    def die_once(item: int) -> int:
        if item == 7 and not os.path.exists(marks):
            with open(marks, "w"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        return item

    found = auto_map(
        die_once, range(30), backend="processes", workers=2, retries=1, progress=telling(told)
    )
    assert found == [*range(30)]
    assert max(done for done, _, _ in told) == 30
    assert told[-1][:2] == (30, 30)


# bars


@maps
def test_true_is_a_bar_of_tqdm_on_stderr(
    shape: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shape, range(30), backend=name, progress=True)
    printed = capsys.readouterr()
    last = printed.err.rstrip("\n").rpartition("\r")[2]
    assert last.startswith("double: 100%")
    assert "30/30" in last
    assert printed.err.endswith("\n")
    assert printed.out == ""


@shapes
def test_a_string_is_its_title(shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(shape, iter(range(30)), progress="counting sheep")
    last = capsys.readouterr().err.rstrip("\n").rpartition("\r")[2]
    assert last.startswith("counting sheep: 100%")


@shapes
def test_a_bar_is_left_where_it_was_and_closed(
    shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError):
        run(shape, [1, 2, 4, 0, 8, 16], work.reciprocal, backend="serial", progress=True)
    printed = capsys.readouterr().err
    assert printed.endswith("\n")
    assert "6/6" not in printed
    assert "/6" in printed.rpartition("\r")[2]
    assert not auto_tqdm._instances


@shapes
def test_a_bar_of_the_callers_is_moved_and_not_closed(shape: str) -> None:
    paper = io.StringIO()
    with tqdm(file=paper, desc="mine") as bar:
        run(shape, range(30), progress=bar)
        assert (bar.n, bar.total) == (30, 30)
        assert "mine: 100%" in paper.getvalue()
        assert not paper.getvalue().endswith("\n")
    assert paper.getvalue().endswith("\n")


@shapes
def test_a_bar_with_a_total_may_be_of_several_maps(shape: str) -> None:
    with tqdm(file=io.StringIO(), total=100) as bar:
        run(shape, range(30), progress=bar)
        run(shape, range(20), progress=bar)
        assert (bar.n, bar.total) == (50, 100)


@shapes
def test_a_bar_that_is_disabled_shows_nothing(
    shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shape, range(30), progress=tqdm(disable=True))
    assert capsys.readouterr().err == ""


@maps
def test_a_progress_of_rich_gets_one_more_bar(shape: str, name: str) -> None:
    with Progress(console=Console(file=io.StringIO())) as bars:
        other = bars.add_task("other", total=3)
        run(shape, range(30), backend=name, progress=bars)
        first, mine = bars.tasks
        assert (first.id, first.completed, first.finished) == (other, 0, False)
        assert (mine.description, mine.completed, mine.total) == ("double", 30, 30)
        assert mine.finished


@shapes
def test_a_bar_of_rich_learns_its_total_at_the_end(shape: str) -> None:
    with Progress(console=Console(file=io.StringIO())) as bars:
        run(shape, iter(range(30)), progress=bars)
        (task,) = bars.tasks
        assert (task.completed, task.total, task.finished) == (30, 30, True)


@shapes
def test_a_bar_of_rich_is_left_where_it_was_and_stopped(shape: str) -> None:
    with Progress(console=Console(file=io.StringIO())) as bars:
        with pytest.raises(ZeroDivisionError):
            run(shape, [1, 2, 0, 4], work.reciprocal, backend="serial", progress=bars)
        (task,) = bars.tasks
        assert task.completed < 4
        assert not task.finished
        assert task.stop_time is not None


# results that nobody takes any more


@pytest.mark.parametrize("name", BACKENDS)
def test_a_lazy_map_that_is_closed_leaves_its_bar_where_it_was(name: str) -> None:
    with Progress(console=Console(file=io.StringIO())) as bars:
        results: Any = auto_imap(work.double, itertools.count(), backend=name, progress=bars)
        assert list(itertools.islice(results, 10)) == [*range(0, 20, 2)]
        results.close()
        (task,) = bars.tasks
        assert (task.completed, task.total) == (10, None)
        assert task.stop_time is not None
        assert list(results) == []


def test_a_lazy_map_that_is_closed_closes_its_items() -> None:
    closed: list[bool] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    for _ in auto_imap(work.double, items(), progress=lambda *_stand: None):
        break
    assert eventually(lambda: closed == [True])


def test_results_out_of_order_are_counted_as_they_are_taken() -> None:
    told: Told = []
    results = auto_imap(work.double, range(50), "io", ordered=False, progress=telling(told))
    assert sorted(results) == [*range(0, 100, 2)]
    assert told[-1][:2] == (50, 50)


def test_nothing_is_shown_before_a_result_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    auto_imap(work.double, range(50), progress=True)
    assert capsys.readouterr().err == ""


# what can be meant


@pytest.mark.parametrize("off", [None, False])
@shapes
def test_off_shows_nothing(shape: str, off: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(shape, range(30), progress=off)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", [1, 0.5, [], {}, object(), tqdm, Progress, b"title"])
@shapes
def test_what_cannot_show_it_is_refused(shape: str, wrong: Any) -> None:
    with pytest.raises(autopar.OptionTypeError, match="progress must be"):
        run(shape, pytest.fail, progress=wrong)  # type: ignore[arg-type]


# programs

SHOWN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored before
if {plain}:
    sys.modules["tqdm"] = sys.modules["tqdm.auto"] = None
import autopar

def fetch(number):
    time.sleep(0.01)
    return number

if __name__ == "__main__":
    items = range({count})
    if {lazy}:
        found = list(autopar.auto_imap(fetch, items, workers=2, progress=True))
    else:
        found = autopar.auto_map(fetch, items, workers=2, progress=True)
    print(len(found))
"""
plains = pytest.mark.parametrize("plain", [True, False], ids=["line", "tqdm"])
lazies = pytest.mark.parametrize("lazy", [True, False], ids=["imap", "map"])


def on_a_terminal(program: str, interrupted_at: int | None = None) -> tuple[int, str, str]:
    """Runs a program with a terminal for stderr: its status, and what it printed here and there.

    interrupted_at: Ctrl-C comes when the line has been written so many times.
    """
    outside, inside = pty.openpty()
    termios.tcsetwinsize(inside, (25, 60))
    command = [sys.executable, "-W", "error", "-c", program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=inside, text=True)
    os.close(inside)
    shown = b""
    try:
        while True:
            try:
                read = os.read(outside, 4096)
            except OSError:  # the other end is closed
                break
            shown += read
            if not read:
                break
            if interrupted_at is not None and shown.count(b"\r") >= interrupted_at:
                interrupted_at = None
                process.send_signal(signal.SIGINT)
    finally:
        os.close(outside)
    printed, _ = process.communicate(timeout=30)
    return process.returncode, printed, shown.decode()


@plains
@lazies
def test_on_a_terminal_one_line_is_written_again_and_again(plain: bool, lazy: bool) -> None:
    status, printed, shown = on_a_terminal(SHOWN.format(plain=plain, lazy=lazy, count=60))
    assert (status, printed) == (0, "60\n")
    assert shown.endswith("\r\n")
    assert shown.count("\n") == 1
    versions = [text for text in shown.rstrip().split("\r") if text]
    assert len(versions) > 1
    assert max(len(text) for text in versions) < 60 if plain else True
    assert "60 of 60 (100%)" in versions[-1] if plain else "60/60" in versions[-1]
    assert versions[-1].startswith("fetch: ")


@plains
@lazies
@pytest.mark.parametrize("moment", [1, 4])
def test_ctrl_c_leaves_the_line_clean(plain: bool, lazy: bool, moment: int) -> None:
    program = SHOWN.format(plain=plain, lazy=lazy, count=100_000)
    status, printed, shown = on_a_terminal(program, moment)
    assert (status, printed) == (-signal.SIGINT, ""), shown
    before, traceback, _ = shown.partition("Traceback")
    assert traceback
    assert before.endswith("\r\n")
    assert "KeyboardInterrupt" in shown


@lazies
def test_without_tqdm_and_a_terminal_nothing_is_written(lazy: bool) -> None:
    program = SHOWN.format(plain=True, lazy=lazy, count=60)
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=50
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "60\n", "")


def test_without_stderr_nothing_is_written() -> None:
    program = "import sys; sys.stderr = None\n" + SHOWN.format(plain=True, lazy=False, count=20)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50
    )
    assert (ended.returncode, ended.stdout) == (0, "20\n")


LEFT = """
import autopar
results = autopar.auto_imap(abs, range(1000), kind="io", progress=lambda *stand: None)
print(next(results))
"""


def test_the_interpreter_ends_with_results_left_to_take() -> None:
    command = [sys.executable, "-W", "error", "-c", LEFT]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0\n", "")


async def soon(x: int) -> int:
    await asyncio.sleep(0.001)
    return 2 * x


Seen = list[tuple[int, int | None]]


def taught() -> tuple[Seen, Callable[[int, int | None, Report], None]]:
    """What is told, and what it is told to."""
    seen: Seen = []

    def tell(done: int, total: int | None, report: Report) -> None:
        assert report.function == "soon"
        seen.append((done, total))

    return seen, tell


@pytest.mark.parametrize("items", [range(300), iter(range(300))], ids=["length", "no length"])
def test_coroutines_tell_how_far_they_have_come(items: Any) -> None:
    seen, tell = taught()
    assert auto_map(soon, items, progress=tell, workers=2) == [*range(0, 600, 2)]
    assert seen[-1] == (300, 300)
    assert len(seen) > 1
    assert seen == sorted(seen, key=lambda told: told[0])


def test_coroutines_one_after_another_too() -> None:
    seen, tell = taught()
    assert list(auto_imap(soon, range(30), progress=tell)) == [*range(0, 60, 2)]
    assert seen[-1] == (30, 30)


def test_maps_that_are_awaited_show_how_far_they_have_come() -> None:
    seen, tell = taught()

    async def main() -> None:
        assert await amap(soon, range(30), progress=tell) == [*range(0, 60, 2)]
        assert seen[-1] == (30, 30)
        seen.clear()
        assert [x async for x in aimap(soon, range(30), progress=tell)] == [*range(0, 60, 2)]
        assert seen[-1] == (30, 30)

    asyncio.run(main())


def test_plain_functions_in_maps_that_are_awaited_too() -> None:
    seen: Seen = []

    async def main() -> None:
        tell: Any = lambda done, total, _report: seen.append((done, total))  # noqa: E731
        assert await amap(abs, range(30), progress=tell) == [*range(30)]
        assert seen[-1] == (30, 30)
        seen.clear()
        assert [x async for x in aimap(abs, range(30), progress=tell)] == [*range(30)]
        assert seen[-1] == (30, 30)

    asyncio.run(main())


def test_what_raises_while_coroutines_run_ends_them() -> None:
    def tell(done: int, _total: int | None, _report: Report) -> None:
        raise ZeroDivisionError(done)

    began_s = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        auto_map(asyncio.sleep, [0.15, 30.0, 30.0], progress=tell)
    assert time.monotonic() - began_s < 15
