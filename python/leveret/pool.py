"""The standard library's pools; a pool made here without a context has ours."""

from __future__ import annotations

from multiprocessing import pool as std
from multiprocessing.pool import ThreadPool

from .context import default_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["Pool", "ThreadPool"]


class Pool(std.Pool):
    """A pool of worker processes."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        context = context or default_context.get_context()
        super().__init__(processes, initializer, initargs, maxtasksperchild, context)


def __getattr__(name: str) -> Any:
    return getattr(std, name)
