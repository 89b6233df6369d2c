"""For tests of queues: what they put, and what is left in them."""

from typing import Any

import pytest
from leveret.queues import JoinableQueue, Queue

MIB = 1 << 20
both = pytest.mark.parametrize("kind", [Queue, JoinableQueue])


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


def drained(queue: Queue) -> list[Any]:
    found = []
    while not queue.empty():
        found.append(queue.get(False))
    return found
