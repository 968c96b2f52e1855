"""Submits calls one by one, and has the means found for each function."""

import hashlib
import time
from concurrent.futures import as_completed

from autopar import AutoExecutor, Pool


def stretch(word):
    """Computes."""
    for _ in range(20_000):
        word = hashlib.sha256(word).digest()
    return word.hex()[:8]


def ask(question):
    """Waits."""
    time.sleep(0.05)
    return f"{question}!"


with AutoExecutor() as executor:
    keys = [executor.submit(stretch, b"%d" % number) for number in range(8)]
    answers = [executor.submit(ask, question) for question in ("how", "when")]
    print(sorted(future.result() for future in as_completed(answers)))
    print([future.result() for future in keys][:2])

with Pool(kind="io") as pool:
    print(pool.map(ask, ["who", "why"]))
    for answer in pool.imap(ask, ["what", "where"]):
        print(answer)
