"""A loopback web server for the benchmarks: a script, run in a process of its own.

GET /DELAY_MS/NUMBER answers with a JSON page after the delay. The port is told on standard
output; the server ends when its standard input does. One thread and an event loop, so that it
takes as little of the machine from the client as it can.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache


@lru_cache(maxsize=512)
def page(number: int) -> bytes:
    """A JSON document of some 25 KB, its own for each number."""
    rows = [
        {
            "id": number * 1000 + row,
            "name": f"row {row}",
            "tags": ["a", "b", str(row)],
            "x": row / 7,
        }
        for row in range(400)
    ]
    return json.dumps(rows).encode()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        delay_ms, number = head.split()[1].decode().strip("/").split("/")
        body = page(int(number))
        await asyncio.sleep(float(delay_ms) / 1e3)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def serve() -> None:
    for number in range(300):
        page(number)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    await ended.wait()


@contextmanager
def running() -> Iterator[str]:
    """The server's `host:port`, while it runs."""
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield f"127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.stdin.close()
        try:
            server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()


if __name__ == "__main__":
    asyncio.run(serve())
