"""The ledger of a call: every item once, results in order, and an end that is the right one."""

from __future__ import annotations

import itertools
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from autopar._engine.desk import Desk
from autopar._engine.inbox import Entry, OpenDesk
from autopar._engine.source import Source
from autopar._pending import AsyncResult
from autopar._platform import gil_enabled
from autopar.backends.chunk import Chunk, Lent

LONG_S = 20e-3  # a chunk is allowed to run this long
KINDS = ("list", "tuple", "range", "generator", "set", "dict", "string")
CUT = ("list", "tuple", "range")


def items_of(kind: str, count: int) -> tuple[Iterable[Any], list[Any]]:
    """`count` items in a container of some kind, and the same as a list."""
    numbers = range(count)
    made: dict[str, Callable[[], Iterable[Any]]] = {
        "list": lambda: list(numbers),
        "tuple": lambda: tuple(numbers),
        "range": lambda: numbers,
        "generator": lambda: iter(list(numbers)),
        "set": lambda: {f"item {number}" for number in numbers},
        "dict": lambda: {f"key {number}": number for number in numbers},
        "string": lambda: "".join(chr(0x4E00 + number) for number in numbers),
    }
    items = made[kind]()
    return items, list(numbers) if kind == "generator" else list(items)


@pytest.mark.parametrize("one_step", [True] * gil_enabled() + [False])
def test_items_whose_rest_is_taken_are_all_there_once(one_step: bool) -> None:
    """One thread runs the chunk; meanwhile, sooner or later, another takes the rest."""
    for turn in range(500):
        chunk, ran, met = Chunk(0, range(200), one_step=one_step), [], threading.Barrier(2)

        def run(chunk: Chunk = chunk, ran: list[Any] = ran, met: Any = met) -> None:
            met.wait()
            ran += [item for item in chunk.todo]  # noqa: C416  a loop, as workers have it

        worker = threading.Thread(target=run)
        worker.start()
        met.wait()
        for _ in range(turn):
            pass
        rest = chunk.take_rest()
        assert chunk.take_rest() == []
        worker.join()
        assert ran + rest == [*range(200)]
        assert chunk.waiting == 0


@pytest.mark.skipif(not gil_enabled(), reason="without a GIL none is lent")
@pytest.mark.parametrize("make", [list, tuple])
def test_items_that_were_lent_and_whose_rest_is_taken_are_all_there_once(
    make: Callable[[Iterable[int]], Sequence[int]],
) -> None:
    items = make(range(1000, 1300))
    for turn in range(500):
        chunk, ran, met = Lent(50, items, 200), [], threading.Barrier(2)

        def run(chunk: Chunk = chunk, ran: list[Any] = ran, met: Any = met) -> None:
            met.wait()
            ran += [item for item in chunk.todo]  # noqa: C416  a loop, as workers have it

        worker = threading.Thread(target=run)
        worker.start()
        met.wait()
        for _ in range(turn):
            pass
        rest = chunk.take_rest()
        assert chunk.take_rest() == []
        worker.join()
        assert ran + rest == [*range(1050, 1250)]
        assert not chunk.ended_early
        assert (chunk.waiting, chunk.at) == (0, 250)


def lent(desk: Desk, count: int) -> Lent:
    """A chunk of a list that lies where it was, after a first one of one item."""
    first = desk.draw_count(1)
    assert first is not None
    values = list(first.todo)
    chunk = desk.follow(first, 1e-3, count)
    desk.settle_followed(first.start, values)
    assert isinstance(chunk, Lent)
    return chunk


@pytest.mark.skipif(not gil_enabled(), reason="without a GIL none is lent")
@pytest.mark.parametrize("cut_to", [0, 5, 6, 7, 20])
@pytest.mark.parametrize("taken", ["before", "after", "never"])
def test_a_list_that_shrinks_under_a_chunk_ends_it_where_it_ends_the_loop(
    cut_to: int, taken: str
) -> None:
    """Five items have run then, and its rest is taken before or after that, or by nobody."""
    items = list(range(30))
    desk = open_desk(items)
    chunk = lent(desk, 20)
    values = list(itertools.islice(chunk.todo, 5))
    if taken == "before":
        assert not desk.unstick()
        assert desk.unstick()
    del items[cut_to:]
    if taken == "after":
        assert not desk.unstick()
        desk.unstick()
    values += chunk.todo
    if chunk.ended_early:
        desk.settle_followed(1, values)
        desk.cut_short(chunk, 1 + len(values), 1e-3)
    else:
        assert desk.follow(chunk, 1e-3, 0) is None
        desk.settle_followed(1, values)
    assert values == [1, 2, 3, 4, 5] + (taken == "never") * [*range(6, min(cut_to, 21))]
    drain(desk)
    assert desk.over
    assert desk.unfinished() == 0
    # A rest that was taken before is run as it was then; afterwards the list had no more to give.
    ends_at = {"before": 21, "after": max(6, min(cut_to, 30)), "never": 1 + len(values)}
    assert desk.results() == [*range(ends_at[taken])]


