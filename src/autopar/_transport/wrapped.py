"""Functions that a decorator has put something else in the place of, found again by its name."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

DEEPEST = 8  # decorators on one function


def named(fn: Any) -> tuple[str, str, int] | None:
    """Module and name of what stands where `fn` was defined, and how many wrappers above it.

    None where `fn` stands there itself, or where no worker finds the same.
    """
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "")
    known = sys.modules.get(module or "")
    if known is None or known.__name__ in ("__main__", "__mp_main__") or "<" in name:
        return None
    inner = _member(known, name)
    for depth in range(DEEPEST):
        if inner is None or inner is fn:
            return (known.__name__, name, depth) if depth and inner is fn else None
        inner = getattr(inner, "__wrapped__", None)
    return None


def unwrapped(module: str, name: str, depth: int) -> Any:
    """The function below so many wrappers, of what has this name."""
    found = _member(import_module(module), name)
    for _ in range(depth):
        found = found.__wrapped__
    return found


def _member(found: Any, name: str) -> Any:
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
