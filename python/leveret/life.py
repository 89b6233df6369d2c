"""What a born child does with its life: its object's run(), between a beginning and an end of ours.

The end is the standard library's (threads joined, finalizers and exit handlers run, streams
flushed) and then ours: every descriptor is closed, so that pipes report end of file and ports are
free; the status is announced in the slot; the process leaves. Whoever joined it goes on at the
announcement.
"""

from __future__ import annotations

import atexit
import os
import sys

from . import _core
from .process import is_bound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    util: Any  # its stub leaves out what we call
else:
    from multiprocessing import util

__all__ = ["end", "live", "live_forked"]

# From 3.13 on a child runs the exit handlers that it registered itself.
RUNS_EXIT_HANDLERS = sys.version_info >= (3, 13)

# Of every life; another for a rehearsal.
last_act: Callable[[int], NoReturn] = _core.end


def live(process_obj: Any, sentinel: int) -> NoReturn:
    """Be process_obj, to the end; never returns."""
    code = 1
    try:
        if RUNS_EXIT_HANDLERS:
            atexit._clear()
            atexit.register(util._exit_function)
        code = process_obj._bootstrap(parent_sentinel=sentinel)
    finally:
        end(code)


def end(code: int) -> NoReturn:
    """End this process as a child of ours ends; never returns."""
    try:
        if RUNS_EXIT_HANDLERS:
            atexit._run_exitfuncs()
    finally:
        last_act(code)


def live_forked(
    process_obj: Any, child: int, parent_pid: int, parent: int, parent_thread: int
) -> NoReturn:
    """The same in a child that was just forked by that thread of that process; never returns."""
    if _core.proc_self() != child:  # the start has been undone, or the parent is over
        os._exit(1)
    try:
        if is_bound(process_obj):
            _follow(parent_pid, parent, parent_thread)
        sentinel = _core.proc_sentinel(parent, parent_pid)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        util._flush_std_streams()
        os._exit(1)
    live(process_obj, sentinel)


def _follow(parent_pid: int, parent: int, parent_thread: int) -> None:
    """End with the parent.

    The kernel does it, but watches a thread: only the main thread ends with the process.
    """
    if parent_thread == parent_pid:
        _core.die_with_parent(parent_pid)
    else:
        _core.proc_die_with(parent)
