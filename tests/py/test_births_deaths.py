"""Births while others die: zygotes, spares, parents, and children at every age."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

import leveret
import pytest
from leveret import zygote

METHODS = ("warm", "fork", "spawn", "forkserver")
PATIENCE_S = 20.0
GONE_WITHIN_S = 1.0

warm = leveret.get_context("warm")


def eventually(check, within: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, "it did not come to that"
        threading.Event().wait(0.002)


def nothing() -> None:
    pass


def stand_still() -> None:
    threading.Event().wait()


def live(count: int = 1) -> None:
    for _ in range(count):
        child = warm.Process(target=nothing)
        child.start()
        child.join()
        assert child.exitcode == 0
        child.close()


def zygote_pid() -> int:
    live()
    return zygote.ensure_running().pid


def children_of(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# The zygote and its spares


def test_the_next_start_after_the_zygotes_death_works() -> None:
    before = zygote_pid()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: not is_there(before))
    live()
    assert zygote.ensure_running().pid != before


def test_the_zygotes_spares_die_with_it() -> None:
    mother = zygote_pid()
    eventually(lambda: len(children_of(mother)) >= 2)
    spares = children_of(mother)
    os.kill(mother, signal.SIGKILL)
    eventually(lambda: not any(map(is_there, spares)), GONE_WITHIN_S)
    live()


def test_a_child_outlives_the_zygote() -> None:
    mother = zygote_pid()
    child = warm.Process(target=stand_still)
    child.start()
    os.kill(mother, signal.SIGKILL)
    eventually(lambda: not is_there(mother))
    assert child.is_alive()
    child.terminate()
    child.join()
    assert child.exitcode in (-signal.SIGTERM, 255)  # its reaper is gone: only some kernels tell
    child.close()
    live()


def hunting(shoot, times: int, pause_s: float) -> threading.Thread:
    """A thread that shoots so many times; shoot() says whether it had something to shoot at."""

    def hunt() -> None:
        shots = 0
        while shots < times:
            threading.Event().wait(pause_s)
            with contextlib.suppress(ProcessLookupError):
                shots += shoot()

    hunter = threading.Thread(target=hunt)
    hunter.start()
    return hunter


def test_starts_while_zygotes_are_killed() -> None:
    shot: set[int] = set()

    def shoot() -> bool:
        mother = zygote._current
        if mother is None or mother.pid in shot or not mother.desk.ready:
            return False
        os.kill(mother.pid, signal.SIGKILL)
        shot.add(mother.pid)
        return True

    hunter = hunting(shoot, times=5, pause_s=0.1)
    while hunter.is_alive():
        live()
    live()
    assert len(shot) == 5


def test_starts_while_spares_are_killed() -> None:
    mother = zygote_pid()
    ours: set[int] = set()

    def shoot() -> bool:
        for pid in children_of(mother)[-1:]:
            if pid not in ours:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    hunter = hunting(shoot, times=40, pause_s=0.01)
    codes = []
    while hunter.is_alive():
        child = warm.Process(target=nothing)
        child.start()
        ours.add(child.pid)
        child.join()
        codes.append(child.exitcode)
        child.close()
    # The hunter may have shot one that was born and that we did not know of yet.
    assert set(codes) <= {0, -signal.SIGKILL} and codes.count(0) > len(codes) // 2
    live()


def test_a_stopped_zygote_delays_births_but_loses_none() -> None:
    mother = zygote_pid()
    os.kill(mother, signal.SIGSTOP)
    children = [warm.Process(target=nothing) for _ in range(6)]
    starters = [threading.Thread(target=child.start) for child in children]
    for starter in starters:
        starter.start()
    os.kill(mother, signal.SIGCONT)
    for starter in starters:
        starter.join()
    for child in children:
        child.join()
        assert child.exitcode == 0
        child.close()


def test_how_a_killed_child_ended_is_known() -> None:
    for number in (signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM):
        child = warm.Process(target=stand_still)
        child.start()
        os.kill(child.pid, number)
        child.join()
        assert child.exitcode == -number
        child.close()


@pytest.mark.parametrize("method", METHODS)
def test_many_children_killed_at_random_ages(method: str) -> None:
    context = leveret.get_context(method)
    children = [context.Process(target=stand_still) for _ in range(12)]
    for age, child in enumerate(children):
        child.start()
        threading.Event().wait(0.0005 * age)
        child.kill()
    for child in children:
        child.join()
        assert child.exitcode == -signal.SIGKILL
        child.close()


# Forked children


def test_forked_children_leave_no_zombie_behind_for_long() -> None:
    context = leveret.get_context("fork")
    for _ in range(20):
        child = context.Process(target=nothing)
        child.start()
        child.join()
        child.close()
    eventually(lambda: not leveret.active_children() and not zombies())


def zombies() -> list[int]:
    return [pid for pid in children_of(os.getpid()) if not is_there(pid)]


def test_the_pid_of_a_forked_child_is_noted(monkeypatch) -> None:
    """So that its slot waits for it, should it be stopped before its first instruction."""
    from leveret import _core

    noted = []
    monkeypatch.setattr(_core, "proc_forked", lambda _, pid: noted.append(pid))
    child = leveret.get_context("fork").Process(target=nothing)
    child.start()
    child.join()
    assert noted == [child.pid]
    child.close()


def test_others_children_are_not_reaped() -> None:
    other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"])
    context = leveret.get_context("fork")
    for _ in range(5):
        child = context.Process(target=nothing)
        child.start()
        child.join()
        child.close()
    assert other.wait(PATIENCE_S) == 5


def test_a_child_that_somebody_else_reaps() -> None:
    child = leveret.get_context("fork").Process(target=nothing)
    child.start()
    assert os.waitpid(child.pid, 0)[0] == child.pid
    child.join()
    assert child.exitcode == 0
    child.close()


# The program's death


FAMILY = """
    import os, sys, threading, leveret
    def live(name, pipe):
        pipe.send((name, os.getpid()))
        threading.Event().wait()
    def have_daemon(context, pipe):
        warm = leveret.get_context("warm")
        child = warm.Process(target=live, args=("grandchild", pipe), daemon=True)
        child.start()
        threading.Event().wait()
    if __name__ == "__main__":
        context = leveret.get_context({method!r})
        here, there = context.Pipe(duplex=False)
        def start(name, **options):
            child = context.Process(target=live, args=(name, there), **options)
            child.start()
        start("daemon", daemon=True)
        start("other")
        if {threads}:
            daemonic = dict(daemon=True)
            thread = threading.Thread(target=start, args=("daemon of a thread",), kwargs=daemonic)
            thread.start()
            thread.join()
        names = 3 if {threads} else 2
        told = [here.recv() for _ in range(names)]
        zygote = getattr(sys.modules.get("leveret.zygote"), "_current", None)
        if zygote is not None:
            told.append(("zygote", zygote.pid))
            children = open(f"/proc/{{zygote.pid}}/task/{{zygote.pid}}/children").read().split()
            known = dict(map(reversed, told))
            told += [("spare", int(pid)) for pid in children if int(pid) not in known]
        print(told, flush=True)
        threading.Event().wait()
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_dies_with_a_killed_program_and_what_does_not(method: str, tmp_path: Path) -> None:
    program = tmp_path / "family.py"
    program.write_text(textwrap.dedent(FAMILY).format(method=method, threads=True))
    main = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    told = eval(main.stdout.readline())
    main.kill()
    main.wait()
    main.stdout.close()
    mortal = [pid for name, pid in told if name != "other"]
    others = [pid for name, pid in told if name == "other"]
    try:
        eventually(lambda: not any(map(is_there, mortal)), GONE_WITHIN_S)
        assert all(map(is_there, others)) and len(others) == 1
    finally:
        for pid in others:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_ends_the_program_and_all_of_it(method: str, tmp_path: Path) -> None:
    program = tmp_path / "interrupted.py"
    program.write_text(
        textwrap.dedent(
            """
            import threading, leveret
            def work():
                pass
            if __name__ == "__main__":
                child = leveret.get_context({method!r}).Process(target=work)
                child.start()
                child.join()
                print("ready", flush=True)
                threading.Event().wait()
            """
        ).format(method=method)
    )
    main = subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert main.stdout.readline() == "ready\n"
    family = [main.pid, *children_of(main.pid)]
    family += [pid for child in children_of(main.pid) for pid in children_of(child)]
    began = time.monotonic()
    os.killpg(main.pid, signal.SIGINT)
    _, said = main.communicate(timeout=PATIENCE_S)
    assert time.monotonic() - began < 2
    assert said.count("KeyboardInterrupt") == 1 and said.count("Traceback") == 1
    eventually(lambda: not any(map(is_there, family)), 2)


