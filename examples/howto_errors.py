from math import sqrt

from autopar import auto_map

numbers = [4.0, -1.0, 9.0, -16.0]

# the default: stop at the first failure, as the loop would
try:
    auto_map(sqrt, numbers)
except ValueError as error:
    print("raised:", error)

# every answer, failures in their places
answers = auto_map(sqrt, numbers, errors="return")
print("good:", [answer for answer in answers if not isinstance(answer, Exception)])

# everything runs, then all failures at once
try:
    auto_map(sqrt, numbers, errors="group")
except* ValueError as group:
    print("failed:", len(group.exceptions))
