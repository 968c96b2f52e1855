"""What counts as an effect of a call, and what does not: the specification."""

from __future__ import annotations

import array
import collections
import dis
import enum
import functools
import gc
import glob
import importlib
import itertools
import json
import logging
import mimetypes
import os
import queue
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopar._observe import bytecode
from autopar._observe.effects import watch, writes_of

LIMIT = 3
NAMES = ["a", "b"]
PATTERN = re.compile("a+")
HERE = Path(__file__)
logger = logging.getLogger(__name__)


def effect(fn: Callable[[object], object], item: object = 1) -> str | None:
    """What the two answers say of one call, as the probe asks them."""
    static = writes_of(fn)
    snapshot = watch(fn, item)
    fn(item)
    return static or snapshot.changed()


# Code that writes names: seen without calling it

total = 0
options = {"depth": 1}


def writes_a_global(x):
    global total
    total += x


def deletes_a_global(x):
    global fleeting
    fleeting = x
    del fleeting


def writes_far_down(x):
    return middle(x)


def middle(x):
    return [writes_a_global(each) for each in [x]]


def writes_in_a_nested_function(x):
    def inner():
        global total
        total = x

    inner()


def writes_in_a_class_body(x):
    class Inner:
        global total
        total = x


def with_many_names() -> Callable[[object], object]:
    """A function with more names and cells than one byte can count."""
    namespace: dict[str, Callable[[object], object]] = {}
    reads = "; ".join(f"name_{i}" for i in range(300))
    cells = "; ".join(f"cell_{i} = lambda: cell_{i}" for i in range(300))
    exec(f"def many_names(x):\n {cells}\n if not x: {reads}\n global far\n far = x", namespace)
    return namespace["many_names"]


def counter():
    count = 0

    def up(x):
        nonlocal count
        count += x
        return count

    return up


def counter_in_a_nested_function():
    count = 0

    def up(x):
        def deeper():
            nonlocal count
            count += x

        deeper()

    return up


def caller_of_a_counter():
    up = counter()
    return lambda x: up(x)


class Tally:
    hits = 0
    seen: list[object] = []  # noqa: RUF012

    def __init__(self):
        self.count, self.items = 0, []

    def __call__(self, x):
        self.count += 1

    def add(self, x):
        self.items.append(x)

    def write(self, x):
        writes_a_global(x)

    def by_way_of_another_method(self, x):
        self.write(x)

    @property
    def proud(self):
        raise AssertionError("a property was evaluated")

    @classmethod
    def hit(cls, x):
        cls.hits += 1

    @staticmethod
    def write_static(x):
        writes_a_global(x)


TALLY = Tally()


class WritesWhenMade:
    def __init__(self, x):
        writes_a_global(x)


@functools.lru_cache
def cached_and_writing(x):
    writes_a_global(x)


def decorated(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args)

    return wrapper


@pytest.mark.parametrize(
    ("fn", "sentence"),
    [
        (writes_a_global, "writes_a_global() writes the global 'total'"),
        (deletes_a_global, "deletes_a_global() writes the global 'fleeting'"),
        (writes_far_down, "writes_a_global() writes the global 'total'"),
        (writes_in_a_nested_function, "writes_in_a_nested_function() writes the global 'total'"),
        (writes_in_a_class_body, "writes_in_a_class_body() writes the global 'total'"),
        (with_many_names(), "many_names() writes the global 'far'"),
        (counter(), "up() writes the nonlocal 'count'"),
        (counter_in_a_nested_function(), "up() writes the nonlocal 'count'"),
        (caller_of_a_counter(), "up() writes the nonlocal 'count'"),
        (functools.partial(writes_a_global), "writes_a_global() writes the global 'total'"),
        (decorated(writes_a_global), "writes_a_global() writes the global 'total'"),
        (cached_and_writing, "writes_a_global() writes the global 'total'"),
        (TALLY.write, "writes_a_global() writes the global 'total'"),
        (TALLY.by_way_of_another_method, "writes_a_global() writes the global 'total'"),
        (Tally.write_static, "writes_a_global() writes the global 'total'"),
        (WritesWhenMade, "writes_a_global() writes the global 'total'"),
        (lambda x: TALLY.write(x), "writes_a_global() writes the global 'total'"),
        (lambda x: Tally.write_static(x), "writes_a_global() writes the global 'total'"),
        (lambda x: WritesWhenMade(x), "writes_a_global() writes the global 'total'"),
        (lambda x: cached_and_writing(x), "writes_a_global() writes the global 'total'"),
    ],
    ids=lambda value: getattr(value, "__qualname__", "") or "callable",
)
def test_a_function_that_writes_names_outside_of_itself_is_seen_uncalled(fn, sentence):
    assert writes_of(fn) == sentence