@pytest.mark.parametrize("method", ["warm", "fork"])
def test_ctrl_c_reaches_a_started_child(method: str, tmp_path: Path) -> None:
    program = tmp_path / "interrupted.py"
    program.write_text(
        textwrap.dedent(
            """
            import leveret
            def work(started):
                try:
                    started.wait()
                    print("ready", flush=True)
                    leveret.Event().wait()  # a look every now and then: no signal is too early
                except KeyboardInterrupt:
                    print("child interrupted", flush=True)
            if __name__ == "__main__":
                started = leveret.Event()
                child = leveret.get_context({method!r}).Process(target=work, args=(started,))
                try:
                    child.start()
                    started.set()
                    child.join()
                except KeyboardInterrupt:
                    child.join()
                    print("parent interrupted", flush=True)
            """
        ).format(method=method)
    )
    main = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert main.stdout.readline() == "ready\n"
    os.killpg(main.pid, signal.SIGINT)
    said, _ = main.communicate(timeout=PATIENCE_S)
    assert said == "child interrupted\nparent interrupted\n"
    assert main.returncode == 0


def test_a_normal_end_joins_children_and_ends_daemons(tmp_path: Path) -> None:
    program = tmp_path / "ends.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, threading, time, leveret
            def late():
                time.sleep(0.2)
                print("late", flush=True)
            def for_ever():
                threading.Event().wait()
            if __name__ == "__main__":
                context = leveret.get_context("warm")
                daemon = context.Process(target=for_ever, daemon=True)
                daemon.start()
                print(daemon.pid, flush=True)
                context.Process(target=late).start()
            """
        )
    )
    ended = subprocess.run(
        [sys.executable, str(program)], capture_output=True, check=False, text=True, timeout=50
    )
    daemon, late = ended.stdout.split()
    assert (late, ended.stderr, ended.returncode) == ("late", "", 0)
    eventually(lambda: not is_there(int(daemon)), GONE_WITHIN_S)


def run_program(tmp_path: Path, text: str, **options) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, **options
    )


def is_over(pid: int) -> bool:
    """A zombie, or nobody any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", ["terminate", "kill", "interrupt"])
