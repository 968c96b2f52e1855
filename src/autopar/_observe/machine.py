"""What this machine allows now: CPUs, free memory, the GIL, processes.

Relies on: /proc/self/cgroup (which groups this process is in) and /proc/self/mountinfo (where
those trees are mounted). A limit anywhere between the process's own group and the top of the
mount binds it, so every level is read and the least limit counts. What is malformed or missing
does not limit.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from .._model import Machine
from .._platform import affinity, can_fork_helpers, gil_enabled

QUOTA_FRESH_S = 1.0  # quotas seldom change, and reading them costs about 0.3 ms
SPARE_CPU = 0.1  # a fraction of a CPU this small is not worth one more worker that gets throttled

_quotas: dict[str, tuple[float, float | None]] = {}


def machine(root: str | os.PathLike[str] = "/") -> Machine:
    """What this machine and interpreter allow now.

    root: the folder that holds `proc` and `sys`; another than "/" for recorded systems.
    """
    return Machine(usable_cpus(root), gil_enabled(), can_fork_helpers())


def usable_cpus(root: str | os.PathLike[str] = "/") -> int:
    """CPUs worth a computing worker each: scheduler affinity and cgroup quotas respected."""
    return bounded(affinity(), _fresh_quota(os.fspath(root)))


def bounded(cpus: int, quota: float | None) -> int:
    """The CPUs left of `cpus` by a quota in CPUs (None: no quota), at least 1.

    A quota between two whole numbers is rounded up, so that none of it is left unused, unless
    the fraction is too small to be worth a worker.
    """
    if quota is None:
        return max(1, cpus)
    return max(1, min(cpus, math.ceil(quota - SPARE_CPU)))


def free_memory(root: str | os.PathLike[str] = "/") -> int:
    """Bytes that can be had without swapping: the machine's, or less where a cgroup says so."""
    root = os.fspath(root)
    limits = [group.free_memory() for group in _groups(root, "memory")]
    return max(0, min([_machine_memory(root), *(free for free in limits if free is not None)]))


def cpu_quota(root: str | os.PathLike[str] = "/") -> float | None:
    """CPUs of time that the cgroups of this process grant it, or None where they set no limit."""
    quotas = [group.quota() for group in _groups(os.fspath(root), "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def _fresh_quota(root: str) -> float | None:
    now = time.monotonic()
    read_at, quota = _quotas.get(root, (-math.inf, None))
    if now - read_at > QUOTA_FRESH_S:
        quota = cpu_quota(root)
        _quotas[root] = now, quota
    return quota


class _Group(NamedTuple):
    """One cgroup folder, of version 1 or 2."""

    folder: str
    version: int

    def quota(self) -> float | None:
        """CPUs of time it grants each period, or None."""
        if self.version == 2:
            words = _read(f"{self.folder}/cpu.max").split()
        else:
            words = [
                *_read(f"{self.folder}/cpu.cfs_quota_us").split(),
                *_read(f"{self.folder}/cpu.cfs_period_us").split(),
            ]
        numbers = [_number(word) for word in words]
        if len(numbers) == 1:
            numbers.append(100_000)  # the kernel's period when none is written
        match numbers:
            case [int(quota), int(period)] if quota > 0 and period > 0:
                return quota / period
            case _:
                return None  # "max", -1 or not a number: no limit here

    def free_memory(self) -> int | None:
        """Bytes until its limit, page cache the kernel would give back included, or None."""
        names = ("memory.max", "memory.high") if self.version == 2 else ("memory.limit_in_bytes",)
        limits = [limit for name in names if (limit := self._bytes(name)) is not None]
        used = self._bytes("memory.current" if self.version == 2 else "memory.usage_in_bytes")
        if not limits or used is None:
            return None
        return min(limits) - max(0, used - self._cache())

    def _cache(self) -> int:
        name = "inactive_file" if self.version == 2 else "total_inactive_file"
        for line in _read(f"{self.folder}/memory.stat").splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == name:
                return _number(words[1]) or 0
        return 0

    def _bytes(self, name: str) -> int | None:
        return _number(_read(f"{self.folder}/{name}").strip())


def _groups(root: str, controller: str) -> Iterator[_Group]:
    """The cgroups that bind this process, each tree's own group first and then its ancestors."""
    mounts = list(_mounts(root))
    for version, path in _memberships(root, controller):
        found = [mount for mount in mounts if mount.serves(version, controller)]
        # The same tree may be mounted twice; one that shows our own group is better.
        found.sort(key=lambda mount: mount.below(path) is None)
        for mount in found[:1]:
            below = mount.below(path) or ""
            while True:
                yield _Group(f"{root.rstrip('/')}{mount.point}{below}", version)
                if not below:
                    break
                below = below.rpartition("/")[0]


def _memberships(root: str, controller: str) -> Iterator[tuple[int, str]]:
    """(version, path) of the groups this process is in, for one controller."""
    for line in _read(f"{root}/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        if number == "0" and not controllers:
            yield 2, path
        elif controller in controllers.split(","):
            yield 1, path


class _Mount(NamedTuple):
    """A mounted cgroup tree: the group `top` of it is seen at `point`."""

    top: str
    point: str
    version: int
    controllers: tuple[str, ...]

    def serves(self, version: int, controller: str) -> bool:
        return self.version == version and (version == 2 or controller in self.controllers)

    def below(self, path: str) -> str | None:
        """Where group `path` lies under the mount point ("" for the point itself), or None."""
        top = self.top.rstrip("/")
        if path == self.top or ".." in path.split("/"):
            # Outside of what a container may see, the top of the mount is the nearest group.
            return "" if path == self.top else None
        return path[len(top) :].rstrip("/") if path.startswith(f"{top}/") else None


def _mounts(root: str) -> Iterator[_Mount]:
    for line in _read(f"{root}/proc/self/mountinfo").splitlines():
        place, _, what = line.partition(" - ")
        fields, kinds = place.split(" "), what.split(" ")
        if len(fields) < 5 or len(kinds) < 3:
            continue
        top, point = _unescaped(fields[3]), _unescaped(fields[4])
        if kinds[0] == "cgroup2":
            yield _Mount(top, point, 2, ())
        elif kinds[0] == "cgroup":
            yield _Mount(top, point, 1, tuple(kinds[2].split(",")))


def _unescaped(field: str) -> str:
    """A path as it is; the kernel writes blanks in it as octal escapes."""
    for escape, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        field = field.replace(escape, character)
    return field


def _machine_memory(root: str) -> int:
    """Bytes available on the whole machine."""
    for line in _read(f"{root}/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            words = line.split()
            if len(words) > 1 and (kilobytes := _number(words[1])) is not None:
                return kilobytes * 1024
    try:
        # The same number as above on Linux, and the only way elsewhere; importing it costs 20 ms.
        import psutil
    except ImportError:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return psutil.virtual_memory().available


def _number(word: str) -> int | None:
    try:
        return int(word)
    except ValueError:
        return None


def _read(path: str) -> str:
    """The text of a file, empty where it cannot be read."""
    try:
        # Unbuffered bytes: half the cost of a text file, and these are read in a probe.
        file = os.open(path, os.O_RDONLY)
    except (OSError, ValueError):
        return ""
    try:
        parts: list[bytes] = []
        while part := os.read(file, 1 << 16):
            parts.append(part)
    except OSError:
        return ""
    finally:
        os.close(file)
    return os.fsdecode(b"".join(parts))
