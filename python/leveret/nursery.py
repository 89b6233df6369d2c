"""What runs in the zygote and in those born from it.

    main()       the zygote: told the world, it imports the program's modules, freezes what there
                 is, and serves
    get_ready()  a spare, before it waits: what is to be done in every child and depends on nothing
    be_born()    a child: its head, the changes in the world, its process object; then leveret.life
    rehearse()   a process that does all this with nothing to do: what memory it touches, spares
                 fetch beforehand

A zygote that finds threads in itself after its imports cannot fork safely: it ends, and one that
imports less, or nothing, takes its place.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import sys
import threading
from multiprocessing import reduction

from . import _core, context, life, zygote
from .popen.warm import ERR, FOLLOW, HEAD, OUT, STREAMS, TRACKER, WATCHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any, NoReturn

    # Their stubs leave out what we use of them.
    process: Any
    set_spawning_popen: Any
    spawn: Any
    util: Any
else:
    from multiprocessing import process, spawn, util
    from multiprocessing.context import set_spawning_popen

__all__ = ["be_born", "get_ready", "main", "received", "rehearse"]

FORK_INSTEAD = (
    "or let processes inherit everything: --start-method fork (LEVERET_START_METHOD=fork)"
)
ONLY_TOP_LEVEL = (
    'a process born by the start method "warm" imports it anew, and finds there only what is '
    'defined at top level, outside `if __name__ == "__main__":`'
)

# Descriptors that came with this process's birth; by index from its pickled arguments.
received: list[int] = []

# Of the program's main module: None if it is not imported here, and why it failed if it did.
_main: ModuleType | None = None
_main_error: str | None = None

# Whether the zygote was told to import nothing of the program's.
_bare = False


# The zygote.


def main(
    proc_id: int,
    maker: int,
    call_fd: int,
    serve_fd: int,
    desk_fd: int,
    arena_fd: int,
    config_fd: int,
    by_main_thread: int,
) -> NoReturn:
    """Be the zygote of the process MAKER; children return from here into their lives."""
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if by_main_thread:
        _core.die_with_parent(maker)
    desk = _sit_down(proc_id, maker, call_fd, serve_fd, desk_fd, arena_fd)
    world = _learn_world(config_fd)
    if by_main_thread:
        _core.die_with_parent(0)
    nothing = _pickle_nothing()
    gc.collect()
    gc.freeze()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        birth = desk.serve(get_ready, lambda: rehearse(desk, nothing), 0, 0)
    except ChildProcessError:
        _give_up()
    except OSError as error:
        _complain(str(error.strerror))
        os._exit(1)
    if birth is None:
        os._exit(0)
    zygote.adopt(desk, world)
    be_born(world, *birth)


def _give_up() -> NoReturn:
    """No process that is forked here lives long enough to be born."""
    if not _bare:
        _complain(
            "a fork handler of the program's modules (os.register_at_fork) ends the processes that "
            "are forked beside them, so processes are born from an interpreter that has not "
            "imported them, which is slower"
        )
    os._exit(zygote.BARREN)


def _sit_down(
    proc_id: int, maker: int, call_fd: int, serve_fd: int, desk_fd: int, arena_fd: int
) -> _core.Zygote:
    for fd in (call_fd, serve_fd, desk_fd):
        os.set_inheritable(fd, False)
    _core.session_attach(arena_fd, proc_id)
    os.close(arena_fd)
    desk = _core.Zygote.open(proc_id, maker, call_fd, serve_fd, desk_fd)
    util._close_stdin()
    util._close_stdin = _keep_stdin
    return desk


def _keep_stdin() -> None:
    """The zygote has replaced standard input; its children need not."""


def _learn_world(config_fd: int) -> dict[str, Any]:
    """Wait to be told the world and import what there is to import."""
    global _bare
    try:
        with open(config_fd, "rb") as pipe:
            world: dict[str, Any]
            world, orders = pickle.load(pipe)
    except EOFError:
        os._exit(0)  # our maker ended before it needed us
    world["authkey"] = process.AuthenticationString(world["authkey"])
    _apply(world)
    _bare = orders["bare"]
    if not _bare:
        _import_all(world, orders)
    util._flush_std_streams()
    return world


def _import_all(world: dict[str, Any], orders: dict[str, Any]) -> None:
    for name in orders["preload"]:
        if name == "__main__":
            _import_main(world, orders["on_error"])
        else:
            _import_module(name, orders["on_error"])
    if threading.active_count() > 1:
        _complain(
            "importing the program's modules starts threads, so processes are born from an "
            "interpreter that has not imported them, which is slower; start threads under "
            '`if __name__ == "__main__":`, ' + FORK_INSTEAD
        )
        os._exit(zygote.NEEDS_BARE)
    _import_what_children_need(orders["needed"] + orders["ours"])


def _import_what_children_need(names: list[str]) -> None:
    """If it fails, it fails in a child as well, and is told there; nobody has asked for this."""
    for name in names:
        with contextlib.suppress(BaseException):
            __import__(name)
    if threading.active_count() > 1:
        os._exit(zygote.NEEDS_BARE)


def _import_module(name: str, on_error: str) -> None:
    try:
        __import__(name)
    except Exception as error:
        if on_error != "ignore":
            _complain(f"cannot preload {name!r}: {type(error).__name__}: {error}")
        _fail_if_told_to(on_error)


def _import_main(world: dict[str, Any], on_error: str) -> None:
    global _main_error
    try:
        import_main(world)
    except BaseException as error:
        _main_error = type(error).__name__
        _complain_about_main()
        _fail_if_told_to(on_error)


def _fail_if_told_to(on_error: str) -> None:
    if on_error == "fail":
        os._exit(1)


def _complain(text: str) -> None:
    util._flush_std_streams()
    sys.stderr.write(f"leveret: {text}\n")
    sys.stderr.flush()


def _complain_about_main() -> None:
    import traceback

    traceback.print_exc()
    _complain(
        "the main module cannot be imported by the processes it starts (traceback above): "
        'what it does as a program belongs under `if __name__ == "__main__":`, ' + FORK_INSTEAD
    )


def import_main(world: dict[str, Any]) -> None:
    """Import the program's main module as __mp_main__, by the rules of spawn."""
    global _main
    process.current_process()._inheriting = True
    try:
        if "init_main_from_name" in world:
            spawn._fixup_main_from_name(world["init_main_from_name"])
        elif "init_main_from_path" in world:
            spawn._fixup_main_from_path(world["init_main_from_path"])
        _main = sys.modules.get("__mp_main__")
    finally:
        del process.current_process()._inheriting


