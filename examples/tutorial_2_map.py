from time import perf_counter

from autopar import auto_map
from spelling import TYPED, correct

start_s = perf_counter()
corrected = auto_map(correct, TYPED)
print(f"{len(corrected)} words in {perf_counter() - start_s:.2f} s")

assert corrected == [correct(typed) for typed in TYPED]