def test_who_has_ended_can_be_told_to_end(method: str, order: str) -> None:
    child = leveret.get_context(method).Process(target=nothing)
    child.start()
    eventually(lambda: is_over(child.pid))
    getattr(child, order)()
    child.join()
    assert child.exitcode == 0
    child.close()


@pytest.mark.parametrize("method", ["warm", "fork"])
def test_signals_are_sent_without_a_free_descriptor(method: str) -> None:
    child = leveret.get_context(method).Process(target=stand_still)
    child.start()
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        child.kill()
    finally:
        for fd in taken:
            os.close(fd)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    child.close()


def test_an_interrupt_is_the_end_of_a_program_with_daemons(tmp_path: Path) -> None:
    """Its own status, whatever is imported on the way out."""
    ended = run_program(
        tmp_path,
        """
        import leveret
        if __name__ == "__main__":
            wait = leveret.Event().wait
            for method in ("fork", "warm"):
                context = leveret.get_context(method)
                context.Process(target=wait, daemon=True).start()
            raise KeyboardInterrupt
        """,
    )
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr.count("Traceback") == 1


@pytest.mark.parametrize("method", ["warm", "fork"])
@pytest.mark.parametrize("status", [2**40, 2**80, -(2**80)])
def test_an_exit_status_beyond_all_bounds(method: str, status: int) -> None:
    child = leveret.get_context(method).Process(target=sys.exit, args=(status,))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == (0 if status == 2**40 else 255)
    child.close()