# The world.


def _apply(changes: dict[str, Any]) -> None:
    """Make this process's world what changes says."""
    for name, value in changes.items():
        if name in _APPLIERS:
            _APPLIERS[name](value)


def _apply_path(value: list[str]) -> None:
    sys.path[:] = value


def _apply_argv(value: list[str]) -> None:
    sys.argv = value


def _apply_environ(value: dict[bytes, bytes]) -> None:
    environ: Any = os.environ
    gone = [key for key in environ._data if key not in value]
    for key in gone:
        del os.environb[key]
    for key, text in value.items():
        if environ._data.get(key) != text:
            os.environb[key] = text


def _apply_orig_dir(value: str) -> None:
    process.ORIGINAL_DIR = value


def _apply_authkey(value: bytes) -> None:
    process.current_process().authkey = value


def _apply_log_to_stderr(value: bool) -> None:
    if value:
        util.log_to_stderr()


def _apply_log_level(value: int) -> None:
    util.get_logger().setLevel(value)


def _apply_start_method(value: str | None) -> None:
    if value is not None:
        import multiprocessing

        multiprocessing.set_start_method(value, force=True)


def _apply_dropin(value: dict[str, Any]) -> None:
    from . import dropin

    dropin.restore(value)


_APPLIERS: dict[str, Callable[[Any], None]] = {
    "sys_path": _apply_path,
    "sys_argv": _apply_argv,
    "environ": _apply_environ,
    "dir": os.chdir,
    "orig_dir": _apply_orig_dir,
    "authkey": _apply_authkey,
    "log_to_stderr": _apply_log_to_stderr,
    "log_level": _apply_log_level,
    "dropin": _apply_dropin,
    "start_method": _apply_start_method,
}


# A spare and a child.


def get_ready() -> None:
    """Do in a spare what every child needs and nobody has to wait for then."""
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()


def rehearse(desk: _core.Zygote, nothing: bytes) -> NoReturn:
    """Live the life of a process that has nothing to do (pickled: NOTHING); learn its memory."""

    def leave(code: int) -> NoReturn:
        desk.learn()
        os._exit(code)

    util._logger = None
    life.last_act = leave
    get_ready()
    task = HEAD.pack(os.getppid(), 0, 0, _core.umask(), 0, 0, 0) + nothing
    view = memoryview(task)
    process_obj, sentinel = _unpack(view, [], {})
    view.release()
    life.live(process_obj, sentinel)


def _nothing() -> None:
    """What the rehearsal does between a process's beginning and its end: what workers do first."""
    if worker := sys.modules.get("leveret.worker"):
        worker.rehearse()


def _pickle_nothing() -> bytes:
    set_spawning_popen(True)
    try:
        return bytes(reduction.ForkingPickler.dumps(context.WarmProcess(target=_nothing)))
    finally:
        set_spawning_popen(None)


