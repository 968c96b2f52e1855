"""A loopback server with few slots, for the tests of how many requests are sent at once: a script.

    python serving.py SLOTS ANSWER_S STRAIN MOST

Up to SLOTS requests at once are served at full speed, each in ANSWER_S. With m of them, all
together are served at (SLOTS / m) ** STRAIN of it; the connection of one more than MOST is reset.
The port is told on standard output. At the end of its standard input, the server writes how many
requests were there when each began (0 for those that were reset) and ends. One thread, which
sleeps most of the time: what it serves is time.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """Requests that share what the server has to give; served_s: what each has had of it."""

    def __init__(self, slots: int, strain: float) -> None:
        self._slots, self._strain = slots, strain
        self._jobs: list[tuple[float, int, asyncio.Event]] = []
        self._served_s, self._at_s = 0.0, time.monotonic()
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    async def serve(self, work_s: float) -> None:
        """Returns when so much work has been done for this request."""
        self._advance()
        done = asyncio.Event()
        self._count += 1
        heapq.heappush(self._jobs, (self._served_s + work_s, self._count, done))
        self._plan()
        await done.wait()

    def _pace(self) -> float:
        over = len(self._jobs) / self._slots
        return 1.0 if over <= 1 else over ** -(1 + self._strain)

    def _advance(self) -> None:
        now_s = time.monotonic()
        self._served_s += (now_s - self._at_s) * self._pace()
        self._at_s = now_s

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._jobs:
            left_s = max(0.0, self._jobs[0][0] - self._served_s) / self._pace()
            self._timer = asyncio.get_running_loop().call_later(left_s, self._finish)

    def _finish(self) -> None:
        self._advance()
        while self._jobs and self._jobs[0][0] <= self._served_s + 1e-6:
            heapq.heappop(self._jobs)[2].set()
        self._plan()


async def serve(slots: Slots, answer_s: float, most: int) -> None:
    present: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refused = len(slots) >= most
        present.append(0 if refused else len(slots) + 1)
        if refused:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            await slots.serve(answer_s)
            writer.write(b"!")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    await ended.wait()
    print(json.dumps(present), flush=True)


class Served:
    """A running server; present: once it has ended, how many requests each found, itself too."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.present: list[int] = []

    def ask(self, item: int) -> int:
        """The item, once the server has answered."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as sock:
            if sock.recv(1) != b"!":
                raise ConnectionResetError("no answer")
        return item


@contextmanager
def serving(
    slots: int, answer_s: float, strain: float = 0.0, most: int = 1 << 30
) -> Iterator[Served]:
    """A server in a process of its own, while it runs."""
    server = subprocess.Popen(
        [sys.executable, __file__, str(slots), str(answer_s), str(strain), str(most)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        served = Served(int(server.stdout.readline()))
        yield served
        server.stdin.close()
        served.present = json.loads(server.stdout.readline())
    finally:
        server.kill()
        server.wait()
        server.stdin.close()
        server.stdout.close()


if __name__ == "__main__":
    asyncio.run(
        serve(Slots(int(sys.argv[1]), float(sys.argv[3])), float(sys.argv[2]), int(sys.argv[4]))
    )
