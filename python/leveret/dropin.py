"""install(): ours becomes the default of `multiprocessing` and `concurrent.futures`.

    multiprocessing.Lock, .Process, ...       bound methods of the standard default context
    multiprocessing.context._default_context  becomes ours in place: whoever holds it, or a method of it, has ours
    multiprocessing.synchronize.Lock, ...     names of the submodules, re-bound now or when they are imported

Modules imported before see it as well as those imported after, and what a program never imports costs
it nothing. A child is told by `state()`, which travels with its preparation data, and calls `restore()`
before it imports the program's main module. Programs started by `subprocess` are not told, and not changed.
"""

import importlib
import sys
from importlib.machinery import PathFinder

from . import method

__all__ = ["complete", "install", "installed", "restore", "state"]

# Which names of which standard module are re-bound to the same names of which module of ours.
RENAMED = {
    "multiprocessing.synchronize": (
        "leveret.synchronize",
        ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"),
    ),
    "multiprocessing.queues": ("leveret.queues", ("Queue", "JoinableQueue", "SimpleQueue")),
}


def install():
    """Make Leveret the default of `multiprocessing` and `concurrent.futures` in this process and its children."""
    if installed():
        return
    sys.meta_path.insert(0, _Finder())
    if "multiprocessing" in sys.modules:
        _adopt_all()


def installed():
    """Whether install() was called here, or in the process that this one was born from."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def state():
    """What a child that is not forked must know of its parent's choices."""
    from .context import default_context as ours

    actual = ours._actual_context
    return {
        "installed": installed(),
        "chosen": method.chosen(),
        "actual": None if actual is None else actual._name,
    }


def restore(state):
    """Make the choices of the parent, as told by state(), this process's own."""
    from . import context

    if state["installed"]:
        install()
    method.set_default_method(state["chosen"])
    if state["actual"] is None:
        context.default_context._actual_context = None
    else:
        context.force_start_method(state["actual"])


# Imports that come after install().


class _Finder:
    """Lets the standard finder find a module of multiprocessing, and adopts the module once it is there."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "multiprocessing":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            _call_after_exec(spec.loader, _adopt_all if name == "multiprocessing" else _adopt_submodule)
        return spec


def _call_after_exec(loader, adopt):
    """Have ADOPT called with the module that LOADER is about to execute, once."""
    execute = loader.exec_module

    def exec_module(module):
        del loader.exec_module
        execute(module)
        adopt(module)

    loader.exec_module = exec_module


def _adopt_submodule(module):
    """Adopt a submodule that is imported when the package itself is complete; else _adopt_all will."""
    if getattr(sys.modules["multiprocessing"], "_leveret_adopted", False):
        _adopt(module)


# Adoption: what it means for a module of the standard package to be ours.


def _adopt_all(package=None):
    """Take over the package and what is imported of it."""
    package = package or sys.modules["multiprocessing"]
    package._leveret_adopted = True
    _adopt_contexts()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "multiprocessing" and module is not None:
            _adopt(module)
    if hasattr(executor := sys.modules.get("concurrent.futures.process"), "_SafeQueue"):
        executor._SafeQueue.__bases__ = (importlib.import_module("leveret.queues").Queue,)


def complete(name):
    """Re-bind the names of the standard module NAME: said by a module of ours that imports it and is now complete."""
    if installed():
        _adopt_submodule(sys.modules[name])


def _adopt(module):
    """Re-bind MODULE's names that are ours, and the methods of the default context that it imported."""
    ours, names = RENAMED.get(module.__name__, (None, ()))
    for name in names:
        if hasattr(replacement := importlib.import_module(ours), name):
            _keep_picklable(module, getattr(module, name))
            setattr(module, name, getattr(replacement, name))
    default = sys.modules["multiprocessing.context"]._default_context
    for name, value in list(vars(module).items()):
        if getattr(value, "__self__", None) is default:
            setattr(module, name, getattr(default, value.__name__))


def _keep_picklable(module, replaced):
    """Give a standard class another name to be pickled by: objects of it may have been made before install()."""
    if replaced.__module__ == module.__name__ and not replaced.__qualname__.startswith("_Standard"):
        replaced.__qualname__ = f"_Standard{replaced.__name__}"
        setattr(module, replaced.__qualname__, replaced)


def _adopt_contexts():
    """Turn the standard context objects into ours, keeping who they are."""
    from multiprocessing import context as std

    from . import context as ours

    for name, context in std._concrete_contexts.items():
        context.__class__ = type(ours.concrete_contexts[name])
        if (birth := getattr(std, type(context).Process.__name__, None)) is not None:
            birth._Popen = staticmethod(type(context).Process._Popen)
    ours.concrete_contexts.update(std._concrete_contexts)
    std._concrete_contexts["warm"] = ours.concrete_contexts["warm"]
    default = std._default_context
    if default._actual_context is not None:
        ours.force_start_method(default._actual_context._name)
    default.__class__ = ours.DefaultContext
    default.__dict__ = ours.default_context.__dict__
    sys.modules["multiprocessing"].Process = ours.Process
