"""The standard library's shared ctypes; one made here without a context has a lock of ours."""

from __future__ import annotations

from multiprocessing import sharedctypes as std
from multiprocessing.sharedctypes import RawArray, RawValue, copy

from .context import default_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

_std: Any = std


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """Return a shared value and its lock."""
    return _std.Value(typecode_or_type, *args, lock=lock, ctx=_given(ctx))


def Array(
    typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """Return a shared array and its lock."""
    return _std.Array(typecode_or_type, size_or_initializer, lock=lock, ctx=_given(ctx))


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Return OBJ, a shared ctypes object, wrapped with a lock."""
    return _std.synchronized(obj, lock, _given(ctx))


def _given(context: Any) -> Any:
    return context or default_context.get_context()


def __getattr__(name: str) -> Any:
    return getattr(std, name)
