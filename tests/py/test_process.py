"""The process class, by every start method: what the standard class promises."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import connection, process
from pathlib import Path

import leveret
import pytest
from leveret import life

METHODS = ("warm", "fork", "spawn", "forkserver")


@pytest.fixture(params=METHODS)
def ctx(request: pytest.FixtureRequest):
    return leveret.get_context(request.param)


def nothing() -> None:
    pass


def leave(code: object) -> None:
    sys.exit(code)


def leave_at_once(code: int) -> None:
    os._exit(code)


def wait_for_ever(ready) -> None:
    ready.send(os.getpid())
    threading.Event().wait()


def tell(pipe, what: str) -> None:
    current = process.current_process()
    parent = process.parent_process()
    known = {
        "pid": os.getpid(),
        "name": current.name,
        "daemon": current.daemon,
        "authkey": bytes(current.authkey),
        "parent": (parent.pid, parent.name, parent.is_alive()),
        "children": len(process.active_children()),
        "argv": sys.argv,
        "path": sys.path,
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "umask": os.umask(0),
        "method": leveret.get_start_method(),
        "sigint": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "stdin": os.readlink("/proc/self/fd/0") if what == "stdin" else None,
    }
    pipe.send(known[what])


def ask(ctx, what: str, **options):
    here, there = ctx.Pipe(duplex=False)
    child = ctx.Process(target=tell, args=(there, what), **options)
    child.start()
    there.close()
    answer = here.recv()
    here.close()
    child.join()
    assert child.exitcode == 0
    pid = child.pid
    child.close()
    return pid if what == "pid" and answer == pid else answer


def start_sleeper(ctx):
    """A child that waits for ever, and has begun to."""
    here, there = ctx.Pipe(duplex=False)
    child = ctx.Process(target=wait_for_ever, args=(there,))
    child.start()
    there.close()
    assert here.recv() == child.pid
    here.close()
    return child


@pytest.fixture
def sleeper(ctx):
    child = start_sleeper(ctx)
    yield child
    if child._popen is not None:
        child.kill()
        child.join()
        child.close()


# Birth


def test_runs_its_target_with_its_arguments(ctx) -> None:
    assert ask(ctx, "name", name="Lepus") == "Lepus"
    assert ask(ctx, "daemon", daemon=True) is True
    assert ask(ctx, "parent") == (os.getpid(), process.current_process().name, True)
    assert ask(ctx, "children") == 0
    assert ask(ctx, "method") == ctx.get_start_method()


def test_has_a_process_of_its_own(ctx) -> None:
    assert ask(ctx, "pid") != os.getpid()


def test_reads_nothing_from_standard_input(ctx) -> None:
    assert ask(ctx, "stdin") == "/dev/null"


def test_takes_interrupts_as_a_program_does(ctx) -> None:
    assert ask(ctx, "sigint") is True


def test_run_may_be_overridden(ctx) -> None:
    here, there = ctx.Pipe(duplex=False)
    child = SUBCLASSES[ctx.get_start_method()](there)
    child.start()
    there.close()
    assert here.recv() == "overridden"
    here.close()
    child.join()
    assert child.exitcode == 0
    child.close()


class _Overridden:
    def __init__(self, pipe) -> None:
        super().__init__()
        self.pipe = pipe

    def run(self) -> None:
        self.pipe.send("overridden")


class WarmOne(_Overridden, leveret.get_context("warm").Process):
    pass


class ForkOne(_Overridden, leveret.get_context("fork").Process):
    pass


class SpawnOne(_Overridden, leveret.get_context("spawn").Process):
    pass


class ForkServerOne(_Overridden, leveret.get_context("forkserver").Process):
    pass


SUBCLASSES = {"warm": WarmOne, "fork": ForkOne, "spawn": SpawnOne, "forkserver": ForkServerOne}


def test_cannot_be_started_twice(sleeper) -> None:
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        sleeper.start()


def test_what_was_not_started_is_not_alive(ctx) -> None:
    child = ctx.Process(target=nothing)
    assert child.exitcode is None and child.pid is None and not child.is_alive()
    with pytest.raises(ValueError, match="process not started"):
        _ = child.sentinel
    with pytest.raises(AssertionError, match="can only join a started process"):
        child.join()


def test_a_daemon_has_no_children(ctx) -> None:
    assert start_from_daemon(ctx) == "daemonic processes are not allowed to have children"


def start_from_daemon(ctx) -> str:
    here, there = ctx.Pipe(duplex=False)
    child = ctx.Process(target=try_to_start, args=(there,), daemon=True)
    child.start()
    there.close()
    answer = here.recv()
    here.close()
    child.join()
    child.close()
    return answer


def try_to_start(pipe) -> None:
    try:
        leveret.Process(target=nothing).start()
    except AssertionError as error:
        pipe.send(str(error))


# End


@pytest.mark.parametrize(
    ("code", "exitcode"), [(0, 0), (None, 0), (7, 7), (256 + 3, 3), ("a message", 1), (True, 1)]
)
def test_exit_codes(ctx, code, exitcode) -> None:
    child = ctx.Process(target=leave, args=(code,))
    child.start()
    child.join()
    assert child.exitcode == exitcode
    child.close()


def test_exit_code_of_os_exit(ctx) -> None:
    child = ctx.Process(target=leave_at_once, args=(9,))
    child.start()
    child.join()
    assert child.exitcode == 9
    child.close()


def fail() -> None:
    raise LookupError("of no consequence")


# The standard fork server's children write to where it did when it was made.
@pytest.mark.parametrize("ctx", ["warm", "fork", "spawn"], indirect=True)
def test_an_exception_is_exit_code_1(capfd, ctx) -> None:
    child = ctx.Process(target=fail)
    child.start()
    child.join()
    assert child.exitcode == 1
    child.close()
    said = capfd.readouterr().err
    assert said.count("LookupError: of no consequence") == 1
    assert f"Process {child.name}:" in said


@pytest.mark.parametrize(
    ("how", "number"),
    [("kill", signal.SIGKILL), ("terminate", signal.SIGTERM)],
)
def test_exit_code_of_a_signal(sleeper, how: str, number: int) -> None:
    getattr(sleeper, how)()
    sleeper.join()
    assert sleeper.exitcode == -number
    assert not sleeper.is_alive()


@pytest.mark.parametrize("ctx", ["warm", "fork", "spawn"], indirect=True)
def test_interrupt_is_a_keyboard_interrupt(capfd, ctx) -> None:
    child = start_sleeper(ctx)
    child.interrupt()
    child.join()
    assert child.exitcode == 1
    child.close()
    assert capfd.readouterr().err.rstrip().endswith("KeyboardInterrupt")


def test_signals_to_the_dead_are_no_error(ctx) -> None:
    child = ctx.Process(target=nothing)
    child.start()
    connection.wait([child.sentinel])
    child.terminate()
    child.kill()
    child.join()
    child.kill()
    assert child.exitcode == 0
    child.close()


def test_join_with_a_timeout(sleeper) -> None:
    began = time.monotonic()
    sleeper.join(0.05)
    assert time.monotonic() - began >= 0.05
    sleeper.join(0)
    sleeper.join(-1)
    assert sleeper.exitcode is None and sleeper.is_alive()


def test_join_is_interrupted_by_signal_handlers(sleeper) -> None:
    caught: list[int] = []
    before = signal.signal(
        signal.SIGALRM, lambda number, frame: caught.append(number) or sleeper.kill()
    )
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        sleeper.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert caught == [signal.SIGALRM] and sleeper.exitcode == -signal.SIGKILL


# The standard Popen objects do not expect several threads.
@pytest.mark.parametrize("ctx", ["warm", "fork"], indirect=True)
def test_all_threads_that_join_are_told(sleeper) -> None:
    codes: list[int | None] = []

    def join() -> None:
        sleeper.join()
        codes.append(sleeper.exitcode)

    threads = [threading.Thread(target=join) for _ in range(8)]
    for thread in threads:
        thread.start()
    sleeper.kill()
    for thread in threads:
        thread.join()
    assert codes == [-signal.SIGKILL] * 8


def test_sentinel_is_readable_after_the_end(ctx) -> None:
    child = ctx.Process(target=nothing)
    child.start()
    sentinel = child.sentinel
    assert isinstance(sentinel, int) and child.sentinel == sentinel
    assert connection.wait([sentinel], timeout=20) == [sentinel]
    if ctx.get_start_method() != "spawn":  # whose sentinel is a pipe, closed before the end
        assert child.exitcode == 0
    child.join()
    child.close()


def test_sentinel_is_not_readable_before(sleeper) -> None:
    assert connection.wait([sleeper.sentinel], timeout=0) == []
    sleeper.kill()
    sleeper.join()
    ours = sleeper._popen.method in ("warm", "fork")
    assert connection.wait([sleeper.sentinel], timeout=0 if ours else 20) == [sleeper.sentinel]


def test_sentinel_made_after_the_end_is_readable(ctx) -> None:
    child = ctx.Process(target=nothing)
    child.start()
    child.join()
    assert connection.wait([child.sentinel], timeout=20)
    child.close()


def test_closing_what_runs_is_an_error(sleeper) -> None:
    with pytest.raises(ValueError, match="Cannot close a process while it is still running"):
        sleeper.close()


def test_nothing_can_be_asked_of_the_closed(ctx) -> None:
    child = ctx.Process(target=nothing)
    child.start()
    child.join()
    child.close()
    child.close()
    for question in (
        child.join,
        child.is_alive,
        child.kill,
        child.terminate,
        child.interrupt,
        child.start,
    ):
        with pytest.raises(ValueError, match="process object is closed"):
            question()
    for name in ("exitcode", "pid", "sentinel"):
        with pytest.raises(ValueError, match="process object is closed"):
            getattr(child, name)
    assert "closed" in repr(child)


def test_active_children_lists_the_living(sleeper) -> None:
    assert sleeper in process.active_children()
    sleeper.kill()
    sleeper.join()
    assert sleeper not in process.active_children()


def test_repr_tells_the_state(ctx) -> None:
    child = ctx.Process(target=nothing, name="Hare")
    assert repr(child) == f"<{type(child).__name__} name='Hare' parent={os.getpid()} initial>"
    child.start()
    child.join()
    about = f"pid={child.pid} parent={os.getpid()} stopped exitcode=0"
    assert repr(child) == f"<{type(child).__name__} name='Hare' {about}>"
    child.close()


# What a child gets to see


# The standard fork server's environment is as it was when the server was made.
@pytest.mark.parametrize("ctx", ["warm", "fork", "spawn"], indirect=True)
def test_child_sees_the_parent_as_of_start(
    ctx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEVERET_TEST_HARE", "brown")
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    monkeypatch.setattr(sys, "argv", ["hare", "--run"])
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "burrow")])
    assert ask(ctx, "cwd") == str(tmp_path)
    assert ask(ctx, "environ")["LEVERET_TEST_HARE"] == "brown"
    assert ask(ctx, "argv") == ["hare", "--run"]
    assert str(tmp_path / "burrow") in ask(ctx, "path")


@pytest.mark.parametrize("ctx", ["warm", "fork", "spawn"], indirect=True)
def test_child_does_not_see_what_is_gone(ctx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVERET_TEST_HARE", "brown")
    assert ask(ctx, "environ").get("LEVERET_TEST_HARE") == "brown"
    monkeypatch.delenv("LEVERET_TEST_HARE")
    assert "LEVERET_TEST_HARE" not in ask(ctx, "environ")


@pytest.mark.parametrize("ctx", ["warm", "fork"], indirect=True)
def test_child_has_the_umask_of_start(ctx) -> None:
    before = os.umask(0o027)
    try:
        assert ask(ctx, "umask") == 0o027
    finally:
        os.umask(before)


def test_child_has_the_authkey(ctx) -> None:
    assert ask(ctx, "authkey") == bytes(process.current_process().authkey)
    before = process.current_process().authkey
    process.current_process().authkey = b"another"
    try:
        assert ask(ctx, "authkey") == b"another"
    finally:
        process.current_process().authkey = before


def lose_the_end() -> None:
    """Want of memory can come anywhere: here, where there is nothing left to do but to end."""

    def fail(code: int) -> None:
        raise MemoryError

    life.last_act = fail


def test_a_forked_child_does_not_go_on_as_its_parent() -> None:
    parent = os.getpid()
    child = leveret.get_context("fork").Process(target=lose_the_end)
    try:
        child.start()
    finally:
        if os.getpid() != parent:
            os._exit(77)
    child.join()
    assert child.exitcode == 1


# Generations


def have_grandchild(pipe, method: str) -> None:
    child = leveret.get_context(method).Process(target=tell, args=(pipe, "parent"))
    child.start()
    child.join()
    sys.exit(child.exitcode)


@pytest.mark.parametrize("inner", METHODS)
def test_grandchildren(ctx, inner: str) -> None:
    if (ctx.get_start_method(), inner) == ("fork", "forkserver"):
        pytest.skip("the standard fork server cannot be used by a forked child of its maker")
    here, there = ctx.Pipe(duplex=False)
    child = ctx.Process(target=have_grandchild, args=(there, inner), name="Doe")
    child.start()
    there.close()
    assert here.recv() == (child.pid, "Doe", True)
    here.close()
    child.join()
    assert child.exitcode == 0
    child.close()


def watch_parent(ready, pipe) -> None:
    parent = process.parent_process()
    ready.send(parent.is_alive())
    parent.join(20)
    pipe.send(parent.is_alive())


def be_a_parent_for_a_moment(ready, pipe, method: str) -> None:
    child = leveret.get_context(method).Process(target=watch_parent, args=(ready, pipe))
    child.start()
    process._children.discard(child)  # not to be joined at our end
    ready.close()
    pipe.close()
    threading.Event().wait()


def test_parent_process_tells_of_the_parents_death(ctx) -> None:
    ready_here, ready_there = ctx.Pipe(duplex=False)
    here, there = ctx.Pipe(duplex=False)
    args = (ready_there, there, ctx.get_start_method())
    child = ctx.Process(target=be_a_parent_for_a_moment, args=args)
    child.start()
    ready_there.close()
    there.close()
    assert ready_here.recv() is True
    child.kill()
    child.join()
    assert here.recv() is False
    ready_here.close()
    here.close()
    child.close()


# Output


PRINTS = """
import sys, leveret
def work():
    sys.stdout.write("child ")
    sys.stderr.write("")
