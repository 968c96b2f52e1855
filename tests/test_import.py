"""`import autopar` is quick and changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

# What a worker would pay for again, and most calls never need.
LOADED_ON_NEED = {
    "argparse",
    "asyncio",
    "cloudpickle",
    "ctypes",
    "dask",
    "distributed",
    "http",
    "joblib",
    "matplotlib",
    "multiprocessing",
    "numpy",
    "psutil",
    "ray",
    "socket",
    "subprocess",
    "tempfile",
    "threadpoolctl",
    "tqdm",
    "typing_extensions",
    "urllib",
}

BESIDE_THE_BASELINE = """
import concurrent.futures.thread, json, sys
before = set(sys.modules)
import autopar
print(json.dumps(sorted(set(sys.modules) - before)))
"""

EFFECTS = """
import gc, json, logging, os, random, signal, sys, threading, warnings
from pathlib import Path

def world():
    return {
        "threads": [thread.name for thread in threading.enumerate()],
        "tasks": len(os.listdir("/proc/self/task")),
        "children": Path("/proc/self/task/%d/children" % os.getpid()).read_text(),
        "files": sorted(os.listdir("/proc/self/fd")),
        "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "switch interval": sys.getswitchinterval(),
        "hooks": [str(sys.excepthook), str(threading.excepthook), str(sys.gettrace())],
        "random": hash(random.getstate()),
        "logging": [str(logging.root.handlers), logging.root.level, logging.root.disabled],
        "warnings": str(warnings.filters),
        "collector": gc.get_threshold(),
    }

before = world()
import autopar
after = world()
print(json.dumps([name for name in before if before[name] != after[name]]))
"""

COST = """
import time
start_s = time.process_time()
import {module}
print(time.process_time() - start_s)
"""


def fresh(program: str, folder: Path):
    """What the program prints in a new interpreter, read as JSON.

    Modules are compiled into the folder once, as installing would do.
    """
    command = [sys.executable, "-W", "error", "-c", program]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def test_heavy_modules_wait_until_they_are_needed(tmp_path):
    loaded = {name.partition(".")[0] for name in fresh(BESIDE_THE_BASELINE, tmp_path)}
    assert "autopar" in loaded
    assert loaded & LOADED_ON_NEED == set()


def test_nothing_but_the_standard_library_is_loaded(tmp_path):
    loaded = {name.partition(".")[0] for name in fresh(BESIDE_THE_BASELINE, tmp_path)}
    assert loaded - sys.stdlib_module_names == {"autopar"}


def test_importing_has_no_effect(tmp_path):
    assert fresh(EFFECTS, tmp_path) == []


def test_importing_costs_at_most_ten_milliseconds_more_than_a_thread_pool(tmp_path):
    # CPU time, by turns, and the best round: a CPU's speed changes from one second to the next.
    # One that is slowed down, so that the pool's import takes over 10 ms, may add as much again.
    modules = ["concurrent.futures.thread", "autopar"]
    rounds = [[fresh(COST.format(module=name), tmp_path) for name in modules] for _ in range(9)]
    assert min(ours_s - pool_s - max(0.010, pool_s) for pool_s, ours_s in rounds) < 0


def test_an_import_without_a_writable_home_or_temporary_folder_works(tmp_path):
    command = [sys.executable, "-c", "import autopar"]
    bare = {**os.environ, "HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
    ended = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, timeout=50)
    assert (ended.returncode, ended.stderr) == (0, b"")
