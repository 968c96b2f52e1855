"""What the demo works on: the standard library's own source files, the same ones every time."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MOST_FILES = 700
MOST_BYTES = 12 << 20
SKIPPED = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"})


def _candidates() -> Iterator[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if SKIPPED.isdisjoint(path.relative_to(root).parts):
            yield path


def source_files() -> list[Path]:
    """Files of the standard library, in a fixed order, bounded in number and in bytes."""
    chosen: list[Path] = []
    total_bytes = 0
    for path in islice(_candidates(), MOST_FILES):
        total_bytes += path.stat().st_size
        if total_bytes > MOST_BYTES:
            break
        chosen.append(path)
    if not chosen:
        raise FileNotFoundError(f"no source files under {sysconfig.get_path('stdlib')}")
    return chosen


def of_size(files: list[Path], least_bytes: int, most_bytes: int) -> list[Path]:
    """Those of `files` within the bounds, or all of them where none is."""
    return [path for path in files if least_bytes <= path.stat().st_size <= most_bytes] or files


def blocks(files: list[Path], block_bytes: int, count: int) -> list[bytes]:
    """`count` blocks cut from the files joined end to end, from the start again when they end."""
    text = b"".join(path.read_bytes() for path in files)
    starts = (index * block_bytes % len(text) for index in range(count))
    return [(text[start:] + text)[:block_bytes] for start in starts]
