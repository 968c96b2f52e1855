"""Exceptions that travel between processes: `freeze` here, `thaw` there.

Guarantees: what `freeze` gives, `thaw` turns into an exception wherever it runs, also where the
exception's class or the classes of its attributes do not exist. Nothing an exception does when
it is pickled, printed or rebuilt makes either of them fail.
Relies on: the standard library alone. Workers load this file by itself, perhaps under another
name, so it imports nothing of autopar, and a class of its own never travels by name.

An exception travels as the first of these that works, tried here before it is sent:
    1. by pickle, or by the caller's `dumps`, when what is loaded again is the same;
    2. taken apart: class by name, `args` and attributes each by itself, put together again
       without calling `__init__`. Parts that do not pickle are dropped, and a note names them;
    3. where the class cannot be found: a `RemoteError` that also is the nearest base class that
       can be, so that `except ValueError` still catches what was a ValueError.

The remote traceback travels as text, and arrives as a note. concurrent.futures puts it in
`__cause__`, which overwrites the exception's own cause; a note is printed as well, and keeps it.
"""

from __future__ import annotations

import _pickle as pickle
import sys

TYPE_CHECKING = False  # typing costs 5 ms to import, and each worker would pay
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, ParamSpec, TypeAlias, TypeVar

    Dumps: TypeAlias = Callable[[Any], bytes]
    Node: TypeAlias = dict[str, Any]
    Name: TypeAlias = tuple[str, str]
    P = ParamSpec("P")
    T = TypeVar("T")
    U = TypeVar("U")

MAX_LINKS = 100  # causes and contexts followed one after another, and groups within groups
MAX_NODES = 10_000  # exceptions that travel together
MAX_FRAMES = 30  # of a traceback, kept at either end
MAX_TEXT = 100_000  # characters of a message, and of the text that stands for an argument

# The interpreter's own accessors: a class may override the attributes, or refuse to set them (a
# frozen dataclass does).
_DICT = BaseException.__dict__["__dict__"]
_ARGS = BaseException.__dict__["args"]
_CAUSE = BaseException.__dict__["__cause__"]
_CONTEXT = BaseException.__dict__["__context__"]
_SUPPRESS = BaseException.__dict__["__suppress_context__"]
_TRACEBACK = BaseException.__dict__["__traceback__"]
_EXCEPTIONS = BaseExceptionGroup.__dict__["exceptions"]
_MEMBER: type[Any] = type(OSError.__dict__["errno"])  # what a slot is in the __dict__ of its class
_PLAIN = frozenset({str, int, float, complex, bool, bytes, type(None)})


class RemoteError(Exception):
    """Stands for an exception whose class does not exist in this process.

    type_name: the class it had, with its module.
    message: what `str` gave for it.
    """

    type_name: str = "an exception"
    message: str = ""
    # (module, name) of the class it had and of that class's bases, so that it turns into the
    # real thing where it comes to a process that knows the class.
    known_as: tuple[Name, ...] = ()

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name

    def __reduce__(self) -> tuple[Callable[[bytes], BaseException], tuple[bytes]]:
        return thaw, (freeze(self),)


def freeze(exc: BaseException, dumps: Dumps | None = None) -> bytes:
    """The exception as bytes for `thaw`, with its causes, contexts, notes and group members.

    dumps: pickles by value what pickle cannot name, such as `cloudpickle.dumps`; what it gives
    has to load with `pickle.loads`.
    """
    walk = _Walk(exc)
    nodes = [_node(each, dumps) | links for each, links in zip(walk.order, walk.links, strict=True)]
    return pickle.dumps(nodes, protocol=5)


def thaw(data: bytes) -> BaseException:
    """The exception that was frozen, or the nearest thing that can exist in this process."""
    nodes: list[Node] = pickle.loads(data)
    made: dict[int, BaseException] = {}
    for index in range(len(nodes)):
        _make(index, nodes, made)
    for index, node in enumerate(nodes):
        _finish(made[index], node, made)
    return made[0]


