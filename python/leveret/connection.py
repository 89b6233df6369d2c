"""Pipes between processes: two ends in the arena, each for any number of processes.

    process A                     the arena                      process B
    one, two = Pipe()
    one.send(obj)  -- encode -->  [ obj ]  -------- decode -->   obj = two.recv()
    one.recv()  <-- decode -----  [ answer ]  <---- encode ---   two.send(answer)
    killed                        the end is closed  -------->   EOFError

An end is a `PipeConnection`. It is a `multiprocessing.connection.Connection`, as `isinstance()`
sees it, and behaves as one, but there is no descriptor in it: `fileno()` makes one that is readable
when there is something to receive. An end may be sent anywhere, at any time. Listeners, clients,
authentication and connections over sockets are the standard library's.
"""

from __future__ import annotations

import io
import selectors
import time
from collections.abc import Iterable
from multiprocessing import connection as std
from multiprocessing.connection import Client, Connection, Listener

from . import _core
from .hints import Any

# Before install() replaces it.
StandardPipe: Any = std.Pipe

LONGEST_S = 1_000_000  # of one poll(): the kernel takes no more than 2**31 ms

__all__ = ["Client", "Connection", "Listener", "Pipe", "PipeConnection", "wait"]


class PipeConnection(_core.PipeConnection, Connection):
    """An end of a pipe: what Pipe() returns two of."""

    __slots__ = ()

    # The standard class's private methods, for those who call them.

    def _send_bytes(self, buf: Any) -> None:
        self.send_bytes(buf)

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO:
        return io.BytesIO(self.recv_bytes(maxsize))

    def _poll(self, timeout: float | None) -> bool:
        return self.poll(timeout)

    def _close(self) -> None:
        self.close()


def Pipe(duplex: bool = True) -> Any:  # noqa: N802 - the standard name
    """Return the two ends of a new pipe; if not DUPLEX, one to receive and one to send."""
    return PipeConnection._pipe(duplex)


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Return those of OBJECT_LIST that are ready, after at most TIMEOUT seconds.

    Ends of pipes, connections, sockets, sentinels, anything with a descriptor.
    """
    objects = list(object_list)
    deadline = None if timeout is None else time.monotonic() + timeout
    ours = [obj for obj in objects if _is_waiting(obj)]
    ready = [obj for obj in ours if obj.poll()]
    if ready and len(ours) == len(objects):
        return ready
    if len(objects) == 1 and ours:
        return objects if objects[0].poll(timeout) else []
    with _Selector(objects) as selector:
        if ready:
            timeout = 0
        while True:
            found = selector.select(timeout)
            if found:
                return found
            if deadline is not None and (timeout := deadline - time.monotonic()) < 0:
                return []


def _is_waiting(obj: Any) -> bool:
    """Whether OBJ is an end of ours that messages come to."""
    return isinstance(obj, _core.PipeConnection) and obj.readable


class _Selector:
    """Knows objects by their descriptors, which two objects over one end have in common."""

    def __init__(self, objects: list[Any]) -> None:
        self._selector = selectors.PollSelector()
        try:
            for obj in objects:
                self._register(obj)
        except BaseException:
            self._selector.close()
            raise

    def _register(self, obj: Any) -> None:
        if isinstance(obj, _core.PipeConnection):
            for key in self._selector.get_map().values():
                if key.fd == obj.fileno() and obj is not key.data[0]:
                    key.data.append(obj)
                    return
        self._selector.register(obj, selectors.EVENT_READ, [obj])

    def __enter__(self) -> _Selector:
        return self

    def __exit__(self, *error: object) -> None:
        self._selector.close()

    def select(self, timeout: float | None) -> list[Any]:
        """Return what is ready, if anything; a descriptor of ours may have said too much."""
        if timeout is not None:
            timeout = min(timeout, LONGEST_S)
        return [
            obj
            for key, _ in self._selector.select(timeout)
            for obj in key.data
            if not _is_waiting(obj) or obj.poll()
        ]


def __getattr__(name: str) -> Any:
    """The standard module's, for what is not ours."""
    return getattr(std, name)
