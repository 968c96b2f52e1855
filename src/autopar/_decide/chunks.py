"""How many items travel together.

Factoring with a floor: each chunk is a share of what is left, so that chunks shrink towards the
end, but large enough that moving it costs little beside running it (Hummel, Schonberg and Flynn,
"Factoring", CACM 35(8), 1992; the plain FAC2 rule, which halves what is left among the workers).
"""

from __future__ import annotations

OVERHEAD_SHARE = 0.02  # a chunk's way may cost this share of running it
TAIL_SHARE = 8  # near the end a chunk may cost this many times that share, to finish together


def chunk_size(
    left: int | None, workers: int, item_s: float, message_s: float, longest_chunk_s: float
) -> int:
    """Items in the next chunk, at least 1.

    left: items not yet given out, None when unknown.
    item_s: mean seconds an item takes; message_s: seconds a chunk's way costs.
    longest_chunk_s: no chunk is meant to run longer than this.
    """
    item_s = max(item_s, 1e-9)
    floor = message_s / (OVERHEAD_SHARE * item_s)
    ceiling = longest_chunk_s / item_s
    if left is None:
        return max(1, int(min(floor, ceiling)))
    factored = left / (2 * workers)
    tail = max(factored, floor / TAIL_SHARE)
    return max(1, min(int(min(max(factored, floor), tail, ceiling)), left))