class _Walk:
    """The exceptions to be sent with one, nearest first, and how they hang together."""

    def __init__(self, first: BaseException) -> None:
        self.order: list[BaseException] = []
        self.links: list[Node] = []
        self._depths: list[int] = []
        self._indexes: dict[int, int] = {}
        self._add(first, 0)
        for index, exc in enumerate(self.order):  # grows while it is walked
            self.links.append(self._follow(exc, self._depths[index] + 1))

    def _follow(self, exc: BaseException, depth: int) -> Node:
        members = [self._add(each, depth) for each in _members(exc)]
        return {
            "members": [index for index in members if index is not None],
            "missing": members.count(None),
            "cause": self._add(_CAUSE.__get__(exc), depth),
            "context": self._add(_CONTEXT.__get__(exc), depth),
            "suppress": _SUPPRESS.__get__(exc),
        }

    def _add(self, exc: BaseException | None, depth: int) -> int | None:
        """The exception's index; None when there is none, or no room."""
        if exc is None:
            return None
        known = self._indexes.get(id(exc))
        if known is not None or depth > MAX_LINKS or len(self.order) >= MAX_NODES:
            return known
        self._indexes[id(exc)] = len(self.order)
        self._depths.append(depth)
        self.order.append(exc)
        return len(self.order) - 1


def _members(exc: BaseException) -> tuple[BaseException, ...]:
    """The exceptions of a group, none for another exception."""
    if not issubclass(type(exc), BaseExceptionGroup):
        return ()
    members: tuple[BaseException, ...] = _EXCEPTIONS.__get__(exc)
    return members


# Taking apart


def _node(exc: BaseException, dumps: Dumps | None) -> Node:
    """All of one exception but its links, as builtin values that pickle always carries."""
    node: Node = {
        "known_as": tuple(_name_of(cls) for cls in type(exc).__mro__),
        "type": _type_name(type(exc)),
        "message": _text(str, exc),
        "notes": _notes(exc),
        "traceback": _tried("", _traceback, _TRACEBACK.__get__(exc)),
        "pickle": None,
        "args": [],
        "state": {},
        "dropped": [],
    }
    if _is_stand_in(exc):
        had = _DICT.__get__(exc)
        node["known_as"] = tuple(had.get("known_as", node["known_as"]))
        node["type"] = had.get("type_name", RemoteError.type_name)
        node["message"] = had.get("message", RemoteError.message)
    elif not _members(exc):
        node["pickle"] = _tried(None, _whole, exc, pickle.dumps)
        if node["pickle"] is None and dumps is not None:
            node["pickle"] = _tried(None, _whole, exc, dumps)
    if node["pickle"] is None:
        _take_apart(exc, dumps, node)
    return node


def _whole(exc: BaseException, dumps: Dumps) -> bytes | None:
    """The exception in one piece, or None when that would not arrive as it is."""
    data = dumps(exc)
    return data if _same(pickle.loads(data), exc) else None


def _same(copy: BaseException, exc: BaseException) -> bool:
    """Whether a copy has the type, args, attributes and text of the exception."""
    if type(copy) is not type(exc):
        return False
    ours, theirs = _ARGS.__get__(exc), _ARGS.__get__(copy)
    if [type(arg) for arg in ours] != [type(arg) for arg in theirs]:
        return False
    if not {name for name, _ in _attributes(exc)} <= {name for name, _ in _attributes(copy)}:
        return False
    plain = [(a, b) for a, b in zip(ours, theirs, strict=True) if type(a) in _PLAIN]
    if any(a != b for a, b in plain):
        return False
    # The text of other arguments may hold their address, which no copy shares.
    return len(plain) < len(ours) or str(copy) == str(exc)


def _take_apart(exc: BaseException, dumps: Dumps | None, node: Node) -> None:
    """`args` and attributes, each pickled by itself; those that cannot be are named."""
    # A group's args are its text and its members, and those travel as exceptions.
    for index, arg in enumerate(_ARGS.__get__(exc)[: 1 if _members(exc) else None]):
        data = _piece(arg, dumps)
        if data is None:
            node["dropped"].append(f"args[{index}]")
            data = pickle.dumps(_text(repr, arg))
        node["args"].append(data)
    for name, value in _attributes(exc):
        data = _piece(value, dumps)
        if data is None:
            node["dropped"].append(name)
        else:
            node["state"][name] = data


