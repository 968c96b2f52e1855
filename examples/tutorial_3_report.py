from autopar import auto_map, observe
from spelling import TYPED, correct

with observe() as seen:
    auto_map(correct, TYPED)

print(seen.reports[0])
