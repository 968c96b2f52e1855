"""Which variables outside of itself a function's code reads and writes, from its bytecode.

Relies on: what has held from 3.11 to 3.14. `co_code` is pairs of bytes (operation, argument) with
the inline caches as zeros; STORE_GLOBAL counts in `co_names`, as LOAD_GLOBAL does after a shift
by one; the *_DEREF operations count through locals, then cells that are not locals, then free
variables.
"""

from __future__ import annotations

import weakref
from types import CodeType
from typing import NamedTuple


class Uses(NamedTuple):
    """What a code object and those nested in it use from outside.

    reads: names of globals loaded.
    names: every other name looked up too, as attributes are.
    globals_written, nonlocals_written: names stored or deleted.
    """

    reads: tuple[str, ...]
    names: frozenset[str]
    globals_written: tuple[str, ...]
    nonlocals_written: tuple[str, ...]


def uses_of(code: CodeType) -> Uses:
    """What `code` uses; looked up only once for each code object."""
    known = _known.get(id(code))
    if known is not None and known[0]() is code:
        return known[1]
    found = _uses_of(code)
    # By id, as the hash of a code object is that of all its constants, costly for large ones.
    key = id(code)
    _known[key] = weakref.ref(code, lambda _: _known.pop(key, None)), found
    return found


_known: dict[int, tuple[weakref.ref[CodeType], Uses]] = {}

_MOST_NESTED = 200  # code objects looked into


class _Operations:
    """The numbers of the operations that matter, in this version of Python."""

    def __init__(self) -> None:
        from opcode import opmap  # 0.5 ms, on first need

        self.extended = opmap["EXTENDED_ARG"]
        self.load_global = opmap["LOAD_GLOBAL"]
        self.load_name = [
            opmap[name] for name in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS") if name in opmap
        ]
        self.write_global = opmap["STORE_GLOBAL"], opmap["DELETE_GLOBAL"]
        self.write_deref = opmap["STORE_DEREF"], opmap["DELETE_DEREF"]
        self.imports = opmap["IMPORT_NAME"], opmap["IMPORT_FROM"]


_operations: _Operations | None = None


def _uses_of(root: CodeType) -> Uses:
    global _operations
    if _operations is None:
        _operations = _Operations()
    ops = _operations
    reads: dict[str, None] = {}
    names: set[str] = set()
    globals_written: dict[str, None] = {}
    nonlocals_written: dict[str, None] = {}
    # A nested function's free variable is our own business only if it is free in each function
    # around it; otherwise one of those makes it anew at each call.
    todo = [(root, frozenset(root.co_freevars))]
    for code, outer in todo:  # grows while it is walked
        names.update(code.co_names)
        found = _Scan(code, ops)
        reads.update(dict.fromkeys(found.global_reads()))
        globals_written.update(dict.fromkeys(found.global_writes()))
        nonlocals_written.update(dict.fromkeys(n for n in found.free_writes() if n in outer))
        for const in code.co_consts:
            if type(const) is CodeType and len(todo) < _MOST_NESTED:
                todo.append((const, outer.intersection(const.co_freevars)))
    return Uses(tuple(reads), frozenset(names), tuple(globals_written), tuple(nonlocals_written))


class _Scan:
    """One code object's operations, found by their numbers without decoding the others."""

    def __init__(self, code: CodeType, ops: _Operations) -> None:
        self.code, self.ops = code, ops
        raw = code.co_code
        self.numbers, self.args = raw[::2], raw[1::2]

    def global_reads(self) -> list[str]:
        names, ops = self.code.co_names, self.ops
        found = [names[arg >> 1] for _, arg in self._each(ops.load_global)]
        for number in ops.load_name:
            found += [names[arg] for _, arg in self._each(number)]
        return found

    def global_writes(self) -> list[str]:
        return [
            self.code.co_names[arg]
            for number in self.ops.write_global
            for at, arg in self._each(number)
            if not self._stores_an_import(at)
        ]

    def free_writes(self) -> list[str]:
        code = self.code
        if not code.co_freevars:
            return []
        cells = [name for name in code.co_cellvars if name not in code.co_varnames]
        first = len(code.co_varnames) + len(cells)
        return [
            code.co_freevars[arg - first]
            for number in self.ops.write_deref
            for _, arg in self._each(number)
            if arg >= first
        ]

    def _each(self, number: int) -> list[tuple[int, int]]:
        """(position, argument) of each operation of that number."""
        found: list[tuple[int, int]] = []
        at = self.numbers.find(number)
        while at >= 0:
            found.append((at, self._arg(at)))
            at = self.numbers.find(number, at + 1)
        return found

    def _arg(self, at: int) -> int:
        arg, shift = self.args[at], 8
        while at > 0 and self.numbers[at - 1] == self.ops.extended:
            at -= 1
            arg |= self.args[at] << shift
            shift += 8
        return arg

    def _stores_an_import(self, at: int) -> bool:
        """Whether what is stored is a module imported on need: each process has its own."""
        while at > 0 and self.numbers[at - 1] == self.ops.extended:
            at -= 1
        return at > 0 and self.numbers[at - 1] in self.ops.imports
