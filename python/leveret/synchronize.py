"""Locks, semaphores, conditions, events and barriers between processes.

    process A                    the arena                    process B
    lock = Lock() ------------>  one word: free, or who
                                 holds it
    lock.acquire() ----------->  "A"
                                      <---------------------- lock.acquire()  waits for the word,
    killed                            "A" is dead                              and for A's life
                                 "B", abandoned  ------------> True, and an AbandonedLockWarning

The classes are written in C, in `leveret._core`. They behave as those of the standard library do;
they may also be pickled at any time into any process of the session, and they outlive the death of
whoever holds them or waits for them.
"""

import threading

from . import _core
from ._core import (
    AbandonedLockWarning,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
    SemLock,
)

__all__ = [
    "AbandonedLockWarning",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Lock",
    "RLock",
    "SemLock",
    "Semaphore",
]

SEM_VALUE_MAX = 2**31 - 1
RECURSIVE_MUTEX, SEMAPHORE = 0, 1


class Barrier(_core.Barrier, threading.Barrier):
    """So many processes or threads go on together, or none of them does.

    It is a `threading.Barrier`, as the standard class is, in name: all of its methods are ours.
    """

    __slots__ = ()