def own_nonlocals(x):
    count = 0

    def up():
        nonlocal count
        count += x

    up()
    return count


def comprehensions(x):
    return [i + 1 for i in range(x)], {i: j for i in range(x) for j in range(i)}, (y := x), y


def reads_only(x):
    return x + LIMIT, NAMES[0], options["depth"], PATTERN.match("aa"), HERE.name, HERE.parts


def recursive(x):
    return recursive(x - 1) if x else 0


def imports_on_need(x):
    global colorsys
    import colorsys

    return colorsys.rgb_to_hls(0.1, 0.2, 0.3)


def uses_a_nonlocal():
    base = [1, 2]
    return lambda x: [x + each for each in base]


def makes_a_class(x):
    class Point:
        total = x

        def get(self):
            return __class__, self.total

    return Point().get()


@functools.lru_cache
def cached(x):
    return x


@functools.cache
def cached_by_another(x):
    return cached(x)


def logs(x):
    logger.debug("item %s", x)
    logging.getLogger("elsewhere").isEnabledFor(10)
    return print(end="")


def rolls(x):
    random.random()
    random.gauss(0, 1)
    return random.randint(1, 6), gauss(0, 1)


gauss = random.gauss


def guesses(x):
    return mimetypes.guess_type("a.txt")  # writes globals of its module, once


class Colour(enum.Enum):
    RED = 1


class Shape:
    """An item, or an object whose method is called."""

    __slots__ = ("__dict__", "tags", "unset")

    def __init__(self) -> None:
        self.size, self.tags = 3, ["x"]

    def area(self, x=0):
        return self.size * self.size + self.around

    @functools.cached_property
    def around(self):
        return 4 * self.size

    def grow(self, x=0):
        self.size += 1

    def tag(self, x=0):
        self.tags.append("y")


@pytest.mark.parametrize(
    ("fn", "item"),
    [
        (own_nonlocals, 1),
        (comprehensions, 3),
        (reads_only, 1),
        (recursive, 3),
        (imports_on_need, 1),
        (uses_a_nonlocal(), 1),
        (makes_a_class, 1),
        (cached, 5),
        (cached_by_another, 6),
        (logs, 1),
        (rolls, 1),
        (guesses, 1),
        (random.gauss, 1),
        (Shape().area, 1),
        (Shape.area, Shape()),
        (lambda x: Colour(x), 1),
        (len, [1]),
        (str.upper, "a"),
        (json.loads, '{"a": [1]}'),
        (functools.partial(pow, 2), 3),
        (sorted, [3, 1, 2]),
        (np.sort, np.array([3, 1, 2])),
        (lambda x: x.sum(), np.ones(10)),
        (lambda x: x.resolve().parts, Path("a/b")),
        (lambda x: x.name, Colour.RED),
        (lambda x: x[0], ([1], {2})),
        (lambda x: list(x), frozenset([1])),
        ([].__class__.__len__, [[1]]),
        (lambda x: [y * 2 for y in x], {"a": [1]}),
        (lambda x: Tally().add(x), 1),
        (decorated(recursive), 3),
    ],
    ids=lambda value: getattr(value, "__qualname__", "") or type(value).__name__,
)
def test_a_function_that_only_reads_has_no_effect(fn, item):
    assert effect(fn, item) is None


# Objects that a call changes: seen by comparing them before and after

results: list[object] = []
table: dict[object, object] = {}
unique: set[object] = set()
recent: collections.deque[object] = collections.deque(maxlen=2)
counts: collections.Counter[object] = collections.Counter()
groups: collections.defaultdict[object, list[object]] = collections.defaultdict(list)
ordered: collections.OrderedDict[object, object] = collections.OrderedDict()
buffer = bytearray(10)
numbers = array.array("d", [0, 1])
grid = np.zeros((4, 4))
big_grid = np.zeros((2000, 2000))
ids = itertools.count()
feed = iter([1, 2, 3, 4, 5, 6])
waiting: queue.Queue[object] = queue.Queue()
simple: queue.SimpleQueue[object] = queue.SimpleQueue()
own_random = random.Random(7)
own_numpy = np.random.default_rng(7)
flag = threading.Event()
nested = {"inner": {"deep": []}}
long_list = list(range(50_000))
append = results.append


class Own(list):
    def __len__(self):
        raise AssertionError("the user's code was run")

    __iter__ = __getitem__ = __eq__ = __len__
    __hash__ = None


own_list = Own()


