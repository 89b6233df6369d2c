"""Births by fork(): the child is a copy of this process, and has its slot before it exists.

start()   slot prepared -> os.fork() -> the child adopts it among its first instructions
join()    returns when the child announces its end; the kernel takes it apart meanwhile. What is
          left of it (its pid, until somebody reaps it) goes at the next start or exit,
          without waiting
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading

from .. import _core
from ..life import live_forked
from . import Popen as _Popen
from . import explained, flags_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Popen"]

ALL_SIGNALS = 2**64 - 1

# Children that are over and whose pids are still taken.
_ended: set[int] = set()


def reap_ended() -> None:
    """Reap those children whose end is known, as far as the kernel is done with them."""
    for pid in list(_ended):
        if _core.reap(pid) is not None:
            _ended.discard(pid)


def _fork(child: int) -> int:
    """Fork, as that child; where there may be no more processes, reap first."""
    try:
        _core.proc_fork_next(child)
        return os.fork()
    except BlockingIOError:
        if not _ended:
            raise
    for pid in _ended:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    _ended.clear()
    _core.proc_fork_next(child)
    return os.fork()


os.register_at_fork(after_in_child=_ended.clear)
atexit.register(reap_ended)


class Popen(_Popen):
    """A child process that was forked."""

    method = "fork"

    def _launch(self, process_obj: Any) -> None:
        if _ended:
            reap_ended()
        parent = os.getpid(), _core.proc_self(), threading.get_native_id()
        self._id = _core.proc_prepare(flags_of(process_obj))
        try:
            self._fork_undisturbed()
        except OSError as error:
            self._undo()
            raise explained(error) from None
        except BaseException:
            self._undo()
            raise
        if self._pid == 0:
            try:
                live_forked(process_obj, self._id, *parent)
            finally:  # for want of memory: the child does not go on with what its parent does
                os._exit(1)
        _core.proc_forked(self._id, self._pid)
        self._child_pid = self._pid

    def _fork_undisturbed(self) -> None:
        """Fork, and let no handler of a signal raise before the pid is known."""
        blocked = _core.signals_block(ALL_SIGNALS)
        try:
            self._pid = _fork(self._id)
        finally:
            _core.signals_block(blocked)

    def _undo(self) -> None:
        """Leave nothing of a start that failed."""
        _core.proc_fork_next(0)
        born = not _core.proc_withdraw(self._id)
        if self._pid or born:
            _core.proc_signal(self._id, self._pid or 0, signal.SIGKILL)
            _core.proc_forget(self._id)
        if self._pid:
            _ended.add(self._pid)

    def _exit_code(self, status: int) -> int:
        """Who has announced an end is reaped later; how others died, only the kernel knows."""
        if status != _core.UNKNOWN_STATUS:
            _ended.add(self._pid)
            return status
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        except ChildProcessError:
            return super()._exit_code(status)
