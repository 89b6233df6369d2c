"""Leveret: Python's multiprocessing with processes that are born running.

    import leveret as multiprocessing   every public name of multiprocessing
    leveret.install()                   makes it the default, of concurrent.futures too
    $ leveret program.py                runs an unmodified program that way

The names are those of the default context. They are looked up when they are first used, so that
importing this package costs next to nothing.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec

from . import _core

try:
    _core.platform_check()
except (OSError, MemoryError, RuntimeError) as _error:
    from .cli import end_if_run

    end_if_run(_error)
    raise ImportError(f"leveret cannot run here: {_error}") from None

from ._core import AbandonedLockWarning, CorruptMessage, LostTaskWarning
from .dropin import install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__version__ = "0.1.0"

SUBDEBUG = 5
SUBWARNING = 25

_OURS = (
    "connection",
    "context",
    "executor",
    "heap",
    "managers",
    "pool",
    "process",
    "queues",
    "reduction",
    "sharedctypes",
    "synchronize",
)
_FAULTS = {"RemoteError": "faults", "TaskTimeout": "faults", "WorkerDied": "deaths"}
_STANDARD = (
    "dummy",
    "dummy.connection",
    "forkserver",
    "popen_fork",
    "popen_forkserver",
    "popen_spawn_posix",
    "resource_sharer",
    "resource_tracker",
    "shared_memory",
    "spawn",
    "util",
)

__all__ = [
    "AbandonedLockWarning",
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "CorruptMessage",
    "Event",
    "JoinableQueue",
    "Lock",
    "LostTaskWarning",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "ProcessPoolExecutor",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "RemoteError",
    "Semaphore",
    "SimpleQueue",
    "TaskTimeout",
    "TimeoutError",
    "Value",
    "WorkerDied",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "install",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]


def __getattr__(name: str) -> Any:
    if name == "ProcessPoolExecutor":
        from .executor import ProcessPoolExecutor

        return ProcessPoolExecutor
    if name in _FAULTS:
        return getattr(importlib.import_module(f"leveret.{_FAULTS[name]}"), name)
    if name in __all__:
        from .context import default_context

        return getattr(default_context, name)
    if name in _OURS or name in _STANDARD:
        return importlib.import_module(f"leveret.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_OURS, *(name for name in _STANDARD if "." not in name)})


class _StandardModules:
    """Finds `leveret.X` for a module X that is the standard library's: it is the same module."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        return ModuleSpec(name, _loader) if package == __name__ and rest in _STANDARD else None

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module("multiprocessing" + spec.name.removeprefix(__name__))
        spec.loader_state = module.__spec__
        return module

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


_loader: Any = _StandardModules
sys.meta_path.append(_loader)
