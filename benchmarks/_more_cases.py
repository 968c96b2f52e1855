"""More work for `regret.py`, of other shapes, sizes and mixtures than `_cases.py` holds.

One half may be looked at while autopar is worked on; the other is held out, to tell whether what
was gained holds for work that nobody had in mind.
"""

from __future__ import annotations

import bz2
import csv
import decimal
import hashlib
import io
import json
import lzma
import os
import random
import sqlite3
import subprocess
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _cases import ROUNDS_A_MS, Case, fetch, fetch_mark, nap_ms, sha256, spin

if TYPE_CHECKING:
    import numpy as np


# computes under the GIL


def sort_words(seed: int) -> str:
    words = WORDS[seed % 997 :]
    return sorted(words, key=lambda word: word[::-1])[seed % 100]


def read_csv(text: str) -> int:
    return sum(int(row["b"]) for row in csv.DictReader(io.StringIO(text)))


def make_rows(count: int) -> list[dict[str, Any]]:
    return [{"id": row, "name": f"n{row}", "share": row / count} for row in range(count)]


def roots(number: int) -> str:
    with decimal.localcontext() as context:
        context.prec = 120
        return str(sum((decimal.Decimal(number + k).sqrt() for k in range(60)), decimal.Decimal()))


def count_words(text: str) -> int:
    return Counter(text.split()).most_common(1)[0][1] + len(text)


def mostly_nothing(ms: float) -> float:
    """Nothing for most items, and as long as it says for the others."""
    return ms + spin(round(ms * ROUNDS_A_MS)) if ms else ms


# computes outside the GIL


def hash_small(turn: int) -> str:
    return hashlib.blake2b(BLOCK[turn % 4096 :][: 1 << 16]).hexdigest()


def squeeze_bz2(turn: int) -> int:
    return len(bz2.compress(TEXT[turn * 37 :][:60_000]))


def squeeze_lzma(turn: int) -> int:
    return len(lzma.compress(TEXT[turn * 31 :][:20_000], preset=1))


def derive(turn: int) -> str:
    return hashlib.pbkdf2_hmac("sha256", b"password", turn.to_bytes(8, "big"), 4000).hex()


def small_arrays(seed: int) -> float:
    """Brief turns outside the GIL, which threads pay for and gain nothing from."""
    import numpy as np

    array = np.arange(200.0) + seed
    for _ in range(300):
        array = np.sqrt(array * array + 1.0)
    return float(array.sum())


def smooth(array: np.ndarray) -> float:
    import numpy as np

    return float(np.convolve(array, np.ones(64) / 64, "same").max())


def query(turn: int) -> int:
    """Native code with a lock of its own around each row."""
    rows = _database().execute("select a, b from t where a % 7 = ?", (turn % 7,)).fetchall()
    return sum(b for _a, b in rows) + turn


# waits


def run_program(turn: int) -> int:
    return subprocess.run(["true"], check=False).returncode + turn


def read_file(turn: int) -> int:
    return zlib.adler32(_file().read_bytes()) + turn


def nap_long_tailed(ms: float) -> float:
    time.sleep(ms / 1e3)
    return ms


# does both


def nap_and_spin(parts: tuple[float, float]) -> float:
    nap, work = parts
    time.sleep(nap / 1e3)
    return nap + spin(round(work * ROUNDS_A_MS))


def fetch_and_squeeze(address: str) -> int:
    """Waits, then computes outside the GIL."""
    return len(zlib.compress(fetch(address) * 4, 6))


def fetch_and_sum(address: str) -> int:
    """Waits, then computes a little."""
    return sum(row["id"] for row in json.loads(fetch(address))[:100])


# what they work on


def _dice(seed: int) -> random.Random:
    return random.Random(seed)


WORDS = ["".join(_dice(n).choices("abcdefghij", k=7)) for n in range(3000)]
TEXT = " ".join(WORDS * 8).encode()
BLOCK = TEXT[: 1 << 17]


@cache
def _file() -> Path:
    file = Path(tempfile.gettempdir()) / "autopar-benchmark-page"
    whole = file.with_name(f"{file.name}-{os.getpid()}-{threading.get_ident()}")
    whole.write_bytes(TEXT * 4)
    whole.replace(file)  # at once: others may be reading it
    return file


