"""An exception arrives as itself, or as the nearest thing that can exist where it arrives."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import textwrap
import threading
import traceback
from pathlib import Path

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopar._transport import failures
from autopar._transport.failures import RemoteError, freeze, thaw

FILE = Path(failures.__file__)


def travel(exc: BaseException, **options: object) -> BaseException:
    return thaw(freeze(exc, **options))


def raised(exc: BaseException) -> BaseException:
    """The exception with a traceback."""
    try:
        raise exc
    except BaseException as caught:
        return caught


def bare(code: str, data: bytes = b"") -> bytes:
    """What a bare interpreter writes to stdout; `failures.py` is loaded there by its path."""
    load = f"""
        import sys, importlib.util
        spec = importlib.util.spec_from_file_location("worker_failures", {str(FILE)!r})
        failures = importlib.util.module_from_spec(spec)
        sys.modules["worker_failures"] = failures
        spec.loader.exec_module(failures)
        from worker_failures import freeze, thaw
        out = sys.stdout.buffer.write
    """
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", textwrap.dedent(load) + textwrap.dedent(code)],
        input=data,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


class TwoArguments(Exception):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class Reworded(Exception):
    def __init__(self, word: str, times: int = 2) -> None:
        super().__init__(word * times)


class Silent(Exception):
    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__()


class HoldsALock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.text = text


class Slotted(Exception):
    __slots__ = ("__hidden", "never", "nothing", "where")

    def __init__(self, text: str, where: str) -> None:
        super().__init__(text)
        self.where, self.nothing, self.__hidden = where, None, 7

    def hidden(self) -> int:
        return self.__hidden


class Demanding(OSError):
    """Its own __init__ keeps OSError from reading the arguments when it is made."""

    def __init__(self, *, number: int, path: str) -> None:
        super().__init__(number, "demanding", path)


class NewWantsMore(ValueError):
    def __new__(cls, text: str, extra: int) -> NewWantsMore:
        self = super().__new__(cls, text)
        self.extra = extra
        return self

    def __init__(self, text: str, extra: int) -> None:
        super().__init__(text)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int
    detail: str


class Refuses(Exception):
    def __reduce__(self):
        raise TypeError("not me")


class ExitsWhenPickled(Exception):
    def __reduce__(self):
        sys.exit(3)


class ExitsWhenLoaded(Exception):
    def __reduce__(self):
        return sys.exit, (3,)


class BecomesText(Exception):
    def __reduce__(self):
        return str, ("not an exception",)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Group(ExceptionGroup):
    def derive(self, members):
        return Group(self.message, members)


class HoldsAnother(Exception):
    pass


def local_class(base: type[BaseException] = Exception) -> type[BaseException]:
    class Local(base):  # type: ignore[misc, valid-type]
        pass

    return Local


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("plain"),
        KeyError("key"),
        FileNotFoundError(2, "No such file", "a.txt"),
        OSError(5, "Input/output error"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        SyntaxError("bad", ("a.py", 3, 4, "x = =")),
        StopIteration(42),
        SystemExit(3),
        KeyboardInterrupt(),
        ZeroDivisionError(),
        ImportError("no", name="there", path="/here"),
        TwoArguments(4, "teapot"),
        Reworded("ha"),
        Silent(9),
        Frozen(1, "two"),
        NewWantsMore("text", 3),
        Demanding(number=2, path="b.txt"),
        Refuses("reason", 7),
        ExitsWhenPickled("reason"),
        ExitsWhenLoaded("reason"),
        BecomesText("reason"),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_type_arguments_attributes_and_text_arrive(exc):
    got = travel(exc)
    assert type(got) is type(exc)
    assert got.args == exc.args
    assert str(got) == str(exc)
    assert vars(got) == vars(exc)


def test_what_an_oserror_knows_arrives_though_its_init_was_not_called():
    got = travel(Demanding(number=2, path="b.txt"))
    assert (got.errno, got.strerror, got.filename) == (2, "demanding", "b.txt")
    assert travel(FileNotFoundError(2, "gone", "a")).filename2 is None


def test_the_name_an_attribute_error_missed_arrives():
    with pytest.raises(AttributeError) as caught:
        _ = (5).missing  # type: ignore[attr-defined]
    assert travel(caught.value).name == "missing"


def test_slots_arrive_and_those_never_set_stay_unset():
    got = travel(Slotted("text", "here"))
    assert type(got) is Slotted
    assert (got.where, got.nothing, got.hidden()) == ("here", None, 7)
    assert not hasattr(got, "never")


def test_attributes_that_do_not_pickle_are_left_out_and_named():
    got = travel(HoldsALock("text"))
    assert type(got) is HoldsALock
    assert got.text == "text"
    assert not hasattr(got, "lock")
    assert any("lock" in note for note in got.__notes__)


def test_arguments_that_do_not_pickle_arrive_as_text():
    lock = threading.Lock()
    got = travel(ValueError("held", lock))
    assert got.args == ("held", repr(lock))
    assert any("args[1]" in note for note in got.__notes__)


def test_an_exception_that_cannot_be_printed_arrives():
    got = travel(Unprintable(threading.Lock()))
    assert type(got) is Unprintable


def test_a_class_that_cannot_be_named_is_stood_in_for():
    got = travel(local_class()("why", 3))
    assert type(got) is RemoteError
    assert got.type_name == f"{__name__}.local_class.<locals>.Local"
    assert got.message == "('why', 3)"
    assert str(got) == f"{got.type_name}: ('why', 3)"
    assert got.args == ("why", 3)


@pytest.mark.parametrize("base", [ValueError, OSError, TwoArguments, KeyboardInterrupt, Demanding])
def test_a_stand_in_is_still_caught_as_its_nearest_known_base(base):
    cls = local_class(base)
    original = cls.__new__(cls, "why")
    got = travel(original)
    assert isinstance(got, base)
    assert isinstance(got, RemoteError)
    assert got.type_name.endswith("Local")


def test_a_class_that_was_replaced_travels_by_its_name(monkeypatch):
    old = Reworded("ha")
    new = type("Reworded", (Exception,), {"__module__": __name__, "__qualname__": "Reworded"})
    monkeypatch.setattr(sys.modules[__name__], "Reworded", new)
    assert type(travel(old)) is new


def test_a_class_known_only_by_value_travels_with_the_hook_that_carries_it():
    cls = local_class()
    got = travel(cls("why"), dumps=cloudpickle.dumps)
    assert type(got) is cls  # cloudpickle knows it again in the process it came from
    assert got.args == ("why",)


def test_the_hook_is_asked_for_attributes_too():
    exc = HoldsALock("text")
    exc.how = lambda x: x + 1
    assert travel(exc, dumps=cloudpickle.dumps).how(1) == 2
    assert not hasattr(travel(exc), "how")


def test_a_hook_that_fails_does_no_harm():
    def broken(value: object) -> bytes:
        raise SystemExit("broken hook")

    got = travel(HoldsALock("text"), dumps=broken)
    assert type(got) is HoldsALock
    assert got.text == "text"


def test_notes_arrive_before_the_remote_traceback():
    exc = raised(ValueError("x"))
    exc.add_note("on item 3")
    got = travel(exc)
    assert got.__notes__[0] == "on item 3"
    assert got.__notes__[1].startswith("Remote traceback (most recent call last):\n")
    assert len(got.__notes__) == 2


def test_strange_notes_do_no_harm():
    exc = ValueError("x")
    exc.__notes__ = [Unprintable(), 5, "text"]  # type: ignore[list-item]
    assert travel(exc).__notes__ == ["<unprintable Unprintable object>", "5", "text"]
    exc.__notes__ = 7  # type: ignore[assignment]
    assert type(travel(exc)) is ValueError


def test_a_printed_traceback_shows_the_remote_frames_and_the_own_cause():
    def deep() -> None:
        raise KeyError("inner")

    try:
        try:
            deep()
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as caught:
        exc = caught
    got = travel(exc)
    assert type(got.__cause__) is KeyError
    shown = "".join(traceback.format_exception(got))
    assert "in deep" in shown
    assert 'raise KeyError("inner")' in shown
    assert 'raise ValueError("outer") from inner' in shown
    assert "direct cause of the following exception" in shown
    assert shown.index("in deep") < shown.index("ValueError: outer")


def test_contexts_and_their_suppression_arrive():
    exc = ValueError("x")
    exc.__context__ = KeyError("y")
    got = travel(exc)
    assert type(got.__context__) is KeyError
    assert got.__cause__ is None
    assert not got.__suppress_context__
    exc.__suppress_context__ = True
    assert travel(exc).__suppress_context__


def test_one_exception_reached_by_two_ways_stays_one():
    shared = KeyError("shared")
    exc = ValueError("x")
    exc.__cause__ = exc.__context__ = shared
    got = travel(exc)
    assert got.__cause__ is got.__context__


def test_circles_arrive_as_circles():
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__context__ = second, first
    got = travel(first)
    assert got.__cause__.__context__ is got
    group = ExceptionGroup("g", [first])
    second.__cause__ = group
    got = travel(group)
    assert got.exceptions[0].__cause__.__cause__ is got
    assert "ValueError" in "".join(traceback.format_exception(got))


def test_an_endless_chain_is_cut():
    exc = first = ValueError("0")
    for number in range(1, 100_000):
        exc.__context__ = ValueError(str(number))
        exc = exc.__context__
    got, length = travel(first), 0
    while got is not None:
        got, length = got.__context__, length + 1
    assert 50 <= length <= 200
    while first is not None:  # unlinked one by one: their deallocation recurses
        first.__context__, first = None, first.__context__


def test_the_members_of_a_group_travel_each_in_its_own_way():
    group = raised(
        Group(
            "many",
            [
                raised(TwoArguments(1, "a")),
                HoldsALock("b"),
                local_class(OSError)("c"),
                ExceptionGroup("inner", [KeyError("d")]),
            ],
        )
    )
    group.extra = "kept"
    got = travel(group)
    assert type(got) is Group
    assert (got.message, got.extra) == ("many", "kept")
    assert [type(each) for each in got.exceptions[:2]] == [TwoArguments, HoldsALock]
    assert isinstance(got.exceptions[2], OSError)
    assert isinstance(got.exceptions[2], RemoteError)
    assert type(got.exceptions[3].exceptions[0]) is KeyError
    assert "Remote traceback" in got.exceptions[0].__notes__[0]
    matching, rest = got.split(OSError)
    assert len(matching.exceptions) == 1
    assert len(rest.exceptions) == 3


def test_a_group_of_what_is_not_an_exception_arrives():
    got = travel(BaseExceptionGroup("g", [KeyboardInterrupt(), ValueError("x")]))
    assert type(got) is BaseExceptionGroup
    assert [type(each) for each in got.exceptions] == [KeyboardInterrupt, ValueError]


def test_members_there_is_no_room_for_are_counted(monkeypatch):
    monkeypatch.setattr(failures, "MAX_NODES", 4)
    got = travel(ExceptionGroup("g", [ValueError(str(i)) for i in range(10)]))
    assert [str(each) for each in got.exceptions] == ["0", "1", "2"]
    assert "7 more exceptions" in got.__notes__[0]


def test_groups_nested_without_end_still_arrive():
    exc: Exception = ValueError("x")
    for _ in range(300):
        exc = ExceptionGroup("g", [exc])
    assert isinstance(travel(exc), (ExceptionGroup, RemoteError))


def test_the_middle_of_a_long_traceback_is_left_out():
    def fall(depth: int) -> None:
        if depth:
            climb(depth - 1)
        raise ValueError("bottom")

    def climb(depth: int) -> None:
        fall(depth)

    with pytest.raises(ValueError) as caught:
        fall(150)
    note = travel(caught.value).__notes__[0]
    assert "more frames" in note
    assert note.rstrip().splitlines()[-1].strip(" ^~") in ('raise ValueError("bottom")', "")
    assert len(note) < 20_000


def test_a_recursion_error_arrives_with_a_bounded_account():
    def forever() -> None:
        forever()

    with pytest.raises(RecursionError) as caught:
        forever()
    got = travel(caught.value)
    assert type(got) is RecursionError
    assert sum(map(len, got.__notes__)) < 20_000


def test_deeply_nested_arguments_arrive_as_text():
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    got = travel(ValueError("deep", nested))
    assert type(got) is ValueError
    assert got.args[0] == "deep"
    assert isinstance(got.args[1], str)
    while nested:
        nested = nested.pop()


def test_an_exception_may_hold_another_one():
    exc = HoldsAnother(ValueError("in args"))
    exc.inner = KeyError("in attribute")
    got = travel(exc)
    assert type(got.args[0]) is ValueError
    assert type(got.inner) is KeyError


def test_what_has_travelled_travels_again_and_pickles_and_copies():
    exc = raised(local_class(ValueError)("why"))
    got = exc
    for _ in range(3):
        got = travel(got)
        assert isinstance(got, ValueError)
        assert str(got).endswith("Local: why")
    assert sum("Remote traceback" in note for note in got.__notes__) == 1
    for again in (pickle.loads(pickle.dumps(got)), copy.copy(got), copy.deepcopy(got)):
        assert type(again) is type(got)
        assert str(again) == str(got)
        assert again.args == got.args


def test_freezing_leaves_the_exception_as_it_was():
    exc = raised(HoldsALock("x"))
    before = (dict(vars(exc)), exc.args, exc.__traceback__, exc.__cause__, exc.__context__)
    freeze(exc)
    assert (vars(exc), exc.args, exc.__traceback__, exc.__cause__, exc.__context__) == before


def test_an_interrupt_while_the_users_code_runs_is_not_swallowed():
    class Interrupted(Exception):
        def __reduce__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        freeze(Interrupted())


# Between real processes


def test_a_bare_interpreter_loads_nothing_but_pickle():
    loaded = bare("""
        before = {"typing", "inspect", "dataclasses", "traceback", "autopar", "logging"}
        out(repr(sorted(before & set(sys.modules))).encode())
    """)
    assert loaded == b"[]"


def test_an_exception_raised_in_a_bare_interpreter_arrives():
    data = bare("""
        def work(x):
            return 1 / x
        try:
            work(0)
        except ZeroDivisionError as error:
            out(freeze(error))
    """)
    got = thaw(data)
    assert type(got) is ZeroDivisionError
    assert "in work" in got.__notes__[0]


def test_a_class_that_exists_only_in_the_worker_is_stood_in_for():
    data = bare("""
        import threading
        class Mine(LookupError):
            def __init__(self, code, detail):
                super().__init__(f"{code}/{detail}")
                self.code = code
                self.lock = threading.Lock()
        try:
            raise Mine(4, "x") from KeyError("y")
        except Mine as error:
            out(freeze(error))
    """)
    got = thaw(data)
    assert isinstance(got, RemoteError)
    assert isinstance(got, LookupError)
    assert str(got) == "__main__.Mine: 4/x"
    assert got.code == 4
    assert type(got.__cause__) is KeyError


def test_a_class_by_value_is_the_callers_own_again_when_it_comes_back():
    cls = local_class()
    data = bare(
        f"""
        sys.path[:0] = {sys.path!r}
        import pickle, cloudpickle
        cls = pickle.loads(sys.stdin.buffer.read())
        try:
            raise cls("from the worker")
        except Exception as error:
            out(freeze(error, cloudpickle.dumps))
        """,
        cloudpickle.dumps(cls),
    )
    got = thaw(data)
    assert type(got) is cls
    assert got.args == ("from the worker",)
    assert "Remote traceback" in got.__notes__[-1]


def test_what_a_bare_interpreter_cannot_know_is_stood_in_for_and_real_again_at_home():
    exc = NewWantsMore("text", 3)
    exc.__cause__ = TwoArguments(1, "a")
    data = bare(
        """
        got = thaw(sys.stdin.buffer.read())
        assert isinstance(got, ValueError) and isinstance(got, failures.RemoteError), got
        assert str(got) == "test_failures.NewWantsMore: text", got
        assert "TwoArguments: 1: a" in str(got.__cause__)
        out(freeze(got))
        """,
        freeze(exc),
    )
    got = thaw(data)
    assert type(got) is NewWantsMore
    assert (got.args, got.extra) == (("text",), 3)
    assert type(got.__cause__) is TwoArguments
    assert (got.__cause__.code, got.__cause__.detail) == (1, "a")


def test_a_part_whose_class_is_missing_over_there_is_left_out_there():
    exc = HoldsALock("text")
    exc.path = Frozen(1, "x")
    bare(
        """
        got = thaw(sys.stdin.buffer.read())
        assert got.text == "text" and not hasattr(got, "path"), vars(got)
        assert "path" in got.__notes__[-1], got.__notes__
        """,
        freeze(exc),
    )


# Laws

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(), inner)
    ),
    max_leaves=6,
)
classes = st.sampled_from([Exception, ValueError, KeyError, RuntimeError, HoldsAnother, Refuses])


@settings(deadline=None)
@given(
    cls=classes, args=st.lists(values, max_size=3), attributes=st.dictionaries(st.text(), values)
)
def test_plain_exceptions_arrive_equal(cls, args, attributes):
    attributes.pop("__notes__", None)
    exc = cls(*args)
    vars(exc).update(attributes)
    got = travel(exc)
    assert type(got) is cls
    assert got.args == exc.args
    assert vars(got) == vars(exc)


@st.composite
def tangles(draw: st.DrawFn) -> list[BaseException]:
    """Exceptions of every sort, with causes and contexts drawn at random among them."""
    makers = [
        lambda: ValueError("v"),
        lambda: HoldsALock("h"),
        lambda: TwoArguments(1, "t"),
        lambda: local_class(KeyError)("l"),
        lambda: Unprintable(),
        lambda: ExitsWhenLoaded("e"),
        lambda: KeyboardInterrupt(),
    ]
    found = [make() for make in draw(st.lists(st.sampled_from(makers), min_size=1, max_size=6))]
    if draw(st.booleans()):
        found.append(BaseExceptionGroup("g", list(found)))
    linked = st.none() | st.sampled_from(found)
    for exc in found:
        exc.__cause__ = draw(linked)
        exc.__context__ = draw(linked)
        exc.__suppress_context__ = draw(st.booleans())
    return found


def shape(first: BaseException) -> list[object]:
    """Types and links of all that is reached from an exception, as numbers in order of arrival."""
    order, found = {id(first): 0}, [first]
    links = []
    for exc in found:
        members = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
        row: list[object] = [type(exc).__name__.replace("RemoteError", "Local")]
        for near in (*members, exc.__cause__, exc.__context__):
            if near is not None and id(near) not in order:
                order[id(near)] = len(found)
                found.append(near)
            row.append(None if near is None else order[id(near)])
        links.append([*row, exc.__suppress_context__])
    return links


@settings(deadline=None)
@given(tangles())
def test_any_tangle_of_causes_contexts_and_members_keeps_its_shape(found):
    for exc in found:
        assert shape(travel(exc)) == shape(exc)
