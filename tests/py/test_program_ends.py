"""How a program ends, and its children with it: killed, at Ctrl-C, in the orderly way."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import leveret
import pytest
from births import (
    GONE_WITHIN_S,
    METHODS,
    PATIENCE_S,
    children_of,
    eventually,
    is_over,
    is_there,
    live,
    run_program,
    stand_still,
    warm,
)

# The program's end

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


# Daemons


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
