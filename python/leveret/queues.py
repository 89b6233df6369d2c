"""The standard library's queues over our locks.

A unit of our `BoundedSemaphore` comes back when the process that took it dies. The standard queue takes a unit for each
message, and whoever receives the message gives it back: there the death of a sender must not give back anything.
So these queues count with a plain semaphore.
"""

from multiprocessing import queues as std
from multiprocessing.queues import Empty, Full, SimpleQueue

from . import dropin

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]


class _Counting:
    """A context whose bounded semaphore is a plain one."""

    def __init__(self, context):
        self._context = context

    def __getattr__(self, name):
        return getattr(self._context, name)

    def BoundedSemaphore(self, value):
        return self._context.Semaphore(value)


class Queue(std.Queue):
    """A queue of messages, sent by a thread of the sender."""

    def __init__(self, maxsize=0, *, ctx):
        super().__init__(maxsize, ctx=_Counting(ctx))


class JoinableQueue(std.JoinableQueue, Queue):
    """A queue whose messages are done only when task_done() says so."""

    def __init__(self, maxsize=0, *, ctx):
        super().__init__(maxsize, ctx=_Counting(ctx))


dropin.complete(std.__name__)
