"""The demo's five workloads, one for each way in which work can behave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from autopar._demo import functions, material
from autopar._demo.site import web_site

PAGE_DELAY_S = 0.02  # a near site; most are slower
PAGES = 120
PAGE_BYTES = (8_000, 60_000)
BLOCKS = 20
BLOCK_BYTES = 3 << 18  # long enough that a thread is out of the GIL for tens of milliseconds
NUMBERS = 1_000_000


@dataclass(frozen=True)
class Workload:
    """One function, its items, and what autopar ought to make of it.

    behaviour: how the function spends its time, as a short phrase.
    suits: the backends that are right for it on a machine with several CPUs.
    repeats: how often loop and autopar take turns; the quickest turn of each counts.
    """

    name: str
    what: str
    behaviour: str
    fn: Callable[[Any], Any]
    items: Sequence[Any]
    suits: frozenset[str]
    repeats: int = 1


NAMES = ("parse", "compress", "fetch", "fetch-parse", "trivial")


@contextmanager
def workloads(names: Sequence[str], *, gil: bool) -> Iterator[list[Workload]]:
    """The named workloads; the web server runs inside the `with` if one of them needs it.

    gil: whether the interpreter has a global lock, which decides what suits.
    """
    files = material.source_files()
    pages = material.of_size(files, *PAGE_BYTES)[:PAGES]
    with ExitStack() as stack:
        addresses: list[str] = []
        if "fetch" in names or "fetch-parse" in names:
            addresses = stack.enter_context(web_site(pages, PAGE_DELAY_S))
        under_gil = "processes" if gil else "threads"
        every = [
            Workload(
                "parse",
                f"parse {len(files)} source files",
                "computes under the GIL",
                functions.parse,
                [str(path) for path in files],
                frozenset({under_gil}),
            ),
            Workload(
                "compress",
                f"compress and hash {BLOCKS} blocks of {BLOCK_BYTES >> 10} KB",
                "computes outside the GIL",
                functions.squeeze,
                material.blocks(files, BLOCK_BYTES, BLOCKS),
                frozenset({"threads"}),
            ),
            Workload(
                "fetch",
                f"fetch {len(pages)} pages",
                "waits",
                functions.fetch,
                addresses,
                frozenset({"threads"}),
            ),
            Workload(
                "fetch-parse",
                f"fetch and parse {len(pages)} pages",
                "waits and computes",
                functions.fetch_and_parse,
                addresses,
                frozenset({"threads", "hybrid", under_gil}),
            ),
            Workload(
                "trivial",
                f"add one to {NUMBERS:,} numbers",
                "hardly anything",
                functions.add_one,
                range(NUMBERS),
                frozenset({"serial"}),
                repeats=5,
            ),
        ]
        yield [workload for workload in every if workload.name in names]
