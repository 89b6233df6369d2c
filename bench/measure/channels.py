"""Queues as the benchmarks see them: who sends asks for a function, who receives for another."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

Put = Callable[[Any], object]
Get = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Plain:
    """The standard library's queue, or ours."""

    queue: Any
    stays: ClassVar[bool] = False

    def sender(self) -> Put:
        put: Put = self.queue.put
        return put

    def receiver(self) -> Get:
        get: Get = self.queue.get
        return get


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the sides: its context and how it makes a channel."""

    context: Any
    ours: bool = False

    def channel(self, most: int = 0, _sort: str = "int", _size: int = 16) -> Any:
        """At most MOST messages (0: no bound) of one SORT (int, bytes, array) and SIZE bytes.

        Here the sort and the size do not matter; for a rival they do.
        """
        return Plain(self.context.Queue(most))
