"""Starts that are refused, interrupted, or made where something that they need is missing."""

import errno
import os
from pathlib import Path

import leveret
import pytest
from births import nothing, run_program, stand_still


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
