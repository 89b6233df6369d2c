"""What a program may ask of a pool and of an executor, and how it is told what it may not."""

from __future__ import annotations

import math

from .hints import Any

__all__ = ["Rules", "check_arguments", "check_keywords", "check_memory", "check_threads"]


def check_arguments(name: str, args: Any) -> tuple[Any, ...]:
    """What a function is to be called with: many a comma of a tuple of one is forgotten."""
    if type(args) is tuple:
        return args
    if not hasattr(args, "__iter__") and not hasattr(args, "__getitem__"):
        raise TypeError(f"{name} must be a tuple, such as ({args!r},), not {args!r}")
    return tuple(args)


def check_keywords(kwds: Any) -> dict[str, Any]:
    """The keywords that a function is to be called with."""
    if not hasattr(kwds, "keys"):
        raise TypeError(f"kwds must be a mapping, such as {{}}, not {kwds!r}")
    return dict(kwds)


class Rules:
    """What holds for tasks: of a pool, an executor, one of its views, or a single call."""

    __slots__ = ("is_special", "retries", "stop_running", "timeout")

    def __init__(self, timeout: Any, retries: Any, stop_running: Any = False) -> None:
        """How many seconds a task may take; how often it is run again after its worker died;
        whether Future.cancel() stops one that runs."""
        if timeout is not None and not _is_time(timeout):
            raise ValueError(
                f"timeout must be a positive number of seconds or None, not {timeout!r}"
            )
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries must be an int of at least 0, not {retries!r}")
        self.timeout = None if timeout in (None, math.inf) else float(timeout)
        self.retries = retries
        self.stop_running = bool(stop_running)
        self.is_special = self.timeout is not None or self.retries > 0 or self.stop_running

    def __repr__(self) -> str:
        limits = f"timeout={self.timeout}, retries={self.retries}"
        return f"Rules({limits}, stop_running={self.stop_running})"

    def changed(self, timeout: Any, retries: Any, stop_running: Any = ...) -> Rules:
        """These rules, but for what is not `...`."""
        if timeout is ... and retries is ... and stop_running is ...:
            return self
        return Rules(
            self.timeout if timeout is ... else timeout,
            self.retries if retries is ... else retries,
            self.stop_running if stop_running is ... else stop_running,
        )


def _is_time(timeout: Any) -> bool:
    try:
        return float(timeout) > 0
    except (TypeError, ValueError, OverflowError):
        return False


def check_memory(memory: Any) -> tuple[int, int] | None:
    """Bytes of its own that a worker may have after a task; bytes that it does not get."""
    if memory is None:
        return None
    soft, hard = memory if isinstance(memory, tuple) and len(memory) == 2 else (memory, memory)
    if not (isinstance(soft, int) and isinstance(hard, int) and 0 < soft <= hard):
        raise ValueError(
            "max_memory_per_child must be a positive number of bytes, or a pair of two of which "
            f"the first is not the larger one, not {memory!r}"
        )
    return (soft, hard) if isinstance(memory, tuple) else (soft, 2 * soft)


def check_threads(threads: Any) -> Any:
    """How many threads BLAS and OpenMP may start in a worker; "share": its share of processors."""
    if threads is None or threads == "share" or (isinstance(threads, int) and threads > 0):
        return threads
    raise ValueError(f'threads must be "share", a positive int or None, not {threads!r}')
