"""What runs in the zygote and in those born from it.

    main()       the zygote: told the world, it imports the program's modules, freezes what there is, and serves
    get_ready()  a spare, before it waits: what is to be done in every child and depends on nothing
    be_born()    a child: its head, the changes in the world, its process object; then leveret.life
    rehearse()   a process that does all this with nothing to do: what memory it touches, spares fetch beforehand

A zygote that finds threads in itself after its imports cannot fork safely: it ends, and a bare one takes
its place.
"""

import gc
import os
import pickle
import signal
import sys
import threading
from multiprocessing import process, reduction, spawn, util
from multiprocessing.context import set_spawning_popen

from . import _core, context, life, zygote
from .popen.warm import FOLLOW, HEAD, STREAMS, TRACKER

__all__ = ["be_born", "get_ready", "main", "received", "rehearse"]

FORK_INSTEAD = (
    "or let processes inherit everything: --start-method fork (LEVERET_START_METHOD=fork)"
)

# Descriptors that came with this process's birth; by index from its pickled arguments.
received = []

# Of the program's main module: None if it is not imported here, and why it failed if it did.
_main = None
_main_error = None


# The zygote.


def main(proc_id, maker, call_fd, serve_fd, desk_fd, arena_fd, config_fd, by_main_thread):
    """Be the zygote of the process MAKER; children return from here into their lives."""
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if by_main_thread:
        _core.die_with_parent(maker)
    desk = _sit_down(proc_id, maker, call_fd, serve_fd, desk_fd, arena_fd)
    world = _learn_world(config_fd)
    if by_main_thread:
        _core.die_with_parent(0)
    gc.collect()
    gc.freeze()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, on_interrupt)
    birth = desk.serve(get_ready, lambda: rehearse(desk), 0, 0)
    if birth is None:
        os._exit(0)
    zygote.adopt(desk, world)
    be_born(world, *birth)


def _sit_down(proc_id, maker, call_fd, serve_fd, desk_fd, arena_fd):
    for fd in (call_fd, serve_fd, desk_fd):
        os.set_inheritable(fd, False)
    _core.session_attach(arena_fd, proc_id)
    os.close(arena_fd)
    desk = _core.Zygote.open(proc_id, maker, call_fd, serve_fd, desk_fd)
    util._close_stdin()
    util._close_stdin = _keep_stdin
    return desk


def _keep_stdin():
    """The zygote has replaced standard input; its children need not."""


def _learn_world(config_fd):
    """Wait to be told the world and import what there is to import."""
    try:
        with open(config_fd, "rb") as pipe:
            world, orders = pickle.load(pipe)
    except EOFError:
        os._exit(0)  # our maker ended before it needed us
    world["authkey"] = process.AuthenticationString(world["authkey"])
    _apply(world)
    if not orders["bare"]:
        _import_all(world, orders)
    util._flush_std_streams()
    return world


def _import_all(world, orders):
    for name in orders["preload"]:
        if name == "__main__":
            _import_main(world, orders["on_error"])
        else:
            _import_module(name, orders["on_error"])
    if threading.active_count() > 1:
        _complain(
            "importing the program's modules starts threads, so processes are born from an interpreter that has "
            'not imported them, which is slower; start threads under `if __name__ == "__main__":`, '
            + FORK_INSTEAD
        )
        os._exit(zygote.NEEDS_BARE)


def _import_module(name, on_error):
    try:
        __import__(name)
    except Exception as error:
        if on_error != "ignore":
            _complain(f"cannot preload {name!r}: {type(error).__name__}: {error}")
        _fail_if_told_to(on_error)


def _import_main(world, on_error):
    global _main_error
    try:
        import_main(world)
    except BaseException as error:
        _main_error = f"{type(error).__name__}: {error}".partition("\n")[0].strip()
        _complain_about_main()
        _fail_if_told_to(on_error)


def _fail_if_told_to(on_error):
    if on_error == "fail":
        os._exit(1)


def _complain(text):
    util._flush_std_streams()
    sys.stderr.write(f"leveret: {text}\n")
    sys.stderr.flush()


def _complain_about_main():
    import traceback

    traceback.print_exc()
    _complain(
        "the main module cannot be imported by the processes it starts (traceback above): "
        'what it does as a program belongs under `if __name__ == "__main__":`, ' + FORK_INSTEAD
    )


def import_main(world):
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


def _apply(changes):
    """Make this process's world what changes says."""
    for name, value in changes.items():
        if name in _APPLIERS:
            _APPLIERS[name](value)


