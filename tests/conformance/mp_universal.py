"""The interpreter's tests of multiprocessing, on the universal names."""

from .suites import take_over

take_over(globals(), "universal")
