"""The zygote, as its callers see it: a clean interpreter that gives birth to processes.

    ensure_running()        exec: an interpreter with leveret and multiprocessing imported, waiting
    the first start()       tells it the world: sys.path, argv, cwd, __main__, the list of preloads
    the zygote              imports them, and those of our modules that children live on; freezes,
                            forks spares                                          (leveret.nursery)
    every start()           one message; what has changed in the world since goes with it

It ends with the process that made it. That process's forked children, and the children born from
it, use it as well; whoever finds it dead makes another. If importing the program's main module
starts threads, or has killed a zygote, births come from a bare one that imports nothing; each child
then does it for itself. Where a package is run as a program, it imports what the first child needs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import sys
import threading

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = [
    "Zygote",
    "adopt",
    "ensure_running",
    "freeze_support",
    "get",
    "replace",
    "set_preload",
    "streams",
]

FROZEN_ARGUMENT = "leveret_zygote="
NEEDS_BARE = 77  # exit code of a zygote that found threads in itself
BARREN = 78  # of one whose forked processes all died before they could wait for a task
TOO_MANY = 20  # zygotes that die while one process waits for its birth
TRIES = 5  # zygotes that die before they can give birth, until we give up

# What workers live on, and the arguments of most children: each would import it for itself,
# and the program may come to use it after its first start. The zygote does so once.
LIVED_ON = ("worker", "queues", "synchronize")
# The rest of what arguments unpickle to it has if the program has it by then.
LENT = ("sharedctypes", "managers")

_lock = threading.Lock()
_current: Zygote | None = None
_bare = False
_unprepared = False  # what the first child needs is imported by each child for itself
_failures = 0
_preload: list[str] = ["__main__"]
_on_error = "warn"
_retired: list[Zygote] = []  # end when their last children do, and are ours to reap then


def set_preload(modules: Iterable[str], *, on_error: str = "warn") -> None:
    """Name what zygotes import before they give birth, and what becomes of one that fails."""
    global _preload, _on_error, _current
    with _lock:
        _preload, _on_error = list(modules), on_error
        _reap_retired()
        if _current is not None and _current.told:
            _current.retire()
            _current = None


class Zygote:
    """One zygote: the process, and what it knows of the world."""

    def __init__(self) -> None:
        self.desk = _core.Zygote.create()
        self.told = self.knows_all = self.prepares = False
        self.world: Any = None  # until it is told
        self.buried = False
        self.pid = 0
        self._maker = os.getpid()
        self._streams = streams()
        try:
            self._start()
        except OSError as error:
            from .popen import explained

            raise explained(error) from None

    def _start(self) -> None:
        config, self._pipe = os.pipe()
        try:
            with _deaf():
                self.pid = _exec(self.desk.seat(), config)
                self.desk.seated(self.pid)
        except BaseException:
            os.close(self._pipe)
            self._abort()
            raise
        finally:
            os.close(config)

    def _abort(self) -> None:
        """End and reap a zygote that was interrupted in the making: nobody else knows it."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def tell(self, world: dict[str, Any], orders: dict[str, Any]) -> None:
        """Tell it the world that it is to be born into, once: it begins to serve then."""
        self.told, self.world = True, {**world, "streams": self._streams}
        try:
            with open(self._pipe, "wb") as pipe:
                pickle.dump((_plain(self.world), orders), pipe)
        except BrokenPipeError:
            pass
        self.knows_all = True

    def ask(self, child: int, fds: list[int]) -> int | None:
        """Ask for a prepared child: a mark for birth(), or None if the zygote is dead."""
        return self.desk.ask(child, fds)

    def birth(self, child: int, fds: list[int], mark: int) -> int | None:
        """Wait for the child that was asked for: its pid, or None if the zygote is dead."""
        try:
            return self.desk.birth(child, fds, mark)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise OSError(self.desk.unheard, _why_unheard(self.desk.unheard)) from None

    def retire(self) -> None:
        """Let it go: it is to end as soon as its children have."""
        if self._maker == os.getpid():
            self.desk.retire()
            _retired.append(self)

    def has_gone(self) -> bool:
        """Reap it, if it is over."""
        try:
            self.buried = (
                self.buried
                or os.waitid(os.P_PIDFD, self.desk.pidfd, os.WEXITED | os.WNOHANG) is not None
            )
        except ChildProcessError:
            self.buried = True
        return self.buried

    def bury(self) -> int | None:
        """Reap it, once it is over; how it ended, or None if only another process can know."""
        if self._maker != os.getpid():
            return None
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.desk.pidfd, signal.SIGKILL)  # over, or as good as that
        try:
            end = os.waitid(os.P_PIDFD, self.desk.pidfd, os.WEXITED)
        except ChildProcessError:
            return None
        if end is None:
            return None
        return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


class Inherited(Zygote):
    """The zygote that this process was born from, to be used by it in turn."""

    told = knows_all = True
    prepares = False

    def __init__(self, desk: _core.Zygote, world: dict[str, Any]) -> None:
        self.desk, self.world = desk, world
        self.buried = False
        self.pid = self._maker = 0

    def bury(self) -> int | None:
        """That is up to its parent."""
        return None


def streams() -> tuple[tuple[int, int] | None, ...]:
    """Which files standard output and error are."""
    return tuple(map(_identity, (1, 2)))


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        about = os.fstat(fd)
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _plain(world: dict[str, Any]) -> dict[str, Any]:
    """The world with the key of an ordinary type: this pipe is ours alone."""
    return {name: bytes(value) if name == "authkey" else value for name, value in world.items()}


