"""The memory of shared values and arrays: blocks of the arena, behind the standard name.

The standard library's own heap is still there for those who use its other names.
"""

from __future__ import annotations

from ._core import BufferWrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BufferWrapper"]


def __getattr__(name: str) -> Any:
    """The standard module's, for what is not ours."""
    if name.startswith("__"):  # asked for by the import system: nobody wants the module for that
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from multiprocessing import heap as std

    return getattr(std, name)
