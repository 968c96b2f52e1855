"""The two ends of a pipe talk to each other wherever they are, and say when the other is gone."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from typing import Any

import pytest

import primitives_work as work
from autopar import Event, Pipe, TransportError, auto_map
from autopar._primitives import pipes

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def no_helpers_stay() -> Iterator[None]:
    yield
    work.end_standard_helpers()


def test_what_one_end_sends_the_other_receives() -> None:
    here, there = Pipe()
    for message in (1, "two", [3], b"4" * 1000):
        here.send(message)
        assert there.poll(30)
        assert there.recv() == message
        there.send(message)
        assert here.recv() == message
    here.send_bytes(b"abcdef", 2, 3)
    assert there.recv_bytes() == b"cde"
    here.send_bytes(b"abc")
    buffer = bytearray(5)
    assert there.recv_bytes_into(buffer, 1) == 3
    assert buffer == b"\0abc\0"
    assert not there.poll()
    assert not there.poll(0.02)
    here.send(1)
    assert wait([there], 30) == [there]


def test_without_duplex_one_end_sends_and_the_other_receives() -> None:
    receiver, sender = Pipe(duplex=False)
    assert (receiver.readable, receiver.writable) == (True, False)
    assert (sender.readable, sender.writable) == (False, True)
    sender.send(1)
    assert receiver.recv() == 1
    with pytest.raises(OSError, match="read-only"):
        receiver.send(1)
    with pytest.raises(OSError, match="write-only"):
        sender.recv()


@pytest.mark.parametrize("duplex", [True, False])
def test_an_end_that_is_closed_is_told_to_the_other(duplex: bool) -> None:
    receiver, sender = Pipe(duplex)
    sender.send("last")
    sender.close()
    assert sender.closed
    assert receiver.recv() == "last"
    with pytest.raises(EOFError):
        receiver.recv()
    with pytest.raises(OSError, match="closed"):
        sender.send(1)
    receiver, sender = Pipe(duplex)
    receiver.close()
    with pytest.raises(BrokenPipeError):
        sender.send(1)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_process_of_the_standard_library_takes_an_end(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    here, there = Pipe()
    process = context.Process(target=work.echo, args=(there,))
    process.start()
    there.close()
    for message in range(5):
        here.send(message)
        assert here.recv() == message
    here.send(None)
    with pytest.raises(EOFError):
        here.recv()
    process.join(30)
    assert process.exitcode == 0


def test_a_worker_takes_an_end_that_is_closed_here_at_once() -> None:
    here, there = Pipe()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(auto_map, work.echo, [there], backend="processes")
        here.send("hello")
        assert here.recv() == "hello"
        there.close()
        here.send(None)
        future.result(30)
        assert here.poll(30)
        with pytest.raises(EOFError):
            here.recv()


def test_the_death_of_the_other_end_is_seen() -> None:
    here, there = Pipe()
    ready = Event()

    def keep() -> None:
        here.close()
        ready.set()
        signal.pause()

    pid = work.forked(keep)
    assert ready.wait(30)
    there.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with pytest.raises(EOFError):
        here.recv()


def test_what_was_sent_and_never_arrived_is_closed_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = Pipe()
    sent = pickle.dumps(there)
    again = pickle.loads(sent)
    here.send(5)
    assert again.recv() == 5
    again.close()
    monkeypatch.setattr(pipes, "LINGER_S", -1.0)
    there.close()
    with pytest.raises(EOFError):
        here.recv()
    with pytest.raises(TransportError, match="closed"):
        pickle.loads(sent)


def test_what_went_with_its_sender_cannot_arrive() -> None:
    pid = work.forked(_refused_to, _after_the_end_of_a_process())
    assert os.waitpid(pid, 0)[1] == 0


def _after_the_end_of_a_process() -> bytes:
    receiver, sender = os.pipe()
    pid = work.forked(lambda: os.write(sender, pickle.dumps(Pipe()[0])))
    os.waitpid(pid, 0)
    sent = os.read(receiver, 10_000)
    os.close(receiver)
    os.close(sender)
    return sent


def _refused_to(sent: bytes) -> None:
    with pytest.raises(TransportError):
        pickle.loads(sent)


def test_a_program_exits_silently_with_ends_it_has_sent_and_not_closed() -> None:
    program = """
import autopar
ends = autopar.auto_map(lambda _: autopar.Pipe(), range(3), backend="processes")
autopar.auto_map(lambda pair: pair[0].send(1), ends, backend="processes", workers=2)
assert [there.recv() for _, there in ends] == [1, 1, 1]
"""
    command = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_large_messages_arrive_whole() -> None:
    here, there = Pipe()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(here.send, b"x" * 5_000_000)
        assert there.recv() == b"x" * 5_000_000
        future.result(30)
