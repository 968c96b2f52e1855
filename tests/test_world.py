"""The user's world in worker processes: what they take over of it, and what comes back."""

from __future__ import annotations

import contextlib
import copyreg
import decimal
import io
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from pathlib import Path
from typing import Any

import pytest

import world_work as work
from autopar import _native, auto_map, shutdown
from autopar._platform import affinity
from autopar._seeds import Seeded, random_state_kept
from test_ends import run_script

Run = Callable[..., list[Any]]


def run_two(fn: Callable[[Any], Any], items: Any, **options: Any) -> list[Any]:
    """Runs in up to two worker processes, and nothing in the caller's."""
    # Of an iterator's items nobody knows that there is only one, which might run here.
    return auto_map(fn, iter(items), "cpu", backend="processes", workers=2, **options)


@pytest.fixture(params=["cold", "warm"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs in two worker processes, that are new or have served another call."""
    shutdown()
    if request.param == "warm":
        run_two(work.loaded, ["logging", "numpy"])
    return run_two


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    """Where two items meet, so that both workers run one."""
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


def in_context(call: Callable[[], Any]) -> Any:
    """Calls where nothing is set, and what is set ends with it."""
    return Context().run(call)


# context variables


def test_a_worker_sees_the_values_of_the_callers_context_variables(run: Run) -> None:
    def call() -> Any:
        work.PLACE.set({"here": [1, 2]})
        return run(work.variables, [1, 2])

    assert in_context(call) == [({"here": [1, 2]}, "nothing")] * 2


def test_a_value_that_does_not_pickle_is_left_out_and_the_others_arrive(run: Run) -> None:
    def call() -> Any:
        work.PLACE.set(threading.Lock())
        work.OTHER.set("something")
        return run(work.variables, [1, 2])

    assert in_context(call) == [("nowhere", "something")] * 2


def test_a_later_call_does_not_see_the_values_of_an_earlier_one() -> None:
    def call() -> Any:
        work.PLACE.set("here")
        return run_two(work.variables, [1])

    assert in_context(call) == [("here", "nothing")]
    assert in_context(lambda: run_two(work.variables, [1, 2])) == [("nowhere", "nothing")] * 2


def test_what_an_item_sets_is_there_for_the_next_item_and_ends_with_the_call() -> None:
    shutdown()
    for _ in range(2):
        before = in_context(
            lambda: auto_map(work.set_place, "abc", "cpu", backend="processes", workers=1)
        )
        assert before == ["nowhere", "a", "b"]


def test_a_variable_of_no_module_travels_with_the_function_that_uses_it(run: Run) -> None:
    local: ContextVar[int] = ContextVar("local", default=-1)
    unset: ContextVar[int] = ContextVar("unset")

    def call() -> Any:
        local.set(40)
        return run(lambda x: (local.get() + x, unset.get(None), local.name), [1, 2])

    assert in_context(call) == [(41, None, "local"), (42, None, "local")]
    assert in_context(lambda: run(lambda x: local.get() + x, [1, 2])) == [0, 1]


def test_a_variable_that_comes_back_is_the_callers_own(run: Run) -> None:
    local: ContextVar[int] = ContextVar("local")
    assert all(var is local for var in run(lambda _: local, [1, 2]))
    assert all(var is work.PLACE for var in run(lambda _: work.PLACE, [1, 2]))


def test_the_values_reach_the_workers_of_a_worker(run: Run) -> None:
    local: ContextVar[str] = ContextVar("local", default="lost")

    def ask(_item: object) -> tuple[Any, str]:
        return work.PLACE.get(), local.get()

    def call() -> Any:
        work.PLACE.set("deep")
        local.set("deeper")
        return run(lambda _: auto_map(ask, iter([1]), "cpu", backend="processes", workers=1), [1])

    assert in_context(call) == [[("deep", "deeper")]]


def test_variables_of_a_script_reach_its_functions(tmp_path: Path) -> None:
    script = """
from contextvars import ContextVar
from autopar import auto_map
name = ContextVar("name", default="nobody")
never = ContextVar("never")
def greet(x):
    return f"{x}: {name.get()} {never.get('unset')}"
print(auto_map(greet, [1, 2], backend="processes", workers=2))
name.set("Ada")
print(auto_map(greet, [1, 2], backend="processes", workers=2))
print(auto_map(lambda x: name.get(), [1, 2], backend="processes", workers=2))
"""
    assert run_script(script, tmp_path).stdout.splitlines() == [
        "['1: nobody unset', '2: nobody unset']",
        "['1: Ada unset', '2: Ada unset']",
        "['Ada', 'Ada']",
    ]


def test_sending_a_variable_leaves_everybodys_pickling_as_it_was() -> None:
    local: ContextVar[int] = ContextVar("local")
    run_two(lambda _: local.get(None), [1])
    assert ContextVar not in copyreg.dispatch_table


def test_decimal_precision_and_numpys_error_handling_are_the_callers(run: Run) -> None:
    import numpy as np

    with decimal.localcontext() as context:
        context.prec = 5
        assert run(work.divide, [3, 3]) == ["0.33333"] * 2
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        run(work.divide_arrays, [0])
    assert run(work.divide, [3]) == [work.divide(3)]
    with np.errstate(divide="ignore"):
        assert run(work.divide_arrays, [0, 1]) == [float("inf"), 1.0]


# place


def test_each_call_takes_its_own_folder_path_and_environment_along(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("AUTOPAR_WORLD", name)
        assert set(run(work.place, range(4))) == {(str(tmp_path / name), name, False)}
    monkeypatch.delenv("AUTOPAR_WORLD")
    assert {where[1] for where in run(work.place, range(4))} == {None}


def test_a_worker_has_the_builtins_of_the_caller() -> None:
    """With import hooks and without, for which the helper starts differently."""
    script = """
import sys
if {hooked}:
    sys.meta_path.insert(0, type("Hook", (), {{"find_spec": staticmethod(lambda *_: None)}}))
from autopar import auto_map
def names(_):
    import builtins
    return dir(builtins)
print({{*names(0)}} - {{*auto_map(names, [0], backend="processes")[0]}})
"""
    for hooked in (True, False):
        assert run_script(script.format(hooked=hooked)).stdout == "set()\n"


def test_what_a_function_did_to_its_worker_is_undone_for_the_next_call(run: Run) -> None:
    run(work.spoil_place, [1, 2])
    assert set(run(work.place, [1, 2])) == {(os.getcwd(), None, False)}


# standard output and error


def test_what_a_worker_prints_goes_to_the_callers_streams(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run(work.print_both, ["a", "b"])
    seen = capsys.readouterr()
    assert sorted(seen.out.splitlines()) == ["out a", "out b"]
    assert sorted(seen.err.splitlines()) == ["err a", "err b"]


def test_what_a_worker_prints_is_redirected_with_the_caller(run: Run) -> None:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        run(work.print_both, ["é\ud800"])
    assert text.getvalue() == "out é\ud800\n"


def test_a_thousand_lines_of_two_workers_arrive_whole_and_in_each_workers_order(
    run: Run, fifo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pids = run(work.print_where_met, [(fifo, 0, 500), (fifo, 1, 500)])
    lines = capsys.readouterr().out.splitlines()
    assert len(set(pids)) == 2
    for number in range(2):
        mine = [line for line in lines if line.startswith(f"{number} ")]
        assert mine == [f"{number} {at} {'x' * 50}" for at in range(500)]
    assert len(lines) == 1000


def test_an_unfinished_line_arrives_with_the_result(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run(work.print_part, ["half"])
    assert capsys.readouterr().out == "half"
    for _ in range(10):
        run(work.print_part_slowly, ["late"])
        assert capsys.readouterr().out == "late"
    with pytest.raises(ValueError):
        run(work.print_part_and_fail, ["broken"])
    assert capsys.readouterr().out == "broken"
    run(work.print_bytes, [b"raw"])
    assert capsys.readouterr().out == "raw"


def test_bytes_that_are_no_text_arrive_as_they_are(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, "utf-8"))
    run(work.print_bytes, [b"\xff\xfe \xc3\xa9\n"])
    sys.stdout.flush()
    assert file.getvalue() == b"\xff\xfe \xc3\xa9\n"


def test_a_line_of_ten_megabytes_arrives(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run(work.print_long, [10_000_000])
    assert len(capsys.readouterr().out) == 10_000_001


def test_a_workers_streams_look_like_the_callers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    for encoding in ("latin-1", "utf-16"):
        file = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", Terminal(file, encoding, "replace"))
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert run(work.look, [1])[0] == [
            (1, True, encoding, "replace"),
            (2, False, "utf-8", "surrogatepass"),
        ]
        run(work.print_both, ["é€"])
        sys.stdout.flush()
        assert file.getvalue() == "out é€\n".encode(encoding, "replace")


def test_where_the_caller_has_no_streams_what_is_printed_is_dropped(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO()
    closed.close()
    for nothing in (None, closed):
        monkeypatch.setattr(sys, "stdout", nothing)
        run(print, ["dropped"])
    monkeypatch.undo()
    assert run(work.look, [1])[0][0] is not None


def test_a_stream_closed_during_the_call_loses_what_is_printed_and_nothing_else() -> None:
    def items() -> Iterator[int]:
        yield 1
        stream.close()
        yield 2

    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        assert run_two(lambda x: print(x) or x, items()) == [1, 2]


def test_a_function_may_redirect_its_own_output(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(work.redirects, ["a"]) == ["inner a\n"]
    assert capsys.readouterr().out == "outer a\n"


@pytest.mark.parametrize("spoil", [work.takes_stdout, work.closes_stdout])
def test_streams_that_a_function_took_away_are_back_for_the_next_call(
    spoil: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    run_two(spoil, [1, 2])
    run_two(work.print_both, ["again"])
    assert capsys.readouterr().out == "out again\n"


def test_a_child_that_the_function_forks_prints_too(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run(work.print_from_a_fork, ["once"])
    seen = capsys.readouterr().out
    assert seen.count("in the child") == 1
    assert seen.endswith("once in the parent; done\n")


def test_a_script_piped_to_a_file_keeps_the_order_of_its_lines(tmp_path: Path) -> None:
    script = """
from autopar import auto_map
def work(x):
    print("from a worker")
print("before")
auto_map(work, range(3), backend="processes", workers=2)
print("after")
auto_map(work, iter(range(1)), "cpu", backend="processes", workers=2)
"""
    lines = run_script(script, tmp_path).stdout.splitlines()
    assert lines == ["before", *["from a worker"] * 3, "after", "from a worker"]


# warnings


def test_a_warning_of_a_worker_can_be_caught_by_the_caller(run: Run) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run(work.warn_odd, [1, 2]) == [1, 2]
    first = min(caught, key=lambda each: each.message.how_odd)  # type: ignore[union-attr]
    line = work.warn_odd.__code__.co_firstlineno + 1
    assert (first.category, str(first.message)) == (work.OddWarning, "this is odd")
    assert (first.filename, first.lineno) == (work.__file__, line)
    assert [each.message.how_odd for each in caught] in ([1, 2], [2, 1])  # type: ignore[union-attr]


def test_pytest_and_a_replaced_showwarning_see_a_workers_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(work.OddWarning, match="this is odd"):
        run(work.warn_odd, [1])
    shown: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: shown.append(str(message)))
        run(work.warn_odd, [1])
    assert shown == ["this is odd"]


def test_under_a_filter_for_errors_the_warning_raises_in_the_function(run: Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(work.OddWarning, match="this is odd"):
            run(work.warn_odd, [1])
        warnings.simplefilter("ignore")
        assert run(work.warn_odd, [1]) == [1]
        warnings.filterwarnings("error", "this .* odd", work.OddWarning, "world_work")
        with pytest.raises(work.OddWarning):
            run(work.warn_odd, [1])


@pytest.mark.parametrize("action", ["default", "once", "module"])
def test_what_is_to_be_shown_once_is_shown_once_whichever_workers_warn(
    run: Run, fifo: str, action: Any
) -> None:
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)
            warnings.onceregistry.clear()  # type: ignore[attr-defined]
            for _ in range(2):
                pids = run(work.warn_where_met, [(fifo, 0), (fifo, 1)])
                assert len(set(pids)) == 2
        assert [str(each.message) for each in caught] == ["said by both"]


def test_a_function_that_catches_warnings_gets_its_own(run: Run) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run(work.catches_its_own, [1, 2]) == [["own 1"], ["own 2"]]
        assert caught == []


def test_a_filter_that_no_other_process_can_have_is_left_out(run: Run) -> None:
    class Odd:
        match = staticmethod(lambda text: True)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filters.insert(0, ("error", Odd(), Warning, None, 0))  # type: ignore[attr-defined]
        assert run(work.warn_odd, [1]) == [1]
        del warnings.filters[0]  # type: ignore[attr-defined]
    # It did not raise there, so here it is shown, whatever this filter says.
    assert [str(each.message) for each in caught] == ["this is odd"]


def test_categories_of_a_script_are_the_scripts_own(tmp_path: Path) -> None:
    script = """
import warnings
from autopar import auto_map
class Mine(UserWarning): pass
def work(x):
    warnings.warn("mine", Mine)
    warnings.warn("plain")
    return x
for action in ("always", "error"):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter(action, Mine)
        try:
            auto_map(work, iter([1]), "cpu", backend="processes", workers=2)
        except Mine as error:
            print("raised", error, type(error) is Mine)
        print([(each.category.__name__, each.category is Mine, each.filename) for each in caught])
"""
    assert run_script(script, tmp_path).stdout.splitlines() == [
        "[('Mine', True, '<stdin>'), ('UserWarning', False, '<stdin>')]",
        "raised mine True",
        "[]",
    ]


def test_tracebacks_name_the_file_of_code_that_travels_by_value(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
from autopar import auto_map
def work(x):
    def inner(y):
        raise ValueError("no good")
    return inner(x)
auto_map(work, [1], backend="processes")
""")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=50)
    remote = done.stderr.partition("Remote traceback")[2]
    assert f'File "{program}", line 6, in work\n    return inner(x)\n' in remote
    assert f'File "{program}", line 5, in inner\n    raise ValueError("no good")\n' in remote


