"""A small web server on loopback: a script, run in a process of its own.

    python server.py DELAY_S FILE...

It serves the files as /0, /1 and so on, each DELAY_S seconds after it was asked, as a site would
that has a database to ask; it writes its port on standard output, and ends when its standard
input does, so it never outlives whoever started it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class PageServer(ThreadingHTTPServer):
    """Serves what is in memory after a delay; one thread a request."""

    daemon_threads = True
    request_queue_size = 512  # the default of 5 makes wide clients wait a second to connect again

    def __init__(self, delay_s: float, pages: list[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), PageHandler)
        self.delay_s = delay_s
        self.pages = pages

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that left early."""


class PageHandler(BaseHTTPRequestHandler):
    """Answers GET /NUMBER."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, PageServer)
        time.sleep(server.delay_s)
        number = self.path.removeprefix("/")
        if not number.isdecimal() or int(number) >= len(server.pages):
            self.send_error(404)
            return
        page = server.pages[int(number)]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    delay_s, *paths = sys.argv[1:]
    server = PageServer(float(delay_s), [Path(path).read_bytes() for path in paths])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # requests still asleep have nobody left to answer


if __name__ == "__main__":
    main()
