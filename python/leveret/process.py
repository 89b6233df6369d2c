"""The process class: the standard one, started and awaited our way.

    start() -----> Popen of the start method: a child is born, it has a slot in the arena
    join()  <----- the slot says that it is over: announced by the child as its last act,
                   or noticed by the kernel
    sentinel       a descriptor, made when somebody asks for it

What the standard class promises is the standard class's: only what touches the birth and the end
is ours.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import process as std

from .hints import Any

__all__ = ["Process", "active_children", "bind", "is_bound"]

TWICE = "cannot start a process twice"
FOREIGN = "can only start a process object created by current process"
DAEMONIC = "daemonic processes are not allowed to have children"


def _startable(process: Any) -> None:
    """Refuse, in the standard words, what may not be started now."""
    if process._popen is not None:
        raise AssertionError(TWICE)
    if process._parent_pid != os.getpid():
        raise AssertionError(FOREIGN)
    config = vars(std.current_process())["_config"]
    if config.get("daemon") and not config.get("leveret_worker"):
        raise AssertionError(DAEMONIC)


def bind(process: Any) -> None:
    """Have a process that is not started yet end with this one, as daemons do."""
    vars(process)["_bound"] = True


def is_bound(process: Any) -> bool:
    """Whether a process ends with its parent."""
    return bool(process.daemon or vars(process).get("_bound"))


def active_children() -> list[std.BaseProcess]:
    """Return the children that live, and let the kernel forget those that do not."""
    if forked := sys.modules.get("leveret.popen.fork"):
        forked.reap_ended()
    return std.active_children()


class Process(std.BaseProcess):
    """Activity that runs in a process of its own; the standard class with births of ours."""

    # The standard contexts' word for the method that a child goes on with.
    _start_method: Any = None

    # The standard class's own, which its stub leaves out.
    _Popen: Any
    _args: Any
    _check_closed: Any
    _kwargs: Any
    _popen: Any
    _target: Any

    def start(self) -> None:
        """Start the child process."""
        self._check_closed()
        _startable(self)
        vars(std)["_cleanup"]()
        self._popen = self._Popen(self)
        # The arguments may refer to this object: let go of them before anybody waits.
        del self._target, self._args, self._kwargs
        vars(std)["_children"].add(self)

    def interrupt(self) -> None:
        """Interrupt the process: send it SIGINT."""
        self._check_closed()
        self._popen.interrupt()

    # The standard class keeps the sentinel as it was at the start; ours is made when it is first
    # wanted.

    @property
    def _sentinel(self) -> Any:
        if self._popen is None:
            raise AttributeError("_sentinel")
        return self._popen.sentinel

    @_sentinel.deleter
    def _sentinel(self) -> None:
        """Nothing to drop: the descriptor goes with the Popen object."""


def __getattr__(name: str) -> Any:
    """The standard module's, for what is not ours."""
    return getattr(std, name)
