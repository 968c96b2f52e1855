from time import perf_counter

from spelling import TYPED, correct

start_s = perf_counter()
corrected = [correct(typed) for typed in TYPED]
print(f"{len(corrected)} words in {perf_counter() - start_s:.2f} s")