def _apply_path(value):
    sys.path[:] = value


def _apply_argv(value):
    sys.argv = value


def _apply_environ(value):
    gone = [key for key in os.environ._data if key not in value]
    for key in gone:
        del os.environb[key]
    for key, text in value.items():
        if os.environ._data.get(key) != text:
            os.environb[key] = text


def _apply_orig_dir(value):
    process.ORIGINAL_DIR = value


def _apply_authkey(value):
    process.current_process().authkey = value


def _apply_log_to_stderr(value):
    if value:
        util.log_to_stderr()


def _apply_log_level(value):
    util.get_logger().setLevel(value)


def _apply_start_method(value):
    if value is not None:
        import multiprocessing

        multiprocessing.set_start_method(value, force=True)


def _apply_dropin(value):
    from . import dropin

    dropin.restore(value)


_APPLIERS = {
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


def get_ready():
    """Do in a spare what every child needs and nobody has to wait for then."""
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()


def rehearse(desk):
    """Live the life of a process that has nothing to do; have what memory it touched learned."""

    def leave(code):
        desk.learn()
        os._exit(code)

    util._logger = None
    life.last_act = leave
    get_ready()
    task = HEAD.pack(os.getppid(), 0, _core.umask(), 0, 0, 0) + _pickle_nothing()
    view = memoryview(task)
    process_obj, sentinel = _unpack(view, [], {})
    view.release()
    life.live(process_obj, sentinel)


def _nothing():
    """What the rehearsal does between a process's beginning and its end."""


def _pickle_nothing():
    set_spawning_popen(True)
    try:
        return bytes(reduction.ForkingPickler.dumps(context.WarmProcess(target=_nothing)))
    finally:
        set_spawning_popen(None)


def be_born(world, proc_id, error, fds):
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


def _unpack(view, fds, world):
    """The process object, and the sentinel of its parent."""
    global received
    parent_pid, parent, umask, flags, name_bytes, changes_bytes = HEAD.unpack_from(view)
    name_end = HEAD.size + name_bytes
    changes_end = name_end + changes_bytes
    process.current_process()._name = bytes(view[HEAD.size : name_end]).decode(
        "utf-8", "surrogatepass"
    )
    os.umask(umask)
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


def _take_special(flags, fds, parent):
    """Take off the descriptors and do the things that the flags tell of."""
    if flags & STREAMS:
        for number in (1, 2):
            os.dup2(fds[0], number)
            os.close(fds.pop(0))
    if flags & TRACKER:
        from multiprocessing import resource_tracker

        resource_tracker._resource_tracker._fd = fds.pop(0)
    if flags & FOLLOW:
        _core.proc_die_with(parent)


def _load(body, world):
    """Unpickle the process object; a bare zygote's child imports the main module itself."""
    if _main is None and _main_error is None:
        import_main(world)
        process.current_process()._inheriting = True
    return pickle.loads(body)


# What goes wrong for lack of inheritance.


def _report(error):
    """Say why this process cannot live its life."""
    import traceback

    name = process.current_process().name
    sys.stderr.write(f"Process {name}:\n")
    traceback.print_exception(error)
    if (isinstance(error, AttributeError) and "__main__" in str(error)) or "__mp_main__" in str(
        error
    ):
        why = (
            f"importing it failed ({_main_error})"
            if _main_error
            else (
                'a process born by the start method "warm" imports it anew, and finds there only what is defined at top '
                'level, outside `if __name__ == "__main__":`'
            )
        )
        sys.stderr.write(
            f"leveret: {name} looked into the main module: {why}. Define it at top level, {FORK_INSTEAD}\n"
        )


def _explain_missing_globals(process_obj):
    """Let a NameError in the main module say that guarded code has not run here."""
    run = process_obj.run

    def explained():
        try:
            run()
        except NameError as error:
            if _is_of_main(error):
                error.add_note(
                    f'leveret: {error.name!r} may be set under `if __name__ == "__main__":`, which does not run in a '
                    f'process born by the start method "warm"; set it outside, pass it as an argument, {FORK_INSTEAD}'
                )
            raise

    process_obj.run = explained


def _is_of_main(error):
    at = error.__traceback__
    while at.tb_next is not None:
        at = at.tb_next
    return (
        at.tb_frame.f_globals is vars(_main)
        or at.tb_frame.f_globals.get("__name__") == "__mp_main__"
    )