@pytest.mark.skipif(not gil_enabled(), reason="without a GIL none is lent")
@pytest.mark.parametrize("cut_to", [0, 6, 20, 30])
def test_an_item_that_raises_after_the_list_has_shrunk_is_named_rightly(cut_to: int) -> None:
    items = list(range(30))
    desk = open_desk(items)
    chunk = lent(desk, 20)
    assert list(itertools.islice(chunk.todo, 5)) == [1, 2, 3, 4, 5]
    del items[cut_to:]
    desk.abandon(1, chunk, ValueError())
    assert list(desk.errors) == [5]
    assert desk.over
    assert desk.unfinished() == 0


def open_desk(items: Iterable[Any], chunksize: int | None = None) -> Desk:
    return Desk(Source(items), chunksize)


def items_in(chunk: Chunk) -> Sequence[Any]:
    """Those of a chunk that nobody has begun with."""
    items = chunk.items
    return items[chunk.start : chunk.end] if isinstance(chunk, Lent) else items


def drain(desk: Desk, count: int = 7) -> list[tuple[int, Any]]:
    """Runs all that can be drawn, reading as the caller's thread would: (index, item) pairs."""
    ran: list[tuple[int, Any]] = []
    while not desk.over:
        if desk.hungry():
            desk.source.read(5)
            desk.feed()
        chunk = desk.draw_count(count)
        if chunk is None:
            if not desk.hungry():
                break
            continue
        values = list(chunk.todo)
        ran += enumerate(values, chunk.start)
        desk.finish(chunk, values, 1e-3)
    return ran


# the source


@pytest.mark.parametrize("kind", KINDS)
@given(count=st.integers(0, 60), steps=st.lists(st.integers(0, 9), max_size=40))
def test_the_source_gives_every_item_once_with_its_index(
    kind: str, count: int, steps: list[int]
) -> None:
    items, expected = items_of(kind, count)
    source, got = Source(items), []
    for step in [*steps, *[9] * count, 9]:
        source.read(step)
        start, taken = source.take(step)
        got += enumerate(taken, start)
    assert got == list(enumerate(expected))
    assert source.ended
    assert (source.ready, source.unread) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_source_knows_how_many_are_unread_wherever_the_iterable_does(kind: str) -> None:
    items, _expected = items_of(kind, 12)
    source = Source(items)
    known = 12 if kind != "generator" else None
    assert source.unread == known
    assert source.cut == (kind in CUT)
    source.read(5)
    _start, taken = source.take(3)
    assert 1 <= len(taken) <= 3
    assert source.unread == (None if known is None else 12 - len(taken))


def test_the_source_reads_an_iterator_no_further_than_asked() -> None:
    numbers = itertools.count()
    source = Source(numbers)
    source.read(10)
    assert (source.ready, next(numbers)) == (10, 10)
    assert not source.ended


def test_what_the_iterable_raises_is_kept_behind_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise LookupError("no more")

    desk = open_desk(items())
    assert [item for _index, item in drain(desk)] == [0, 1, 2]
    assert isinstance(desk.source.error, LookupError)
    assert desk.over
    assert desk.results() == [0, 1, 2]


def test_an_iterable_that_raises_at_once_ends_the_call() -> None:
    def items() -> Iterator[int]:
        raise LookupError
        yield 0

    desk = open_desk(items())
    assert drain(desk) == []
    assert desk.over
    assert isinstance(desk.source.error, LookupError)


@pytest.mark.parametrize("cut_to", [0, 1, 5])
def test_a_list_that_shrinks_meanwhile_ends_the_call_as_it_ends_the_loop(cut_to: int) -> None:
    items = list(range(20))
    desk = open_desk(items)
    first = desk.draw_count(3)
    assert first is not None
    del items[cut_to:]
    desk.finish(first, list(first.todo), 1e-3)
    rest = drain(desk)
    assert desk.over, "the call would spin for ever"
    assert [index for index, _item in rest] == list(range(3, cut_to))


