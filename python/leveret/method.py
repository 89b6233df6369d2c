"""Start methods by name, and which one is the default. Imports nothing of multiprocessing."""

import os
import sys

__all__ = [
    "ENVIRONMENT",
    "METHODS",
    "check_method",
    "chosen",
    "default_method",
    "set_default_method",
]

METHODS = ("warm", "fork", "spawn", "forkserver")
ENVIRONMENT = "LEVERET_START_METHOD"

_chosen: list[str] = []  # empty, or the one that was chosen


def check_method(method: object) -> None:
    """Raise a ValueError that names the start methods there are, if METHOD is none of them."""
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise ValueError(f"cannot find context for {method!r}: the start methods are {known}")


def set_default_method(method: str | None) -> None:
    """Choose the default; None leaves it to the environment and to the running Python."""
    if method is not None:
        check_method(method)
    _chosen[:] = [] if method is None else [method]


def chosen() -> str | None:
    """What set_default_method() was called with."""
    return _chosen[0] if _chosen else None


def default_method() -> str:
    """The method in force as long as nobody calls set_start_method().

    Chosen by set_default_method() (the runner's --start-method), else by LEVERET_START_METHOD,
    else the running Python's own: `fork` up to 3.13, and from 3.14 on `warm`, which stands for
    `forkserver`.
    """
    method = chosen() or os.environ.get(ENVIRONMENT)
    if not method:
        return "fork" if sys.version_info < (3, 14) else "warm"
    check_method(method)
    return method
