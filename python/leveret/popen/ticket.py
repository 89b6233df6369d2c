"""How a child of the standard library's joins the session: by a ticket in its preparation data.

    parent                                   child
    Popen of ours, over the standard one     reads its preparation data
        slot prepared                            the process's name is pickled as a call of board():
        process object's name, a ticket --->     attaches as the prepared process, takes over
                                                 our choices
        process object ---------------->     reads its process object: its handles are its own

The name is what the standard Popen asks of the process object before it writes anything, and what
the child reads before anything of the program is imported.
"""

from __future__ import annotations

import os
import signal

from .. import _core, dropin
from ..process import is_bound
from . import FOREVER_S, explained, flags_of
from .blame import culprit, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    set_spawning_popen: Any  # its stub knows only the standard classes
else:
    from multiprocessing.context import set_spawning_popen

__all__ = ["Boarding", "board"]

OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BOARD = (
    "__import__('sys').path.append(ours) or "
    "__import__('importlib').import_module('leveret.popen.ticket').board(*ticket)"
)


class _Passenger:
    """A process object on its way, whose name is a ticket."""

    def __init__(self, popen: Any, process_obj: Any) -> None:
        self._process_obj = process_obj
        self._name = _Ticket(popen, process_obj)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self._process_obj,)


def _arrived(process_obj: Any) -> Any:
    return process_obj


class _Ticket:
    """Pickles as a call of board(), which gives the name."""

    def __init__(self, popen: Any, process_obj: Any) -> None:
        self._popen, self._process_obj = popen, process_obj

    def __reduce__(self) -> tuple[Any, ...]:
        popen = self._popen
        fd = popen.DupFd(popen.duplicate_for_child(_core.session_fd()))
        mourned = _core.proc_self() if is_bound(self._process_obj) else 0
        ticket = self._process_obj.name, fd, popen._id, mourned, dropin.state()
        return eval, (BOARD, {"ours": OURS, "ticket": ticket})


def board(name: str, fd: Any, proc_id: int, mourned: int, choices: dict[str, Any]) -> str:
    """Join the session as that prepared process; a daemon ends with its parent."""
    arena_fd = fd.detach()
    _core.session_attach(arena_fd, proc_id)
    os.close(arena_fd)
    if mourned:
        _core.proc_die_with(mourned)
    dropin.restore(choices)
    return name


class Boarding:
    """Mixed into a standard Popen class: its child has a slot in the session."""

    # The standard class's.
    method: str
    returncode: int | None
    _send_signal: Any

    def _launch(self, process_obj: Any) -> None:
        standard: Any = super()
        self._id = _core.proc_prepare(flags_of(process_obj))
        try:
            standard._launch(_Passenger(self, process_obj))
        except OSError as error:
            self._give_up_slot()
            raise explained(error) from None
        except Exception as error:
            try:
                self._blame(error, process_obj)
            finally:
                self._give_up_slot()
            raise
        except BaseException:
            self._give_up_slot()
            raise

    def _blame(self, error: Exception, process_obj: Any) -> None:
        """Name what cannot be sent, if it was that."""
        set_spawning_popen(self)
        try:
            if where := culprit(process_obj):
                tell(error, process_obj, where, self.method)
        finally:
            set_spawning_popen(None)

    def give(self, ref: bytes) -> None:
        """Let the child have a handle of the shared object that ref names, from its birth on."""
        _core.proc_give(self._id, ref)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, or None if the process lives."""
        known = self.returncode is not None
        standard: Any = super()
        code: int | None = standard.poll(flag)
        if code is not None and not known:
            self._give_up_slot()
        return code

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end; return the exit code, or None if it lives on after timeout seconds."""
        standard: Any = super()
        bound = None if timeout is None or timeout >= FOREVER_S else timeout
        code: int | None = standard.wait(bound)
        return code

    def _give_up_slot(self) -> None:
        if not _core.proc_withdraw(self._id):
            _core.proc_poll(self._id, 0, 0)
            _core.proc_forget(self._id)

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_signal(signal.SIGINT)
