"""The interpreter's tests of multiprocessing, on `autopar.threads`."""

from .suites import take_over

take_over(globals(), "threads")
