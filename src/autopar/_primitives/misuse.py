"""What a primitive raises when it is used as it cannot be meant.

multiprocessing and threading raise different errors for the same mistake. Each class here is both,
so that a program written for either catches what it expects.
"""

from __future__ import annotations


class NotHeld(ValueError, RuntimeError):
    """A lock or semaphore was released more often than it was acquired.

    multiprocessing raises `ValueError` for it, threading `RuntimeError`.
    """


class OutOfTurn(AssertionError, RuntimeError):
    """Something was done by one who may not, or before or after its time.

    A reentrant lock was released by a worker that does not own it, a condition was used without its
    lock, a worker was started twice or joined before it was started. multiprocessing raises
    `AssertionError` for it, threading `RuntimeError`.
    """
