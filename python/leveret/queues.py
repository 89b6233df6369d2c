"""The standard library's queues over our semaphores.

What a queue keeps inside must not be told like what a program keeps:

* It counts with a plain semaphore. A unit of our `BoundedSemaphore` comes back when the process
  that took it dies; but the standard queue takes a unit for each message, and whoever receives
  the message gives it back.
* It locks with a semaphore of one unit, which does come back, and without a warning: a worker
  that waits for a message holds this lock, and pools end their workers by killing them.
"""

from __future__ import annotations

from multiprocessing import queues as std
from queue import Empty, Full

from . import dropin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]


class _Inside:
    """The context that a queue makes its own locks from."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Lock(self) -> Any:
        return self._context.BoundedSemaphore(1)

    def BoundedSemaphore(self, value: int) -> Any:
        return self._context.Semaphore(value)


def _inside(context: Any) -> Any:
    """CONTEXT for the inside of a queue; said twice where one standard class calls another."""
    return context if isinstance(context, _Inside) else _Inside(context)


class SimpleQueue(std.SimpleQueue):  # type: ignore[type-arg]
    """A queue with nothing but get() and put(): a pipe and two locks."""

    def __init__(self, *, ctx: Any) -> None:
        super().__init__(ctx=_inside(ctx))


class Queue(std.Queue):  # type: ignore[type-arg]
    """A queue of messages, sent by a thread of the sender."""

    def __init__(self, maxsize: int = 0, *, ctx: Any) -> None:
        super().__init__(maxsize, ctx=_inside(ctx))


class JoinableQueue(std.JoinableQueue, Queue):  # type: ignore[type-arg]
    """A queue whose messages are done only when task_done() says so."""

    def __init__(self, maxsize: int = 0, *, ctx: Any) -> None:
        super().__init__(maxsize, ctx=_inside(ctx))


dropin.complete(std.__name__)


def __getattr__(name: str) -> Any:
    """The standard module's, for what is not ours."""
    return getattr(std, name)