def _piece(value: object, dumps: Dumps | None) -> bytes | None:
    """One value as bytes that were seen to load again, or None."""
    data = _tried(None, _reloaded, value, pickle.dumps)
    if data is None and dumps is not None:
        data = _tried(None, _reloaded, value, dumps)
    return data


def _reloaded(value: object, dumps: Dumps) -> bytes:
    data = dumps(value)
    pickle.loads(data)
    return data


def _attributes(exc: BaseException) -> Iterator[tuple[str, Any]]:
    """What is set in the exception's `__dict__` and in the slots of its classes, notes aside."""
    ours = ("type_name", "message", "known_as") if _is_stand_in(exc) else ()
    for name, value in list(_DICT.__get__(exc).items()):
        if type(name) is str and name != "__notes__" and name not in ours:
            yield name, value
    for cls in type(exc).__mro__:
        for name, member in _slots(cls):
            try:
                value = member.__get__(exc)
            except AttributeError:
                continue  # never set
            if value is not None or cls.__module__ != "builtins":
                # None is how the builtin ones say "never set", and setting it would show
                yield name, value


def _slots(cls: type) -> Iterator[tuple[str, Any]]:
    """The slots of a class, and those that the builtin ones have, such as `errno`."""
    if cls is BaseExceptionGroup:
        return  # both are set when it is made
    for name, member in list(cls.__dict__.items()):
        # `obj` of an AttributeError or NameError is what lacked the name: large, never needed.
        if type(member) is _MEMBER and not name.startswith("__") and name != "obj":
            yield name, member


def _notes(exc: BaseException) -> list[str]:
    notes = _DICT.__get__(exc).get("__notes__")
    return [_text(str, note) for note in notes] if type(notes) in (list, tuple) else []


def _traceback(where: TracebackType | None) -> str:
    """The frames as Python prints them, the middle of long ones left out."""
    if where is None:
        return ""
    import traceback  # 5 ms, and only failures pay for it

    frames = list(traceback.walk_tb(where))
    left_out = len(frames) - 2 * MAX_FRAMES
    if left_out <= 0:
        return "".join(traceback.StackSummary.extract(iter(frames)).format()).rstrip()
    head, tail = (
        "".join(traceback.StackSummary.extract(iter(part)).format())
        for part in (frames[:MAX_FRAMES], frames[-MAX_FRAMES:])
    )
    return f"{head}  ... {left_out} more frames ...\n{tail}".rstrip()


def _is_stand_in(exc: BaseException) -> bool:
    # By name: a worker may have loaded this file twice, by itself and as a part of autopar.
    return any(
        cls.__name__ == "RemoteError" and "known_as" in cls.__dict__ for cls in type(exc).__mro__
    )


def _name_of(cls: type) -> Name:
    return _text(str, cls.__module__), _text(str, cls.__qualname__)


def _type_name(cls: type) -> str:
    module, name = _name_of(cls)
    return name if module == "builtins" else f"{module}.{name}"


def _text(how: Callable[[object], str], value: object) -> str:
    """`how(value)` as a plain str of bounded length, or what stands for it when that fails."""
    text = _tried(None, how, value)
    if text is None:
        return f"<unprintable {type(value).__name__} object>"
    text = "".join((text, ""))  # a str even where `how` gave a subclass, which may not travel
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"


