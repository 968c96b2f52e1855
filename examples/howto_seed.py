import random

from autopar import auto_map


def throw(dice: int) -> int:
    return sum(random.randint(1, 6) for _ in range(dice))


once = auto_map(throw, [10] * 200, seed=2024)
again = auto_map(throw, [10] * 200, seed=2024, backend="processes", workers=2)
other = auto_map(throw, [10] * 200, seed=2025)
print("same seed, same numbers:", once == again)
print("other seed, same numbers:", once == other)
