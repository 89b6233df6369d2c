"""For tests of queues: what they put, and what is left in them."""

from typing import Any

import leveret
import pytest
from leveret.queues import JoinableQueue, Queue, SimpleQueue

MIB = 1 << 20
both = pytest.mark.parametrize("kind", [Queue, JoinableQueue])
# Those that have put_many() and get_many(): an object with a channel in it, and a pipe.
each = pytest.mark.parametrize("kind", [Queue, leveret.SimpleQueue], ids=["Queue", "SimpleQueue"])


# A pipe has no room for it; but for some that are long, get_many() gets hundreds of them at once.
STREAM = [
    (number, b"x" * (20_000 if number % 500 == 499 else number % 900)) for number in range(7000)
]


class Bad:
    """Cannot be unpickled."""

    def __init__(self, code: str = "1 // 0") -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return eval, (self.code,)


class Unpicklable:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise LookupError("not me")


def drained(queue: Queue | SimpleQueue) -> list[Any]:
    """What is in it; nobody else gets any more."""
    found = []
    while not queue.empty():
        found.append(queue.get())
    return found
