"""Fetch pages from a web server that takes its time.

The work is waiting, so many fetches can wait at once. The server is started here, in a process of
its own, and answers each request after 20 ms.

    python fetch_pages.py [--pages N]
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from autopar import auto_map, observe

ANSWERS_AFTER_S = 0.02


class SlowPages(BaseHTTPRequestHandler):
    """Answers /7 with a page about 7."""

    def do_GET(self) -> None:
        time.sleep(ANSWERS_AFTER_S)
        page = f"<h1>Page {self.path[1:]}</h1>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class PagesServer(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 turns away clients that come all at once


def serve() -> None:
    """Serve until standard input ends, which it does when whoever started us is gone."""
    with PagesServer(("127.0.0.1", 0), SlowPages) as server:
        print(server.server_port, flush=True)
        Thread(target=server.serve_forever).start()
        sys.stdin.read()
        server.shutdown()


@contextmanager
def pages_server() -> Iterator[int]:
    """The port of a server that lives as long as the block."""
    command = [sys.executable, __file__, "--serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())


def fetch(port: int, number: int) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", f"/{number}")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def compare(pages: int) -> None:
    with pages_server() as port:

        def page(number: int) -> str:
            return fetch(port, number)

        with observe() as seen:
            together = auto_map(page, range(pages))
        one_by_one = [page(number) for number in range(pages)]

    print(f"{len(together)} pages, the last one {together[-1]}")
    print(f"{seen.reports[0].backend}: {seen.reports[0].because}")
    if together != one_by_one:
        sys.exit("this is not what the plain loop gives")
    print("same as the plain loop")


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch pages from a slow server.")
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--serve", action="store_true", help="be the server")
    options = parser.parse_args()
    if options.serve:
        serve()
    else:
        compare(options.pages)


if __name__ == "__main__":
    main()
