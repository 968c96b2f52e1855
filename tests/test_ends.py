"""How calls and programs end: crashes, Ctrl-C, exit, and programs of every shape."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import work
from autopar import WorkerCrashed, auto_map, shutdown
from conftest import APART, children, eventually, is_alive

ENDINGS = {"kill": -9, "segv": -11, "exit0": 0, "exit3": 3}


@pytest.mark.parametrize("how", ENDINGS)
def test_a_worker_that_dies_is_named_with_its_item_and_ending(how: str) -> None:
    with pytest.raises(WorkerCrashed) as caught:
        auto_map(work.die_slowly, [1, 2, how, 3], backend="processes")
    assert caught.value.index == 2
    assert caught.value.exitcode == ENDINGS[how]
    assert "item 2" in str(caught.value)


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("warm", [False, True])
def test_only_the_item_a_worker_died_of_is_lost(how: str, warm: bool) -> None:
    if not warm:
        shutdown()
    items: list[Any] = [*range(30), how, *range(30, 60)]
    got = auto_map(work.die_slowly, items, backend="processes", errors="return")
    assert [type(x) for x in got].count(WorkerCrashed) == 1
    assert isinstance(got[30], WorkerCrashed)
    assert got[:30] + got[31:] == list(range(60))
    assert auto_map(work.double, range(9), backend="processes") == [*range(0, 18, 2)]


def test_a_kind_that_computes_or_kept_errors_keep_a_crash_away_from_the_caller() -> None:
    kinds = [{"kind": "cpu"}] if "cpu" in APART else []
    for options in (*kinds, {"errors": "return"}, {"kind": "cpu", "errors": "return"}):
        try:
            got = auto_map(work.die_slowly, ["kill", *range(20)], **options)  # type: ignore[call-overload]
        except WorkerCrashed as crash:
            assert crash.index == 0
        else:
            assert isinstance(got[0], WorkerCrashed)
            assert got[1:] == list(range(20))


def test_workers_killed_from_outside_do_not_stop_the_call(tmp_path: Path) -> None:
    shutdown()
    script = f"""
import os, signal, sys, threading, time
sys.path.insert(0, {str(Path(work.__file__).parent)!r})
import work
import functools
from conftest import children, eventually, shot
from autopar import auto_map, WorkerCrashed
item = functools.partial(work.stamp_and_spin, begun := {str(tmp_path / "begun")!r})
def shoot():
    assert eventually(lambda: os.path.exists(begun), 30)
    for _ in range(5):
        time.sleep(0.1)
        workers = [pid for helper in children() for pid in children(helper)]
        if workers:
            shot(workers[0])
threading.Thread(target=shoot, daemon=True).start()
got = auto_map(item, [0.01] * 150, backend="processes", errors="return")
crashes = [value for value in got if isinstance(value, WorkerCrashed)]
assert 1 <= len(crashes) <= 5, crashes
assert got.count(0.01) == 150 - len(crashes)
print("fine")
"""
    assert run_script(script).stdout == "fine\n"


def test_a_helper_killed_from_outside_costs_only_the_items_being_run(tmp_path: Path) -> None:
    script = f"""
import os, signal, sys, threading, time
sys.path.insert(0, {str(Path(work.__file__).parent)!r})
import work
import functools
from conftest import children, eventually, is_alive
from autopar import auto_map, shutdown, WorkerCrashed
item = functools.partial(work.stamp_and_spin, begun := {str(tmp_path / "begun")!r})
below = []
def shoot():
    assert eventually(lambda: os.path.exists(begun), 30)
    below.extend(children())
    time.sleep(0.05)
    os.kill(below[0], signal.SIGKILL)
shooter = threading.Thread(target=shoot, daemon=True)
shooter.start()
got = auto_map(item, [0.02] * 60, backend="processes", workers=2, errors="return")
shooter.join()
crashes = [value for value in got if isinstance(value, WorkerCrashed)]
assert 1 <= len(crashes) <= 2, crashes
assert got.count(0.02) == 60 - len(crashes)
shutdown()
assert eventually(lambda: not any(map(is_alive, below)))
print("fine")
"""
    assert run_script(script).stdout == "fine\n"


def run_script(
    script: str, folder: Path | None = None, *arguments: str, flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs a program from standard input, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-", *arguments],
        input=script,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done


PROGRAM = """
from autopar import auto_map, observe

def work(x):
    total = 0
    for i in range(20_000):
        total += i * i % 7
    return total + x

class Box:
    def __init__(self, x):
        self.x = x

def boxed(x):
    return Box(work(x))

with observe() as seen:
    assert auto_map(work, range(200)) == [work(x) for x in range(200)]
    assert auto_map(work, range(20), backend="processes") == [work(x) for x in range(20)]
    boxes = auto_map(boxed, range(20), backend="processes")
    assert [box.x for box in boxes] == [work(x) for x in range(20)]
    assert {type(box) for box in boxes} == {Box}
    assert auto_map(lambda x: work(x) + 1, range(20), "cpu") == [work(x) + 1 for x in range(20)]
assert len(seen.reports) == 4
print("fine")
"""


def test_a_program_from_standard_input_works() -> None:
    assert run_script(PROGRAM).stdout == "fine\n"


def test_a_script_without_a_main_guard_works(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_code_in_an_exec_works_as_in_a_notebook(tmp_path: Path) -> None:
    cells = f"""
cell = {PROGRAM!r}
namespace = {{"__name__": "__main__"}}
exec(compile(cell, "<cell 1>", "exec"), namespace)
"""
    assert run_script(cells).stdout == "fine\n"


@pytest.mark.parametrize("backend", ["threads", "processes", "hybrid"])
@pytest.mark.parametrize("end", ["", "sys.exit()", "shutdown()", "del auto_map, shutdown"])
def test_a_program_with_warm_crews_ends_at_once_and_silently(backend: str, end: str) -> None:
    script = f"""
