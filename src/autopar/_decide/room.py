"""How many workers with memory of their own the free memory has room for."""

from __future__ import annotations

SMALL_BYTES = 256 << 20  # workers that need less than this together fit anywhere
SHARE = 0.9  # of the free memory is given to workers


def fitting(workers: int, need_bytes: int, free_bytes: int, held_bytes: int = 0) -> int:
    """As many of these workers as there is room for, at least one.

    need_bytes: what one needs. free_bytes: what can be had beside the `held_bytes` that those at
    work hold already.
    """
    if workers * need_bytes < SMALL_BYTES:
        return workers
    return max(1, min(workers, int((SHARE * free_bytes + held_bytes) / need_bytes)))