def test_a_fork_that_is_refused_is_tried_again_once_the_ended_are_reaped(monkeypatch) -> None:
    context = leveret.get_context("fork")
    first = context.Process(target=nothing)
    first.start()
    first.join()
    fork, refusals = os.fork, [BlockingIOError(11, "no more processes")]

    def reluctant() -> int:
        if refusals:
            raise refusals.pop()
        return fork()

    monkeypatch.setattr(os, "fork", reluctant)
    monkeypatch.setattr("leveret.popen.fork.reap_ended", lambda: None)  # it was not over yet
    second = context.Process(target=nothing)
    second.start()
    assert not Path(f"/proc/{first.pid}").exists()
    second.join()
    assert second.exitcode == 0
    first.close()
    second.close()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_a_fork_that_is_refused_says_where_to_look(monkeypatch, number: int) -> None:
    def refuse() -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(OSError, match=r"cannot start a process: .*\(see `ulimit -.`") as raised:
        leveret.get_context("fork").Process(target=nothing).start()
    assert raised.value.errno == number
    leveret.active_children()


@pytest.mark.parametrize("limit", range(5, 12))
def test_want_of_descriptors_for_a_zygote_says_where_to_look(tmp_path: Path, limit: int) -> None:
    ended = run_program(
        tmp_path,
        f"""
        import resource, leveret
        if __name__ == "__main__":
            resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
            leveret.get_context("warm").Process(target=print).start()
        """,
    )
    if ended.returncode:
        last = ended.stderr.splitlines()[-1]
        assert last.startswith("OSError: [Errno 24] cannot") and "(see `ulimit -n`)" in last


# Children that become something else, and starts that fail half-way


