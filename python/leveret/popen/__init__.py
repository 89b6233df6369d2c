"""How a process is born and how its end is awaited: per start method a module with a class Popen.

    fork  warm             born here: the slot in the arena tells of birth and end   (Popen below)
    spawn  forkserver      the standard library's birth, joined to the session       (popen.ticket)

The end of a process of ours has two sides. The slot says that it is over: announced by the process
itself as its last act, or noticed by the kernel. The kernel then takes the process apart, which
takes a millisecond more, and only after that does its sentinel (a pidfd) become readable. Who never
asked for the sentinel is told at the first; who has one sees one truth: over means that the
sentinel is readable as well.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import threading

from .. import _core
from ..process import is_bound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = [
    "FOREVER_S",
    "LOST",
    "Popen",
    "explained",
    "flags_of",
    "give_up_asked",
    "put_off",
    "together",
]

WATCHED, DAEMON = 1, 2
FOREVER_S = 2_000_000  # three weeks: the kernel waits no longer by one call
AT_ONCE = 16  # births under way: no more spares wait, and descriptors in messages are limited
LOST = 255  # the exit code of a process whose end nobody can tell, as with the standard forkserver


# What a start may be in want of, as the binding says it.
WANTS = {
    errno.EAGAIN: "there are too many (see `ulimit -u`, and the limit of pids of the container)",
    errno.EMFILE: "this process has too many open files (see `ulimit -n`)",
    errno.ENFILE: "the machine has too many open files",
    errno.ENOMEM: "there is no memory left for it (see `ulimit -v` and the container's limit)",
}


def explained(error: OSError) -> OSError:
    """Say what a start was in want of, and where to look."""
    if error.errno in WANTS:
        return OSError(error.errno, f"cannot start a process: {WANTS[error.errno]}")
    return error


def flags_of(process_obj: Any) -> int:
    """What the process table is to know of a process that is about to be born."""
    return WATCHED | (DAEMON if is_bound(process_obj) else 0)


class _Asked(threading.local):
    """The births that were asked for in together()."""

    births: list[Any] | None = None


_asked = _Asked()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Have processes that this thread starts born at the same time, where births are asked for.

    Whoever asks for the pid of one meanwhile waits for its birth. If one is not born, the others
    that are not yet are given up as well: they are over. Descriptors among their arguments stay
    open until the end.
    """
    births: list[Any] = []
    before, _asked.births = _asked.births, births
    try:
        yield
        for birth in births:
            birth.wait()
    finally:
        _give_up(births)
        if _asked.births is births:
            _asked.births = before


def give_up_asked() -> None:
    """What together() does at its end: Ctrl-C may keep it from that. Or from this, again."""
    if _asked.births is not None:
        _give_up(_asked.births)
        _asked.births = None


def _give_up(births: list[Any]) -> None:
    """Whoever is interrupted in here calls again."""
    while births:
        births[-1].undo()
        births.pop()


def _forget_asked() -> None:
    """In a forked child, which is not in there any more."""
    _asked.births = None


os.register_at_fork(after_in_child=_forget_asked)


def put_off(birth: Any) -> bool:
    """Whether a BIRTH is waited for at the end of together()."""
    if _asked.births is None:
        return False
    births = _asked.births
    births.append(birth)
    if len(births) > AT_ONCE:
        births[-AT_ONCE - 1].wait()
    return True


class Popen:
    """A child process with a slot in the session; subclasses give birth to it in _launch()."""

    method: str | None = None
    _maker = _sentinel = -1  # until __init__() has come that far

    def __init__(self, process_obj: Any) -> None:
        from multiprocessing import util

        self.returncode: int | None = None
        self.finalizer = None
        self._pid: Any = None  # until it is born
        self._id = 0
        self._reaper = 0  # the zygote's process id; 0: we reap it ourselves,
        self._child_pid = 0  # and this is our child
        self._maker = os.getpid()
        self._ending = threading.Lock()
        vars(util)["_flush_std_streams"]()
        self._launch(process_obj)

    def _launch(self, process_obj: Any) -> None:
        raise NotImplementedError

    @property
    def pid(self) -> Any:
        """Its pid, for which a birth that was put off is waited for; None if it was not born."""
        if self._pid is None:
            self._await_birth()
        return self._pid

    def _await_birth(self) -> None:
        """Where births are asked for, and put off: wait for this one."""

    def duplicate_for_child(self, fd: int) -> int:
        """Say how the child will know a descriptor of this process."""
        return fd

    def give(self, ref: bytes) -> None:
        """Let the child have a handle of the shared object that ref names, from its birth on."""
        _core.proc_give(self._id, ref)

    @property
    def sentinel(self) -> int:
        """A descriptor that is readable once the process is gone."""
        if self._sentinel < 0:
            self._sentinel = _core.proc_sentinel(self._id, self.pid)
        return self._sentinel

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, or None if the process lives; wait for its end if flag is 0."""
        if flag == 0:
            return self.wait()
        if self.returncode is not None or self._maker != os.getpid():
            return self.returncode
        if self._pid is None:  # its end is not looked for before its birth has been
            return None
        if self._sentinel >= 0 and not _is_readable(self._sentinel, 0):
            return None
        return self._settle(_core.proc_poll(self._id, self._reaper, self._child_pid))

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end; return the exit code, or None if it lives on after timeout seconds."""
        if self.returncode is not None:
            return self.returncode
        if timeout is not None and timeout <= 0:
            return self.poll()
        self._await_birth()
        if self._sentinel >= 0 and not _is_readable(self._sentinel, timeout):
            return None
        return self._settle(_core.proc_wait(self._id, self._reaper, self._child_pid, timeout))

    def _settle(self, status: int | None) -> int | None:
        """Take note of the end, if it has come, and give the slot back."""
        if status is not None:
            with self._ending:
                if self.returncode is None:
                    self.returncode = self._exit_code(status)
                    _core.proc_forget(self._id)
        return self.returncode

    def _exit_code(self, status: int) -> int:
        """The exit code; where the slot does not know it, what the kernel kept, if anything."""
        if status != _core.UNKNOWN_STATUS:
            return status
        kept = _core.pidfd_status(self._sentinel) if self._sentinel >= 0 else None
        return LOST if kept is None else kept

    def _send_signal(self, number: int) -> None:
        if self.returncode is None:
            _core.proc_signal(self._id, self.pid, number)

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Give back what is kept of the process."""
        if self._sentinel >= 0:
            os.close(self._sentinel)
            self._sentinel = -1

    def __del__(self) -> None:
        if self._maker == os.getpid():
            self.close()


def _is_readable(fd: int, timeout: float | None) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if timeout is None or timeout >= FOREVER_S:
        return bool(poller.poll())
    return bool(poller.poll(math.ceil(timeout * 1000)))
