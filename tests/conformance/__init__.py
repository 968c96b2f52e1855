"""The interpreter's own tests, run against autopar's primitives instead of the standard library's.

`python -m conformance.run ROOM` runs them, from the folder above this one; `test_primitives.py`
does so for pytest. The files are those the interpreter was installed with.
"""