@cache
def _database() -> sqlite3.Connection:
    data = sqlite3.connect(":memory:", check_same_thread=False)
    data.execute("create table t (a integer, b integer)")
    data.executemany("insert into t values (?, ?)", ((n, n * n % 101) for n in range(4000)))
    return data


def _spins(milliseconds: list[float]) -> list[int]:
    return [max(1, round(ms * ROUNDS_A_MS)) + turn % 97 for turn, ms in enumerate(milliseconds)]


def _csv_texts(count: int) -> list[str]:
    rows = "".join(f"{n},{n * 7 % 1000},text {n}\n" for n in range(1500))
    return [f"a,b,c\n0,{turn},x\n{rows}" for turn in range(count)]


def _arrays(count: int, size: int) -> list[np.ndarray]:
    import numpy as np

    array = np.random.default_rng(19).random(size)
    return [np.roll(array, turn * 31) for turn in range(count)]


def _case(name: str, family: str, fn: Callable[[Any], Any], items: Callable[[], Any]) -> Case:
    return Case(name, family, fn, lambda _: list(items()))


def _fetches(name: str, family: str, fn: Callable[[Any], Any], delay: int, count: int) -> Case:
    return Case(name, family, fn, lambda at: [f"{at}/{delay}/{n}" for n in range(count)])


MORE = [
    _case("tiny-python", "python", spin, lambda: _spins([0.01] * 20_000)),
    _case("words", "python", sort_words, lambda: range(400)),
    _case("rows-out", "python", make_rows, lambda: range(2000, 2150)),
    _case("rising", "python", spin, lambda: _spins([n * 0.02 for n in range(250)])),
    _case("eight-short", "trivial", spin, lambda: _spins([1.0] * 8)),
    _case("rare-long", "python", mostly_nothing, lambda: ([0.0] * 199 + [20.0]) * 20),
    _case("bz2", "native", squeeze_bz2, lambda: range(25)),
    _case("pbkdf2", "native", derive, lambda: range(150)),
    _case("small-arrays", "python", small_arrays, lambda: range(1000)),
    _case("nap-200ms", "waits", nap_ms, lambda: [200 + n / 1e6 for n in range(40)]),
    _fetches("fetch-slow", "waits", fetch_mark, 60, 250),
    _case("program", "waits", run_program, lambda: range(120)),
    _case("nap-spin", "mixed", nap_and_spin, lambda: [(10.0 + n / 1e6, 2.0) for n in range(200)]),
]

HELD_OUT = [
    _case("csv", "python", read_csv, lambda: _csv_texts(200)),
    _case("decimal", "python", roots, lambda: range(1500)),
    _case("falling", "python", spin, lambda: _spins([5 - n * 0.02 for n in range(250)])),
    _case("two-natures", "python", spin, lambda: _spins([0.001] * 5000 + [4.0] * 150)),
    _case("texts-in", "python", count_words, lambda: [TEXT.decode() + str(n) for n in range(150)]),
    _case("three-long", "python", spin, lambda: _spins([200.0] * 3)),
    _case("blake2-small", "native", hash_small, lambda: range(4000)),
    _case("lzma", "native", squeeze_lzma, lambda: range(120)),
    _case("sha256-1MB", "native", sha256, lambda: [bytes([n]) * (1 << 20) for n in range(200)]),
    _case("smooth", "native", smooth, lambda: _arrays(100, 1 << 16)),
    _case("sqlite", "python", query, lambda: range(800)),
    _case("file", "native", read_file, lambda: range(600)),
    _case(
        "naps",
        "waits",
        nap_long_tailed,
        lambda: [min(_dice(n).paretovariate(1.2) * 4, 400.0) for n in range(300)],
    ),
    _fetches("fetch-few", "waits", fetch_mark, 20, 24),
    _fetches("fetch-squeeze", "mixed", fetch_and_squeeze, 10, 150),
    _fetches("fetch-sum", "mixed", fetch_and_sum, 30, 300),
]
