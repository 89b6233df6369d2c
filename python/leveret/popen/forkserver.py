"""Births by forkserver: the standard library's, joined to the session.

The standard fork server knows nothing of sessions: what a module shares that is imported there
belongs to the server. So the program's main module is not imported there, as the standard library
would do, but in each child, when the child has joined its parent's session.
"""

from __future__ import annotations

import contextlib
from multiprocessing import forkserver, popen_forkserver

from .ticket import Boarding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Popen"]

SERVER_IS_GONE = (
    "cannot start a process: the fork server, or the child, ended before it was born (what is on "
    "standard error may say why; see `ulimit -n` and `ulimit -u`); the next start makes a server "
    "anew if there is none"
)


@contextlib.contextmanager
def _main_kept_out() -> Iterator[None]:
    server: Any = vars(forkserver)["_forkserver"]
    preload = server._preload_modules
    server._preload_modules = [name for name in preload if name != "__main__"]
    try:
        yield
    finally:
        server._preload_modules = preload


class Popen(Boarding, popen_forkserver.Popen):
    """A child process of the standard fork server."""

    def _launch(self, process_obj: Any) -> None:
        try:
            with _main_kept_out():
                super()._launch(process_obj)
        except EOFError:
            raise EOFError(SERVER_IS_GONE) from None
        except ConnectionError as error:
            raise OSError(error.errno, SERVER_IS_GONE) from None
