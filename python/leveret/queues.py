"""Queues between processes: objects of the arena.

    process A                  the arena                            process B
    q.put(obj)  -- encode -->  [ a b c obj ]  -- decode -->  obj =  q.get()
                                  one lock for who puts,
                                  one for who gets

The classes are written in C, in `leveret._core`. There is no feeder thread: what put() returned
from is in the queue, for everybody, and stays there when its writer is killed. A process that is
killed in put() or get() holds up nobody. A queue may be sent anywhere, through another one, too.

A subclass that is made of the standard queue's private parts, such as loky's, gets the standard
queue as its base, over the standard library's pipes.
"""

from __future__ import annotations

import abc
import types
from collections.abc import Iterable
from multiprocessing import queues as std
from queue import Empty, Full

from . import _core
from ._core import BoundedSemaphore, LostTaskWarning
from .connection import Pipe
from .hints import Any, SupportsIndex

__all__ = ["Empty", "Full", "JoinableQueue", "LostTaskWarning", "Queue", "SimpleQueue"]


class _End:
    """One side of a queue, where programs expect a connection: `queue._reader`, `queue._writer`."""

    def __init__(self, queue: Queue, side: str) -> None:
        self._queue = queue
        self.fileno = queue._fileno
        self.recv, self.send = queue.get, queue.put
        self.closed, self.readable, self.writable = False, side == "reader", side == "writer"

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether something is there within TIMEOUT seconds."""
        return self._queue._poll(timeout)

    def close(self) -> None:
        self.closed = True


class _Side:
    """An attribute of a queue: one side of it, unless a program has put something else there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, queue: Any, kind: Any = None) -> Any:
        return self if queue is None else _End(queue, self._name)


# What a subclass may replace, or read, of a standard class only.
_OF_QUEUE = frozenset(
    {
        *("_after_fork", "_reset", "_start_thread", "_feed", "_finalize_join", "_finalize_close"),
        *("_buffer", "_notempty", "_thread", "_jointhread", "_joincancelled", "_send_bytes"),
        *("_recv_bytes", "_rlock", "_wlock", "_sem", "_opid", "_ignore_epipe"),
    }
)
_PARTS = {
    "Queue": _OF_QUEUE,
    "JoinableQueue": _OF_QUEUE | {"_unfinished_tasks", "_cond"},
    "SimpleQueue": frozenset({"__getstate__", "__setstate__"}),
}

# Before install() replaces them: ours -> theirs.
_standard: dict[type, type] = {}


class _Kind(abc.ABCMeta):
    """Makes the subclasses of our queues; those that need the standard class get it instead."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> Any:
        ours = [base for base in bases if base in _standard]
        if not any(_needs_standard(base, namespace) for base in ours):
            return super().__new__(cls, name, bases, namespace, **options)
        theirs = tuple(_standard.get(base, base) for base in bases)
        made = types.new_class(name, theirs, options, lambda names: names.update(namespace))
        for base in ours:
            base.register(made)  # type: ignore[attr-defined]
        return made


def _needs_standard(base: type, namespace: dict[str, Any]) -> bool:
    """Whether a subclass of BASE with NAMESPACE has or names parts that only the other one has."""
    names = set(namespace)
    for member in namespace.values():
        function = getattr(member, "__func__", member)
        names.update(getattr(getattr(function, "__code__", None), "co_names", ()))
    return not _PARTS[base.__name__].isdisjoint(names)


class Queue(_core.Queue, metaclass=_Kind):
    """Objects from any number of processes to any number of processes, in order."""

    _reader: Any = _Side("reader")
    _writer: Any = _Side("writer")

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} object at {id(self):#x}>"

    def put_nowait(self, obj: Any) -> None:
        """put(obj, False)."""
        return self.put(obj, False)

    def get_nowait(self) -> Any:
        """get(False)."""
        return self.get(False)

    @staticmethod
    def _on_queue_feeder_error(e: Exception, obj: Any) -> None:
        """Told by put() what cannot be sent, and why. For subclasses to override, as there."""
        raise e

    def _terminate_broken(self) -> None:
        """What the standard executor does to its queue when a worker has died."""
        self.close()


class JoinableQueue(_core.JoinableQueue, Queue):
    """A Queue that knows which of its objects are done with."""


class SafeQueue(Queue):
    """The queue of a standard executor that was imported before install() was called.

    One that is imported after it is made over ours. What cannot be encoded is an exception in
    put(), unless the queue has a method `_on_queue_feeder_error()`: then that is told.
    """

    def __init__(self, max_size: int = 0, *, ctx: Any, **attributes: Any) -> None:
        super().__init__(max_size, ctx=ctx)
        for name, value in attributes.items():
            setattr(self, name, value)

    def _on_queue_feeder_error(self, error: Exception, obj: Any) -> None:  # type: ignore[override]
        from concurrent.futures import process

        executor: Any = process
        executor._StandardSafeQueue._on_queue_feeder_error(self, error, obj)


class SimpleQueue(metaclass=_Kind):
    """A queue with nothing but get() and put(): a pipe, each end of which all processes share."""

    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __init__(self, *, ctx: Any) -> None:
        self._reader, self._writer = Pipe(duplex=False)
        # For the standard pool, which takes it so that nobody gets anything any more. It comes
        # back, without a warning, when its holder is killed.
        self._rlock = self._wlock = BoundedSemaphore(1, ctx=ctx)

    def get(self) -> Any:
        """Take the first object out of the queue, waiting for one."""
        return self._reader.recv()

    def put(self, obj: Any) -> None:
        """Put OBJ into the queue."""
        self._writer.send(obj)

    def put_many(self, iterable: Iterable[Any], /) -> int:
        """Put every object of ITERABLE, and return how many that were.

        As fast as it gets: several objects take the pipe's lock once. Others' objects may come
        between them. When an object cannot be sent, those before it are in the queue and the
        exception is raised.
        """
        count: int = self._writer._put_many(iterable)
        return count

    def get_many(self, max: SupportsIndex | None = None, timeout: float | None = None) -> list[Any]:
        """Wait for an object, and return a list of it and of those that are there, at most MAX.

        queue.Empty after TIMEOUT seconds without one. Where one of several cannot be unpickled, the
        others are returned, and the next get() or get_many() here raises its exception.
        """
        got: list[Any] = self._reader._get_many(max, timeout)
        return got

    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self._poll()

    def _poll(self, timeout: float | None = 0.0) -> bool:
        return bool(self._reader.poll(timeout))

    def close(self) -> None:
        """This process will not use it any more."""
        self._reader.close()
        self._writer.close()


_standard |= {
    Queue: std.Queue,
    JoinableQueue: std.JoinableQueue,
    SimpleQueue: std.SimpleQueue,
}


def __getattr__(name: str) -> Any:
    """The standard module's, for what is not ours."""
    return getattr(std, name)
