"""Libraries are imported once for all workers, if workers may share what that leaves behind."""

from __future__ import annotations

import functools
import json
import sys
import textwrap
from pathlib import Path

import pytest

from autopar._libraries import libraries_of
from programs import PRELUDE, Program, run_program

SCRIPT = (
    PRELUDE
    + """
sys.path.insert(0, {folder!r})
import json
import lib

def look(_):
    return lib.ASKED == os.getpid(), lib.value()

found = auto_map(look, range(8), backend="processes", workers=2, chunksize=1)
print(json.dumps(found))
"""
)


def run(library: str, tmp_path: Path) -> list[list[object]]:
    """What workers see of an installed library `lib`: whether they have imported it themselves."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "lib.py").write_text("import os\nASKED = os.getpid()\n" + textwrap.dedent(library))
    (tmp_path / "script.py").write_text(SCRIPT.format(folder=str(folder)))
    found: list[list[object]] = json.loads(run_program(tmp_path / "script.py"))
    return found


def test_a_library_is_imported_once_for_all_workers(tmp_path: Path) -> None:
    assert run("def value(): return 5", tmp_path) == [[False, 5]] * 8


LEAVES = {
    "a thread": """
        import threading
        if not hasattr(os, "told"):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        def value(): return 5
        """,
    "an open file": """
        ends = os.pipe()
        def value(): return 5
        """,
    "a random generator": """
        import random
        dice = random.Random()
        def value(): return 5
        """,
    "a handler for a stream": """
        import sys
        handler = sys.stderr
        def value(): return 5
        """,
    "a child": """
        import subprocess
        child = subprocess.Popen(["sleep", "0.2"])
        child.returncode = 0
        def value(): return 5
        """,
}


@pytest.mark.parametrize("library", LEAVES.values(), ids=LEAVES)
def test_each_worker_imports_what_it_must_not_share(library: str, tmp_path: Path) -> None:
    assert run(library, tmp_path) == [[True, 5]] * 8


def test_numpys_own_generators_are_no_reason_and_differ(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    found = run("import numpy\ndef value(): return float(numpy.random.random())", tmp_path)
    assert [mine for mine, _ in found] == [False] * 8
    assert len({value for _, value in found}) == 8


def test_a_generator_of_numpys_is_found(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    library = "import numpy\nrng = numpy.random.default_rng()\ndef value(): return 5"
    assert run(library, tmp_path) == [[True, 5]] * 8


IN_THE_HELPER = """
import time
if os.getpid() != os.getpgid(0):  # programs and workers lead groups of their own
    {what}
def value(): return 5
"""
ENDS = {
    "os._exit": "os._exit(3)",
    "a signal": "os.kill(os.getpid(), 9)",
    "an exception": "raise RuntimeError('not here')",
    "sys.exit": "raise SystemExit(4)",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_import_that_ends_the_helper_costs_nothing_but_time(end: str, tmp_path: Path) -> None:
    assert run(IN_THE_HELPER.format(what=end), tmp_path) == [[True, 5]] * 8


HANGS = """
from autopar import backends

backends.backend("processes").prepare(look)
print("ready", flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["", "shutdown()", "os.kill(os.getpid(), 9)"])
def test_an_import_that_does_not_end_holds_nobody_up(then: str, tmp_path: Path) -> None:
    library = IN_THE_HELPER.format(what="time.sleep(60)")
    script = SCRIPT.partition("found =")[0] + HANGS.replace("{then}", then)
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "lib.py").write_text("import os\nASKED = os.getpid()\n" + library)
    (tmp_path / "script.py").write_text(script.format(folder=str(folder)))
    with Program(tmp_path / "script.py") as program:
        program.read("ready\n")
        assert program.all_end()


def test_a_users_own_module_is_imported_by_each_worker(tmp_path: Path) -> None:
    """It may hold what workers must not share: numbers drawn at random, say."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "lib.py").write_text("import os\nASKED = os.getpid()\ndef value(): return 5\n")
    (tmp_path / "script.py").write_text(SCRIPT.format(folder=str(folder)))
    found = json.loads(run_program(tmp_path / "script.py"))
    assert found == [[True, 5]] * 8


def local(text: str) -> str:
    import textwrap

    return textwrap.dedent(text)


def test_what_a_functions_module_names_is_found() -> None:
    assert {"json", "functools", "pytest"} <= set(libraries_of(local))
    assert libraries_of(functools.partial(local)) == libraries_of(local)
    assert "textwrap" in libraries_of(local)  # it is imported when the function is called


def test_of_a_function_that_travels_by_value_only_what_it_names() -> None:
    space = {"json": json, "pytest": pytest, "__name__": "__main__"}
    exec("def load(text): return json.decoder.JSONDecoder().decode(text)", space)
    assert libraries_of(space["load"]) == ["json", "json.decoder"]


class Proxy:
    """Asked what it is, it runs its user's code."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


def test_no_code_of_the_users_runs_and_nothing_in_a_module_is_too_odd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(globals(), "proxy", Proxy())
    monkeypatch.setitem(sys.modules, "dedent", None)  # so that it cannot be imported
    assert "json" in libraries_of(local)


def test_of_what_is_ours_or_no_python_function_nothing() -> None:
    assert libraries_of(libraries_of) == []
    assert libraries_of(len) == libraries_of(str.upper) == libraries_of(print) == []
