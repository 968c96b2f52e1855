"""The interpreter's tests of multiprocessing, on `autopar.processes`."""

from .suites import take_over

take_over(globals(), "processes")
