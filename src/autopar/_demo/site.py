"""Starting and ending the demo's web server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = Path(__file__).with_name("server.py")


@contextmanager
def web_site(pages: list[Path], delay_s: float) -> Iterator[list[str]]:
    """The pages' addresses, `host:port/number`, while the server runs in another process."""
    command = [sys.executable, "-I", str(SERVER), str(delay_s), *map(str, pages)]
    # A session of its own: Ctrl-C in a terminal reaches the demo alone, which then ends the server
    # by closing its standard input.
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().decode().strip()
        if not port:
            raise ConnectionError("the demo's web server did not start")
        yield [f"127.0.0.1:{port}/{number}" for number in range(len(pages))]
    finally:
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.close()
    try:
        server.wait(timeout=5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    server.stdout.close()