def counts_on_itself(x):
    counts_on_itself.calls += x


counts_on_itself.calls = 0


def remembers(x, seen=[]):  # noqa: B006
    seen.append(x)


def remembers_by_keyword(x, *, seen={}):  # noqa: B006
    seen[x] = x


def appends_far_down(x):
    return [appends(y) for y in [x]]


def appends(x):
    results.append(x)


def appends_to_a_nonlocal():
    found: list[object] = []
    return lambda x: found.append(x)


def rebinds_by_name(x):
    globals()["options"] = {"depth": x, **options}


def bump(x):
    TALLY.count += x


@pytest.mark.parametrize(
    ("fn", "changed"),
    [
        (appends, "the global 'results'"),
        (appends_far_down, "the global 'results'"),
        (lambda x: append(x), "the global 'append'"),
        (results.append, "the object it is a method of"),
        (lambda x: table.update({x: x}), "the global 'table'"),
        (lambda x: table.__setitem__(1, object()), "the global 'table'"),
        (lambda x: unique.add(object()), "the global 'unique'"),
        (lambda x: recent.append(object()), "the global 'recent'"),
        (lambda x: counts.update([x]), "the global 'counts'"),
        (lambda x: groups[object()].append(x), "the global 'groups'"),
        (lambda x: ordered.update({object(): 1}), "the global 'ordered'"),
        (lambda x: buffer.extend(b"x"), "the global 'buffer'"),
        (lambda x: numbers.__setitem__(0, numbers[0] + 1), "the global 'numbers'"),
        (lambda x: grid.__setitem__((1, 2), grid[1, 2] + 1), "the global 'grid'"),
        (lambda x: np.add(big_grid, 1, out=big_grid), "the global 'big_grid'"),
        (lambda x: np.add(big_grid.T, 1, out=big_grid.T), "the global 'big_grid'"),
        (lambda x: next(ids), "the global 'ids'"),
        (lambda x: next(feed), "the global 'feed'"),
        (lambda x: waiting.put(x), "the global 'waiting'"),
        (lambda x: simple.put(x), "the global 'simple'"),
        (lambda x: own_random.random(), "the global 'own_random'"),
        (lambda x: own_numpy.random(), "the global 'own_numpy'"),
        (lambda x: nested["inner"]["deep"].append(x), "the global 'nested'"),
        (lambda x: long_list.append(x), "the global 'long_list'"),
        (lambda x: long_list.reverse(), "the global 'long_list'"),
        (lambda x: list.append(own_list, x), "the global 'own_list'"),
        (bump, "the global 'TALLY'"),
        (lambda x: setattr(TALLY, "extra", object()), "the global 'TALLY'"),
        (lambda x: TALLY.items.append(x), "the global 'TALLY'"),
        (lambda x: setattr(Tally, "last", object()), "the global 'Tally'"),
        (lambda x: Tally.seen.append(x), "the global 'Tally'"),
        (Tally.hit, "the object it is a method of"),
        (TALLY, "the object that is called"),
        (TALLY.add, "the object it is a method of"),
        (functools.partial(lambda found, x: found.append(x), []), "an argument bound by partial"),
        (
            functools.partial(lambda x, found: found.append(x), found=[]),
            "an argument bound by partial",
        ),
        (appends_to_a_nonlocal(), "the nonlocal 'found'"),
        (counts_on_itself, "an attribute of counts_on_itself()"),
        (remembers, "a default argument of remembers()"),
        (remembers_by_keyword, "a default argument of remembers_by_keyword()"),
        (rebinds_by_name, "the global 'options'"),
    ],
)
def test_a_call_that_changes_what_it_can_reach_is_seen(fn, changed):
    assert writes_of(fn) is None
    assert effect(fn) == f"the call changed {changed}"


def test_an_event_that_is_set_is_seen():
    flag.clear()
    assert effect(lambda x: flag.set()) == "the call changed the global 'flag'"


