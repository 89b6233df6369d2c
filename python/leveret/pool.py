"""The standard library's pools; a pool made here without a context has ours."""

from multiprocessing import pool as std
from multiprocessing.pool import ThreadPool

from .context import default_context

__all__ = ["Pool", "ThreadPool"]


class Pool(std.Pool):
    """A pool of worker processes."""

    def __init__(
        self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None
    ):
        context = context or default_context.get_context()
        super().__init__(processes, initializer, initargs, maxtasksperchild, context)


def __getattr__(name):
    return getattr(std, name)
