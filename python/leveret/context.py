"""The contexts: one per start method, and the default one that chooses among them.

    leveret.Process(...)        leveret.get_context("warm").Process(...)
            |                                 |
     DefaultContext --- chooses ---> WarmContext  ForkContext  SpawnContext  ForkServerContext
                                          |            |            |                |
                                     popen.warm   popen.fork   popen.spawn   popen.forkserver

A context is a `multiprocessing.context.BaseContext`, so whatever takes an `mp_context` takes
ours. All of them hand out the same kinds of shared objects; they differ only in how a process
is born. What is not ours yet is the standard library's, made over our context.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from multiprocessing import context as std
from multiprocessing import process as standard

from . import dropin
from .hints import Any
from .method import METHODS, check_method, default_method
from .process import Process as BaseProcess
from .process import active_children

__all__ = [
    "DefaultContext",
    "LeveretContext",
    "Process",
    "adopted",
    "default_context",
    "default_method",
    "force_start_method",
]


def _ours(module: str, name: str) -> Any:
    """The attribute NAME of our package's MODULE, which is imported when it is first needed."""
    return getattr(importlib.import_module(f"leveret.{module}"), name)


def _check_preload(modules: Sequence[str], on_error: str) -> None:
    """Refuse what set_forkserver_preload() cannot mean."""
    if not all(type(name) is str for name in modules):
        raise TypeError("module_names must be a list of strings")
    if on_error not in ("ignore", "warn", "fail"):
        raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")


def _supported(**options: Any) -> dict[str, Any]:
    """OPTIONS where the standard set_forkserver_preload() takes them: from 3.15 on."""
    return options if sys.version_info >= (3, 15) else {}


