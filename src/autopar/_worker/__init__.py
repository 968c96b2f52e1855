"""What runs in a process worker: the helper that forks workers, and the worker itself.

Standard library only, and little of it: every import here is time a cold call waits.
"""
