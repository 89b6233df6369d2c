"""Descriptors sent through pipes, for `multiprocessing.reduction`: ours have no socket for them."""

from __future__ import annotations

from multiprocessing import reduction as std

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["recv_handle", "send_handle"]

# As they are before install() puts ours into their places.
_send, _recv = std.send_handle, std.recv_handle


def send_handle(conn: Any, handle: int, destination_pid: int | None) -> None:
    """Send a descriptor through CONN."""
    if isinstance(conn, _core.PipeConnection):
        from multiprocessing import resource_sharer

        conn.send(resource_sharer.DupFd(handle))
    else:
        _send(conn, handle, destination_pid)


def recv_handle(conn: Any) -> int:
    """Receive a descriptor from CONN; it is the caller's."""
    if not isinstance(conn, _core.PipeConnection):
        return int(_recv(conn))
    received = conn.recv()
    if not hasattr(received, "detach"):
        raise RuntimeError(f"received {type(received).__name__}, not a descriptor")
    return int(received.detach())
