"""What the means cost: the cost model's inputs, in seconds.

The constants are medians measured on two virtual CPUs (2.5 GHz, Linux, CPython 3.11). They are not
yet replaced by what this machine's own crews took to start.
"""

from __future__ import annotations

from typing import NamedTuple

TAKERS = 3  # who needs CPUs while a hybrid takes over: threads, whom they wait for, what starts


class Costs(NamedTuple):
    """Seconds that each step of a strategy costs.

    thread_start_s: starting one thread, the hand-over of the GIL included.
    gil_switch_s: giving the GIL back and taking it again, once an item.
    beside_s: an item beside other threads where there is no GIL: what they share is counted with
        care, and memory goes back to the thread it came from (60 to 100 ns of CPU were measured,
        and more on a busy machine).
    crew_start_s: from the decision to the first process worker that is ready.
    worker_start_s: each process worker after the first.
    takeover_s: from the decision for a hybrid until it takes over from threads, had it many CPUs.
    message_s: one chunk's way to a process worker and back, on the caller's side.
    copy_s_per_byte: moving a byte between processes, both ways of copying included.
    lane_start_s: each thread of a process worker beside its first.
    lane_s: a chunk's way within a worker of many threads, most of it under its GIL.
    """

    thread_start_s: float = 100e-6
    gil_switch_s: float = 30e-6
    beside_s: float = 200e-9
    crew_start_s: float = 35e-3
    worker_start_s: float = 1.5e-3
    takeover_s: float = 80e-3
    message_s: float = 100e-6
    copy_s_per_byte: float = 1.0 / 1.5e9
    lane_start_s: float = 150e-6
    lane_s: float = 60e-6

    def takeover(self, cpus: int) -> float:
        """Seconds until a hybrid takes over from threads, which compute on the same CPUs meanwhile.

        On two, with a server beside them, 130 to 260 ms were measured.
        """
        return self.takeover_s * (1 + TAKERS / cpus)


COLD = Costs()
HELPED = COLD._replace(crew_start_s=15e-3, takeover_s=25e-3)  # the workers' helper is there
WARM = COLD._replace(crew_start_s=0.5e-3, worker_start_s=0.1e-3, takeover_s=2e-3)
