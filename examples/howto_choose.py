from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from time import sleep

from autopar import auto_map, observe


def wait(seconds: float) -> float:
    sleep(seconds)
    return seconds


def digest(size_bytes: int) -> str:
    return sha256(bytes(size_bytes)).hexdigest()


with observe() as seen:
    # say what the work is, and let the machine decide what that means
    auto_map(wait, [0.01] * 20, kind="io")
    auto_map(digest, [1_000_000] * 20, kind="cpu")

    # name the means, and bound them
    auto_map(wait, [0.01] * 20, backend="threads", workers=5)
    auto_map(digest, [1_000_000] * 20, backend="processes", workers=2, chunksize=4)
    auto_map(digest, [1_000_000] * 20, backend="serial")

    # or bring an executor: it stays yours, open, and yours to shut down
    with ThreadPoolExecutor(4) as executor:
        auto_map(wait, [0.01] * 20, backend=executor)

for report in seen.reports:
    print(f"{report.backend}, {report.workers} workers: {report.items} items")
