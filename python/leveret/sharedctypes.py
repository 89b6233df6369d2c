"""The standard library's shared ctypes; the lock of one made here without a context is ours."""

from multiprocessing import sharedctypes as std
from multiprocessing.sharedctypes import RawArray, RawValue, copy

from .context import default_context

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]


def Value(typecode_or_type, *args, lock=True, ctx=None):
    """Return a shared value and its lock."""
    return std.Value(typecode_or_type, *args, lock=lock, ctx=ctx or default_context.get_context())


def Array(typecode_or_type, size_or_initializer, *, lock=True, ctx=None):
    """Return a shared array and its lock."""
    ctx = ctx or default_context.get_context()
    return std.Array(typecode_or_type, size_or_initializer, lock=lock, ctx=ctx)


def synchronized(obj, lock=None, ctx=None):
    """Return OBJ, a shared ctypes object, wrapped with a lock."""
    return std.synchronized(obj, lock, ctx or default_context.get_context())


def __getattr__(name):
    return getattr(std, name)