def test_what_is_read_while_the_call_stops_is_never_handed_out() -> None:
    """The caller's thread may be inside `read` when a worker reports a failure."""
    desks: list[Desk] = []

    def items() -> Iterator[int]:
        yield from range(5)
        if desks[0].source.at:
            desks[0].fail(0, ValueError())  # as another thread would, while this one reads
        yield from range(5, 20)

    desks.append(open_desk(items()))
    desk = desks[0]
    desk.source.read(2)
    assert desk.take(1, 0.0, 1.0) == (0, [0])
    desk.source.read(10)
    desk.feed()
    assert desk.draw_count(5) is None
    assert desk.over


# all interleavings


class Held:
    """What a worker of the model holds: items from `start`, some of them started."""

    def __init__(self, start: int, items: Sequence[Any], chunk: Chunk | None = None) -> None:
        self.start, self.items, self.chunk = start, list(items), chunk
        self.values: list[Any] = []


class DeskMachine(RuleBasedStateMachine):
    """Workers that do with the desk whatever they may, in any order; the loop is the model."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Held] = []  # through `draw`: worked on through `todo`
        self.taken: list[Held] = []  # through `take`: worked on elsewhere
        self.started: set[int] = set()
        self.failed: set[int] = set()
        self.drew = False

    @initialize(
        kind=st.sampled_from(KINDS),
        count=st.integers(0, 40),
        chunksize=st.one_of(st.none(), st.integers(1, 9)),
        block_s=st.sampled_from([0.0, 1e-3, 1.0]),
    )
    def open(self, kind: str, count: int, chunksize: int | None, block_s: float) -> None:
        """A block of items takes `block_s` to read: by the real clock no run would be repeated."""
        items, self.expected = items_of(kind, count)
        self.count = count
        ticks = itertools.count()
        self.desk = Desk(Source(items, lambda: next(ticks) * block_s), chunksize)

    # what the model knows

    @property
    def limit(self) -> int:
        return min(self.failed, default=sys.maxsize)

    def start(self, index: int, item: Any) -> None:
        assert item == self.expected[index]
        assert index not in self.started, f"item {index} was started twice"
        self.started.add(index)

    def hand_out(self, held: Held) -> Held:
        self.drew = True
        end = held.start + len(held.items)
        assert held.items == self.expected[held.start : end]
        assert end <= self.limit, f"items {held.start}..{end} lie behind a failure"
        others = [other for other in self.drawn + self.taken if other is not held]
        for other in others:
            waiting = range(other.start + len(other.values), self.end_of(other))
            assert not set(range(held.start, end)) & set(waiting), "two workers hold one item"
        return held

    def end_of(self, held: Held) -> int:
        return held.start + len(held.items) if held.chunk is None else held.chunk.end

    # workers of this process

    @rule(count=st.integers(1, 12))
    def draw_count(self, count: int) -> None:
        self.draw(lambda: self.desk.draw_count(count), count)

    @rule(workers=st.integers(1, 5))
    def draw_sized(self, workers: int) -> None:
        self.draw(lambda: self.desk.draw(workers, 1e-6, LONG_S), 10**9)

    def draw(self, ask: Callable[[], Chunk | None], most: int) -> None:
        chunk = ask()
        self.drew = True
        if chunk is not None:
            assert 1 <= chunk.count <= most
            self.drawn.append(self.hand_out(Held(chunk.start, items_in(chunk), chunk)))

    def step(self, held: Held) -> bool:
        """Starts and finishes the next item of a chunk; false when none is left in it."""
        assert held.chunk is not None
        for item in held.chunk.todo:
            self.start(held.start + len(held.values), item)
            held.values.append(item)
            return True
        return False

    @precondition(lambda self: self.drawn)
    @rule(data=st.data(), count=st.integers(1, 5))
    def work(self, data: st.DataObject, count: int) -> None:
        held = data.draw(st.sampled_from(self.drawn))
        for _ in range(count):
            self.step(held)

    @precondition(lambda self: self.drawn)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.drawn)))

    def end(self, held: Held) -> None:
        while self.step(held):
            pass
        self.drawn.remove(held)
        assert held.chunk is not None
        self.desk.finish(held.chunk, held.values, 1e-4)

    @precondition(lambda self: self.drawn)
    @rule(data=st.data(), count=st.integers(0, 6))
    def follow(self, data: st.DataObject, count: int) -> None:
        """As the caller's thread does: chunk after chunk, settled together at a gap."""
        held = data.draw(st.sampled_from(self.drawn))
        assert held.chunk is not None
        while self.step(held):
            pass
        end, since, trail = held.chunk.end, held.start, held.values
        self.drawn.remove(held)
        chunk = self.desk.follow(held.chunk, 1e-4, count)
        while chunk is not None and chunk.start == end:
            held = self.hand_out(Held(chunk.start, items_in(chunk), chunk))
            while self.step(held):
                pass
            trail, end = trail + held.values, chunk.end
            chunk = self.desk.follow(chunk, 1e-4, count)
        self.desk.settle_followed(since, trail)
        if chunk is not None:
            self.drawn.append(self.hand_out(Held(chunk.start, items_in(chunk), chunk)))

    @precondition(lambda self: self.drawn)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        """The next item of a chunk raises."""
        held = data.draw(st.sampled_from(self.drawn))
        if not self.step(held):
            return
        assert held.chunk is not None
        self.drawn.remove(held)
        index = held.start + len(held.values) - 1
        self.desk.abandon(held.start, held.chunk, ValueError(index))
        self.failed.add(index)

    @rule()
    def unstick(self) -> None:
        """Takes the rest of chunks that have stood still since the last look, not of others."""
        before = {held: (self.end_of(held), held.start + len(held.values)) for held in self.drawn}
        took = self.desk.unstick()
        shrunk = [held for held in self.drawn if self.end_of(held) != before[held][0]]
        assert took == bool(shrunk)
        for held in shrunk:
            assert self.end_of(held) == before[held][1], "the rest is taken exactly"

    # workers elsewhere

    @rule(workers=st.integers(1, 5))
    def take(self, workers: int) -> None:
        taken = self.desk.take(workers, 1e-6, LONG_S)
        self.drew = True
        if taken is not None:
            self.taken.append(self.hand_out(Held(*taken)))

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), count=st.integers(1, 12))
    def settle(self, data: st.DataObject, count: int) -> None:
        held = data.draw(st.sampled_from(self.taken))
        self.settle_some(held, count)

    def settle_some(self, held: Held, count: int) -> None:
        values = held.items[:count]
        for index, item in enumerate(values, held.start):
            self.start(index, item)
        self.desk.settle(held.start, values, 1e-4, 5e-5)
        held.start, held.items = held.start + len(values), held.items[count:]
        if not held.items:
            self.taken.remove(held)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """A worker that shall go has not started the rest."""
        held = data.draw(st.sampled_from(self.taken))
        keep = data.draw(st.integers(0, len(held.items) - 1))
        rest, held.items = held.items[keep:], held.items[:keep]
        if not held.items:
            self.taken.remove(held)
        self.desk.give_back(held.start + keep, rest)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """The next item raises elsewhere, and what was sent behind it comes back unstarted."""
        held = data.draw(st.sampled_from(self.taken))
        self.taken.remove(held)
        self.start(held.start, held.items[0])
        self.failed.add(held.start)
        self.desk.fail(held.start, ValueError(held.start))
        self.desk.give_back(held.start + 1, held.items[1:])

    # the caller's thread

    @rule(count=st.integers(1, 20))
    def read(self, count: int) -> None:
        if self.desk.hungry():
            self.desk.source.read(count)
            self.desk.feed()

    # what always holds

    @invariant()
    def it_is_over_exactly_when_nothing_is_held_or_left(self) -> None:
        held = [held for held in self.drawn + self.taken if self.end_of(held) > held.start]
        finished = not held and self.desk.left() == 0 and self.desk.source.ended
        if self.desk.over:
            assert finished
        elif self.drew:
            assert not finished

    def teardown(self) -> None:
        if not hasattr(self, "desk"):
            return
        while self.drawn:
            self.end(self.drawn[0])
        while self.taken:
            self.settle_some(self.taken[0], 10**9)
        for index, item in drain(self.desk):
            self.start(index, item)
            assert index < self.limit
        assert self.desk.over
        assert set(range(min(self.limit, self.count))) <= self.started
        assert set(self.desk.errors) == self.failed
        if not self.failed:
            assert self.started == set(range(self.count))
            assert self.desk.results() == self.expected
            assert self.desk.done == self.count