def test_an_interpreter_that_takes_warnings_for_errors_does_so_in_workers() -> None:
    script = """
import warnings
from autopar import auto_map
def work(x):
    warnings.warn("careful")
try:
    auto_map(work, iter([1]), "cpu", backend="processes", workers=2)
except UserWarning as error:
    print("raised", error)
"""
    assert run_script(script).stdout == "raised careful\n"


# logging


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[logging.LogRecord]:
    """The records that reach the caller's root logger."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    kept: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.root, "handlers", [Keep()])
    return kept


@pytest.fixture
def level() -> Iterator[Callable[[str, int], None]]:
    """Sets the level of a logger until the end of the test."""

    def set_level(name: str, level: int) -> None:
        before.setdefault(name, logging.getLogger(name).level)
        logging.getLogger(name).setLevel(level)

    before: dict[str, int] = {}
    yield set_level
    for name, was in before.items():
        logging.getLogger(name).setLevel(was)


def test_a_workers_record_reaches_the_callers_handlers(
    run: Run, records: list[logging.LogRecord]
) -> None:
    run(work.log, ["a"])
    (record,) = records
    assert (record.name, record.levelname, record.funcName) == ("world.log", "WARNING", "log")
    assert (record.getMessage(), record.args) == ("a and a", None)
    assert record.process != os.getpid()


def test_records_arrive_in_the_order_they_were_made(
    run: Run, records: list[logging.LogRecord]
) -> None:
    run(work.log_in_threads, [100])
    for number in range(4):
        mine = [each.getMessage() for each in records if each.name == f"world.thread{number}"]
        assert mine == [str(at) for at in range(100)]


def test_the_callers_levels_say_which_records_are_made(
    run: Run, records: list[logging.LogRecord], level: Callable[[str, int], None]
) -> None:
    def seen() -> set[tuple[str, int]]:
        records.clear()
        run(work.log_every_level, [1])
        return {(each.name.removeprefix("world."), each.levelno) for each in records}

    level("root", logging.ERROR)
    level("world.loud", logging.DEBUG)
    level("world.quiet", logging.CRITICAL)
    assert seen() == {("world", 40), ("loud", 10), ("loud", 15), ("loud", 20), ("loud", 40)}
    level("world.loud", logging.NOTSET)
    level("world", 15)
    assert seen() == {(name, level) for name in ("world", "loud") for level in (15, 20, 40)}
    logging.disable(logging.INFO)
    try:
        assert seen() == {("world", 40), ("loud", 40)}
    finally:
        logging.disable(logging.NOTSET)
    assert ("world", 20) in seen()


def test_filters_handlers_and_propagation_are_the_callers(
    run: Run, records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, text = logging.getLogger("world.log"), io.StringIO()
    handler = logging.StreamHandler(text)
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "filters", [lambda record: "b" not in record.getMessage()])
    run(work.log, ["a"])
    run(work.log, ["b"])
    assert text.getvalue() == "a and a\n"
    assert records == []


def test_a_level_that_the_caller_named_has_its_name(
    run: Run, records: list[logging.LogRecord], level: Callable[[str, int], None]
) -> None:
    level("root", logging.DEBUG)
    before = logging.getLevelName(15)
    logging.addLevelName(15, "CHATTY")
    try:
        run(work.log_every_level, [1])
    finally:
        logging.addLevelName(15, before)
    assert {each.levelname for each in records if each.levelno == 15} == {"CHATTY"}


def test_nothing_that_does_not_pickle_breaks_a_record(
    run: Run, records: list[logging.LogRecord]
) -> None:
    run(work.log_the_unpicklable, [1])
    (record,) = records
    assert re.fullmatch(r"held by <unlocked _thread.lock object at 0x\w+>", record.getMessage())
    assert record.__dict__["lock"].startswith("<unlocked _thread.lock")
    assert record.__dict__["note"] == [1, 2]


def test_a_record_brings_its_traceback_as_text(run: Run, records: list[logging.LogRecord]) -> None:
    run(work.log_a_failure, [0])
    (record,) = records
    assert record.exc_info is None
    assert record.exc_text is not None
    assert record.exc_text.endswith("ZeroDivisionError: division by zero")
    assert record.stack_info is not None
    assert "no way\nTraceback" in logging.Formatter().format(record)


def test_a_message_that_is_an_object_stays_one(run: Run, records: list[logging.LogRecord]) -> None:
    run(work.log_an_object, [1])
    assert records[0].msg == {"event": "started", "count": 3}


def test_a_record_that_cannot_be_made_is_complained_of_and_hurts_nobody(
    run: Run, capsys: pytest.CaptureFixture[str], records: list[logging.LogRecord]
) -> None:
    run(work.log_wrongly, [1])
    assert records == []
    assert "--- Logging error ---" in capsys.readouterr().err


def test_a_handler_of_the_callers_that_raises_is_complained_of(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(record: logging.LogRecord) -> bool:
        raise LookupError(record.name)

    monkeypatch.setattr(logging.getLogger("world.log"), "filters", [fail])
    assert run(work.log, ["a"]) == ["a"]
    assert "LookupError: world.log" in capsys.readouterr().err


def test_configuring_logging_in_a_worker_adds_no_second_handler(
    run: Run, records: list[logging.LogRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(work.configure_and_log, [1]) == [["Forward"]]
    assert [each.getMessage() for each in records] == ["once"]
    assert "configured" not in capsys.readouterr().err


def test_a_handler_that_the_function_adds_serves_it_until_the_call_ends(
    records: list[logging.LogRecord],
) -> None:
    shutdown()
    assert [run_two(work.keeps_its_own_log, [1]) for _ in range(2)] == [["kept 1\n"]] * 2
    assert [each.getMessage() for each in records] == ["kept 1"] * 2


def test_a_worker_does_not_load_logging_before_its_function_does() -> None:
    shutdown()
    assert "logging" in sys.modules
    # In an empty context: to hand on a variable that others have set loads its module.
    found = Context().run(run_two, work.loaded, ["logging"])
    assert found == [False]


def test_where_the_caller_has_no_logging_a_record_is_printed_as_it_would_be(tmp_path: Path) -> None:
    script = f"""
