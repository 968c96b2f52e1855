"""How much of the machine was used by programs that are not ours."""

from __future__ import annotations

import os
import resource
import time


class Bystanders:
    """How much of the machine other programs use; their load makes every figure doubtful."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._foreign_s = self._now_s()

    @staticmethod
    def _now_s() -> float:
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = list(map(int, stat.readline().split()[1:9]))
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        busy_s = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        ours = [
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        ]
        return busy_s - sum(usage.ru_utime + usage.ru_stime for usage in ours)

    def share(self) -> float:
        """Of all CPUs, from 0 to 1, since this was made."""
        lasted_s = time.monotonic() - self._started_s
        cpus = os.cpu_count() or 1
        return max(0.0, (self._now_s() - self._foreign_s) / (lasted_s * cpus))
