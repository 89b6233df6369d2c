"""What is told of workers that ended: of their tasks, and of a crew that is of no use any more.

Apart from leveret.faults, since it needs concurrent.futures, which most programs do not.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from .faults import brief, name_of

try:
    from concurrent.futures.process import BrokenProcessPool
except RuntimeError:  # the interpreter ends: it cannot register what it would do then
    from concurrent.futures import BrokenExecutor as BrokenProcessPool  # type: ignore[assignment]

__all__ = ["WorkerDied", "unfit", "worker_died"]


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


WorkerDied.__module__ = "leveret"


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
        text = f"{how} in its initializer {name_of(initializer)}: the pool is of no use any more"
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


def unfit(
    initializer: Callable[..., object] | None, pid: int | None, error: BaseException
) -> BrokenProcessPool:
    """The initializer raised ERROR in worker PID; None: that was buried meanwhile."""
    whose = "a worker" if pid is None else f"worker {pid}"
    broken = BrokenProcessPool(
        f"the initializer {name_of(initializer)} of {whose} raised {brief(error)}: the pool is "
        "of no use any more"
    )
    broken.__cause__ = error
    return broken
