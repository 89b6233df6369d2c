"""install(): ours becomes the default of `multiprocessing` and `concurrent.futures`.

    multiprocessing.Lock, .Process, ...        bound methods of the standard default context
    multiprocessing.context._default_context   becomes ours in place: so does what holds it
    multiprocessing.synchronize.Lock, ...      names of submodules, re-bound now or when imported
    concurrent.futures.ProcessPoolExecutor     as those, in the package and in its module

Modules imported before see it as well as those imported after, and what a program never
imports costs it nothing. A child is told by `state()`, which travels with its preparation data,
and calls `restore()` before it imports the program's main module. Programs started by
`subprocess` are not told, and not changed.
"""

from __future__ import annotations

import importlib
import sys
from _thread import RLock
from importlib.machinery import ModuleSpec
from types import FunctionType

from . import method

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

__all__ = ["install", "installed", "restore", "state", "when_used"]

# Which names of which standard module are re-bound to the same names of which module of ours.
RENAMED: dict[str, tuple[str, tuple[str, ...]]] = {
    "multiprocessing.synchronize": (
        "leveret.synchronize",
        ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"),
    ),
    "multiprocessing.queues": ("leveret.queues", ("Queue", "JoinableQueue", "SimpleQueue")),
    "multiprocessing.connection": ("leveret.connection", ("Pipe", "wait")),
    "multiprocessing.pool": ("leveret.pool", ("Pool",)),
    "multiprocessing.reduction": ("leveret.handles", ("send_handle", "recv_handle")),
    "multiprocessing.heap": ("leveret.heap", ("BufferWrapper",)),
    "multiprocessing.sharedctypes": (
        "leveret.sharedctypes",
        (
            "RawValue",
            "RawArray",
            "Value",
            "Array",
            "copy",
            "synchronized",
            "reduce_ctype",
            "rebuild_ctype",
            "make_property",
            "typecode_to_type",
            "SynchronizedBase",
            "Synchronized",
            "SynchronizedArray",
            "SynchronizedString",
        ),
    ),
}

# Of which standard classes, that stay, the methods mean the names that were re-bound.
KEPT = {"multiprocessing.pool": ("ThreadPool",)}


class _Pipes:
    """What standard queues see of `multiprocessing.connection`: pipes that need no session."""

    @staticmethod
    def Pipe(duplex: bool = True) -> Any:  # noqa: N802 - the standard name
        return _ours("connection", "StandardPipe")(duplex)


# What standard classes that stay see instead of a module that is adopted.
_SEEN: dict[str, dict[str, Any]] = {"multiprocessing.queues": {"connection": _Pipes}}

# The module of the standard executor, and the package that keeps what it had when first asked.
EXECUTOR = "concurrent.futures.process"
FUTURES = "concurrent.futures"


_when_used: list[Callable[[], object]] = []


def install() -> None:
    """Make ours the default of `multiprocessing` and `concurrent.futures`, here and in children."""
    if installed():
        return
    finder: Any = _Finder()
    sys.meta_path.insert(0, finder)
    if "multiprocessing" in sys.modules:
        _adoptions.begin(_adopt_all)
        _adoptions.end()


def installed() -> bool:
    """Whether install() was called here, or in the process that this one was born from."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def state() -> dict[str, Any]:
    """What a child that is not forked must know of its parent's choices."""
    from .context import default_context as ours

    actual = ours._actual_context
    return {
        "installed": installed(),
        "chosen": method.chosen(),
        "actual": None if actual is None else actual._name,
    }


def restore(state: dict[str, Any]) -> None:
    """Make the choices of the parent, as told by state(), this process's own."""
    from . import context

    if state["installed"]:
        install()
    method.set_default_method(state["chosen"])
    if state["actual"] is None:
        context.default_context._actual_context = None
    else:
        context.force_start_method(state["actual"])


def when_used(function: Callable[[], object]) -> None:
    """Have FUNCTION called as soon as the program has imported `multiprocessing`."""
    _when_used.append(function)


# Imports that come after install().


