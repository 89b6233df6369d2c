"""Births from the zygote: the child is a spare that was forked beforehand from a clean interpreter.

    start()   slot prepared; head, world and process object pickled into the arena, as the slot's
              task; one message to the spares; whoever receives it adopts the slot and unpickles
              (leveret.nursery)
    join()    returns when the child announces its end; the zygote reaps, and says how a child
              ended that did not

The child starts from the zygote's world, as it was at the first start. What has changed since
(environment, working directory, path, streams, ...) goes with each start.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import struct
import sys
from multiprocessing import reduction, spawn

from .. import _core, dropin, zygote
from ..process import is_bound
from . import LOST, flags_of, put_off
from . import Popen as _Popen
from .blame import culprit, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Their stubs know only the standard classes as what is being spawned.
    get_spawning_popen: Any
    set_spawning_popen: Any
else:
    from multiprocessing.context import get_spawning_popen, set_spawning_popen

__all__ = ["ERR", "FOLLOW", "HEAD", "OUT", "STREAMS", "TRACKER", "WATCHED", "Popen"]

# Parent's pid and process id, signals that it ignores, umask, flags; lengths of the name and of the
# changes in the world.
HEAD = struct.Struct("=qQQIIII")
STREAMS, TRACKER, FOLLOW, OUT, ERR = 1, 2, 4, 8, 16  # OUT, ERR: of the streams, they are open
WATCHED = 32  # of a daemon: the zygote ends it with its parent; FOLLOW: it does so itself

# What the last start sent as its changes, and their pickle: the next one's seldom differ.
_last_changes: tuple[dict[str, Any], bytes] = ({}, b"")


class _DupFd:
    """A descriptor on its way to the child, known by its place among those that are sent."""

    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        """Return the child's descriptor."""
        from ..nursery import received

        return received[self.index]


class Popen(_Popen):
    """A child process that was a spare."""

    method = "warm"
    DupFd = _DupFd
    _birth: _Birth | None = None  # that was asked for

    def duplicate_for_child(self, fd: int) -> int:
        """Send a descriptor along; its index is how the child knows it."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        world = _world(process_obj)
        self._id = _core.proc_prepare(flags_of(process_obj))
        try:
            birth = self._birth = _Birth(self, process_obj, world, self._pickle(process_obj))
            if not put_off(birth):
                birth.wait()
        except BaseException:
            self.give_up()
            raise

    def _pickle(self, process_obj: Any) -> bytes:
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(process_obj, buffer)
        except Exception as error:
            where = culprit(process_obj) or "the process object itself"
            tell(error, process_obj, where, self.method)
            raise
        finally:
            set_spawning_popen(None)
        return buffer.getvalue()

    def _await_birth(self) -> None:
        if self._birth is not None:
            self._birth.wait()

    def born(self, pid: int, reaper: int) -> None:
        """It has that pid; REAPER is the zygote that says how it ends, or 0."""
        self._pid, self._reaper, self._birth = pid, reaper, None

    def is_born(self) -> bool:
        """Whether that is known here."""
        return self._pid is not None

    def task(
        self, mother: zygote.Zygote, process_obj: Any, world: dict[str, Any], body: bytes
    ) -> tuple[bytes, list[int]]:
        """What lies in the arena for the child, and the descriptors that go with the message."""
        flags = 0
        fds: list[int] = []
        streams = zygote.streams()
        if streams != mother.world["streams"]:
            flags |= STREAMS
            for fd, flag, stream in zip((1, 2), (OUT, ERR), streams, strict=True):
                if stream is not None:
                    flags, fds = flags | flag, [*fds, fd]
        if tracker := sys.modules.get("multiprocessing.resource_tracker"):
            flags, fds = flags | TRACKER, [*fds, tracker.getfd()]
        if is_bound(process_obj):
            flags |= WATCHED if mother.desk.watches else FOLLOW
        name = process_obj.name.encode("utf-8", "surrogatepass")
        changes = _pickle_changes(world, mother.world)
        parent = self._maker, _core.proc_self(), _core.signals_ignored()
        head = HEAD.pack(*parent, _core.umask(), flags, len(name), len(changes))
        return b"".join((head, name, changes, body)), fds + self._fds

    def give_up(self) -> None:
        """Leave nothing of a start that failed; a child that was born nevertheless is ended."""
        if self.returncode is not None:
            return
        if not _core.proc_withdraw(self._id):
            _core.proc_signal(self._id, 0, signal.SIGKILL)
            _core.proc_forget(self._id)
        self.returncode, self._birth = LOST, None


class _Birth:
    """A birth that was asked for."""

    def __init__(self, popen: Popen, process_obj: Any, world: dict[str, Any], body: bytes) -> None:
        self._popen, self._process_obj, self._world = popen, process_obj, world
        self._mother = self._first = zygote.get(world, process_obj)
        task, self._fds = popen.task(self._mother, process_obj, world, body)
        _core.proc_put_task(popen._id, task)
        self._mark = self._mother.ask(popen._id, self._fds)

    def wait(self) -> None:
        """Wait until it is born; of another zygote, if this one is dead."""
        if self._popen.is_born():
            return
        deaths = 0
        while (pid := self._answer()) is None:
            zygote.replace(self._mother, deaths := deaths + 1)
            self._mother = zygote.get(self._world, self._process_obj)
            self._mark = self._mother.ask(self._popen._id, self._fds)
        # A spare of one that died meanwhile may have been quicker than the next one's.
        known = self._mother is self._first or _parent_of(pid) == self._mother.pid
        self._popen.born(pid, self._mother.desk.id if known else 0)

    def _answer(self) -> int | None:
        if self._mark is None:
            return None
        return self._mother.birth(self._popen._id, self._fds, self._mark)

    def undo(self) -> None:
        """Nobody waits for it any more."""
        if not self._popen.is_born():
            self._popen.give_up()


def _parent_of(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


# The world.


def _world(process_obj: Any) -> dict[str, Any]:
    """Everything that a child has from its parent beside its arguments, as of now."""
    # Our choices are taken over first: the rest may speak of our start methods.
    world: dict[str, Any] = {"dropin": dropin.state()}
    world |= spawn.get_preparation_data(process_obj.name)
    del world["name"]
    if not os.path.exists(world.get("init_main_from_path", "/")):
        del world["init_main_from_path"]  # standard input, for one, cannot be read again
    environ: Any = os.environ
    world["environ"] = dict(environ._data)
    return world


def _pickle_changes(now: dict[str, Any], then: dict[str, Any]) -> bytes:
    """Pickle what is not any more as it was when the zygote was told."""
    global _last_changes
    changes = {
        name: value for name, value in now.items() if name not in then or then[name] != value
    }
    if changes != _last_changes[0]:
        _last_changes = changes, _pickle_secretly(changes)
    return _last_changes[1]


def _pickle_secretly(changes: dict[str, Any]) -> bytes:
    """Pickle as for a child that is being spawned: authentication keys go to nobody else."""
    before = get_spawning_popen()
    set_spawning_popen(changes)
    try:
        return pickle.dumps(changes)
    finally:
        set_spawning_popen(before)