TestEveryInterleaving = DeskMachine.TestCase
TestEveryInterleaving.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


# order


@pytest.mark.parametrize("kind", KINDS)
@given(count=st.integers(0, 60), size=st.integers(1, 10), seed=st.integers(0, 1000))
def test_results_are_in_item_order_whatever_the_order_they_come_in(
    kind: str, count: int, size: int, seed: int
) -> None:
    items, expected = items_of(kind, count)
    desk = open_desk(items)
    desk.source.read(count + 1)
    desk.feed()
    chunks = list(iter(lambda: desk.draw_count(size), None))
    random.Random(seed).shuffle(chunks)
    for chunk in chunks:
        assert not desk.over
        desk.finish(chunk, list(chunk.todo), 1e-3)
    assert desk.over
    assert desk.results() == expected


def test_without_items_it_is_over_at_the_first_look() -> None:
    for kind in KINDS:
        desk = open_desk(items_of(kind, 0)[0])
        assert drain(desk) == []
        assert desk.over
        assert desk.results() == []


# failures


def test_items_before_a_failure_still_run_and_those_behind_it_do_not() -> None:
    desk = open_desk(range(100), chunksize=10)
    early = desk.take(2, 0.0, 1.0)
    late = desk.take(2, 0.0, 1.0)
    assert early is not None
    assert late is not None
    desk.fail(15, ValueError(15))
    desk.settle(10, [10, 11, 12, 13, 14], 1e-3)
    desk.give_back(16, late[1][6:])
    assert not desk.over
    desk.give_back(*early)
    assert [item for _index, item in drain(desk)] == list(range(10))
    assert desk.over
    assert set(desk.errors) == {15}


