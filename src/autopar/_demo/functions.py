"""What the demo maps: importable functions, so that they travel to processes by name."""

from __future__ import annotations

import ast
import hashlib
import http.client
import zlib


def count_nodes(source: bytes) -> int:
    """How many nodes the syntax tree of `source` has."""
    return sum(1 for _ in ast.walk(ast.parse(source)))


def parse(path: str) -> int:
    """How many syntax nodes the Python file at `path` holds; computes under the GIL."""
    with open(path, "rb") as file:
        return count_nodes(file.read())


def squeeze(block: bytes) -> tuple[int, str]:
    """The compressed size and the digest of `block`; computes outside the GIL."""
    packed = zlib.compress(block, level=9)
    return len(packed), hashlib.sha256(packed).hexdigest()


def download(address: str) -> bytes:
    """The page at `host:port/path`."""
    # http.client, unlike urllib, asks no proxy for a page of this very machine.
    host, _, path = address.partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        page = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ConnectionError(f"{address} answered {answer.status} {answer.reason}")
    return page


def fetch(address: str) -> str:
    """The digest of the page at `address`; waits."""
    return hashlib.sha256(download(address)).hexdigest()


def fetch_and_parse(address: str) -> int:
    """How many syntax nodes the Python file at `address` holds; waits, then computes."""
    return count_nodes(download(address))


def add_one(number: int) -> int:
    """Next to nothing, to show that next to nothing is left alone."""
    return number + 1
