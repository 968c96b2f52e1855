"""What keeps a value from travelling is found, and named by the path that leads to it."""

from __future__ import annotations

import collections
import functools
import io
import pickle
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cargo
import work
from autopar import TransportError
from autopar._model import Job
from autopar._transport import guilty, wire
from autopar._transport.guilty import blame, job_refusal, refusal, refusal_among, unloadable
from autopar._transport.salvage import salvage
from autopar._transport.travel import travel

LOCK = threading.Lock()


class Box:
    """Holds anything."""

    def __init__(self, inside: Any = None) -> None:
        self.inside = inside

    def method(self, _x: object) -> None: ...

    def __call__(self, _x: object) -> None: ...


class Slots:
    __slots__ = ("__hidden", "fine", "inside")

    def __init__(self, inside: Any) -> None:
        self.inside, self.fine, self.__hidden = inside, 1, 2


class SlotsAndMore(Slots):
    def __init__(self, inside: Any) -> None:
        super().__init__(1)
        self.more = inside


@dataclass
class Data:
    inside: Any
    fine: int = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    inside: Any
    fine: list[int] = field(default_factory=list)


class Reduces:
    """Tells pickle itself what it is made from."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside

    def __reduce__(self) -> tuple[Any, ...]:
        return Reduces, (self.inside,)


class ByKeyword:
    def __new__(cls, *, inside: Any) -> ByKeyword:
        return super().__new__(cls)

    def __init__(self, *, inside: Any) -> None:
        self.inside = inside

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        return (), {"inside": self.inside}

    def __getstate__(self) -> None:
        return None


class OwnState:
    def __init__(self, inside: Any) -> None:
        self.inside = inside

    def __getstate__(self) -> dict[str, Any]:
        return {"made up": 1, "kept": self.inside}

    def __setstate__(self, state: dict[str, Any]) -> None: ...


class Refuses:
    """Fails when pickle asks what it is made of."""

    def __getstate__(self) -> Any:
        raise RuntimeError("this one stays\nand says so at length")


class Leaves(Refuses):
    def __getstate__(self) -> Any:
        raise SystemExit(3)


class Growing:
    """Is made of another one like it, without end."""

    def __getstate__(self) -> Any:
        return {"next": Growing()}


class Untouchable:
    """Whose every attribute fails, or would show that it was looked at."""

    def __init__(self) -> None:
        self.__dict__["inside"] = LOCK

    @property
    def shown(self) -> Any:
        raise AssertionError("a property was evaluated")

    def __repr__(self) -> str:
        raise AssertionError("it was printed")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("it was compared")

    def __hash__(self) -> int:
        raise AssertionError("it was hashed")

    def __bool__(self) -> bool:
        raise AssertionError("its truth was asked for")


class Listed(list[Any]): ...


class Mapped(dict[Any, Any]): ...


class Failing(Exception):
    def __init__(self, text: str, inside: Any) -> None:
        super().__init__(text, inside)


PATHS: dict[str, Any] = {
    "item": LOCK,
    'item["jobs"][1].inside': {"jobs": [1, Box(LOCK)]},
    "item[0][1]": ((1, LOCK),),
    "item[2]": collections.deque([1, 2, LOCK]),
    "list(item)[0]": {LOCK},
    "list(list(item)[0])[0]": {frozenset({LOCK}): 1},
    "list(item)[1]": {1: 2, LOCK: 3},
    "item[3][b'x'][None][1.5][True]": {3: {b"x": {None: {1.5: {True: LOCK}}}}},
    'item["it\'s"]': {"it's": LOCK},
    "item[<a tuple key>]": {(1, 2): LOCK},
    "item.inside": Slots(LOCK),
    "item.more": SlotsAndMore(LOCK),
    "item.inside.inside": Data(Frozen(LOCK)),
    "item.inside[1]": Reduces([1, LOCK]),
    "item.inside.fine": ByKeyword(inside=Data(1, LOCK)),  # type: ignore[arg-type]
    "item.inside.inside.inside": OwnState(Box(Box(LOCK))),
    "item[1]": Listed([1, LOCK]),
    'item["a"]': Mapped(a=LOCK),
    'item["b"]': collections.OrderedDict(a=1, b=LOCK),
    "item.args[1]": Failing("why", LOCK),
    "item.extra": None,
    "item.exceptions[1].exceptions[0].args[0]": ExceptionGroup(
        "many", [OSError(), ExceptionGroup("inner", [ValueError(LOCK)])]
    ),
    "item.flat[3]": np.array([[1, 2], [3, LOCK]], dtype=object),
    "item.func.__self__.inside": functools.partial(Box(LOCK).method),
    "item.args[0].inside": functools.partial(work.double, Box(LOCK)),
    'item.keywords["x"]': functools.partial(work.double, x=LOCK),
    "item.__self__.inside": Box(LOCK).method,
    "item.__self__[0]": [LOCK].count,
    "item.inside._lock": Box(threading.Condition()),
}
PATHS["item.extra"] = ValueError("with an attribute")
PATHS["item.extra"].extra = LOCK


@pytest.mark.parametrize("path", PATHS)
def test_the_path_leads_to_the_part_at_fault(path: str) -> None:
    found = blame(PATHS[path], "item")
    assert found is not None
    assert found.path == path
    assert found.part in ("a _thread.lock", "a _thread.RLock")
    assert found.reason == f"TypeError: cannot pickle '{found.part[2:]}' object"


def nested_function() -> Any:
    db, other = Box(LOCK), 1
    return lambda x: (db, other, x)


def with_defaults() -> Any:
    def positional(x: object, first: int = 1, second: Any = LOCK) -> Any:
        return x, first, second

    return positional


def with_keyword_defaults() -> Any:
    def keyword(x: object, *, first: int = 1, second: Any = LOCK) -> Any:
        return x, first, second

    return keyword


def with_an_attribute() -> Any:
    def attributed(x: object) -> Any: ...

    attributed.cache = {"a": LOCK}  # type: ignore[attr-defined]
    return attributed


def with_a_deeper_global() -> Any:
    return lambda xs: [LOCK for _ in xs]


def calling_another() -> Any:
    def inner() -> Any:
        return LOCK

    return lambda _x: inner()


def calling_itself() -> Any:
    def again(x: object) -> Any:
        return again, LOCK, x

    return again


def with_an_unset_variable() -> Any:
    def early() -> Any:
        return late, LOCK

    if early is None:
        late = 1  # never
    return early


def of_a_local_class() -> Any:
    class Local:
        lock = LOCK

    return Local()


def of_a_local_base() -> Any:
    class Base:
        def method(self) -> Any:
            return LOCK

    class Local(Base): ...

    return Local()


FUNCTIONS: dict[str, Any] = {
    "fn.<closure variable db>.inside": nested_function,
    "fn.<default of second>": with_defaults,
    "fn.<default of second> ": with_keyword_defaults,
    'fn.cache["a"]': with_an_attribute,
    "fn.<global LOCK>": with_a_deeper_global,
    "fn.<closure variable inner>.<global LOCK>": calling_another,
    "fn.<global LOCK> ": calling_itself,
    "fn.<global LOCK>  ": with_an_unset_variable,
    "type(fn).lock": of_a_local_class,
    "type(fn).__bases__[0].method.<global LOCK>": of_a_local_base,
    "fn.inside": lambda: Box(LOCK),
    "fn.func.<closure variable db>.inside": lambda: functools.partial(nested_function(), 1),
}


@pytest.mark.parametrize("path", FUNCTIONS)
def test_a_function_is_searched_through_all_that_travels_with_it(path: str) -> None:
    found = blame(FUNCTIONS[path](), "fn")
    assert found is not None
    assert (found.path, found.part) == (path.rstrip(), "a _thread.lock")


@pytest.mark.parametrize(
    "value", [1, [1, {2: (3,)}], work.double, nested_function, Box(), np.arange(3), lambda x: x]
)
def test_what_travels_is_not_blamed(value: Any) -> None:
    assert blame(value, "item") is None
    assert blame(value, "item", unloadable) is None


@pytest.mark.parametrize("cls", [Refuses, Leaves, work.Unpicklable])
def test_an_object_that_fails_to_be_taken_apart_is_at_fault_itself(cls: Any) -> None:
    guilty_one = cls() if cls is not work.Unpicklable else cls(1)
    found = blame([1, Box(guilty_one)], "item")
    assert found is not None
    assert found.path == "item[1].inside"
    assert found.part.endswith(cls.__qualname__)
    assert "\n" not in found.reason


def test_the_first_of_several_parts_at_fault_is_named() -> None:
    found = blame([1, LOCK, Refuses()], "item")
    assert found is not None
    assert found.path == "item[1]"


def test_nothing_of_the_users_runs_that_pickle_does_not_run() -> None:
    found = blame([Untouchable()], "item")
    assert found is not None
    assert found.path == "item[0].inside"


def test_a_memoryview_and_an_open_file_are_refused_and_not_turned_into_something_else() -> None:
    with open(__file__) as file:
        for value in (memoryview(b"x"), file):
            found = blame({"in": value}, "item")
            assert found is not None
            assert found.path == 'item["in"]'
            with pytest.raises(TypeError, match="cannot pickle"):
                wire.dumps(lambda: value)  # noqa: B023


def test_cycles_are_followed_once() -> None:
    cycle: list[Any] = [1]
    cycle += [cycle, Box(cycle)]
    assert blame(cycle, "item") is None
    cycle.append({"back": cycle, "lock": LOCK})
    found = blame(cycle, "item")
    assert found is not None
    assert found.path.endswith('["lock"]')
    assert eval(found.path, {"item": cycle}) is LOCK


def test_being_nested_too_deeply_is_said_of_the_whole() -> None:
    for value in (cargo.nest(cargo.TOO_DEEP), Growing()):
        found = blame(value, "item")
        assert found is not None
        assert found.path == "item"
        assert "nested too deeply" in found.part
        assert "recursion" in found.reason


def test_a_part_far_down_is_still_named() -> None:
    deep: Any = LOCK
    for _ in range(50):
        deep = [Box(deep)]
    found = blame(deep, "item")
    assert found is not None
    assert found.path == "item" + "[0].inside" * 50


BIG = 10**6


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([*range(BIG), LOCK], f"item[{BIG}]"),
        ([LOCK, *range(BIG)], "item[0]"),
        ({**dict.fromkeys(range(BIG)), 7: LOCK}, "item[7]"),
        ({"x": [b"x" * 100] * BIG + [Box(LOCK)]}, f'item["x"][{BIG}].inside'),
        ([np.zeros(10**7), LOCK], "item[1]"),
    ],
    ids=["last", "first", "dict", "nested", "array"],
)
def test_one_part_among_a_million_is_found_at_once(value: Any, path: str) -> None:
    began_s = time.perf_counter()
    found = blame(value, "item")
    assert time.perf_counter() - began_s < 5  # about 0.3 s, were nothing else running
    assert found is not None
    assert found.path in (path, path.partition("[")[0], 'item["x"]')


def test_a_search_out_of_time_says_what_is_true_so_far() -> None:
    found = blame({"a": [1, LOCK]}, "item", within_s=0)
    assert found == ("item", "a dict", "TypeError: cannot pickle '_thread.lock' object")


def test_an_interrupt_ends_the_search() -> None:
    class Interrupts:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blame([1, Interrupts()], "item")


# Values that pickle and do not load


class Unloadable:
    """Pickles, and fails to be loaded."""

    def __init__(self, how: str = "raise") -> None:
        self.how = how

    def __setstate__(self, state: dict[str, str]) -> None:
        if state["how"] == "exit":
            sys.exit(3)
        raise ValueError("no way back")


class MadeWrongly:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([1, Unloadable()], "item[1]"),
        ({"a": Box(Unloadable("exit"))}, 'item["a"].inside'),
        (ValueError("x", [MadeWrongly()]), "item.args[1][0]"),
    ],
)
def test_a_part_that_does_not_load_is_named(value: Any, path: str) -> None:
    assert blame(value, "item") is None
    found = blame(value, "item", unloadable)
    assert found is not None
    assert found.path == path


def unloaded(values: list[Any]) -> tuple[bytes, BaseException]:
    """The pickle of values that do not load together, and what that raises."""
    body = wire.dumps(values)
    with pytest.raises(BaseException) as caught:
        pickle.loads(body)
    return body, caught.value


@pytest.mark.parametrize(
    ("bad", "path", "part"),
    [
        (Unloadable(), "result", "test_guilty.Unloadable"),
        (Box({"a": [1, Unloadable("exit")]}), 'result.inside["a"][1]', "test_guilty.Unloadable"),
        ((1, MadeWrongly()), "result[1]", "an int"),
        ({MadeWrongly()}, "list(result)[0]", "an int"),
        ([*range(3000), MadeWrongly()], "result[3000]", "an int"),
        (np.array([1, MadeWrongly()], dtype=object), "result.flat[1]", "an int"),
        (Slots(MadeWrongly()), "result.inside", "an int"),
        (Data(1, [MadeWrongly()]), "result.fine[0]", "an int"),  # type: ignore[arg-type]
    ],
)
def test_results_beside_one_that_does_not_load_are_saved(bad: Any, path: str, part: str) -> None:
    shared = Box("shared")
    values = [1, shared, bad, [shared, 2], bad, "last"]
    got, refused = salvage("the result", 10, len(values), *unloaded_parts(values))
    assert [got[0], got[5]] == [1, "last"]
    assert got[1].inside == "shared"
    assert got[3][0] is got[1]
    assert sorted(refused) == [12, 14]
    assert (refused[12].index, refused[12].path) == (12, path)
    assert f"{path} is" in refused[12].why
    assert part in refused[12].why
    assert got[2] is got[4] is None


def unloaded_parts(values: list[Any]) -> tuple[bytes, list[Any], BaseException]:
    body, error = unloaded(values)
    return body, [], error


def test_a_class_that_is_nowhere_to_be_found_is_named() -> None:
    body = pickle.dumps([1, Box(Data(2)), "x"]).replace(b"Data", b"Dada")
    got, refused = salvage("the result", 0, 3, body, [], AttributeError())
    assert got == [1, None, "x"]
    assert refused[1].path == "result.inside"
    assert "test_guilty.Dada" in refused[1].why


def test_of_a_broken_pickle_nothing_is_saved() -> None:
    body = pickle.dumps(["a", "b"])[:-3]
    error = EOFError("ran out")
    got, refused = salvage("the result", 4, 2, body, [], error)
    assert got == [None, None]
    assert [refused[4].why, refused[5].why] == ["EOFError: ran out"] * 2


@given(st.recursive(st.integers() | st.text(), lambda x: st.lists(x) | st.tuples(x, x)))
def test_without_a_fault_everything_is_read_as_it_was(value: Any) -> None:
    values = [value, Box(value), {"k": value}, {1, 2}, Frozen(value)]
    got, refused = salvage("the result", 0, 5, pickle.dumps(values, 5), [], ValueError())
    assert not refused
    assert [got[0], got[1].inside, *got[2:]] == [value, value, *values[2:]]


# The errors


def test_a_refusal_names_object_item_path_and_remedy() -> None:
    with pytest.raises(TypeError) as caught:
        wire.dumps({"jobs": [1, Box(LOCK)]})
    error = refusal("an argument", 3, {"jobs": [1, Box(LOCK)]}, caught.value)
    assert (error.what, error.index, error.path) == ("an argument", 3, 'item["jobs"][1].inside')
    assert error.__cause__ is caught.value
    assert str(error) == (
        'an argument of item 3 cannot travel to or from a process: item["jobs"][1].inside is a '
        "_thread.lock (TypeError: cannot pickle '_thread.lock' object). Use "
        "backend='threads', which shares memory, or make it picklable."
    )


def test_a_refusal_pickles_with_its_path() -> None:
    error = TransportError("the result", 1, "why", "result.lock")
    again = pickle.loads(pickle.dumps(error))
    assert (again.what, again.index, again.why, again.path) == error.args
    assert TransportError("the function", None, "why").path == ""


def test_among_items_the_one_at_fault_is_named() -> None:
    for bad in (LOCK, Unloadable()):
        error = refusal_among("an argument", 100, [1] * 500 + [bad] + [1] * 500, ValueError("x"))
        assert (error.index, error.path) == (600, "item")
    unclear = refusal_among("an argument", 0, [1, 2], ValueError("only over there"))
    assert (unclear.index, unclear.path) == (None, "")
    assert "only over there" in str(unclear)


@pytest.mark.parametrize(
    ("job", "what", "path"),
    [
        (Job(Box(LOCK)), "the function", "fn.inside"),
        (Job(abs, Box(LOCK)), "the initializer", "initializer.inside"),
        (Job(abs, abs, (1, LOCK)), "the arguments of the initializer", "initargs[1]"),
        (Job(Box(Unloadable())), "the function", "fn.inside"),
    ],
)
def test_of_a_job_the_function_or_what_prepares_for_it_is_named(
    job: Job, what: str, path: str
) -> None:
    error = job_refusal(job, TypeError("x"))
    assert (error.what, error.index, error.path) == (what, None, path)


def test_out_of_memory_nothing_is_searched() -> None:
    error = refusal("the result", 1, [LOCK], MemoryError())
    assert (error.path, error.why) == ("", "MemoryError")


def test_the_reason_to_stay_names_the_part() -> None:
    assert travel(Job(Box(LOCK)), 1, 2).why_not == (
        "the function does not pickle (fn.inside is a _thread.lock "
        "(TypeError: cannot pickle '_thread.lock' object))"
    )
    assert "item[0] is" in str(travel(Job(abs), [LOCK], 2).why_not)
    assert "result.inside is" in str(travel(Job(abs), 1, Box(Unloadable())).why_not)
    assert "initargs[0] is" in str(travel(Job(abs, abs, (LOCK,)), 1, 2).why_not)
    assert travel(Job(abs), [1], np.zeros(9)).why_not is None


def test_measuring_a_value_leaves_its_memory_alone() -> None:
    array = WritesWhenLoaded.array = np.zeros(100_000)
    assert travel(Job(abs), WritesWhenLoaded(array), 1).why_not is None
    assert not array.any()


class WritesWhenLoaded:
    array: Any

    def __init__(self, array: Any) -> None:
        self.array = array

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["array"] += 1


# Laws


class Planted:
    """Where a lock has been hidden."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock


