"""How many requests are sent at once to real servers, on loopback: full ones, and that refuse.

Times are only compared with those of a fixed width, measured beside them; see `serving`.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from autopar import auto_map
from autopar._engine import memory
from conftest import misled
from serving import serving

kinds = pytest.mark.parametrize("kind", ["auto", "io"])


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is the first of its function."""
    monkeypatch.setattr(memory.learned, "_known", {})


def seconds(run: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    run()
    return time.perf_counter() - began_s


@kinds
def test_a_server_that_degrades_beyond_its_slots_is_not_flooded_for_long(kind: str) -> None:
    """With m requests there, it gets 8 / m of its work done: 100 are 12 times slower than 8.

    On a busy machine it may take the ramp some seconds to see that, so there is that much to do.
    """
    slots, answer_s, count = 8, 0.005, 4000

    def trial() -> tuple[float, float] | None:
        memory.learned._known.clear()
        with serving(slots, answer_s, 1.0) as served, ThreadPoolExecutor(slots) as pool:
            fixed_s = seconds(lambda: list(pool.map(served.ask, range(count))))
        with serving(slots, answer_s, 1.0) as served:
            took_s = seconds(lambda: auto_map(served.ask, range(count), kind))
        assert max(served.present) <= 100
        in_the_end = statistics.median(served.present[-count // 8 :])
        well = in_the_end <= 4 * slots and took_s <= 4 * fixed_s
        return None if well else (in_the_end, took_s / fixed_s)

    assert not misled(trial)


@pytest.mark.parametrize("workers", [3, 20])
def test_no_more_requests_are_there_than_workers(workers: int) -> None:
    with serving(8, 0.005, 0.5) as served:
        auto_map(served.ask, range(200), "io", workers=workers)
    assert 1 < max(served.present) <= workers


@kinds
def test_a_server_with_many_slots_is_asked_by_many(kind: str) -> None:

    def trial() -> int | None:
        memory.learned._known.clear()
        with serving(200, 0.050) as served:
            auto_map(served.ask, range(600), kind)
        assert max(served.present) <= 100
        return None if max(served.present) > 60 else max(served.present)

    assert not misled(trial)


@kinds
def test_a_server_that_resets_what_is_too_much_ends_the_call_at_the_first_that_it_does(
    kind: str,
) -> None:
    with serving(8, 0.020, most=16) as served, pytest.raises(ConnectionResetError):
        auto_map(served.ask, range(5000), kind)
    assert len(served.present) < 2500


@kinds
def test_a_port_that_refuses_is_not_knocked_at_by_ever_more(kind: str) -> None:
    """32 are there at once; twice as many if the machine was so busy that nothing came back."""
    at_once, most, lock = 0, 0, threading.Lock()

    def knock(_: int) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        try:
            time.sleep(0.005)
            socket.create_connection(("127.0.0.1", port), 30).close()
        finally:
            with lock:
                at_once -= 1

    with socket.socket() as silent:  # bound, and nobody listens
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        found = auto_map(knock, range(1000), kind, errors="return")
        with pytest.raises(ConnectionRefusedError):
            auto_map(knock, range(1000), kind)
    assert all(isinstance(error, ConnectionRefusedError) for error in found)
    assert most <= 64
