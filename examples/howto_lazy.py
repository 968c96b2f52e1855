"""Takes results one after another, from inputs that have no end."""

import itertools
import time

from autopar import auto_imap


def measure(number):
    """Asks a slow instrument."""
    time.sleep(0.01)
    return number * number


total = 0
for square in auto_imap(measure, itertools.count(1)):
    total += square
    if total > 1000:
        break
print("enough:", total)

for quick in auto_imap(measure, [5, 6, 7], "io", ordered=False):
    print("there is", quick)
