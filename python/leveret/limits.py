"""What a program may ask of a pool and of an executor, and how it is told what it may not."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["check_arguments", "check_limits", "check_memory", "check_threads"]


def check_arguments(name: str, args: Any) -> tuple[Any, ...]:
    """What a function is to be called with: many a comma of a tuple of one is forgotten."""
    if type(args) is tuple:
        return args
    if not hasattr(args, "__iter__") and not hasattr(args, "__getitem__"):
        raise TypeError(f"{name} must be a tuple, such as ({args!r},), not {args!r}")
    return tuple(args)


def check_limits(timeout: Any, retries: Any) -> tuple[float | None, int]:
    """How many seconds a task may take; how many times it is run again after its worker died."""
    if timeout is not None and not _is_time(timeout):
        raise ValueError(f"timeout must be a positive number of seconds or None, not {timeout!r}")
    if not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries must be an int of at least 0, not {retries!r}")
    return None if timeout is None else float(timeout), retries


def _is_time(timeout: Any) -> bool:
    try:
        return float(timeout) > 0 and math.isfinite(timeout)
    except (TypeError, ValueError):
        return False


def check_memory(memory: Any) -> tuple[int, int] | None:
    """Bytes of its own that a worker may have after a task; bytes that it does not get."""
    if memory is None:
        return None
    soft, hard = memory if isinstance(memory, tuple) else (memory, 2 * memory)
    if not (isinstance(soft, int) and isinstance(hard, int) and 0 < soft <= hard):
        raise ValueError(
            "max_memory_per_child must be a positive number of bytes, or a pair of two of which "
            f"the first is not the larger one, not {memory!r}"
        )
    return soft, hard


def check_threads(threads: Any) -> Any:
    """How many threads BLAS and OpenMP may start in a worker; "share": its share of processors."""
    if threads is None or threads == "share" or (isinstance(threads, int) and threads > 0):
        return threads
    raise ValueError(f'threads must be "share", a positive int or None, not {threads!r}')
