"""How objects become bytes where our own codec does not write them: `multiprocessing.reduction`.

    from leveret.reduction import ForkingPickler, register, ...     the standard library's own

What is registered there is heeded by our queues and pipes. last_resort() is what the codec calls
when pickling fails:

    pickle fails ---> cloudpickle, if it is installed ---> the first error, with a note that names
                                                           the object, the way to it, and what helps
"""

from __future__ import annotations

import collections
import contextlib
import functools
import io
import itertools
import pickle
import sys
import types
import weakref
from collections.abc import Container, Iterator
from multiprocessing import reduction as _standard

from .hints import Any, NoReturn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.reduction import (
        AbstractReducer,
        DupFd,
        ForkingPickler,
        dump,
        recv_handle,
        recvfds,
        register,
        send_handle,
        sendfds,
    )

__all__ = [
    "AbstractReducer",
    "ByValue",
    "DupFd",
    "ForkingPickler",
    "dump",
    "found_by_name",
    "goes_by_name",
    "has_cloudpickle",
    "is_of_prompt",
    "portable",
    "recv_handle",
    "recvfds",
    "register",
    "send_handle",
    "sendfds",
]

# What pickle raises for an object that it does not know how to pickle; and the object's own errors.
_UNKNOWN_TO_PICKLE = (pickle.PicklingError, AttributeError, TypeError)

# How far the way to a culprit is searched for, and how much of an object is shown.
_MOST_LOOKED_AT, _LONGEST = 100_000, 200
_WITHOUT_DICT: dict[type, tuple[str, ...]] = {
    functools.partial: ("func", "args", "keywords"),
    types.MethodType: ("__self__",),
}


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_standard)})


def last_resort(obj: Any, sink: Any, error: Exception) -> bool:
    """Write OBJ, which pickle could not, into SINK; or have ERROR say why not, and return False."""
    if isinstance(error, (MemoryError, RecursionError)):
        return False
    if isinstance(error, _UNKNOWN_TO_PICKLE) and _by_cloudpickle(obj, sink, error):
        return True
    if type(obj) is not ByValue:
        _explain(error, obj)
    return False


def _by_cloudpickle(obj: Any, sink: Any, error: Exception) -> bool:
    """Whether cloudpickle is there, and could; of code that it could not send ERROR says why."""
    try:
        import cloudpickle  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        return False
    sink.rewind()
    try:
        pickler = _with_our_registry(cloudpickle.Pickler)(sink, 5, sink)
        sink.keep(pickler)
        pickler.dump(obj.function if type(obj) is ByValue else obj)
    except Exception as why:
        if type(obj) is ByValue:
            error.add_note(
                f"leveret: cloudpickle raised {type(why).__qualname__}: {why} (the forked workers "
                "of a new pool find the function, and all that it uses)"
            )
        return False
    return True


def _with_our_registry(pickler: Any) -> Any:
    """A class like PICKLER that heeds what is registered with ForkingPickler, too."""
    extra: Any = vars(_standard.ForkingPickler)["_extra_reducers"]
    table = collections.ChainMap(extra, pickler.dispatch_table)
    return type("Pickler", (pickler,), {"dispatch_table": table})


# Functions that no other process finds by their name.


class ByValue:
    """A function to be sent with its code. That pickle cannot, so the codec asks cloudpickle."""

    __slots__ = ("function",)

    def __init__(self, function: Any) -> None:
        self.function = function

    def __reduce__(self) -> NoReturn:
        raise pickle.PicklingError(f"{self.function!r} cannot be sent with its code")


