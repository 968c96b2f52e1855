"""Context variables and their values, on their way to another process and back.

A variable cannot be pickled, so it travels as the place where it is found: the module that defines
it. One that no worker can import (a global of `__main__`, a local of a function) travels as a
number that its process gives it, and becomes one and the same variable wherever it arrives, the
process it came from included.

Guarantees: a value that cannot travel, or cannot arrive, is left out; nothing here raises for it.
Loaded on first need: a call whose context is empty never comes here.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context, ContextVar
from typing import Any

from . import wire

# (module, attribute, pickled value), or (None, "", pickled pair of variable and value)
Entry = tuple[str | None, str, bytes]
Token = tuple[str, int]  # the process a variable comes from, and its number there

_homes: dict[ContextVar[Any], tuple[str, str] | None] = {}
_HOMES_MAX = 1000
# Modules whose variables have no meaning elsewhere: filters of warnings travel on their own.
_PRIVATE = frozenset({"autopar", "warnings", "_warnings", "_py_warnings"})
_tokens: dict[ContextVar[Any], Token] = {}
_travelled: dict[Token, ContextVar[Any]] = {}
_began: tuple[int, str] = (0, "")
_MODULE = type(sys)
# The module's own dictionary: asking the usual way would load a module that loads lazily.
_DICT: Any = vars(_MODULE)["__dict__"]


def pack(context: Context) -> list[Entry]:
    """What is set in a context and can travel."""
    _find_homes([var for var in context if var not in _homes])
    return [entry for item in context.items() for entry in _entries(*item)]


def unpack(entries: Sequence[Entry], context: Context) -> None:
    """Sets in `context` what of `entries` exists in this process."""
    for entry in entries:
        try:
            context.run(_set, *entry)
        except Exception:
            pass  # without its module or its class, nothing here can ask for it


def reduce(var: ContextVar[Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A variable in pickle's words: how to find it, or make it once."""
    if var not in _tokens:
        if var not in _homes:
            _find_homes([var])
        home = _homes[var]
        if home is not None:
            return found, home
        _name(var, (_process(), len(_tokens)))
    default: tuple[Any, ...]
    try:
        default = (Context().run(var.get),)
    except LookupError:
        default = ()
    return arrived, (*_tokens[var], var.name, *default)


def found(module: str, name: str) -> Any:
    """What a module calls `name`."""
    if module not in sys.modules:
        __import__(module)
    return getattr(sys.modules[module], name)


def arrived(process: str, number: int, name: str, *default: Any) -> ContextVar[Any]:
    """The variable that has this number in the process it comes from."""
    var = _travelled.get((process, number))
    if var is None:
        var = ContextVar(name, default=default[0]) if default else ContextVar(name)
        _name(var, (process, number))
    return var


def _name(var: ContextVar[Any], token: Token) -> None:
    # Kept for good, so that a number never means two variables. Python keeps them as well:
    # a context that has seen a variable holds it.
    _tokens[var] = token
    _travelled[token] = var


def _process() -> str:
    """A name no other process has; a forked child gets its own."""
    global _began
    if _began[0] != os.getpid():
        _began = (os.getpid(), f"{os.getpid()}.{time.time_ns()}")
    return _began[1]


def _entries(var: ContextVar[Any], value: Any) -> Iterator[Entry]:
    """The entry of one variable; none when it means nothing elsewhere."""
    home = _homes.get(var)
    try:
        if var in _tokens:
            yield None, "", wire.dumps((var, value))
        elif var.name in _SETTERS:
            yield from _SETTERS[var.name](value)
        elif home is not None and home[0].partition(".")[0] not in _PRIVATE:
            yield *home, wire.dumps(value)
    except Exception:
        pass  # a lock, a connection, a request: it has no meaning in another process


def _decimal(value: Any) -> Iterator[Entry]:
    decimal = sys.modules["decimal"]
    if _traits(value) != _traits(decimal.DefaultContext):
        yield "decimal", "setcontext", pickle.dumps((value,))


def _traits(context: Any) -> tuple[Any, ...]:
    """A decimal context without its flags, which any computation sets."""
    numbers = (context.prec, context.Emin, context.Emax, context.capitals, context.clamp)
    return (*numbers, context.rounding, context.traps)


def _numpy(value: Any) -> Iterator[Entry]:
    errors = sys.modules["numpy"].geterr()
    order = ("divide", "over", "under", "invalid")
    yield "numpy", "seterr", pickle.dumps((None, *(errors[key] for key in order)))


# Variables whose value, or which themselves, only their library can read: it sets them, too.
_SETTERS: dict[str, Callable[[Any], Iterator[Entry]]] = {
    "decimal_context": _decimal,
    "numpy.ufunc.extobj": _numpy,
}


def _set(module: str | None, name: str, data: bytes) -> None:
    """Gives a variable its value in the current context."""
    if module is None:
        var, value = pickle.loads(data)
        var.set(value)
        return
    target = found(module, name)
    if isinstance(target, ContextVar):
        target.set(pickle.loads(data))
    else:
        target(*pickle.loads(data))


def _find_homes(variables: Sequence[ContextVar[Any]]) -> None:
    """Looks for variables among the globals of all modules; one look serves them all."""
    if not variables:
        return
    if len(_homes) > _HOMES_MAX:
        _homes.clear()
    sought = set(variables)
    best: dict[ContextVar[Any], tuple[int, tuple[str, str]]] = {}
    for module, name, var, likeness in _globals():
        if var in sought and (var not in best or likeness > best[var][0]):
            best[var] = (likeness, (module, name))
    for var in variables:
        _homes[var] = best[var][1] if var in best else None


def _globals() -> Iterator[tuple[str, str, ContextVar[Any], int]]:
    """Every global that is a variable, and how much its module looks like the one that made it."""
    for module, content in list(sys.modules.items()):
        if module == "__main__" or not isinstance(content, _MODULE):
            continue
        names: dict[str, Any] = _DICT.__get__(content)
        for name, value in list(names.items()):
            if type(value) is ContextVar:
                makes = "ContextVar" in names or "contextvars" in names
                yield module, name, value, 2 * makes + (name == value.name)