@pytest.mark.parametrize("method", METHODS)
def test_a_child_that_becomes_another_program_is_alive(method: str) -> None:
    child = leveret.get_context(method).Process(
        target=os.execv, args=("/bin/sleep", ["sleep", "60"])
    )
    child.start()
    eventually(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n")
    assert child.is_alive()
    began = time.monotonic()
    child.join(0.05)
    assert time.monotonic() - began < PATIENCE_S / 4
    assert child.exitcode is None
    os.kill(child.pid, signal.SIGTERM)
    child.join()
    assert child.exitcode == -signal.SIGTERM
    child.close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", ["terminate", "kill"])
def test_a_child_that_became_another_program_can_be_ended(method: str, order: str) -> None:
    child = leveret.get_context(method).Process(
        target=os.execv, args=("/bin/sleep", ["sleep", "60"])
    )
    child.start()
    eventually(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n")
    assert not wait([child.sentinel], 0.05)
    getattr(child, order)()
    child.join(PATIENCE_S)
    assert child.exitcode == -(signal.SIGTERM if order == "terminate" else signal.SIGKILL)
    child.close()


def test_a_daemon_that_became_another_program_ends_with_its_parent(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        import os, signal, threading, leveret
        if __name__ == "__main__":
            daemon = leveret.get_context("warm").Process(
                target=os.execv, args=("/bin/sleep", ["sleep", "60"]), daemon=True
            )
            daemon.start()
            while open(f"/proc/{daemon.pid}/comm").read() != "sleep\\n":
                threading.Event().wait(0.001)
            print(daemon.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        stdin=subprocess.DEVNULL,
    )
    eventually(lambda: is_over(int(ended.stdout)), GONE_WITHIN_S)


def test_many_threads_start_processes_while_the_main_module_makes_the_zygote_end(
    tmp_path: Path,
) -> None:
    ended = run_program(
        tmp_path,
        """
        import threading, leveret
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        def nothing():
            pass
        def start(codes):
            child = leveret.get_context("warm").Process(target=nothing)
            child.start()
            child.join()
            codes.append(child.exitcode)
        if __name__ == "__main__":
            codes = []
            starters = [threading.Thread(target=start, args=(codes,)) for _ in range(12)]
            for starter in starters:
                starter.start()
            for starter in starters:
                starter.join()
            print(codes)
        """,
    )
    assert ended.stdout == f"{[0] * 12}\n", ended.stderr


def test_a_program_without_standard_streams_starts_processes(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        import os, leveret
        def nothing():
            pass
        if __name__ == "__main__":
            context = leveret.get_context("warm")
            kept = os.dup(1)
            os.set_inheritable(kept, True)
            for closed in ((), (1,), (1, 2)):
                for number in closed:
                    try:
                        os.close(number)
                    except OSError:
                        pass
                child = context.Process(target=nothing)
                child.start()
                child.join()
                os.write(kept, b"exit code %d\\n" % child.exitcode)
        """,
    )
    assert ended.stdout == "exit code 0\n" * 3, ended.stderr


def test_a_refused_start_leaves_the_next_fork_alone(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        import os, sys, leveret
        refuse = [True]
        def hook(event, _):
            if event == "os.fork" and refuse:
                raise OSError("no forks")
        if __name__ == "__main__":
            sys.addaudithook(hook)
            lock = leveret.Lock()
            try:
                leveret.get_context("fork").Process(target=print).start()
            except OSError as error:
                print(error, flush=True)
            refuse.clear()
            if os.fork() == 0:
                with lock:
                    print("the child has the lock", flush=True)
                os._exit(0)
            os.wait()
        """,
    )
    assert ended.stdout == "no forks\nthe child has the lock\n", ended.stderr


def test_a_start_that_is_interrupted_after_its_fork_leaves_nothing(monkeypatch) -> None:
    from leveret import _core

    block, answers = _core.signals_block, [KeyboardInterrupt, None]

    def interrupted(mask: int) -> int:
        before = block(mask)
        if answers.pop() is KeyboardInterrupt and os.getpid() == parent:
            raise KeyboardInterrupt
        return before

    parent = os.getpid()
    monkeypatch.setattr(_core, "signals_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        leveret.get_context("fork").Process(target=stand_still).start()


def test_a_zygote_that_somebody_else_reaped_is_replaced() -> None:
    first = zygote_pid()
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    live()
    assert zygote_pid() != first


def test_a_daemon_outlives_its_zygote_but_not_its_program(tmp_path: Path) -> None:
    """The next zygote ends the daemons of the one before, too."""
    ended = run_program(
        tmp_path,
        """
        import os, signal, leveret
        from leveret import zygote
        def nothing():
            pass
        if __name__ == "__main__":
            context = leveret.get_context("warm")
            daemon = context.Process(target=leveret.Event().wait, daemon=True)
            daemon.start()
            first = zygote.ensure_running().pid
            os.kill(first, signal.SIGKILL)
            while zygote.ensure_running().pid == first:  # a last spare of it may still give birth
                child = context.Process(target=nothing)
                child.start()
                child.join()
            print(daemon.pid, daemon.is_alive(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    pid, alive = ended.stdout.split()
    assert alive == "True"
    eventually(lambda: is_over(int(pid)), GONE_WITHIN_S)


@pytest.mark.parametrize("order", [("zygote", "program"), ("program", "zygote")])
def test_a_daemon_ends_with_its_program_whether_or_not_there_is_a_zygote(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, threading, leveret
            from leveret import zygote
            def live(event):
                event.set()
                threading.Event().wait()
            if __name__ == "__main__":
                ready = leveret.Event()
                context = leveret.get_context("warm")
                daemon = context.Process(target=live, args=(ready,), daemon=True)
                daemon.start()
                ready.wait()
                print(daemon.pid, zygote.ensure_running().pid, flush=True)
                threading.Event().wait()
            """
        )
    )
    main = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    daemon, mother = map(int, main.stdout.readline().split())
    for name in order:
        os.kill({"zygote": mother, "program": main.pid}[name], signal.SIGKILL)
        if name == "zygote":
            eventually(lambda: is_over(mother))
    main.wait()
    main.stdout.close()
    eventually(lambda: is_over(daemon), GONE_WITHIN_S)


def have_a_daemon_and_wait(pipe) -> None:
    daemon = warm.Process(target=stand_still, daemon=True)
    daemon.start()
    pipe.send(daemon.pid)
    stand_still()


def test_a_daemon_of_a_forked_child_ends_with_that() -> None:
    """The zygote, which is not that child's, does not see to it."""
    live()
    here, there = leveret.Pipe(duplex=False)
    child = leveret.get_context("fork").Process(target=have_a_daemon_and_wait, args=(there,))
    child.start()
    daemon = here.recv()
    assert is_there(daemon)
    child.kill()
    child.join()
    eventually(lambda: is_over(daemon), GONE_WITHIN_S)
    for end in (here, there, child):
        end.close()