def _tried(otherwise: U, attempt: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | U:
    """What the attempt gives, or `otherwise` when the user's code in it fails in any way."""
    try:
        return attempt(*args, **kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a __reduce__ may raise anything, SystemExit too
        return otherwise


# Putting together


def _make(index: int, nodes: list[Node], made: dict[int, BaseException]) -> BaseException:
    """The exception of one node, without its links; members of a group are made before it."""
    if index not in made:
        node = nodes[index]
        members = [_make(member, nodes, made) for member in node["members"]]
        made[index] = _loaded(node) or _rebuilt(node, members)
    return made[index]


def _loaded(node: Node) -> BaseException | None:
    if node["pickle"] is None:
        return None
    exc = _tried(None, pickle.loads, node["pickle"])
    return exc if isinstance(exc, BaseException) else None


def _rebuilt(node: Node, members: list[BaseException]) -> BaseException:
    """The exception put together from its parts, or a stand-in where its class is missing."""
    args, state = _parts(node)
    if members:
        args = [args[0] if args and type(args[0]) is str else node["message"], members]
    for cls in _candidates(node["known_as"]):
        exc = _tried(None, _instance, cls, args)
        if exc is None:
            continue
        if isinstance(exc, RemoteError):
            state |= {name: node[key] for name, key in _STAND_IN_STATE}
        _restore(exc, state)
        if node["pickle"] is None or isinstance(exc, RemoteError):
            return exc
        if _text(str, exc) == node["message"]:
            return exc  # it did not load, yet its text is enough to make it what it was
    raise AssertionError("a RemoteError can always be made")


_STAND_IN_STATE = (("type_name", "type"), ("message", "message"), ("known_as", "known_as"))


def _parts(node: Node) -> tuple[list[Any], dict[str, Any]]:
    """The args and attributes that load here; the names of others are added to the dropped."""
    if node["pickle"] is not None:
        return [node["message"]], {}  # sent in one piece, which did not load
    args = [_tried("<lost on the way>", pickle.loads, data) for data in node["args"]]
    state: dict[str, Any] = {}
    for name, data in node["state"].items():
        value = _tried(_LOST, pickle.loads, data)
        if value is _LOST:
            node["dropped"].append(name)
        else:
            state[name] = value
    return args, state


_LOST = object()


def _candidates(known_as: tuple[Name, ...]) -> Iterator[type[BaseException]]:
    """The classes to try, best first: its own, then stand-ins for its bases, nearest first."""
    own, *bases = (_class_named(*name) for name in known_as)
    if own is not None and not issubclass(own, RemoteError):
        yield own
    for base in bases:
        if base is not None and not issubclass(base, RemoteError):
            yield _stand_in(base)
    yield RemoteError


def _class_named(module: str, name: str) -> type[BaseException] | None:
    """The exception class of that name, or None where this process can have none."""
    found = _tried(None, _look_up, module, name)
    if not isinstance(found, type) or not issubclass(found, BaseException):
        return None
    return found if _name_of(found) == (module, name) else None


def _look_up(module: str, name: str) -> object:
    __import__(module)  # as pickle does
    found: object = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found


_stand_ins: dict[type[BaseException], type[BaseException]] = {Exception: RemoteError}


def _stand_in(base: type[BaseException]) -> type[BaseException]:
    """A class that is both a RemoteError and a `base`, made once."""
    if base not in _stand_ins:
        namespace = {"__module__": __name__, "__qualname__": "RemoteError"}
        # A base may forbid subclasses.
        _stand_ins[base] = _tried(RemoteError, type, "RemoteError", (RemoteError, base), namespace)
    return _stand_ins[base]


def _instance(cls: type[BaseException], args: list[Any]) -> BaseException:
    """An instance of the class whose `__init__` was not called."""
    # Made by the builtin base: a __new__ of the user's may want other arguments.
    native = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    exc: BaseException = native.__new__(cls, *args)
    if not _members(exc):
        _ARGS.__set__(exc, tuple(args))  # OSError.__new__ keeps only two
    return exc


def _restore(exc: BaseException, state: dict[str, Any]) -> None:
    slots = {name: member for cls in type(exc).__mro__ for name, member in _slots(cls)}
    for name, value in state.items():
        if name in slots:
            _tried(None, slots[name].__set__, exc, value)
        else:
            _DICT.__get__(exc)[name] = value


def _finish(exc: BaseException, node: Node, made: dict[int, BaseException]) -> None:
    """Hang the exception's notes, cause and context on it."""
    notes = list(node["notes"])
    if node["dropped"]:
        notes.append(f"autopar: could not be sent, and was left out: {', '.join(node['dropped'])}")
    if node["missing"]:
        notes.append(f"autopar: {node['missing']} more exceptions of this group were not sent")
    if node["traceback"]:
        notes.append(f"Remote traceback (most recent call last):\n{node['traceback']}")
    if notes:
        _DICT.__get__(exc)["__notes__"] = notes
    _CAUSE.__set__(exc, made.get(node["cause"]))
    _CONTEXT.__set__(exc, made.get(node["context"]))
    _SUPPRESS.__set__(exc, node["suppress"])