class _Adoptions:
    """Adoptions are done as soon as no module of ours is half made, in whichever thread.

    Modules of ours import standard ones, whose adoption needs ours: perhaps the very same. So
    ours are imported as if install() had not been called, and what they import is adopted then.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._under_way = 0
        self._waiting: list[Callable[[], object]] = []

    def begin(self, *adoptions: Callable[[], object]) -> None:
        """An import of ours begins, or ADOPTIONS are wanted; end() is to follow."""
        with self._lock:
            self._under_way += 1
            self._waiting += adoptions

    def end(self) -> None:
        """It is over; the last one does what waits, and what comes to wait meanwhile."""
        if (adopt := self._next()) is not None:
            try:
                adopt()
            finally:
                self.end()

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            if self._under_way == 1 and self._waiting:
                return self._waiting.pop(0)
            self._under_way -= 1
            return None


_adoptions = _Adoptions()


class _Finder:
    """Lets the other finders find a module, theirs or ours, and sees to what follows."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not _is_adopted(name) and not name.startswith("leveret."):
            return None
        for finder in sys.meta_path:
            find: Any = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find and find(name, path, target)
            if spec is not None:
                # A loader that is a class is that of our second names for standard modules.
                if not isinstance(spec.loader, type | None):
                    _wrap(spec.loader, _exec_theirs if _is_adopted(name) else _exec_ours)
                return spec
        return None


def _is_adopted(name: str) -> bool:
    """Whether the module NAME is one of those that get our names."""
    return name.partition(".")[0] == "multiprocessing" or name == EXECUTOR


def _wrap(loader: Any, wrapper: Any) -> None:
    """Have WRAPPER called with LOADER's function and the module that it is to execute, once."""
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        wrapper(execute, module)

    loader.exec_module = exec_module


