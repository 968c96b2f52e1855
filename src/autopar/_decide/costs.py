"""What the means cost: the cost model's inputs, in seconds.

The constants are medians measured on two virtual CPUs (2.5 GHz, Linux, CPython 3.11). They are not
yet replaced by what this machine's own crews took to start.
"""

from __future__ import annotations

from typing import NamedTuple


class Costs(NamedTuple):
    """Seconds that each step of a strategy costs.

    thread_start_s: starting one thread, the hand-over of the GIL included.
    gil_switch_s: giving the GIL back and taking it again, once an item.
    crew_start_s: from the decision to the first process worker that is ready.
    worker_start_s: each process worker after the first.
    message_s: one chunk's way to a process worker and back, on the caller's side.
    copy_s_per_byte: moving a byte between processes, both ways of copying included.
    """

    thread_start_s: float = 100e-6
    gil_switch_s: float = 30e-6
    crew_start_s: float = 35e-3
    worker_start_s: float = 1.5e-3
    message_s: float = 100e-6
    copy_s_per_byte: float = 1.0 / 1.5e9


COLD = Costs()
WARM = COLD._replace(crew_start_s=0.5e-3, worker_start_s=0.1e-3)