import io, sys
sys.path.insert(0, {str(Path(work.__file__).parent)!r})
import world_work
from autopar import auto_map
sys.stderr = text = io.StringIO()
auto_map(world_work.log, iter(["early"]), "cpu", backend="processes", workers=1)
sys.stderr = sys.__stderr__
assert "logging" not in sys.modules
print(text.getvalue(), end="")
import logging
logging.basicConfig(stream=sys.stdout, format="%(name)s: %(message)s")
auto_map(world_work.log, iter(["late"]), "cpu", backend="processes", workers=1)
"""
    lines = run_script(script, tmp_path).stdout.splitlines()
    assert lines == ["early and early", "world.log: late and late"]


# random numbers


def test_random_numbers_differ_between_workers(run: Run, fifo: str) -> None:
    one, other = run(work.draw_where_met, [(fifo, 0), (fifo, 1)])
    assert one[0] != other[0]
    assert one[1] != other[1]


def test_random_numbers_are_random_again_after_a_seeded_call() -> None:
    shutdown()
    seeded = Seeded(work.draw, 7)
    for _ in range(2):
        pairs = list(enumerate("ab"))
        assert run_two(seeded, pairs) == [seeded(pair) for pair in pairs]
        with random_state_kept():
            seeded(pairs[-1])
            next_in_line = work.draw(None)
        assert next_in_line not in run_two(work.draw, range(10))


# native threads


def test_native_libraries_are_told_how_many_threads_a_worker_may_use(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in _native.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    each = str(max(1, affinity() // 2))
    assert run(work.getenv, list(_native.VARIABLES)) == [each] * len(_native.VARIABLES)
    assert run(os.environ.get, list(_native.VARIABLES)) == [None] * len(_native.VARIABLES)
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    assert run(work.getenv, ["MKL_NUM_THREADS", "BLIS_NUM_THREADS"]) == ["5", each]
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # the others follow it
    assert run(work.getenv, ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]) == ["7", None]


def test_a_warm_worker_keeps_loaded_libraries_to_a_new_bound() -> None:
    script = """
import sys, numpy, threadpoolctl
from autopar._transport import world
from autopar._worker.world import enter
def threads():
    return {each["num_threads"] for each in threadpoolctl.threadpool_info()}
import os
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.pop(name, None)
before, out = threads(), sys.stdout
for wanted in (1, 2, 1):
    enter(world.pack(wanted), lambda *_: None)
    assert threads() <= {wanted, min(before)}, threads()
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "2"
enter(world.pack(3), lambda *_: None)
assert threads() == {1}, threads()
print("fine", file=out)
"""
    assert run_script(script).stdout == "fine\n"
