"""What is told of tasks that did not return: their exceptions, deaths, timeouts.

    worker                                 owner
    worker.failed(error) -- result --->    revive(): the exception itself, with its traceback as
                                           __cause__; a RemoteError where it cannot be unpickled
    dies                                   worker_died()
"""

from __future__ import annotations

import pickle
import reprlib
import signal

try:
    from concurrent.futures.process import BrokenProcessPool
except RuntimeError:  # too late: it registers what it does at the interpreter's exit
    from concurrent.futures import BrokenExecutor as BrokenProcessPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

__all__ = ["RemoteError", "TaskTimeout", "WorkerDied"]

_NONE: Mapping[str, Any] = {}


class WorkerDied(BrokenProcessPool):
    """A worker ended while it ran a task, or while it was being initialised.

    pid          its process id
    exitcode     its status; the negative number of the signal that killed it
    signal       that signal, or None
    task         what it ran, in words
    tries        how many workers have died of the task
    traceback    what its faulthandler said, if it crashed
    """

    def __init__(
        self,
        message: str,
        pid: int | None = None,
        exitcode: int | None = None,
        task: str = "",
        tries: int = 1,
        traceback: str = "",
    ) -> None:
        super().__init__(message, pid, exitcode, task, tries, traceback)
        self.pid, self.exitcode, self.task = pid, exitcode, task
        self.tries, self.traceback = tries, traceback
        self.signal = _signal_of(exitcode)

    def __str__(self) -> str:
        return str(self.args[0])


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


for _class in (WorkerDied, TaskTimeout, RemoteError):
    _class.__module__ = "leveret"


def revive(failed: tuple[str, str, str, bytes | None], traceback_class: Any) -> BaseException:
    """The exception that a worker sent, as worker.failed() made it."""
    text, kind, said, pickled = failed
    error = _unpickled(kind, said, text, pickled)
    error.__cause__ = traceback_class(f'\n"""\n{text}"""')
    return error


def _unpickled(kind: str, said: str, text: str, pickled: bytes | None) -> BaseException:
    if pickled is None:
        return RemoteError(kind, said, text, "it cannot be pickled")
    try:
        error = pickle.loads(pickled)
    except Exception as problem:
        return RemoteError(kind, said, text, f"unpickling it raised {_brief(problem)}")
    if not isinstance(error, BaseException):
        return RemoteError(kind, said, text, f"it was unpickled as {type(error).__qualname__!r}")
    return error


def _brief(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {error}"


def undecodable(error: BaseException, task: str) -> BaseException:
    """What came of a result, or of a task, that cannot be decoded or encoded."""
    if isinstance(error, Exception):
        return error
    why = "raised where its result was unpickled"
    return RemoteError(type(error).__qualname__, f"{error} ({task})", "", why)


def late(task: str, limit: float | None, pid: int) -> TaskTimeout:
    """A task's time is over."""
    return TaskTimeout(f"{task} took longer than timeout={limit} s in worker {pid}: stopped")


def _signal_of(exitcode: int | None) -> signal.Signals | int | None:
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode)
    except ValueError:
        return -exitcode


def _how(exitcode: int | None) -> str:
    """How a process ended, in words."""
    killed = _signal_of(exitcode)
    if killed is None:
        return f"ended with status {exitcode}"
    name = killed.name if isinstance(killed, signal.Signals) else f"signal {killed}"
    return f"was killed by {name}"


def worker_died(
    pid: int | None,
    exitcode: int | None,
    task: str,
    traceback: str,
    *,
    initializer: Callable[..., object] | None = None,
    initializing: bool = False,
    strict: bool = False,
    tries: int = 1,
    starts: int = 0,
) -> WorkerDied:
    """The error for what was lost with a worker, or for the crew if all is lost."""
    how = f"worker {pid} {_how(exitcode)}"
    if initializing:
        text = f"{how} in its initializer {_name_of(initializer)}: the pool is of no use any more"
    elif starts:
        text = (
            f"the last {starts} workers ended before they did anything, {how} (see what they "
            'printed; a main module must be importable: work belongs under `if __name__ == "'
            '__main__":`): the pool is of no use any more'
        )
    elif strict:
        text = f"{how}: with strict=True that breaks the pool"
    else:
        again = f", the last of {tries} tries" if tries > 1 else ""
        text = f"{how} while it ran {task}{again}"
    if traceback:
        text = f"{text}\n{traceback.rstrip()}"
    return WorkerDied(text, pid, exitcode, task, tries, traceback)


def unfit(initializer: Callable[..., object] | None, error: BaseException) -> BrokenProcessPool:
    """The initializer raised ERROR."""
    broken = BrokenProcessPool(
        f"the initializer {_name_of(initializer)} of a worker raised {_brief(error)}: the pool is "
        "of no use any more"
    )
    broken.__cause__ = error
    return broken


def _name_of(function: object) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def describe(function: object, args: Iterable[Any], kwds: Mapping[str, Any] = _NONE) -> str:
    """A call, in words."""
    arguments = [*map(short, args), *(f"{name}={short(value)}" for name, value in kwds.items())]
    return f"{_name_of(function)}({', '.join(arguments)})"


def describe_chunk(function: object, items: Sequence[Any]) -> str:
    """The calls of a chunk, in words."""
    first = short(items[0]) if items else ""
    return f"{_name_of(function)}() of {len(items)} items, the first of them {first}"


def short(value: object) -> str:
    """The repr of an argument, or its beginning."""
    try:
        return reprlib.repr(value)
    except Exception:
        return f"<{type(value).__qualname__} object>"