@pytest.mark.parametrize(
    ("change", "item"),
    [
        (lambda x: x.append(1), []),
        (lambda x: x.sort(), [3, 1, 2]),
        (lambda x: x[0].append(1), [[], []]),
        (lambda x: x[1][0].append(1), ("a", ([],))),
        (lambda x: x.update(a=2), {"a": 1}),
        (lambda x: x["a"].append(1), {"a": []}),
        (lambda x: x.pop("a"), {"a": 1}),
        (lambda x: x.add(1), set()),
        (lambda x: x.extend(b"x"), bytearray(5)),
        (lambda x: x.__setitem__(3, 1), bytearray(5)),
        (lambda x: x.append(1.5), array.array("d")),
        (lambda x: x.popleft(), collections.deque([1])),
        (lambda x: x.__iadd__(1), np.zeros(1000)),
        (lambda x: x.sort(), np.array([3, 1, 2])),
        (lambda x: x.__setitem__((0, 0), 1), np.zeros((3, 3))[:, ::2]),
        (lambda x: x.__imul__(2), np.ones((1500, 1500), order="F")),
        (lambda x: x["image"].fill(7), {"name": "a", "image": np.zeros(10)}),
        (lambda x: x.grow(), Shape()),
        (lambda x: x.tag(), Shape()),
        (lambda x: setattr(x, "unset", 1), Shape()),
        (lambda x: delattr(x, "tags"), Shape()),
        (lambda x: next(x), iter([1, 2])),
    ],
)
def test_a_call_that_changes_its_item_is_seen(change, item):
    assert effect(change, item) == "the call changed its item"


@pytest.mark.parametrize(
    ("fn", "item", "empty"),
    [
        (comprehensions, 1, True),
        (recursive, ("a", (1, frozenset([2]))), True),
        (len, "text", True),
        (Path.exists, HERE, True),
        (comprehensions, [1], False),
        (recursive, ("a", ([],)), False),
        (appends, 1, False),
        (TALLY.add, 1, False),
        (counts_on_itself, 1, False),
        (uses_a_nonlocal(), 1, False),
    ],
)
def test_a_snapshot_is_empty_when_nothing_in_reach_could_change(fn, item, empty):
    assert watch(fn, item).empty is empty


def test_a_large_item_does_not_hide_a_global():
    def fn(x):
        results.append(x)

    item = [[i] for i in range(1000)]
    assert effect(fn, item) == "the call changed the global 'results'"


def test_a_function_of_an_installed_package_is_looked_into_and_those_it_calls_elsewhere_are_not(
    tmp_path, monkeypatch
):
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "mine_installed.py").write_text(
        "import other_installed\n"
        "calls = 0\n"
        "def work(x):\n    global calls\n    calls += 1\n"
        "def clean(x):\n    return other_installed.lazy(x)\n"
    )
    (packages / "other_installed.py").write_text(
        "ready = False\ndef lazy(x):\n    global ready\n    ready = True\n    return x\n"
    )
    monkeypatch.syspath_prepend(str(packages))
    mine = importlib.import_module("mine_installed")
    assert writes_of(mine.work) == "work() writes the global 'calls'"
    assert effect(mine.clean) is None
    assert effect(lambda x: mine.work(x)) is None  # another's library may count as it likes


