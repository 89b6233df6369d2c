"""The standard library's managers; one made here without a context has a server of ours."""

from __future__ import annotations

from multiprocessing import managers as std
from multiprocessing.managers import BaseProxy, Namespace, Token

from .context import default_context
from .hints import Any

__all__ = ["BaseManager", "BaseProxy", "Namespace", "SharedMemoryManager", "SyncManager", "Token"]


class _OverOurs(std.BaseManager):
    """Gives a manager our default context when it is given none."""

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        **options: Any,
    ) -> None:
        ctx = ctx or default_context.get_context()
        super().__init__(address, authkey, serializer, ctx, **options)


class BaseManager(_OverOurs):
    """A manager of the types that are registered with it."""


class SyncManager(_OverOurs, std.SyncManager):
    """A manager of the usual containers and locks."""


class SharedMemoryManager(_OverOurs, std.SharedMemoryManager):
    """A manager of blocks of shared memory."""


def __getattr__(name: str) -> Any:
    return getattr(std, name)
