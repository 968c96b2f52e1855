"""Real functions of every nature, with items that differ: what `decide.py` judges decisions on.

What is best for each was found by measuring every strategy on it, and is kept in `labels.json`;
nothing here says what ought to be best.
"""

from __future__ import annotations

from . import computing, native, waiting
from .entry import Entry

ENTRIES: dict[str, Entry] = {
    entry.name: entry for part in (computing, native, waiting) for entry in part.ENTRIES
}