class _Pickled:
    """What is unpickled is the object of this pickle."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._data,)


def goes_by_name(function: object) -> bool:
    """Whether FUNCTION is pickled as a name, so that it will mean the same at any time."""
    if type(function) is types.FunctionType:
        return function.__closure__ is None and "<" not in function.__qualname__
    if type(function) is types.BuiltinFunctionType:
        return function.__self__ is None or isinstance(function.__self__, types.ModuleType)
    return type(function) is type


def is_of_prompt(function: object, found: Container[object] = ()) -> bool:
    """Whether it was made at a prompt or in a notebook, and can be sent.

    No worker finds it then, but those of FOUND.
    """
    while type(function) is functools.partial:
        function = function.func
    if type(function) is not types.FunctionType or function.__module__ != "__main__":
        return False
    return _has_prompt() and function not in found and has_cloudpickle()


def _has_prompt() -> bool:
    main = sys.modules.get("__main__")
    return main is not None and not hasattr(main, "__file__")


def found_by_name() -> weakref.WeakSet[Any]:
    """The functions of a prompt or a notebook that a process finds that is forked now."""
    there = list(vars(sys.modules["__main__"]).items()) if _has_prompt() else []
    return weakref.WeakSet(
        part
        for name, part in there
        if type(part) is types.FunctionType and part.__qualname__ == name
    )


def has_cloudpickle() -> bool:
    """Whether it is installed."""
    from importlib.util import find_spec

    return find_spec("cloudpickle") is not None


def portable(function: Any) -> Any:
    """FUNCTION, or what pickle can send in its place, if cloudpickle can send its code."""
    if type(function) is not types.FunctionType:
        return function
    if goes_by_name(function) and not is_of_prompt(function):
        return function
    if not has_cloudpickle():
        return function
    import cloudpickle

    data = io.BytesIO()
    _with_our_registry(cloudpickle.Pickler)(data, 5).dump(function)
    return _Pickled(data.getvalue())


# Whom to blame.


def _explain(error: Exception, obj: Any) -> None:
    """Note in ERROR which part of OBJ could not be sent, and where it is."""
    try:
        found = _find_culprit(obj)
        if found is not None:
            error.add_note(_blame(obj, *found))
    except Exception:
        return  # it is no more than a hint


class _Tracker(_standard.ForkingPickler):
    """Pickles for nobody, and knows what it looked at last."""

    last: tuple[Any, ...] | None = None
    looked_at = 0

    def persistent_id(self, obj: Any) -> None:
        self.last = (obj,)
        self.looked_at += 1
        if self.looked_at > _MOST_LOOKED_AT:
            self.last = None
            raise pickle.PicklingError  # it takes too long


def _find_culprit(obj: Any) -> tuple[Any, ...] | None:
    """The object at which pickling ends, in a tuple; None if it does not fail again, or soon."""
    arguments: Any = io.BytesIO(), pickle.HIGHEST_PROTOCOL
    tracker = _Tracker(*arguments)
    try:
        tracker.dump(obj)
    except Exception:
        return tracker.last
    return None


def _blame(obj: Any, culprit: Any) -> str:
    way = _way_to(obj, culprit)
    if way is None:
        where = f", which is somewhere in {_described(obj)}"
    else:
        where = f", which is message{way}" if way else ""
    return f"leveret: cannot send {_described(culprit)}{where}{_what_helps(culprit)}"


def _what_helps(culprit: Any) -> str:
    """Functions and classes that have no name by which they could be imported."""
    if not isinstance(culprit, (type, types.FunctionType)) or has_cloudpickle():
        return ""
    return " (define it at the top level of a module, or install cloudpickle, which can send it)"


def _described(obj: Any) -> str:
    try:
        text = repr(obj)
    except Exception:
        text = object.__repr__(obj)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _way_to(root: Any, wanted: Any) -> str | None:
    """How to get from ROOT to WANTED, as one would write it; None if there is no way to be seen."""
    seen = {id(root)}
    ways = collections.deque([("", root)])
    while ways and len(seen) < _MOST_LOOKED_AT:
        way, obj = ways.popleft()
        if obj is wanted:
            return way
        for step, part in itertools.islice(_parts(obj), _MOST_LOOKED_AT):
            if id(part) not in seen:
                seen.add(id(part))
                ways.append((way + step, part))
    return None


def _parts(obj: Any) -> Iterator[tuple[str, Any]]:
    """What an object consists of; nothing of its own is called for it."""
    kind = type(obj)
    if issubclass(kind, dict):
        for key, value in dict.items(obj):
            yield f"[{_described(key)}]", value
            yield f" (the key {_described(key)})", key
    for sequence in (list, tuple):
        if issubclass(kind, sequence):
            yield from ((f"[{at}]", part) for at, part in enumerate(sequence.__iter__(obj)))
    for group in (set, frozenset):
        if issubclass(kind, group):
            yield from ((f" (the item {_described(part)})", part) for part in group.__iter__(obj))
    yield from ((f".{name}", value) for name, value in _attributes(obj))


def _attributes(obj: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(obj, (type, types.FunctionType, types.ModuleType)):
        return
    for name in _WITHOUT_DICT.get(type(obj), ()):
        yield name, getattr(obj, name)
    for base in type(obj).__mro__:
        for name, slot in vars(base).items():
            if isinstance(slot, types.MemberDescriptorType) and base.__module__ != "builtins":
                with contextlib.suppress(AttributeError):
                    yield name, slot.__get__(obj)
    with contextlib.suppress(AttributeError):
        yield from dict.items(object.__getattribute__(obj, "__dict__"))