def _exec_ours(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    _adoptions.begin()
    try:
        execute(module)
    finally:
        _adoptions.end()


def _exec_theirs(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    execute(module)
    adopt = _adopt_all if module.__name__ == "multiprocessing" else _adopt_submodule
    _adoptions.begin(lambda: adopt(module))
    _adoptions.end()


def _adopt_submodule(module: ModuleType) -> None:
    """Adopt a submodule, if the package itself is complete; else _adopt_all will."""
    if getattr(sys.modules["multiprocessing"], "_leveret_adopted", False):
        _adopt(module)


# Adoption: what it means for a module of the standard package to be ours.


def _adopt_all(package: Any = None) -> None:
    """Take over the package and what is imported of it."""
    package = package or sys.modules["multiprocessing"]
    package._leveret_adopted = True
    _adopt_contexts()
    package.Process = _ours("context", "Process")
    for name, module in list(sys.modules.items()):
        if _is_adopted(name) and (module is package or _is_whole(module)):
            _adopt(module)
    while _when_used:
        _when_used.pop()()


def _is_whole(module: Any) -> bool:
    """Whether MODULE is there, and not being imported: it is adopted after that."""
    spec = getattr(module, "__spec__", None)
    return module is not None and not getattr(spec, "_initializing", False)


def _ours(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"leveret.{module}"), name)


def _adopt(module: ModuleType) -> None:
    """Re-bind MODULE's names that are ours, and the default context's methods in it."""
    if module.__name__ == EXECUTOR:
        return _adopt_executor(module)
    if module.__name__ in RENAMED:
        _rename(module, *RENAMED[module.__name__])
    default = sys.modules["multiprocessing.context"]._default_context
    for name, value in list(vars(module).items()):
        if getattr(value, "__self__", None) is default:
            setattr(module, name, getattr(default, value.__name__))


def _rename(module: ModuleType, ours: str, names: tuple[str, ...]) -> None:
    """Re-bind NAMES of MODULE, unless they are ours already."""
    before = {**vars(module), **_SEEN.get(module.__name__, {})}
    after = {name: getattr(importlib.import_module(ours), name) for name in names}
    if all(before[name] is after[name] for name in names):
        return
    for name in names:
        _keep_picklable(module, before[name])
    for name in (*names, *KEPT.get(module.__name__, ())):
        _keep_whole(before[name], before)
    vars(module).update(after)


def _adopt_executor(module: Any) -> None:
    """Put our executor into its MODULE, and into the package if that has looked it up already.

    The standard class makes executors of ours; what was derived from it goes on with it, over our
    queues.
    """
    if not issubclass(module._SafeQueue, _ours("queues", "Queue")):  # MODULE was imported before
        module._StandardSafeQueue = module._SafeQueue
        module._StandardSafeQueue.__reduce__ = _as_plain_queue
        module._SafeQueue = _ours("queues", "SafeQueue")
    replacement = _ours("executor", "ProcessPoolExecutor")
    standard = module.ProcessPoolExecutor
    if standard is replacement:
        return
    _keep_picklable(module, standard)
    _make_ours(standard, replacement)
    module.ProcessPoolExecutor = replacement
    package = vars(sys.modules[FUTURES])
    if package.get("ProcessPoolExecutor") is standard:
        package["ProcessPoolExecutor"] = replacement


def _as_plain_queue(queue: Any) -> tuple[Any, ...]:
    """What goes into a pickle for the queue of an executor that was made before install().

    A worker that is not forked has no such class: its module was imported after install(). It only
    takes from the queue, as it can from any standard one.
    """
    return object.__new__, (type(queue).__base__,), queue.__getstate__()


def _make_ours(standard: Any, replacement: Any) -> None:
    """Let calls of the class STANDARD, which programs may hold, make objects of REPLACEMENT."""
    from functools import wraps

    as_before = standard.__init__

    @wraps(replacement.__init__)
    def init(self: Any, *args: Any, **options: Any) -> None:
        if type(self) is standard:
            self.__class__ = replacement
            replacement.__init__(self, *args, **options)
        else:
            as_before(self, *args, **options)

    standard.__init__ = init


def _keep_picklable(module: ModuleType, replaced: Any) -> None:
    """Let what is standard be pickled by another name: install() may find objects of it made."""
    if getattr(replaced, "__module__", None) != module.__name__:
        return
    if not replaced.__qualname__.startswith("_Standard"):
        replaced.__qualname__ = f"_Standard{replaced.__name__}"
        setattr(module, replaced.__qualname__, replaced)


def _keep_whole(replaced: Any, names: dict[str, Any]) -> None:
    """Let the methods of a standard class see the NAMES that its module had.

    Objects of it may have been made already, and `Queue._feed` in them means their own class.
    """
    for name, member in list(vars(replaced).items()) if isinstance(replaced, type) else ():
        bare = member.__func__ if isinstance(member, staticmethod) else member
        if isinstance(bare, FunctionType):
            again = FunctionType(
                bare.__code__, names, bare.__name__, bare.__defaults__, bare.__closure__
            )
            again.__kwdefaults__ = bare.__kwdefaults__
            setattr(replaced, name, staticmethod(again) if bare is not member else again)


def _adopt_contexts() -> None:
    """Turn the standard context objects into ours, keeping who they are."""
    from . import context as ours

    std: Any = sys.modules["multiprocessing.context"]
    theirs = {name: std._concrete_contexts[name] for name in ("fork", "spawn", "forkserver")}
    for name, context in theirs.items():
        context.__class__ = type(ours.concrete_contexts[name])
        birth = type(context).Process
        getattr(std, birth.__name__)._Popen = staticmethod(birth._Popen)
    ours.concrete_contexts.update(theirs)
    std._concrete_contexts["warm"] = ours.concrete_contexts["warm"]
    default = std._default_context
    if default._actual_context is not None:
        ours.force_start_method(default._actual_context._name)
    default.__class__ = ours.DefaultContext
    default.__dict__ = ours.default_context.__dict__
    for name, led in _LED.items():
        _lead(getattr(std.DefaultContext, name), getattr(ours.DefaultContext, name), led)


def _lead(theirs: Any, ours: Any, led: Any) -> None:
    """Let the function THEIRS, which programs may hold in bound methods, be LED to OURS."""
    from functools import update_wrapper

    theirs.__code__, theirs.__defaults__ = led.__code__, None
    update_wrapper(theirs, ours)


# The code for standard methods that ours do more than. It runs among the names of their module.


def _pool(self: Any, *args: Any, **options: Any) -> Any:
    from leveret.context import DefaultContext

    return DefaultContext.Pool(self, *args, **options)


def _get_all_start_methods(self: Any) -> list[str]:
    from leveret.context import DefaultContext

    return DefaultContext.get_all_start_methods(self)


def _set_forkserver_preload(self: Any, *args: Any, **options: Any) -> None:
    from leveret.context import DefaultContext

    DefaultContext.set_forkserver_preload(self, *args, **options)


_LED = {
    "Pool": _pool,
    "get_all_start_methods": _get_all_start_methods,
    "set_forkserver_preload": _set_forkserver_preload,
}