def test_after_a_failure_no_item_behind_it_starts_in_a_chunk_that_others_hold() -> None:
    desk = open_desk(range(20))
    failing, late = desk.draw_count(10), desk.draw_count(10)
    assert failing is not None
    assert late is not None
    assert next(late.todo) == 10
    for _ in range(4):
        next(failing.todo)
    desk.abandon(0, failing, ValueError(3))
    assert list(late.todo) == [], "items behind the failure would still run"
    desk.finish(late, [10], 1e-3)
    assert desk.over


def test_after_an_abort_no_item_starts_in_a_chunk_that_workers_hold() -> None:
    desk = open_desk(range(20))
    chunk = desk.draw_count(10)
    assert chunk is not None
    next(chunk.todo)
    desk.abort(KeyboardInterrupt())
    assert desk.over
    assert list(chunk.todo) == [], "a call that was interrupted would run on"


@pytest.mark.parametrize("kind", KINDS)
def test_an_abort_ends_the_call_and_hands_nothing_out_any_more(kind: str) -> None:
    desk = open_desk(items_of(kind, 30)[0])
    desk.source.read(10)
    held = desk.draw_count(2)
    error = KeyboardInterrupt()
    desk.abort(error)
    desk.abort(ValueError())
    assert desk.over
    assert desk.aborted is error
    assert desk.draw_count(5) is None
    assert desk.take(2, 0.0, 1.0) is None
    assert not desk.hungry()
    assert held is not None
    desk.give_back(held.start, held.items)
    assert desk.draw_count(5) is None


def test_a_refusal_keeps_the_items_for_other_workers() -> None:
    desk = open_desk(range(10), chunksize=4)
    taken = desk.take(1, 0.0, 1.0)
    assert taken is not None
    error = OSError()
    desk.refuse(error)
    desk.give_back(*taken)
    assert desk.refused is error
    assert drain(desk) == [(index, index) for index in range(10)]


# an item that does not return


def test_what_waits_behind_a_stuck_item_goes_to_others_exactly_once() -> None:
    stuck, go = threading.Event(), threading.Event()
    ran: list[int] = []

    def run(item: int) -> int:
        if item == 3:
            stuck.set()
            assert go.wait(30)
        ran.append(item)
        return item

    desk = open_desk(range(20))
    chunk = desk.draw_count(20)
    assert chunk is not None

    def work() -> None:
        desk.finish(chunk, [run(item) for item in chunk.todo], 1e-3)

    worker = threading.Thread(target=work)
    worker.start()
    assert stuck.wait(30)
    assert not desk.unstick(), "one look cannot tell"
    assert desk.unstick()
    assert not desk.unstick(), "there is nothing left to take"
    others = drain(desk)
    assert others == [(index, index) for index in range(4, 20)]
    assert not desk.over
    go.set()
    worker.join(30)
    assert desk.over
    assert ran == [0, 1, 2, 3]
    assert desk.results() == list(range(20))


