"""Functions whose work is done in C: outside the GIL, in and out of it, or on every CPU at once."""

from __future__ import annotations

import bz2
import functools
import hashlib
import io
import lzma
import random
import sqlite3
import zlib
from typing import Any

from .entry import Entry, turns

MEGABYTE = random.Random(3).randbytes(1 << 18) * 4
MIXED = bytes(byte & 31 for byte in MEGABYTE)  # compresses, not too well
SQUEEZED = zlib.compress(MIXED)


def sha256(turn: int) -> bytes:
    return hashlib.sha256(memoryview(MEGABYTE)[turn:]).digest()


def blake2(turn: int) -> bytes:
    return hashlib.blake2b(memoryview(MEGABYTE)[turn:]).digest()


def derive(turn: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", b"word", turn.to_bytes(4, "big"), 5000)


def scrypt(turn: int) -> bytes:
    return hashlib.scrypt(b"word", salt=turn.to_bytes(4, "big"), n=1 << 11, r=8, p=1)


def deflate(turn: int) -> int:
    return len(zlib.compress(MIXED[turn : turn + (1 << 17)]))


def inflate(turn: int) -> int:
    return len(zlib.decompress(SQUEEZED)) + turn


def squeeze_bz2(turn: int) -> int:
    return len(bz2.compress(MIXED[turn : turn + (1 << 16)]))


def squeeze_lzma(turn: int) -> int:
    return len(lzma.compress(MIXED[turn : turn + (1 << 15)]))


def crc(turn: int) -> int:
    return zlib.crc32(memoryview(MEGABYTE)[turn:])


# in and out of the GIL


def sha256_small(turn: int) -> int:
    block = MEGABYTE[turn : turn + 4096]
    for _ in range(200):
        block = hashlib.sha256(block).digest() * 128
    return block[0]


def deflate_small(turn: int) -> int:
    return sum(len(zlib.compress(MIXED[at : at + 1024])) for at in range(turn, turn + 60_000, 1024))


@functools.cache
def _database() -> str:
    """A database in memory that every thread of this process can open."""
    name = "file:corpus?mode=memory&cache=shared"
    keep = sqlite3.connect(name, uri=True, check_same_thread=False)
    keep.execute("create table if not exists things (id integer, name text, size real)")
    if not keep.execute("select count(*) from things").fetchone()[0]:
        rows = ((n, f"name {n % 97}", n * 0.5) for n in range(20_000))
        keep.executemany("insert into things values (?, ?, ?)", rows)
        keep.commit()
    _KEPT.append(keep)
    return name


_KEPT: list[sqlite3.Connection] = []


def sqlite_rows(turn: int) -> int:
    with sqlite3.connect(":memory:") as base:
        base.execute("create table things (id integer, name text)")
        base.executemany("insert into things values (?, ?)", ((n, str(n)) for n in range(2000)))
        return len(base.execute("select * from things where id > ?", (turn,)).fetchall())


def sqlite_total(turn: int) -> float:
    base = sqlite3.connect(_database(), uri=True)
    try:
        what = "select sum(size) from things where id % ? > 0 and name like '%7'"
        return float(base.execute(what, (turn % 50 + 3,)).fetchone()[0])
    finally:
        base.close()


def numpy_small(turn: int) -> float:
    import numpy as np

    array = np.arange(1000.0) + turn
    for _ in range(400):
        array = array * 1.0001 + 1.0
    return float(array[0])


# numpy and Pillow on a lot of data


@functools.cache
def _array(size: int) -> Any:
    import numpy as np

    return np.random.default_rng(1).standard_normal(size)


def numpy_sort(turn: int) -> float:
    import numpy as np

    return float(np.sort(_array(200_000)[turn:])[0])


def numpy_root(turn: int) -> float:
    import numpy as np

    return float(np.sqrt(np.abs(_array(1 << 20)[turn:])).sum())


def numpy_fft(turn: int) -> float:
    import numpy as np

    return float(abs(np.fft.rfft(_array(1 << 17)[: (1 << 17) - 2 * (turn % 4)])[3]))


def matmul(turn: int) -> float:
    square = _array(700 * 700).reshape(700, 700)
    return float((square @ square)[0, turn % 700])


def matmul_small(turn: int) -> float:
    square = _array(60 * 60).reshape(60, 60)
    for _ in range(40):
        square = square @ square / 60
    return float(square[0, turn % 60])


@functools.cache
def _photo() -> Any:
    from PIL import Image

    return Image.frombytes("RGB", (640, 480), MEGABYTE[: 640 * 480 * 3])


@functools.cache
def _jpeg() -> bytes:
    file = io.BytesIO()
    _photo().save(file, "jpeg")
    return file.getvalue()


def resize(turn: int) -> tuple[int, int]:
    size: tuple[int, int] = _photo().resize((200 + turn % 5, 150)).size
    return size


def blur(turn: int) -> int:
    from PIL import ImageFilter

    return int(_photo().filter(ImageFilter.GaussianBlur(2 + turn % 3)).getpixel((3, 3))[0])


def decode_jpeg(turn: int) -> int:
    from PIL import Image

    image = Image.open(io.BytesIO(_jpeg()))
    image.load()
    return image.size[0] + turn


ENTRIES = [
    Entry("sha256", "outside", sha256, turns(400)),
    Entry("blake2", "outside", blake2, turns(350)),
    Entry("pbkdf2", "outside", derive, turns(150)),
    Entry("scrypt", "outside", scrypt, turns(80)),
    Entry("zlib", "outside", deflate, turns(120)),
    Entry("unzlib", "outside", inflate, turns(150)),
    Entry("bz2", "outside", squeeze_bz2, turns(80)),
    Entry("lzma", "outside", squeeze_lzma, turns(60)),
    Entry("crc32", "outside", crc, turns(600)),
    Entry("sha256-4k", "in and out", sha256_small, turns(250)),
    Entry("zlib-1k", "in and out", deflate_small, turns(150)),
    Entry("sqlite-rows", "in and out", sqlite_rows, turns(120)),
    Entry("sqlite-total", "in and out", sqlite_total, turns(150)),
    Entry("numpy-small", "in and out", numpy_small, turns(300)),
    Entry("matmul-small", "in and out", matmul_small, turns(300)),
    Entry("numpy-sort", "outside", numpy_sort, turns(60)),
    Entry("numpy-root", "outside", numpy_root, turns(120)),
    Entry("numpy-fft", "outside", numpy_fft, turns(200)),
    Entry("matmul", "parallel", matmul, turns(25)),
    Entry("resize", "outside", resize, turns(250)),
    Entry("blur", "outside", blur, turns(60)),
    Entry("jpeg", "outside", decode_jpeg, turns(120)),
]