keys = st.one_of(  # short ones, however each character has to be written: long ones are cut
    st.integers(), st.text(max_size=5), st.booleans(), st.none(), st.binary(max_size=3)
)
innocent = st.recursive(
    st.integers() | st.text() | st.builds(Box) | st.just(abs),
    lambda x: st.lists(x, max_size=5) | st.dictionaries(keys, x, max_size=4) | st.builds(Box, x),
    max_leaves=8,
)


@st.composite
def planted(draw: st.DrawFn) -> tuple[Any, Any]:
    """A nested structure, and the one lock in it."""
    lock = value = threading.Lock()
    for _ in range(draw(st.integers(0, 8))):
        others = draw(st.lists(innocent, max_size=4))
        place = draw(st.integers(0, len(others)))
        row = [*others[:place], value, *others[place:]]
        names = draw(st.lists(keys, min_size=len(row), max_size=len(row), unique=True))
        shapes: list[Any] = [
            row,
            tuple(row),
            Listed(row),
            collections.deque(row),
            dict(zip(names, row)),
            Mapped(zip(names, row)),
            np.array([*row, None], dtype=object)[:-1],
            Box(value),
            Slots(value),
            SlotsAndMore(value),
            Data(row),
            Frozen(row),
            Reduces(row),
            ByKeyword(inside=value),
            Failing("text", row),
            functools.partial(work.double, *row),
        ]
        value = draw(st.sampled_from(shapes))
    return value, lock


@given(planted())
def test_the_path_evaluates_to_the_one_planted_lock(planted_one: tuple[Any, Any]) -> None:
    value, lock = planted_one
    found = blame(value, "item")
    assert found is not None
    assert eval(found.path, {"item": value}) is lock


@given(planted())
def test_what_is_lost_on_loading_is_found_wherever_it_was(planted_one: tuple[Any, Any]) -> None:
    value, _ = planted_one
    file = io.BytesIO()
    pickler = SwapsLocks(file, 5)
    pickler.dump([1, value, 2])
    got, refused = salvage("the result", 0, 3, file.getvalue(), [], ValueError())
    assert got == [1, None, 2]
    assert refused[1].path.startswith(("result", "list(", "type("))
    assert "an int, which does not load" in refused[1].why


class SwapsLocks(pickle.Pickler):
    """Pickles locks as something that does not load."""

    def reducer_override(self, value: Any) -> Any:
        return (int, ("no number",)) if isinstance(value, type(LOCK)) else NotImplemented


def test_the_constants_for_what_have_names_for_paths() -> None:
    names = {"fn", "initializer", "initargs", "retries", "item", "result"}
    assert set(guilty.NAMES.values()) == names
