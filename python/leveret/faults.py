"""What is told of tasks that did not return: their exceptions and timeouts; and their names.

worker                                 owner
worker.failed(error) -- result --->    revive(): the exception itself, with its traceback as
                                       __cause__; a RemoteError where it cannot be unpickled
dies                                   leveret.deaths
"""

from __future__ import annotations

import contextlib
import gc
import pickle
import reprlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence

from .hints import Any

__all__ = [
    "RemoteError",
    "TaskTimeout",
    "brief",
    "describe",
    "describe_chunk",
    "late",
    "name_of",
    "note",
    "revive",
    "shown",
    "undecodable",
    "unpickled_by",
]

_NONE: Mapping[str, Any] = {}

LARGE = 1 << 14  # bytes; what has less is shown whole

# Their repr() is a name and an address.
BRIEF = (
    type,
    types.BuiltinFunctionType,
    types.CodeType,
    types.CoroutineType,
    types.FrameType,
    types.FunctionType,
    types.GeneratorType,
    types.ModuleType,
)


class TaskTimeout(TimeoutError):  # noqa: N818 - like the standard library's names
    """A task took longer than its `timeout=`, and was stopped."""


class RemoteError(Exception):
    """Stands for an exception of a task that cannot be unpickled here.

    type         the name of its type
    text         what it said
    traceback    its traceback, as text
    """

    def __init__(self, type: str, text: str, traceback: str, why: str = "") -> None:
        super().__init__(type, text, traceback, why)
        self.type, self.text, self.traceback, self.why = type, text, traceback, why

    def __str__(self) -> str:
        why = f" (the exception itself is not here: {self.why})" if self.why else ""
        return f"{self.type}: {self.text}{why}"


for _class in (TaskTimeout, RemoteError):
    _class.__module__ = "leveret"


def revive(failed: tuple[Any, ...], traceback_class: Any) -> BaseException:
    """The exception that a worker sent, as worker.failed() made it."""
    text, kind, said, pickled = failed[:4]
    error = _unpickled(kind, said, text, pickled)
    error.__cause__ = traceback_class(f'\n"""\n{text}"""')
    return error


def _unpickled(kind: str, said: str, text: str, pickled: bytes | None) -> BaseException:
    if pickled is None:
        return RemoteError(kind, said, text, "it cannot be pickled")
    try:
        error = pickle.loads(pickled)
    except Exception as problem:
        return RemoteError(kind, said, text, f"unpickling it raised {brief(problem)}")
    if not isinstance(error, BaseException):
        return RemoteError(kind, said, text, f"it was unpickled as {type(error).__qualname__!r}")
    return error


def brief(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__qualname__}: {error}"


def unpickled_by(failed: tuple[Any, ...]) -> int | None:
    """Of a task that could not be unpickled: the worker that tried."""
    return failed[4] if len(failed) > 4 else None


def note(error: BaseException, text: str) -> None:
    """Add TEXT to an exception: once, however often it is told of."""
    text = f"leveret: {text}"
    if text not in getattr(error, "__notes__", ()):
        with contextlib.suppress(Exception):  # it is no more than a hint
            error.add_note(text)


def undecodable(error: BaseException, task: str) -> BaseException:
    """What came of a result that cannot be decoded."""
    if isinstance(error, Exception):
        short_of = ": this process has too little memory" if isinstance(error, MemoryError) else ""
        note(error, f"raised here, by unpickling the result of {task}{short_of}")
        return error
    why = "raised where its result was unpickled"
    return RemoteError(type(error).__qualname__, f"{error} ({task})", "", why)


def late(task: str, limit: float | None, pid: int) -> TaskTimeout:
    """A task's time is over."""
    return TaskTimeout(f"{task} took longer than timeout={limit} s in worker {pid}: stopped")


def name_of(function: object) -> str:
    """How a function is called in errors."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def describe(function: object, args: Iterable[Any], kwds: Mapping[str, Any] = _NONE) -> str:
    """A call, in words."""
    arguments = [*map(short, args), *(f"{name}={short(value)}" for name, value in kwds.items())]
    return f"{name_of(function)}({', '.join(arguments)})"


def describe_chunk(function: object, items: Sequence[Any]) -> str:
    """The calls of a chunk, in words."""
    first = short(items[0]) if items else ""
    return f"{name_of(function)}() of {len(items)} items, the first of them {first}"


def short(value: object) -> str:
    """The repr of an argument, or its beginning."""
    return _by(_short.repr, value)


def shown(value: object) -> str:
    """The repr of a value; of one that is large, its beginning."""
    return _by(lambda part: _long.repr(part) if _is_large(part) else repr(part), value)


def _by(how: Callable[[object], str], value: object) -> str:
    try:
        return how(value)
    except Exception:
        return f"<{type(value).__qualname__} object>"


class _Repr(reprlib.Repr):
    """As reprlib's, which makes the whole text where it shows the beginning of one."""

    def repr_bytes(self, value: bytes, level: int) -> str:
        """As of a str."""
        text = repr(value[: self.maxother])
        if len(value) <= self.maxother and len(text) <= self.maxother:
            return text
        begin = max(0, (self.maxother - 3) // 2)
        end = max(0, self.maxother - 3 - begin)
        text = repr(value[:begin] + value[len(value) - end :])
        return text[:begin] + self.fillvalue + text[len(text) - end :]

    repr_bytearray = repr_bytes

    def repr_instance(self, value: Any, level: int) -> str:
        """Of what is large, and whose repr() may be, the type."""
        if not _is_large(value):
            return super().repr_instance(value, level)
        if isinstance(value, BaseException):
            arguments = ", ".join(self.repr1(part, level - 1) for part in value.args)
            return f"{type(value).__name__}({arguments})"
        return f"<{type(value).__qualname__} object>"


_short, _long = _Repr(), _Repr()
_long.maxstring = _long.maxother = 200


def _is_large(value: object) -> bool:
    """Whether the repr() of VALUE may be: by the memory that it takes, with all that is in it.

    No code of its own is called for that, unless it has a __sizeof__().
    """
    seen, parts, room = set(), [value], LARGE
    while parts and room >= 0:
        part = parts.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, BaseException):
            parts.append(part.args)
        elif not _has_short_repr(part):
            room -= sys.getsizeof(part, 0)
            parts += gc.get_referents(part) if room >= 0 else ()
    return room < 0


def _has_short_repr(value: object) -> bool:
    """Whatever it refers to."""
    return type(value).__repr__ is object.__repr__ or isinstance(value, BRIEF)
