"""Keeps no list: files are written for their own sake, and what they say becomes one value."""

import tempfile
from collections import Counter
from operator import add
from pathlib import Path

from autopar import auto_foreach, auto_reduce

FOLDER = Path(tempfile.mkdtemp())


def write(number: int) -> Path:
    """Writes a page; the path it returns is not wanted."""
    page = FOLDER / f"{number}.txt"
    page.write_text("to be or not to be\n" * number)
    return page


def words(page: Path) -> Counter[str]:
    """How often each word is on a page."""
    return Counter(page.read_text().split())


auto_foreach(write, range(100))

pages = sorted(FOLDER.iterdir())
print(auto_reduce(words, pages, add, Counter()).most_common(2))

for page in pages:
    page.unlink()
FOLDER.rmdir()
