"""How many items travel together.

Factoring with a floor: each chunk is a share of what is left, so that chunks shrink towards the
end, but large enough that moving it costs little beside running it (Hummel, Schonberg and Flynn,
"Factoring", CACM 35(8), 1992; the plain FAC2 rule, which halves what is left among the workers).
"""

from __future__ import annotations

OVERHEAD_SHARE = 0.02  # a chunk's way may cost this share of running it...
TAIL_SHARE = 0.16  # ...and this one near the end, to finish together


def chunk_size(
    left: int | None, workers: int, item_s: float, message_s: float, longest_chunk_s: float
) -> int:
    """Items in the next chunk, at least 1.

    left: items not yet given out, None when unknown.
    item_s: mean seconds an item takes; message_s: seconds a chunk's way costs.
    longest_chunk_s: no chunk is meant to run longer than this.
    """
    item_s = max(item_s, 1e-9)
    ceiling = longest_chunk_s / item_s
    if left is None:
        return max(1, int(min(message_s / (OVERHEAD_SHARE * item_s), ceiling)))
    factored = max(left / (2 * workers), message_s / (TAIL_SHARE * item_s))
    return max(1, min(int(min(factored, ceiling)), left))