def test_a_chunk_that_goes_on_is_left_alone() -> None:
    desk = open_desk(range(10))
    chunk = desk.draw_count(10)
    assert chunk is not None
    for _ in range(9):
        next(chunk.todo)
        assert not desk.unstick()


# real threads


@pytest.mark.parametrize("kind", ["list", "tuple", "range"])
@pytest.mark.parametrize("looks", [False, True], ids=["", "while chunks are taken back"])
def test_many_threads_that_draw_at_once_evaluate_every_item_exactly_once(
    kind: str, looks: bool
) -> None:
    count = 20_000
    items, expected = items_of(kind, count)
    desk = open_desk(items)
    started = [0] * count

    def run(item: int) -> int:
        started[item] += 1
        return item

    def work() -> None:
        while not desk.over:
            chunk = desk.draw(8, 1e-6, 5e-4)
            if chunk is None:
                desk.wait(0.05)
                continue
            desk.finish(chunk, [run(item) for item in chunk.todo], 1e-6 * chunk.count)

    def look() -> None:
        while not desk.over:
            desk.unstick()

    threads = [threading.Thread(target=work) for _ in range(8)]
    threads += [threading.Thread(target=look)] if looks else []
    with many_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
    assert not [thread for thread in threads if thread.is_alive()]
    assert started == [1] * count
    assert desk.results() == expected


def test_threads_that_draw_while_the_caller_reads_evaluate_every_item_exactly_once() -> None:
    count = 5_000
    desk = open_desk(iter(range(count)))
    started = [0] * count

    def work() -> None:
        while not desk.over:
            chunk = desk.draw(4, 1e-6, 1e-3)
            if chunk is None:
                desk.wait(0.05)
                continue
            for item in chunk.items:
                started[item] += 1
            desk.finish(chunk, list(chunk.todo), 1e-6 * chunk.count)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while not desk.over:
        desk.wait_for_caller(lambda: False)
        if desk.hungry():
            desk.source.read(20)
            desk.feed()
    for thread in threads:
        thread.join(30)
    assert not [thread for thread in threads if thread.is_alive()]
    assert started == [1] * count
    assert desk.results() == list(range(count))


def test_the_first_of_many_failures_in_many_threads_has_everything_before_it_run() -> None:
    count, bad = 4_000, {1501, 1777, 2500, 3999}
    desk = open_desk(range(count))
    started = [0] * count

    def run(item: int) -> int:
        started[item] += 1
        if item in bad:
            raise ValueError(item)
        return item

    def work() -> None:
        while not desk.over:
            chunk = desk.draw(8, 1e-6, 1e-4)
            if chunk is None:
                desk.wait(0.05)
                continue
            try:
                values = [run(item) for item in chunk.todo]
            except ValueError as error:
                desk.abandon(chunk.start, chunk, error)
            else:
                desk.finish(chunk, values, 1e-6 * chunk.count)

    threads = [threading.Thread(target=work) for _ in range(8)]
    with many_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
    assert not [thread for thread in threads if thread.is_alive()]
    assert min(desk.errors) == 1501
    assert started[:1502] == [1] * 1502
    assert max(started) == 1


class many_switches:
    """Threads give the interpreter to each other a hundred times as often as they usually do."""

    def __enter__(self) -> None:
        self.was_s = sys.getswitchinterval()
        sys.setswitchinterval(50e-6)

    def __exit__(self, *exc: object) -> None:
        sys.setswitchinterval(self.was_s)


def test_a_task_that_was_given_back_is_not_settled() -> None:
    """Nobody would run it, if all seemed to be done."""
    ticket: AsyncResult[int] = AsyncResult()
    desk = OpenDesk("processes")
    assert desk.put([Entry(ticket, "task")])
    taken = desk.take(1, 0.0, 0.0)
    assert taken is not None
    assert desk.unsettled == 1
    desk.give_back(*taken)
    assert desk.unsettled == 1
    again = desk.take(1, 0.0, 0.0)
    assert again is not None
    desk.settle(again[0], [4], 0.0)
    assert (desk.unsettled, ticket.get(1)) == (0, 4)
