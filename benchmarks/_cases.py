"""The work that `regret.py` measures on: functions, their items, and who may be good at them.

Items differ from one another, so that results in the wrong order do not pass for right ones.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

ROUNDS_A_MS = 20_000  # of `spin`, on a 2.5 GHz core, roughly


def spin(rounds: int) -> int:
    """Pure Python for `rounds` turns."""
    total = rounds
    for number in range(rounds):
        total += number & 3
    return total


def add_one(number: int) -> int:
    return number + 1


def read_json(text: str) -> int:
    return sum(row["id"] for row in json.loads(text))


WORDS = re.compile(r"\b(\w)\w*?(\w)\1?\b(?=\s+\w{3,})")


def match_text(text: str) -> int:
    return sum(found.start() for found in WORDS.finditer(text))


def nap_ms(ms: float) -> float:
    time.sleep(ms / 1e3)
    return ms


def fetch(address: str) -> bytes:
    host, _, path = address.partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().read()
    finally:
        connection.close()


def fetch_mark(address: str) -> int:
    return zlib.adler32(fetch(address))


def fetch_and_parse(address: str) -> int:
    """Waits, then computes a few milliseconds under the GIL."""
    rows = json.loads(fetch(address))
    words = {tag + row["name"] for row in rows for tag in row["tags"]}
    return len(words) + len(sorted(rows, key=lambda row: (row["name"][::-1], row["x"])))


def sha256(block: bytes) -> str:
    return hashlib.sha256(block).hexdigest()


def squeeze(block: bytes) -> int:
    return len(zlib.compress(block))


def sort_array(array: np.ndarray) -> float:
    import numpy as np

    return float(np.sort(array)[::1000].sum() + array[0])


def reduce_array(array: np.ndarray) -> float:
    import numpy as np

    return float(np.sqrt(array).sum() + array[0])


def make_array(seed: int) -> np.ndarray:
    import numpy as np

    return np.random.default_rng(seed).standard_normal(1 << 19)


def _spins(milliseconds: list[float]) -> list[int]:
    return [max(1, round(ms * ROUNDS_A_MS)) + turn for turn, ms in enumerate(milliseconds)]


def _naps(ms: float, count: int) -> list[float]:
    return [ms + turn / 1e6 for turn in range(count)]


def _heavy_tailed() -> list[int]:
    dice = random.Random(7)
    return _spins([min(dice.paretovariate(1.3), 150.0) for _ in range(250)])


def _json_texts() -> list[str]:
    rows = [{"id": row, "name": f"n{row}", "tags": ["x", "y"]} for row in range(3000)]
    rest = json.dumps(rows)[1:]
    return [f'[{{"id": {text}}}, {rest}' for text in range(300)]


def _prose() -> list[str]:
    dice = random.Random(11)
    words = ["alpha", "be", "gamma", "delta", "epsilon", "of", "eta", "theta", "level", "noon"]
    text = dice.choices(words, k=4000)
    return [" ".join(text[turn:] + text[:turn]) for turn in range(200)]


def _text_blocks() -> list[bytes]:
    dice = random.Random(13)
    words = [bytes(dice.choices(b"abcdefghij", k=dice.randint(2, 9))) for _ in range(4000)]
    text = b" ".join(dice.choices(words, k=45_000))
    return [text[turn * 997 :] + text[: turn * 997] for turn in range(60)]


def _arrays(count: int, size: int) -> list[np.ndarray]:
    import numpy as np

    array = np.random.default_rng(17).random(size)
    return [np.roll(array, turn * 997) for turn in range(count)]


@dataclass(frozen=True)
class Case:
    """One piece of work.

    family: the row of `_systems.FAMILIES` that lists who is measured on it.
    items: makes the items, given the benchmark server's `host:port`.
    """

    name: str
    family: str
    fn: Callable[[Any], Any]
    items: Callable[[str], list[Any]]


CASES = {
    case.name: case
    for case in [
        Case("trivial", "trivial", add_one, lambda _: list(range(100_000))),
        Case("python-3ms", "python", spin, lambda _: _spins([3.0] * 400)),
        Case("json", "python", read_json, lambda _: _json_texts()),
        Case("regex", "python", match_text, lambda _: _prose()),
        Case("heavy-tail", "python", spin, lambda _: _heavy_tailed()),
        Case("long-last", "python", spin, lambda _: _spins([2.0] * 250 + [500.0])),
        Case("four-long", "python", spin, lambda _: _spins([500.0] * 4)),
        Case("sleep-5ms", "waits", nap_ms, lambda _: _naps(5, 400)),
        Case("sleep-50ms", "waits", nap_ms, lambda _: _naps(50, 60)),
        Case("fetch", "waits", fetch_mark, lambda at: [f"{at}/5/{n}" for n in range(300)]),
        Case(
            "fetch-parse", "mixed", fetch_and_parse, lambda at: [f"{at}/8/{n}" for n in range(200)]
        ),
        Case("sha256-8MB", "native", sha256, lambda _: [bytes([n]) * (8 << 20) for n in range(50)]),
        Case("zlib", "native", squeeze, lambda _: _text_blocks()),
        Case("sort", "native", sort_array, lambda _: _arrays(60, 1 << 19)),
        Case("8MB-in", "native", reduce_array, lambda _: _arrays(60, 1 << 20)),
        Case("4MB-out", "native", make_array, lambda _: list(range(60))),
    ]
}


def digest(results: list[Any]) -> str:
    """A short text that two equal lists of results share."""
    mark = zlib.adler32(str(len(results)).encode())
    for result in results:
        raw = result.data if hasattr(result, "dtype") else repr(result).encode()
        mark = zlib.adler32(raw, mark)
    return f"{mark:08x}"