def _exec(seat: tuple[int, ...], config: int) -> int:
    """Start the interpreter."""
    from multiprocessing import util

    numbers = ",".join(map(str, (*seat, _core.session_fd(), config, _by_main_thread())))
    inherited = [*seat[2:], _core.session_fd(), config]
    executable, command = _command(numbers)
    pid: int = util.spawnv_passfds(executable, command, inherited)
    return pid


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Without Ctrl-C: the interpreter that is started has it blocked, and no pid is lost."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _by_main_thread() -> int:
    return int(threading.get_native_id() == os.getpid())


def _command(numbers: str) -> tuple[Any, list[str]]:
    from multiprocessing import spawn, util

    if getattr(sys, "frozen", False):
        return os.fsencode(sys.executable), [
            sys.executable,
            "--multiprocessing-fork",
            FROZEN_ARGUMENT + numbers,
        ]
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = (
        f"import sys; sys.path.append({ours!r}); from leveret.nursery import main; main({numbers})"
    )
    executable = spawn.get_executable()
    flags = vars(util)["_args_from_interpreter_flags"]()
    return executable, [executable, *flags, "-c", code]


def freeze_support() -> None:
    """Be a zygote if this frozen executable was started as one: never returns then."""
    if (
        len(sys.argv) == 3
        and sys.argv[1] == "--multiprocessing-fork"
        and sys.argv[2].startswith(FROZEN_ARGUMENT)
    ):
        from .nursery import main

        main(*map(int, sys.argv[2].removeprefix(FROZEN_ARGUMENT).split(",")))


def ensure_running() -> Zygote:
    """Have a zygote started, if there is none; it waits to be told the world."""
    global _current
    with _lock:
        if _current is None:
            _current = Zygote()
        return _current


def get(world: dict[str, Any], process_obj: Any) -> Zygote:
    """The zygote that PROCESS_OBJ is to be born from; it is told the world if nobody has yet."""
    zygote = ensure_running()
    if _retired:
        with _lock:
            _reap_retired()
    if not zygote.told:
        with _lock:
            if not zygote.told:
                orders = _orders(world, process_obj)
                zygote.prepares = bool(orders["needed"])
                zygote.tell(world, orders)
    return zygote


def _reap_retired() -> None:
    _retired[:] = [zygote for zygote in _retired if not zygote.has_gone()]


def _orders(world: dict[str, Any], process_obj: Any) -> dict[str, Any]:
    needed = _needed(world, process_obj)
    return {
        "bare": _bare,
        "preload": _preload,
        "needed": needed,
        "ours": _ours(),
        "on_error": _on_error,
    }


def _ours() -> list[str]:
    """Those of our modules that children live on."""
    lent = [name for name in LENT if f"{__package__}.{name}" in sys.modules]
    return [f"{__package__}.{name}" for name in (*LIVED_ON, *lent)]


def _needed(world: dict[str, Any], process_obj: Any) -> list[str]:
    """The modules of the first child's target and class, which it imports in any case.

    Where a package is run as a program: by the rules of spawn nobody imports its main module, which
    has brought them everywhere else.
    """
    is_package = world.get("init_main_from_name", "").rpartition(".")[2] == "__main__"
    if _bare or _unprepared or not is_package:
        return []
    names: list[str] = []
    with contextlib.suppress(Exception):  # of what the program has put there
        target = process_obj._target
        names = [type(process_obj).__module__, type(getattr(target, "__self__", None)).__module__]
        names.append(getattr(target, "__module__", ""))
    return [name for name in names if name in sys.modules and name != "__main__"]


def replace(dead: Zygote, deaths: int) -> None:
    """Note that a zygote is dead, and why: get() makes another then, unless that is hopeless.

    DEATHS: how many have died while the same process waited for its birth.
    """
    global _current, _bare, _failures, _unprepared
    with _lock:
        if _current is dead:
            _current = None
        if dead.buried:  # by another thread that waited for it
            return
        dead.buried = True
        code = dead.bury()
        by_itself = code is not None and code > 0  # something in it called exit()
        if dead.desk.ready and not by_itself and deaths < TOO_MANY:
            _failures = 0
            return
        if dead.prepares and by_itself and not dead.desk.ready:
            _unprepared = True  # nobody has asked for these imports
            return
        _failures += 1
        killed = code is None or -code in (signal.SIGKILL, signal.SIGTERM) or not dead.knows_all
        in_vain = deaths >= TOO_MANY or _failures > TRIES
        if in_vain or not (killed or _may_go_bare(code)):
            raise RuntimeError(_why_hopeless(code, dead.desk.unheard))
        _bare = _bare or not killed


def _may_go_bare(code: int | None) -> bool:
    return not _bare and (code in (NEEDS_BARE, BARREN) or _on_error != "fail")


def _why_unheard(number: int) -> str:
    name = errno.errorcode.get(number, number)
    return (
        "cannot start a process: every process that is forked to become it fails to receive what "
        f"it is to be: {name} ({os.strerror(number)}). Memory may be short (see `ulimit -v` and "
        "the container's limit), or a seccomp filter forbids recvmsg(). Another start method may "
        "do (--start-method spawn)"
    )


def _why_hopeless(code: int | None, unheard: int) -> str:
    if unheard and code == 1:
        return _why_unheard(unheard)
    how = "" if code is None else f" (exit code {code})"
    if code == BARREN:
        return (
            "cannot start a process: every process that is forked to become it ends before it can "
            "be told so; a fork handler ends it (see os.register_at_fork), or something kills it. "
            "Another start method may do (--start-method spawn)"
        )
    return (
        "cannot start a process: the interpreter that is to give birth to it ended before it "
        f"could{how}; see its message on standard error, or use another start method "
        "(--start-method fork)"
    )


def adopt(desk: _core.Zygote, world: dict[str, Any]) -> None:
    """In a child that was born from a zygote: use it in turn."""
    global _current
    _current = Inherited(desk, world)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
