"""The standard library's managers; the server of one made here without a context is a process of ours."""

from multiprocessing import managers as std
from multiprocessing.managers import BaseProxy, Namespace, Token

from .context import default_context

__all__ = ["BaseManager", "BaseProxy", "Namespace", "SharedMemoryManager", "SyncManager", "Token"]


class _OverOurs:
    """Gives a manager our default context when it is given none."""

    def __init__(self, address=None, authkey=None, serializer="pickle", ctx=None, **options):
        ctx = ctx or default_context.get_context()
        super().__init__(address, authkey, serializer, ctx, **options)


class BaseManager(_OverOurs, std.BaseManager):
    """A manager of the types that are registered with it."""


class SyncManager(_OverOurs, std.SyncManager):
    """A manager of the usual containers and locks."""


class SharedMemoryManager(_OverOurs, std.SharedMemoryManager):
    """A manager of blocks of shared memory."""


def __getattr__(name):
    return getattr(std, name)
