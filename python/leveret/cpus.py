"""How many processors this process may really use: its affinity, and its cgroups' quotas."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["quotas", "usable"]

OURS = "/proc/self/cgroup"
V1, V2 = "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"


def usable() -> int:
    """Processors: what Python was told (PYTHON_CPU_COUNT), else affinity and quota; at least 1."""
    if sys.version_info < (3, 13):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.process_cpu_count() or 1
        if _told():
            return allowed
    return max(1, min(allowed, _quota()))


def _told() -> bool:
    """Whether the number is the user's: by -X cpu_count or PYTHON_CPU_COUNT."""
    wish = sys._xoptions.get("cpu_count")
    if wish is None and not sys.flags.ignore_environment:
        wish = os.environ.get("PYTHON_CPU_COUNT")
    return wish not in (None, "", "default")


@functools.cache
def _quota() -> int:
    """The least that our cgroups allow, as it was when somebody asked first."""
    return min(map(math.ceil, quotas()), default=sys.maxsize)


def quotas() -> Iterator[float]:
    """Processors' time that each of our cgroups may take, where there is a limit."""
    with contextlib.suppress(OSError):
        with open(OURS, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield from _quotas_above(V2, path, _read_v2)
            elif "cpu" in controllers.split(","):
                yield from _quotas_above(V1, path, _read_v1)


def _quotas_above(root: str, path: str, read: object) -> Iterator[float]:
    """Those of the group and of all above it. In a container the path may lead out of it."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = read("/".join((root, *parts[:depth])))  # type: ignore[operator]
            if quota > 0:
                yield quota / period


def _read_v2(folder: str) -> tuple[int, int]:
    quota, period = _words(f"{folder}/cpu.max")
    return (-1 if quota == "max" else int(quota)), int(period)


def _read_v1(folder: str) -> tuple[int, int]:
    (quota,) = _words(f"{folder}/cpu.cfs_quota_us")
    (period,) = _words(f"{folder}/cpu.cfs_period_us")
    return int(quota), int(period)


def _words(path: str) -> list[str]:
    with open(path, encoding="ascii") as file:
        return file.read().split()