import sys
from autopar import auto_map, shutdown
assert auto_map(abs, range(-100, 0), backend={backend!r}, workers=4) == [*range(100, 0, -1)]
{end}
"""
    began = time.monotonic()
    run_script(script, flags=("-X", "dev"))
    assert time.monotonic() - began < 20


def test_calls_at_exit_and_in_finalizers_work() -> None:
    script = """
import atexit
from autopar import auto_map
def at_end():
    assert auto_map(abs, range(-50, 0), backend="processes") == [*range(50, 0, -1)]
    print("done")
atexit.register(at_end)
auto_map(abs, range(9), backend="processes")
"""
    assert run_script(script).stdout == "done\n"


def test_after_the_user_forks_both_sides_go_on() -> None:
    script = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads
from autopar import auto_map
expected = [*range(50, 0, -1)]
assert auto_map(abs, range(-50, 0), backend="processes") == expected
assert auto_map(abs, range(-50, 0), "io") == expected
pid = os.fork()
assert auto_map(abs, range(-50, 0), backend="processes") == expected
assert auto_map(abs, range(-50, 0), "io") == expected
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    print("both")
"""
    assert run_script(script).stdout == "both\n"


INTERRUPTED = """
import sys, time
sys.path.insert(0, {path!r})
import work
from autopar import auto_map
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

CALLS = {
    "cpu": "auto_map(work.spin, [0.05] * 2000)",
    "cpu cared for": "auto_map(work.spin, [0.05] * 2000, 'cpu')",
    "processes": "auto_map(work.nap, [3.0] * 100, backend='processes')",
    "io": "auto_map(work.nap, [3.0] * 1000, 'io')",
    "auto io": "auto_map(work.nap, [0.5] * 5000)",
    "one long item": "auto_map(work.spin, [30.0, 30.0, 30.0])",
    "generator": "auto_map(work.nap, (0.2 for _ in range(10000)), 'io')",
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("after_s", [0.02, 0.5])
def test_control_c_gives_one_keyboard_interrupt_and_leaves_nobody(
    call: str, after_s: float
) -> None:
    script = INTERRUPTED.format(path=str(Path(work.__file__).parent), call=CALLS[call])
    program = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    time.sleep(after_s)
    below = children(program.pid)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to everybody in the group
    out, err = program.communicate(timeout=30)
    assert (out, err) == ("interrupted\n", "")
    assert program.returncode == 0
    assert eventually(lambda: not any(map(is_alive, below)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("call", APART)
def test_when_the_parent_is_killed_its_workers_end(number: signal.Signals, call: str) -> None:
    script = INTERRUPTED.format(path=str(Path(work.__file__).parent), call=CALLS[call])
    program = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert eventually(lambda: len(children(program.pid)) >= 3)
    below = children(program.pid)
    program.send_signal(number)
    program.communicate(timeout=20)
    assert eventually(lambda: not any(map(is_alive, below)))


def test_the_callers_world_is_as_it_was(tmp_path: Path) -> None:
    script = """
import os, signal, sys
def world():
    return (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD), sys.getswitchinterval(),
            dict(os.environ), os.getcwd(), list(sys.path), sys.gettrace(), signal.pthread_sigmask(0, []))
before = world()
from autopar import auto_map, shutdown
for options in ({}, {"kind": "cpu"}, {"kind": "io"}, {"errors": "return"}):
    auto_map(abs, range(100), **options)
shutdown()
assert world() == before
"""
    run_script(script, tmp_path)


def test_workers_see_the_callers_folder_path_and_environment(tmp_path: Path) -> None:
    script = """
import os, sys
from autopar import auto_map
def world(_):
    return os.getcwd(), sys.path[-1], os.environ.get("AUTOPAR_TEST")
assert auto_map(world, [1, 2], backend="processes")[0][2] is None
os.mkdir("inner"); os.chdir("inner")
sys.path.append("/nowhere/in/particular")
os.environ["AUTOPAR_TEST"] = "yes"
assert set(auto_map(world, [1, 2], backend="processes")) == {world(1)}
"""
    run_script(script, tmp_path)


def test_a_module_beside_the_script_is_found_by_workers(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def triple(x):\n    return 3 * x\n")
    (tmp_path / "program.py").write_text(
        "import beside\nfrom autopar import auto_map\n"
        "print(auto_map(beside.triple, range(4), backend='processes'))\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        capture_output=True,
        text=True,
        timeout=50,
        cwd="/",
    )
    assert (done.stdout, done.stderr) == ("[0, 3, 6, 9]\n", "")


@pytest.mark.parametrize("python", ["/there/is/no/python", "/bin/false", ""])
def test_without_an_interpreter_to_start_workers_with_the_work_stays_here(python: str) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(work.__file__).parent)!r})
import work
from autopar import AutoparError, auto_map, observe
sys.executable = {python!r}
with observe() as seen:
    assert auto_map(work.spin, [0.005] * 40) == [0.005] * 40
    assert auto_map(work.spin, [0.005] * 10, "cpu") == [0.005] * 10
    assert auto_map(work.reciprocal, [1, 2], errors="return") == [1, 0.5]
assert "processes" not in [report.backend for report in seen.reports]
try:
    auto_map(work.spin, [0.005] * 4, backend="processes")
except AutoparError as error:
    print(type(error).__name__)
"""
    assert run_script(script).stdout in ("BackendUnavailable\n", "WorkerCrashed\n")