class LeveretContext(std.BaseContext):
    """What the contexts of all start methods have in common: the objects that are ours."""

    active_children = staticmethod(active_children)

    def Lock(self) -> Any:
        """Return a lock; its holder's death is noticed."""
        return _ours("synchronize", "Lock")(ctx=self.get_context())

    def RLock(self) -> Any:
        """Return a lock that its holder may take again."""
        return _ours("synchronize", "RLock")(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> Any:
        """Return a condition over LOCK, or over a new RLock."""
        return _ours("synchronize", "Condition")(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> Any:
        """Return a semaphore of VALUE units."""
        return _ours("synchronize", "Semaphore")(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> Any:
        """Return a semaphore that never has more than VALUE units."""
        return _ours("synchronize", "BoundedSemaphore")(value, ctx=self.get_context())

    def Event(self) -> Any:
        """Return an event, not set."""
        return _ours("synchronize", "Event")(ctx=self.get_context())

    def Barrier(
        self,
        parties: int,
        action: Callable[..., object] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Return a barrier for PARTIES processes or threads."""
        return _ours("synchronize", "Barrier")(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> Any:
        """Return a queue of at most MAXSIZE messages (0: no limit)."""
        return _ours("queues", "Queue")(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> Any:
        """Return a queue with task_done() and join()."""
        return _ours("queues", "JoinableQueue")(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> Any:
        """Return a queue with nothing but get() and put()."""
        return _ours("queues", "SimpleQueue")(ctx=self.get_context())

    def Pipe(self, duplex: bool = True) -> Any:
        """Return the two ends of a pipe; if not DUPLEX, one to receive and one to send."""
        return _ours("connection", "Pipe")(duplex)

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Any = (),
        maxtasksperchild: int | None = None,
        **options: Any,
    ) -> Any:
        """Return a pool of worker processes; OPTIONS are those of leveret.pool.Pool."""
        make, context = _ours("pool", "Pool"), self.get_context()
        return make(processes, initializer, initargs, maxtasksperchild, context, **options)

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """Return a ctypes object in shared memory."""
        return _ours("sharedctypes", "RawValue")(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """Return a ctypes array in shared memory."""
        return _ours("sharedctypes", "RawArray")(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """Return a ctypes object in shared memory, with a lock around it."""
        make = _ours("sharedctypes", "Value")
        return make(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """Return a ctypes array in shared memory, with a lock around it."""
        make = _ours("sharedctypes", "Array")
        return make(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def set_forkserver_preload(self, module_names: Any, *, on_error: str = "ignore") -> None:
        """Name the modules that the zygote and the fork server import before they give birth."""
        _check_preload(module_names, on_error)
        _ours("zygote", "set_preload")(module_names, on_error=on_error)
        forkserver = importlib.import_module("multiprocessing.forkserver")
        forkserver.set_forkserver_preload(module_names, **_supported(on_error=on_error))

    def get_context(self, method: str | None = None) -> Any:
        """Return this context, or the one of start method METHOD."""
        if method is None:
            return self
        if _is_foreign(method):
            return super().get_context(method)
        check_method(method)
        return concrete_contexts[method]


# The standard contexts by name, and what programs add to them. Not in the module's stub.
_registry: dict[str, Any] = vars(std)["_concrete_contexts"]


def _is_foreign(method: object) -> bool:
    """Whether METHOD names a context that a program has added to the standard ones, as loky does.

    It may do so at any time: so they are looked up where it puts them.
    """
    return type(method) is str and method not in METHODS and method in _registry


# One process class and one context per start method. The standard class is among the bases so
# that isinstance() tests of programs hold. Each child makes its own method the default, as there,
# but in our default context: `_start_method` would make the standard one look for `warm`.


_popen_classes: dict[str, Any] = {}


class _Born(BaseProcess):
    """A process whose start method is fixed by its class."""

    _leveret_method: str

    @classmethod
    def _Popen(cls, process_obj: Any) -> Any:
        method = cls._leveret_method
        if method not in _popen_classes:
            _popen_classes[method] = _ours(f"popen.{method}", "Popen")
        return _popen_classes[method](process_obj)

    def _bootstrap(self, *args: Any, **kwargs: Any) -> Any:
        force_start_method(self._leveret_method)
        parent: Any = super()
        return parent._bootstrap(*args, **kwargs)


class WarmProcess(_Born):
    """A process born from the zygote."""

    _leveret_method = "warm"


class ForkProcess(_Born, std.ForkProcess):
    """A process born by fork()."""

    _leveret_method = "fork"
    _start_method: Any = None


class SpawnProcess(_Born, std.SpawnProcess):
    """A process born as a fresh interpreter."""

    _leveret_method = "spawn"
    _start_method: Any = None


class ForkServerProcess(_Born, std.ForkServerProcess):
    """A process born from the fork server."""

    _leveret_method = "forkserver"
    _start_method: Any = None


class WarmContext(LeveretContext):
    """Births from a clean interpreter that waits, warmed up."""

    _name = "warm"
    Process = WarmProcess


class ForkContext(LeveretContext, std.ForkContext):
    """Births by fork()."""

    Process = ForkProcess


class SpawnContext(LeveretContext, std.SpawnContext):
    """Births of fresh interpreters."""

    Process = SpawnProcess


class ForkServerContext(LeveretContext, std.ForkServerContext):
    """Births from the standard library's fork server."""

    Process = ForkServerProcess


concrete_contexts: dict[str, Any] = {
    "warm": WarmContext(),
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}


# The default context.


class Process(BaseProcess, std.Process):
    """A process whose start method is the default context's, chosen when it starts."""

    _start_method: Any = None

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork() -> Any:
        return default_context.get_context().Process._after_fork()


class DefaultContext(LeveretContext, std.DefaultContext):
    """The context behind the functions of the package: its method can be set, once."""

    Process = Process

    def __init__(self) -> None:
        self._actual_context: Any = None

    @property
    def _default_context(self) -> Any:
        return concrete_contexts[default_method()]

    def get_context(self, method: str | None = None) -> Any:
        """Return the context of METHOD, or the one that is in force (which settles it)."""
        if method is not None:
            return super().get_context(method)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def get_all_start_methods(self) -> list[str]:
        """Return the names of the start methods, the default first."""
        first = default_method()
        foreign = filter(_is_foreign, _registry)
        return [first, *(name for name in METHODS if name != first), *foreign]


default_context = DefaultContext()


def adopted(context: Any) -> Any:
    """CONTEXT, or ours of the same start method: its processes are of our session.

    A context of the program's own, whose processes are not ours, is refused: its workers would
    be none of our session, and what it makes of them would be lost with one of ours.
    """
    if isinstance(context, LeveretContext):
        return context
    process = getattr(context, "Process", std.Process)
    if process.__module__ in (std.__name__, __name__):
        fixed = getattr(process, "_start_method", None)  # whatever the context calls itself
        method = fixed or context.get_start_method(allow_none=False)
        check_method(method)
        return concrete_contexts[method]
    if not (isinstance(process, type) and issubclass(process, standard.BaseProcess)):
        return context  # it stands for a process, in a test
    if issubclass(process, BaseProcess) or (dropin.installed() and issubclass(process, _births())):
        return context
    raise ValueError(
        f"{process.__qualname__}, the Process of {type(context).__qualname__}, starts processes "
        "without leveret: derive both from a context of leveret.get_context() and its Process"
    )


def _births() -> tuple[type, ...]:
    """The standard classes that are born our way once install() was called."""
    return std.Process, std.ForkProcess, std.SpawnProcess, std.ForkServerProcess


def force_start_method(method: str) -> None:
    """Make METHOD the one in force, as a child of that method begins."""
    default_context._actual_context = default_context.get_context(method)


def __getattr__(name: str) -> Any:
    """The standard module's, for what is not ours."""
    return getattr(std, name)