def test_what_a_users_module_holds_is_reached_through_the_module(tmp_path, monkeypatch):
    (tmp_path / "my_helpers.py").write_text(
        "found = []\nlevel = 0\n"
        "def keep(x):\n    found.append(x)\n"
        "def raise_level(x):\n    global level\n    level += x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    helpers = importlib.import_module("my_helpers")
    assert effect(lambda x: helpers.found.append(x)) is not None
    assert "found" in str(effect(lambda x: helpers.keep(x)))
    assert "level" in str(writes_of(lambda x: helpers.raise_level(x)))

    def lower(x):
        helpers.level = -x

    assert effect(lower) == "the call changed the global 'level' of my_helpers"


def test_a_dict_that_another_thread_keeps_changing_does_no_harm():
    busy: dict[object, object] = {}
    stop = threading.Event()

    def churn() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            busy[number % 1000] = object()
            busy.pop((number * 7) % 1000, None)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        said = {watch(lambda x: busy, 1).changed() for _ in range(300)}
    finally:
        stop.set()
        thread.join()
    assert said <= {None, "the call changed the nonlocal 'busy'"}


def test_a_dict_that_was_changing_counts_as_changed(monkeypatch):
    import autopar._observe.fingerprints as fingerprints

    def restless(obj: object) -> object:
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setitem(fingerprints._known, id(dict), (lambda: dict, (restless,)))
    assert watch(len, {}).changed() == "the call changed its item"


class Hostile:
    """Fails whenever any of its code is run."""

    def _fail(self, *args: object) -> object:
        raise AssertionError("the user's code was run")

    __eq__ = __hash__ = __len__ = __iter__ = __getattribute__ = _fail  # type: ignore[assignment]
    __bool__ = __repr__ = __getattr__ = __contains__ = __getitem__ = _fail  # type: ignore[assignment]
    __instancecheck__ = __subclasscheck__ = _fail


class HostileMeta(type):
    def _fail(cls, *args: object) -> object:
        raise AssertionError("the user's code was run")

    __eq__ = __hash__ = __getattribute__ = __instancecheck__ = _fail  # type: ignore[assignment]
    __subclasscheck__ = __len__ = __iter__ = __bool__ = _fail  # type: ignore[assignment]


class HostileClass(metaclass=HostileMeta):
    pass


class FakesItsDict:
    @property
    def __dict__(self):
        raise AssertionError("the user's code was run")

    @property
    def __class__(self):
        raise AssertionError("the user's code was run")


HOSTILE = Hostile()
FAKE = FakesItsDict()
HOSTILE_INSTANCE = type.__call__(HostileClass)


@pytest.mark.parametrize(
    "make_item",
    [
        lambda: HOSTILE,
        lambda: [HOSTILE],
        lambda: {1: HOSTILE},
        lambda: FAKE,
        lambda: HOSTILE_INSTANCE,
        lambda: HostileClass,
        lambda: Own(),
        lambda: ([HostileClass, FAKE], {2: HOSTILE_INSTANCE}),
    ],
)
def test_no_code_of_the_users_is_run(make_item):
    def fn(x):
        return 1 if x is HOSTILE or x is FAKE or x is HOSTILE_INSTANCE or x is HostileClass else 0

    assert effect(fn, make_item()) is None


def calls_in(run: Callable[[], object]) -> int:
    """How many functions, Python's and C's, `run` calls: its work, whatever else the CPUs do."""
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


def test_the_work_is_bounded_for_a_function_with_very_much_around_it():
    names = {f"name_{i}": [[{}] * 100 for _ in range(100)] for i in range(300)}
    exec("def fn(x):\n    return " + ", ".join(names), names)
    item = [{str(j): [i] * 10 for j in range(100)} for i in range(10_000)]
    # Three million objects are in reach, some hundreds are looked at.
    assert calls_in(lambda: watch(names["fn"], item).changed()) < 100_000


def both_answers(fn, item):
    return writes_of(fn), watch(fn, item).changed()


def test_a_plain_function_costs_little():
    both_answers(reads_only, 1)  # what is found out once of what a module names
    assert calls_in(functools.partial(both_answers, reads_only, 1)) < 1200
    assert calls_in(functools.partial(both_answers, comprehensions, 1)) < 400


def every_code_of(root: CodeType) -> list[CodeType]:
    found = [root]
    for code in found:
        found += [const for const in code.co_consts if isinstance(const, CodeType)]
    return found


def test_bytecode_is_read_as_the_standard_librarys_own_disassembler_reads_it():
    bytecode.uses_of((lambda: 0).__code__)
    files = sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), "*.py")))[::8]
    for file in [*files, __file__]:
        for code in every_code_of(compile(Path(file).read_text("utf-8"), file, "exec")):
            scan = bytecode._Scan(code, bytecode._operations)
            reads, writes, frees = [], [], []
            before = ""
            for step in dis.get_instructions(code):
                if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
                    reads.append(step.argval)
                elif step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                    writes += [] if before in ("IMPORT_NAME", "IMPORT_FROM") else [step.argval]
                elif step.opname in ("STORE_DEREF", "DELETE_DEREF"):
                    frees += [step.argval] if step.argval in code.co_freevars else []
                before = step.opname if step.opname != "EXTENDED_ARG" else before
            assert sorted(scan.global_reads()) == sorted(reads)
            assert sorted(scan.global_writes()) == sorted(writes)
            assert sorted(scan.free_writes()) == sorted(frees)


def test_what_is_known_of_code_is_forgotten_with_it():
    namespace: dict[str, object] = {}
    gc.collect()  # without a GIL, functions and their code are freed by it alone
    before = len(bytecode._known)
    exec("def fn(x):\n    global y\n    y = x", namespace)
    assert writes_of(namespace["fn"]) == "fn() writes the global 'y'"
    namespace.clear()
    gc.collect()
    assert len(bytecode._known) == before


values = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(values)
def test_an_item_that_was_not_touched_never_seems_changed(item):
    assert watch(len, item).changed() is None


@settings(deadline=None)
@given(st.lists(st.integers(), max_size=30), st.integers(0, 29))
def test_any_replaced_element_is_seen(numbers, at):
    snapshot = watch(len, numbers)
    if at < len(numbers):
        numbers[at] = object()
        assert snapshot.changed() == "the call changed its item"
    else:
        assert snapshot.changed() is None


def test_importing_it_loads_none_of_the_slow_modules():
    slow = "{'dis', 'inspect', 'dataclasses', 'numpy', 'random', 'opcode'}"
    code = f"import sys, autopar._observe.effects; print({slow} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "set()"
