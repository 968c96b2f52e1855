"""Does something else while a call is being done."""

import hashlib

from autopar import auto_submit


def stretch(word: bytes, times: int = 1) -> str:
    """Computes."""
    for _ in range(times):
        word = hashlib.sha256(word).digest()
    return word.hex()[:8]


key = auto_submit(stretch, b"secret", times=100_000)
print("asking for a name meanwhile")
print(f"the key is {key.result()}")

wrong = auto_submit(stretch, "no bytes")
print(f"it failed: {wrong.exception()!r}")
