"""Tries again what may be better in a moment, and nothing else."""

from collections import Counter

from autopar import Retry, auto_map

asked: Counter[str] = Counter()


def fetch(page: str) -> str:
    """Stands for a server that is busy now and then."""
    asked[page] += 1
    if page == "missing":
        raise FileNotFoundError(page)
    if asked[page] < 3:
        raise ConnectionError("busy")
    return f"<{page}>"


patient = Retry(4, on=ConnectionError, backoff=0.01)
pages = ["home", "missing", "news"]

for page, answer in zip(pages, auto_map(fetch, pages, "io", retries=patient, errors="return")):
    print(f"{page}: {answer!r} after {asked[page]}")