if __name__ == "__main__":
    sys.stdout.write("parent ")
    child = leveret.get_context({method!r}).Process(target=work)
    child.start()
    child.join()
    sys.stdout.write("end")
"""


@pytest.mark.parametrize("method", METHODS)
def test_unflushed_output_is_printed_once(method: str, tmp_path: Path) -> None:
    program = tmp_path / "prints.py"
    program.write_text(PRINTS.format(method=method))
    ended = subprocess.run(
        [sys.executable, str(program)], capture_output=True, check=False, text=True, timeout=50
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("parent child end", "", 0)


EXITS = """
import atexit, sys, threading, leveret
from multiprocessing import util
def later():
    threading.Event().wait(0.1)
    print("thread")
def work():
    atexit.register(print, "handler")
    util.Finalize(None, print, args=("finalizer",), exitpriority=5)
    threading.Thread(target=later).start()
    print("target")
if __name__ == "__main__":
    atexit.register(print, "parent's handler")
    child = leveret.get_context({method!r}).Process(target=work)
    child.start()
    child.join()
"""


@pytest.mark.parametrize("method", ["warm", "fork", "forkserver"])
def test_a_child_ends_as_the_standard_one(method: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.py", tmp_path / "theirs.py"
    ours.write_text(EXITS.format(method=method))
    standard = "forkserver" if method == "warm" else method
    theirs.write_text(EXITS.format(method=standard).replace("leveret", "multiprocessing"))
    said = [
        subprocess.run(
            [sys.executable, str(path)], capture_output=True, check=False, text=True, timeout=50
        )
        for path in (ours, theirs)
    ]
    assert said[0].stdout == said[1].stdout
    assert (said[0].stderr, said[0].returncode) == ("", 0)
