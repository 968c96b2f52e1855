"""Decorated functions, importable."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

from autopar import parallel


@parallel
def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


@parallel(kind="io", workers=3)
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@parallel
def power(base: int, exponent: int = 2) -> int:
    return base**exponent


@parallel(kind="cpu")
def place(_item: object) -> int:
    time.sleep(0.002)
    return os.getpid()


@parallel
def factorial(x: int) -> int:
    return 1 if x < 2 else x * factorial(x - 1)


@parallel
def nested(x: int) -> list[int]:
    return double.map(range(x))


@parallel
def levels(depth: int) -> int:
    """Maps itself, and counts the calls below."""
    return 1 + (sum(levels.map([depth - 1] * 3)) if depth else 0)


def louder(fn: Callable[[str], str]) -> Callable[[str], str]:
    @functools.wraps(fn)
    def wrapper(text: str) -> str:
        return fn(text).upper()

    return wrapper


@parallel
@louder
def greet(name: str) -> str:
    return f"hello {name}"


class Scale:
    """Has methods of each kind."""

    unit = "kg"

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @parallel
    def weigh(self, x: int) -> int:
        return self.factor * x

    @parallel
    @classmethod
    def shown(cls, x: int) -> str:
        return f"{x} {cls.unit}"

    @parallel
    @staticmethod
    def heavy(x: int) -> bool:
        return x > 10


def everything() -> list[Any]:
    return [double, nap, power, place, factorial, nested, greet, Scale.weigh]
