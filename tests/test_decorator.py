"""`@parallel`: a function that is called as if undecorated, and can be mapped."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
import time

import pytest

import decorated
from autopar import AutoExecutor, Parallel, observe, parallel, shutdown
from autopar._engine import memory
from conftest import APART
from decorated import Scale

means = pytest.mark.parametrize("backend", ["serial", "threads", "processes"])


# as if undecorated


def test_it_is_called_here_as_it_was() -> None:
    assert decorated.double(4) == 8
    assert decorated.power(2, exponent=5) == 32
    with pytest.raises(TypeError):
        decorated.double()  # type: ignore[call-arg]


def test_it_looks_as_it_did() -> None:
    assert decorated.double.__name__ == "double"
    assert decorated.double.__doc__ == "Twice as much."
    assert str(inspect.signature(decorated.double)) == "(x: 'int') -> 'int'"
    assert inspect.unwrap(decorated.greet)("you") == "hello you"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="only functions can say so before 3.12")
def test_a_coroutine_function_is_still_known_as_one() -> None:
    @parallel
    async def later() -> int:
        return 1

    assert inspect.iscoroutinefunction(later)


@pytest.mark.parametrize("fn", decorated.everything(), ids=lambda fn: fn.__name__)
def test_it_is_pickled_by_its_name(fn: Parallel) -> None:
    data = pickle.dumps(fn)
    assert pickle.loads(data) is fn
    assert len(data) < 100


# maps


@means
def test_it_is_mapped_by_any_means(backend: str) -> None:
    assert decorated.double.map(range(50), backend=backend) == [*range(0, 100, 2)]
    assert decorated.power.starmap([(2, 3), (3, 2)], backend=backend) == [8, 9]
    assert list(decorated.double.imap(range(50), backend=backend)) == [*range(0, 100, 2)]


@means
def test_it_may_call_itself_and_map_others(backend: str) -> None:
    assert decorated.factorial.map([5, 6], backend=backend) == [120, 720]
    assert decorated.nested.map([2, 3], backend=backend) == [[0, 2], [0, 2, 4]]


@pytest.mark.parametrize("kind", ["auto", "cpu", "io"])
@means
def test_maps_within_maps_within_maps_end(backend: str, kind: str) -> None:
    assert decorated.levels.map([3] * 3, backend=backend, kind=kind) == [1 + 3 + 9 + 27] * 3


@means
def test_it_stands_on_other_decorators(backend: str) -> None:
    assert decorated.greet("you") == "HELLO YOU"
    assert decorated.greet.map(["a", "b"], backend=backend) == ["HELLO A", "HELLO B"]


@means
def test_methods_of_each_kind_are_mapped(backend: str) -> None:
    scale = Scale(3)
    assert scale.weigh(2) == 6
    assert scale.weigh.map([1, 2], backend=backend) == [3, 6]
    assert Scale.weigh(scale, 5) == 15
    assert (scale.shown(4), Scale.shown.map([1], backend=backend)) == ("4 kg", ["1 kg"])
    assert scale.heavy.map([9, 11], backend=backend) == [False, True]
    assert Scale.heavy(12)


def test_exceptions_may_be_results() -> None:
    found = decorated.power.map([1, "x", 3], errors="return")
    assert [found[0], type(found[1]), found[2]] == [1, TypeError, 9]


def test_it_is_submitted() -> None:
    assert decorated.power.submit(2, exponent=3).result(30) == 8
    assert decorated.nap.submit(0.01).result(30) == 0.01
    with AutoExecutor(2, kind="cpu") as executor:
        assert executor.submit(decorated.double, 4).result(30) == 8


@pytest.mark.skipif(not APART, reason="there are no worker processes here")
def test_what_it_hides_need_not_be_sent() -> None:
    """The function under the decorator is found in a worker by the decorated one's name."""
    from autopar._transport import wire

    data = wire.dumps(decorated.double.__wrapped__)
    assert len(data) < 150
    assert pickle.loads(data) is decorated.double.__wrapped__
    assert os.getpid() not in decorated.place.map(range(8), backend="processes")


# options


def test_options_are_those_of_the_decoration_unless_the_call_says_otherwise() -> None:
    with observe() as seen:
        decorated.nap.map([0.001] * 20)
        decorated.nap.map([0.001] * 20, workers=1, kind="auto")
        decorated.nap.with_(workers=2).map([0.001] * 20)
    most = [report.workers for report in seen.reports]
    assert [1 <= most[0] <= 3, most[1], 1 <= most[2] <= 2] == [True, 1, True]
    assert decorated.nap.plan([0.001]).backend == "threads"


@pytest.mark.parametrize("options", [{"n_jobs": 2}, {"errors": "return"}])
def test_an_option_that_there_is_not_is_refused_at_once(options: dict) -> None:
    with pytest.raises(TypeError, match="there is no option"):
        parallel(**options)
    with pytest.raises(TypeError, match="there is no option"):
        decorated.double.with_(**options)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="decorates functions"):
        parallel(3)  # type: ignore[call-overload]


def test_what_was_learned_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.learned, "_known", {})

    @parallel
    def wait(seconds: float) -> None:
        time.sleep(seconds)

    assert wait.profile == {}
    wait.map([0.02] * 40)
    assert wait.profile[float].wall_s > 0.01
    shutdown()


# where it is defined


PROGRAM = """
from autopar import parallel
namespace = {"__name__": "__main__"}
for factor in (2, 3):
    cell = f'''
from autopar import parallel
@parallel
def scale(x):
    return {factor} * x
print(scale.map(range(4), backend="processes"), scale(5))
'''
    exec(cell, namespace)

@parallel(kind="cpu")
def total(x):
    return x if x < 1 else x + total(x - 1)

print(total.map([3, 4]))
"""


def test_in_a_program_and_redefined_as_in_a_notebook() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=PROGRAM,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout, done.stderr) == ("[0, 2, 4, 6] 10\n[0, 3, 6, 9] 15\n[6, 10]\n", "")