def be_born(world: dict[str, Any], proc_id: int, error: int, fds: Iterable[int]) -> NoReturn:
    """Live the life that lies in the arena for process proc_id; never returns."""
    global received
    process_obj = None
    try:
        if error:
            raise OSError(
                -error,
                "the descriptors that came with its arguments are more than this process may have",
            )
        view = _core.proc_get_task(proc_id)
        process_obj, sentinel = _unpack(view, list(fds), world)
        view.release()
        _core.proc_drop_task(proc_id)
    except BaseException as failure:
        _report(failure)
        life.end(1)
    received = []
    if _main is not None:
        _explain_missing_globals(process_obj)
    life.live(process_obj, sentinel)


def _unpack(view: memoryview, fds: list[int], world: dict[str, Any]) -> tuple[Any, int]:
    """The process object, and the sentinel of its parent."""
    global received
    parent_pid, parent, ignored, umask, flags, name_bytes, changes_bytes = HEAD.unpack_from(view)
    name_end = HEAD.size + name_bytes
    changes_end = name_end + changes_bytes
    process.current_process()._name = bytes(view[HEAD.size : name_end]).decode(
        "utf-8", "surrogatepass"
    )
    os.umask(umask)
    _ignore(ignored & ~_core.signals_ignored())
    _take_special(flags, fds, parent)
    received = fds
    if changes_bytes:
        changes = pickle.loads(view[name_end:changes_end])
        _apply(changes)
        world.update(changes)
    sentinel = _core.proc_sentinel(parent, parent_pid)
    process.current_process()._inheriting = True
    try:
        return _load(view[changes_end:], world), sentinel
    finally:
        del process.current_process()._inheriting


def _ignore(signals: int) -> None:
    """Ignore what the parent does: an interpreter that is executed inherits that as well."""
    while signals:
        number = signals.bit_length()
        signal.signal(number, signal.SIG_IGN)
        signals &= ~(1 << number - 1)


def _take_special(flags: int, fds: list[int], parent: int) -> None:
    """Take off the descriptors and do the things that the flags tell of."""
    if flags & STREAMS:
        for number, flag in ((1, OUT), (2, ERR)):
            if flags & flag:
                os.dup2(fds[0], number)
                os.close(fds.pop(0))
            else:
                with contextlib.suppress(OSError):
                    os.close(number)
    if flags & TRACKER:
        from multiprocessing import resource_tracker

        tracker: Any = resource_tracker._resource_tracker
        tracker._fd = fds.pop(0)
    if flags & FOLLOW:
        _core.proc_die_with(parent)
    if flags & WATCHED:
        _follow_without_zygote(parent)


def _follow_without_zygote(parent: int) -> None:
    """Have a daemon watch its parent itself once the zygote that does so is dead.

    The kernel tells of that by a signal that does nothing to a program that knows nothing of it.
    """

    def follow(*_: object) -> None:
        with contextlib.suppress(OSError):  # no more threads
            _core.proc_die_with(parent)

    signal.signal(signal.SIGURG, follow)
    _core.at_parents_death(signal.SIGURG)
    if not zygote.ensure_running().desk.watches:
        follow()


def _load(body: memoryview, world: dict[str, Any]) -> Any:
    """Unpickle the process object; a bare zygote's child imports the main module itself."""
    if _main is None and _main_error is None:
        try:
            import_main(world)
        finally:
            process.current_process()._inheriting = True
    return pickle.loads(body)


# What goes wrong for lack of inheritance.


def _report(error: BaseException) -> None:
    """Say why this process cannot live its life."""
    import traceback

    name = process.current_process().name
    text = str(error)
    of_main = (isinstance(error, AttributeError) and "__main__" in text) or "__mp_main__" in text
    if of_main and _main_error:
        sys.stderr.write(
            f"leveret: {name} cannot find its function: importing the main module failed with "
            f"{_main_error}, see above\n"
        )
        return
    sys.stderr.write(f"Process {name}:\n")
    traceback.print_exception(error)
    if of_main:
        sys.stderr.write(
            f"leveret: {name} looked into the main module: {ONLY_TOP_LEVEL}. "
            f"Define it at top level, {FORK_INSTEAD}\n"
        )


def _explain_missing_globals(process_obj: Any) -> None:
    """Let a NameError in the main module say that guarded code has not run here.

    No traceback shows that somebody looked.
    """
    run = process_obj.run

    def explained() -> None:
        try:
            run()
        except BaseException as error:
            if isinstance(error, NameError) and _is_of_main(error):
                error.add_note(
                    f"leveret: {error.name!r} may be set under "
                    '`if __name__ == "__main__":`, which does not run in a process born by the '
                    'start method "warm"; set it outside, pass it as an argument, ' + FORK_INSTEAD
                )
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # not this
            raise

    process_obj.run = explained


def _is_of_main(error: BaseException) -> bool:
    at: Any = error.__traceback__
    while at.tb_next is not None:
        at = at.tb_next
    return (
        at.tb_frame.f_globals is vars(_main)
        or at.tb_frame.f_globals.get("__name__") == "__mp_main__"
    )
