"""The machine's limits are read right from recorded systems."""

from __future__ import annotations

import os
import sys
import textwrap
import time
import timeit
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopar import _platform
from autopar._observe import machine as module
from autopar._observe.machine import bounded, cpu_quota, free_memory, machine, usable_cpus

GIB = 1 << 30
MEMINFO = "MemTotal: 16777216 kB\nMemFree: 1048576 kB\nMemAvailable: 8388608 kB\n"
UNLIMITED_V1 = "9223372036854771712\n"

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime master:11 - cgroup cgroup rw,cpu,cpuacct
33 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
"""


@pytest.fixture
def system(tmp_path):
    """Write a recorded system below a folder: {path: text}."""

    def write(files: dict[str, str]) -> Path:
        for name, text in {"proc/meminfo": MEMINFO, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path

    return write


def test_a_plain_machine_sets_no_limit(system):
    root = system({"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2_MOUNT})
    assert cpu_quota(root) is None
    assert free_memory(root) == 8 * GIB


def test_docker_on_version_2_sees_its_own_group_as_the_top(system):
    root = system(
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/memory.current": f"{GIB // 2}\n",
        }
    )
    assert cpu_quota(root) == 1.5
    assert free_memory(root) == GIB // 2


def test_docker_on_version_1_mounts_its_own_group_with_a_root_of_its_own(system):
    root = system(
        {
            "proc/self/cgroup": "4:memory:/docker/3f\n3:cpu,cpuacct:/docker/3f\n0::/system.slice\n",
            "proc/self/mountinfo": V1_MOUNTS.format(top="/docker/3f"),
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "50000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
        }
    )
    assert cpu_quota(root) == 4
    assert free_memory(root) == GIB


def test_a_group_deeper_than_the_mounted_root_is_found_below_it(system):
    root = system(
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/docker/3f/job\n",
            "proc/self/mountinfo": V1_MOUNTS.format(top="/docker/3f"),
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        }
    )
    assert cpu_quota(root) == 3


def test_a_group_named_like_the_mounted_root_is_not_taken_for_one_below_it(system):
    root = system(
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/docker/3fab\n",
            "proc/self/mountinfo": V1_MOUNTS.format(top="/docker/3f"),
            "sys/fs/cgroup/cpu,cpuacct/ab/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/ab/cpu.cfs_period_us": "100000\n",
        }
    )
    assert cpu_quota(root) is None


def test_the_least_limit_among_nested_slices_counts(system):
    own = "sys/fs/cgroup/user.slice/user-1000.slice/app.service"
    root = system(
        {
            "proc/self/cgroup": "0::/user.slice/user-1000.slice/app.service\n",
            "proc/self/mountinfo": V2_MOUNT,
            f"{own}/cpu.max": "max 100000\n",
            f"{own}/memory.max": "max\n",
            f"{own}/memory.current": "1000\n",
            "sys/fs/cgroup/user.slice/user-1000.slice/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/user.slice/user-1000.slice/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/user.slice/user-1000.slice/memory.current": f"{GIB}\n",
            "sys/fs/cgroup/user.slice/cpu.max": "800000 100000\n",
        }
    )
    assert cpu_quota(root) == 2.5
    assert free_memory(root) == 3 * GIB


def test_a_limit_of_the_own_group_counts_though_the_root_has_none(system):
    root = system(
        {
            "proc/self/cgroup": "0::/jobs/42\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/jobs/42/cpu.max": "100000 100000\n",
        }
    )
    assert cpu_quota(root) == 1


def test_a_sibling_group_does_not_limit(system):
    root = system(
        {
            "proc/self/cgroup": "0::/jobs/42\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/jobs/43/cpu.max": "100000 100000\n",
        }
    )
    assert cpu_quota(root) is None


def test_in_a_hybrid_of_versions_the_controllers_own_tree_counts(system):
    unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
    root = system(
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/a/b\n4:memory:/\n0::/session.slice\n",
            "proc/self/mountinfo": V1_MOUNTS.format(top="/") + unified,
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_V1,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
        }
    )
    assert cpu_quota(root) == 0.5
    assert usable_cpus(root) == 1
    assert free_memory(root) == 8 * GIB


def test_the_cache_that_the_kernel_would_give_back_is_free(system):
    root = system(
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory.stat": f"anon {GIB}\ninactive_file {GIB}\nactive_file 0\n",
        }
    )
    assert free_memory(root) == GIB


def test_memory_past_its_soft_limit_is_not_free(system):
    root = system(
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/memory.max": "max\n",
            "sys/fs/cgroup/memory.high": f"{GIB}\n",
            "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
        }
    )
    assert free_memory(root) == 0


def test_a_mount_point_with_a_blank_in_its_name_is_found(system):
    root = system(
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": r"30 23 0:26 / /my\040groups rw - cgroup2 cgroup2 rw" "\n",
            "my groups/cpu.max": "200000 100000\n",
        }
    )
    assert cpu_quota(root) == 2


def test_of_two_mounts_of_one_tree_the_one_that_shows_the_own_group_is_read(system):
    elsewhere = "29 23 0:26 /other /mnt/other rw - cgroup2 cgroup2 rw\n"
    root = system(
        {
            "proc/self/cgroup": "0::/jobs\n",
            "proc/self/mountinfo": elsewhere + V2_MOUNT,
            "mnt/other/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/jobs/cpu.max": "300000 100000\n",
        }
    )
    assert cpu_quota(root) == 3


def test_a_group_outside_of_the_namespace_falls_back_to_the_top_of_the_mount(system):
    root = system(
        {
            "proc/self/cgroup": "0::/../../init.scope\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/cpu.max": "400000 100000\n",
        }
    )
    assert cpu_quota(root) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "max",
        "max 100000",
        "-1 100000",
        "0 100000",
        "100000 0",
        "ten 100000",
        "1 2 3",
        "100000 -5",
        "\x00\xff",
        "1e5 1e5",
    ],
)
def test_a_quota_that_says_nothing_does_not_limit(system, text):
    root = system(
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/cpu.max": text,
        }
    )
    assert cpu_quota(root) is None


@pytest.mark.parametrize(
    ("cgroup", "mountinfo"),
    [
        ("", ""),
        ("nonsense\n\n::\n0::\n", "nonsense\n - \n1 2 3 - cgroup2\n"),
        ("0::/a\n", V2_MOUNT[:30]),
        ("3:cpu\n", V1_MOUNTS.format(top="/")),
    ],
)
def test_malformed_system_files_do_not_limit(system, cgroup, mountinfo):
    root = system({"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo})
    assert cpu_quota(root) is None
    assert free_memory(root) == 8 * GIB


def test_without_proc_nothing_limits_and_memory_is_still_known(tmp_path):
    assert cpu_quota(tmp_path) is None
    assert usable_cpus(tmp_path) == _platform.affinity()
    assert free_memory(tmp_path) > 0


def test_without_proc_and_psutil_the_system_call_answers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert free_memory(tmp_path) > 0


@settings(deadline=None)
@given(text=st.text(alphabet=" 0123456789-max\n", max_size=20))
def test_whatever_a_quota_file_holds_the_answer_is_a_number_of_cpus(tmp_path_factory, text):
    root = tmp_path_factory.mktemp("system")
    for name, content in {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": V2_MOUNT,
        "sys/fs/cgroup/cpu.max": text,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    quota = cpu_quota(root)
    assert quota is None or quota > 0
    assert 1 <= usable_cpus(root) <= _platform.affinity()


@settings(deadline=None)
@given(cpus=st.integers(1, 4096), quota=st.none() | st.floats(0.001, 5000))
def test_usable_cpus_are_at_least_one_and_never_more_than_the_scheduler_allows(cpus, quota):
    assert 1 <= bounded(cpus, quota) <= cpus


@settings(deadline=None)
@given(cpus=st.integers(1, 4096), quota=st.floats(0.001, 5000))
def test_workers_enough_for_the_quota_and_less_than_one_too_many(cpus, quota):
    got = bounded(cpus, quota)
    assert got == cpus or quota - 0.1 <= got + 1e-9
    assert got < quota + 1


@settings(deadline=None)
@given(cpus=st.integers(1, 64), quotas=st.tuples(st.floats(0.01, 99), st.floats(0.01, 99)))
def test_a_greater_quota_never_gives_fewer_cpus(cpus, quotas):
    low, high = sorted(quotas)
    assert bounded(cpus, low) <= bounded(cpus, high) <= bounded(cpus, None)


@pytest.mark.parametrize(
    ("quota", "cpus"), [(0.25, 1), (1.0, 1), (1.05, 1), (1.5, 2), (2.0, 2), (2.05, 2), (7.2, 8)]
)
def test_a_fraction_of_a_cpu_is_rounded_up_unless_tiny(quota, cpus):
    assert bounded(64, quota) == cpus


def test_the_facts_of_this_machine_fit_together():
    now = machine()
    assert 1 <= now.cpus <= len(os.sched_getaffinity(0))
    assert now.gil == _platform.gil_enabled()
    assert now.processes_why_not is None
    assert free_memory() > 0


def test_the_gil_is_asked_about_at_each_call_and_the_quota_once_a_second(system, monkeypatch):
    root = system(
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/cpu.max": "100000 100000\n",
        }
    )
    monkeypatch.setattr(module, "affinity", lambda: 8)
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    assert machine(root).cpus == 1
    (root / "sys/fs/cgroup/cpu.max").write_text("500000 100000\n")
    monkeypatch.setattr(module, "gil_enabled", lambda: False)
    assert machine(root) == (1, False, None)
    now = 101.5
    assert machine(root).cpus == 5


def test_asking_is_cheap_enough_for_every_call():
    machine()
    assert min(timeit.repeat(machine, timer=time.thread_time, number=200)) / 200 < 20e-6
