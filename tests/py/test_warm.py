"""Births from the zygote: what it is told, what it says, and what it costs nothing to be."""

import os
import random
import resource
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import leveret
import pytest
from births import run_program
from leveret import zygote

ctx = leveret.get_context("warm")


def run(tmp_path: Path, text: str, *args: str, name: str = "program.py", **options):
    """Run a program of these lines; what it said and how it ended."""
    program = tmp_path / name
    program.write_text(textwrap.dedent(text))
    command = options.pop("command", [str(program)])
    options.setdefault("timeout", 50)
    options.update(capture_output=True, text=True, cwd=tmp_path)
    return subprocess.run([sys.executable, *command, *args], check=False, **options)


def answer(pipe, function, args) -> None:
    pipe.send(function(*args))


def ask(function, *args, **options):
    """What FUNCTION gives in a child."""
    here, there = ctx.Pipe(duplex=False)
    child = ctx.Process(target=answer, args=(there, function, args), **options)
    child.start()
    there.close()
    result = here.recv()
    here.close()
    child.join()
    child.close()
    return result


# Where it comes from


def test_children_come_from_one_zygote() -> None:
    parents = {ask(os.getppid) for _ in range(3)}
    assert len(parents) == 1 and parents != {os.getpid()}


def test_a_childs_children_come_from_the_same_zygote() -> None:
    assert ask(ask, os.getppid) == ask(os.getppid)


def test_the_zygote_is_single_threaded() -> None:
    status = Path(f"/proc/{ask(os.getppid)}/status").read_text()
    assert "\nThreads:\t1\n" in status


def open_files() -> list[str]:
    """What this process has open, but for the folder that is read to find out."""
    folder = os.open("/proc/self/fd", os.O_RDONLY)
    try:
        names = [name for name in os.listdir(folder) if Path(f"/proc/self/fd/{name}").is_symlink()]
        return [os.readlink(f"/proc/self/fd/{name}") for name in names]
    finally:
        os.close(folder)


def test_a_child_has_no_descriptors_of_its_parent(tmp_path: Path) -> None:
    before = ask(open_files)
    with open(tmp_path / "mine", "w") as mine:
        os.set_inheritable(mine.fileno(), True)
        assert [name for name in ask(open_files) if "mine" in name] == []
    assert len(ask(open_files)) == len(before)


def test_blocked_signals_are_the_starting_threads() -> None:
    import signal

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        assert ask(blocked) == [signal.SIGUSR1]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert ask(blocked) == []


def blocked() -> list[int]:
    import signal

    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_what_the_parent_ignores_the_child_ignores() -> None:
    import signal

    numbers = [signal.SIGUSR1, signal.SIGINT, signal.SIGRTMIN + 3]
    assert ask(ignored, numbers) == [False] * 3
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        assert ask(ignored, numbers) == [True] * 3
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert ask(ignored, numbers) == [False] * 3


def ignored(numbers: list[int]) -> list[bool]:
    import signal

    known = [signal.getsignal(number) == signal.SIG_IGN for number in numbers]
    status = Path("/proc/self/status").read_text()
    bits = int(status.partition("SigIgn:")[2].split()[0], 16)
    assert known == [bool(bits >> number - 1 & 1) for number in numbers]
    return known


def test_children_do_not_share_random_state() -> None:
    assert len({ask(draw) for _ in range(8)}) == 8


def draw() -> float:
    return random.random()


def test_output_goes_where_the_parents_goes_now(tmp_path: Path) -> None:
    said = tmp_path / "said"
    saved = os.dup(1)
    try:
        with open(said, "w") as file:
            os.dup2(file.fileno(), 1)
            child = ctx.Process(target=os.write, args=(1, b"redirected"))
            child.start()
            child.join()
            child.close()
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert said.read_text() == "redirected"


# What may be sent


def take(*args, **kwargs):
    pass


@pytest.mark.parametrize(
    ("args", "kwargs", "blamed"),
    [
        ((1, lambda: None), {}, "argument 1: <function <lambda>"),
        ((), {"lock": threading.Lock()}, "argument 'lock': <unlocked _thread.lock"),
        (([sys],), {}, "argument 0: [<module 'sys'"),
    ],
)
def test_what_cannot_be_sent_is_named(args, kwargs, blamed) -> None:
    child = ctx.Process(target=take, args=args, kwargs=kwargs)
    with pytest.raises(Exception) as raised:
        child.start()
    said = str(raised.value)
    assert blamed in said and child.name in said and "--start-method fork" in said
    assert child.pid is None and child.exitcode is None


def test_a_target_that_cannot_be_sent_is_named() -> None:
    def local() -> None:
        pass

    with pytest.raises(Exception, match=r"the target: <function .*local"):
        ctx.Process(target=local).start()


def test_megabytes_may_be_sent() -> None:
    assert ask(len, b"x" * (32 << 20)) == 32 << 20


def test_descriptors_may_be_sent() -> None:
    pairs = [ctx.Pipe() for _ in range(50)]
    child = ctx.Process(target=echo, args=([there for _, there in pairs],))
    child.start()
    for here, there in pairs:
        there.close()
        here.send("hare")
        assert here.recv() == "hare"
        here.close()
    child.join()
    child.close()


def echo(pipes) -> None:
    for pipe in pipes:
        pipe.send(pipe.recv())


def test_too_many_descriptors_are_refused() -> None:
    import multiprocessing.connection as connection

    read_end, write_end = os.pipe()
    pipes = [connection.Connection(os.dup(read_end), writable=False) for _ in range(254)]
    with pytest.raises(ValueError, match="too many fds: 255"):
        ctx.Process(target=echo, args=(pipes,)).start()
    for pipe in pipes:
        pipe.close()
    os.close(read_end)
    os.close(write_end)


def test_locks_arrive() -> None:
    lock = ctx.Lock()
    with lock:
        assert ask(try_lock, lock) is False
    assert ask(try_lock, lock) is True


def try_lock(lock) -> bool:
    return lock.acquire(block=False)


# What the main module may be


GOOD = """
    import leveret, sys
    def work():
        print(__name__, sys.argv[1:], flush=True)
    if __name__ == "__main__":
        child = leveret.get_context("warm").Process(target=work)
        child.start()
        child.join()
        sys.exit(child.exitcode)
"""


def test_main_as_a_file(tmp_path: Path) -> None:
    ended = run(tmp_path, GOOD, "a", "b")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("__mp_main__ ['a', 'b']\n", "", 0)


def test_main_as_a_module(tmp_path: Path) -> None:
    ended = run(tmp_path, GOOD, "a", command=["-m", "program"])
    assert (ended.stdout, ended.stderr, ended.returncode) == ("__mp_main__ ['a']\n", "", 0)


def test_main_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "burrow.py").write_text(
        textwrap.dedent(GOOD).partition("if __name__")[0]
    )
    text = textwrap.dedent(GOOD).replace("def work():", "from burrow import work\ndef unused():")
    ended = run(tmp_path, text, name="folder/__main__.py", command=["folder"])
    assert (ended.stdout, ended.stderr, ended.returncode) == ("burrow []\n", "", 0)


HARE = """
    import os, threading
    print("imported", flush=True)
    def work(): print("runs", flush=True)
    if os.environ.setdefault("FIRST", str(os.getpid())) != str(os.getpid()):
        pass  # by a child
"""
STARTS = """
    import leveret
    from hare import work
    for _ in range(3):
        child = leveret.get_context("warm").Process(target=work)
        child.start()
        child.join()
"""


def run_package(tmp_path: Path, main: str, command: list[str], in_child: str = "pass"):
    """Run a package of which everything comes from a module hare, and the output of that."""
    (tmp_path / "burrow").mkdir()
    (tmp_path / "hare.py").write_text(textwrap.dedent(HARE).replace("pass", in_child))
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    return run(tmp_path, main, name="burrow/__main__.py", command=command, env=env)


@pytest.mark.parametrize("command", [["-m", "burrow"], ["burrow"]])
def test_what_a_package_starts_is_imported_once(tmp_path: Path, command: list[str]) -> None:
    """By the zygote: the main module, which imports it, is imported by none of the children."""
    ended = run_package(tmp_path, STARTS, command)
    assert (ended.stdout.count("imported"), ended.stdout.count("runs")) == (2, 3)
    assert ended.stderr == "" and ended.returncode == 0


@pytest.mark.parametrize(
    ("in_child", "runs", "said"),
    [
        ("raise ValueError('of mine')", 0, "ValueError: of mine"),
        ("raise SystemExit(3)", 0, "SystemExit: 3"),
        ("os._exit(3)", 0, ""),
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", 3, ""),
    ],
)
def test_what_a_package_starts_may_not_be_for_the_zygote(
    tmp_path: Path, in_child: str, runs: int, said: str
) -> None:
    """Nothing is said of that: each child imports it, as under any other start method."""
    ended = run_package(tmp_path, STARTS, ["-m", "burrow"], in_child)
    assert ended.stdout.count("runs") == runs
    assert ended.stderr.count(said) == 3 if said else ended.stderr == ""


def test_main_as_a_command(tmp_path: Path) -> None:
    text = "import leveret\nwarm = leveret.get_context('warm')\n"
    text += "child = warm.Process(target=print, args=('hare',))\nchild.start()\nchild.join()"
    ended = run(tmp_path, "", command=["-c", text])
    assert (ended.stdout, ended.stderr, ended.returncode) == ("hare\n", "", 0)


def test_main_from_standard_input(tmp_path: Path) -> None:
    ended = run(
        tmp_path, "", command=["-"], input=textwrap.dedent(GOOD).replace("work()", "print()", 0)
    )
    assert ended.returncode == 1
    assert "AttributeError" in ended.stderr
    assert "attribute 'work'" in ended.stderr
    assert "--start-method fork" in ended.stderr


def test_main_is_imported_once_however_many_are_born(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import leveret
        print("imported as", __name__, flush=True)
        def work():
            pass
        if __name__ == "__main__":
            children = [leveret.get_context("warm").Process(target=work) for _ in range(5)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            print([child.exitcode for child in children])
        """,
    )
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "imported as __main__",
        "imported as __mp_main__",
        "[0, 0, 0, 0, 0]",
    ]


def test_main_without_a_guard(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import leveret
        def work():
            print("worked")
        child = leveret.get_context("warm").Process(target=work)
        child.start()
        child.join()
        print("exit code", child.exitcode)
        """,
    )
    assert ended.stdout == "exit code 1\n"
    assert ended.stderr.count("leveret: the main module cannot be imported") == 1
    assert ended.stderr.count("An attempt has been made to start a new process before") == 1
    assert 'if __name__ == "__main__"' in ended.stderr and "--start-method fork" in ended.stderr


def test_pools_without_a_guard(tmp_path: Path) -> None:
    """Their main module is imported once, and complained of once: no thread of theirs is there."""
    for pool, call in ("Pool", "map"), ("ProcessPoolExecutor", "map"):
        ended = run(
            tmp_path,
            f"""
            import leveret
            leveret.set_start_method("warm", force=True)
            def work(x):
                return x
            with leveret.{pool}(2) as pool:
                print(list(pool.{call}(work, range(3))))
            """,
        )
        assert ended.returncode == 1 and ended.stdout == ""
        assert ended.stderr.count("An attempt has been made to start a new process before") == 1
        assert ended.stderr.count("leveret: the main module cannot be imported") == 1
        assert "starts threads" not in ended.stderr
        assert "attribute 'work'" in ended.stderr  # in the words of this Python


def test_main_without_a_guard_that_starts_a_thread(tmp_path: Path) -> None:
    """It is imported by the child alone, whose error is the import's own."""
    ended = run(
        tmp_path,
        """
        import leveret, threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        child = leveret.get_context("warm").Process(target=print)
        child.start()
        child.join()
        print("exit code", child.exitcode)
        """,
    )
    assert ended.stdout == "exit code 1\n"
    assert "starts threads" in ended.stderr
    assert "An attempt has been made to start a new process before" in ended.stderr
    assert "AttributeError" not in ended.stderr


def test_a_function_that_is_not_in_the_imported_main(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import leveret
        if __name__ == "__main__":
            def work():
                pass
            child = leveret.get_context("warm").Process(target=work, name="Jack")
            child.start()
            child.join()
            print("exit code", child.exitcode)
        """,
    )
    assert ended.stdout == "exit code 1\n"
    assert "Process Jack:" in ended.stderr and "'work'" in ended.stderr
    assert "top level" in ended.stderr and "--start-method fork" in ended.stderr


def test_a_global_that_is_set_under_the_guard(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import leveret
        def work():
            print(SETTINGS)
        if __name__ == "__main__":
            SETTINGS = "brown"
            child = leveret.get_context("warm").Process(target=work)
            child.start()
            child.join()
            print("exit code", child.exitcode)
        """,
    )
    assert ended.stdout == "exit code 1\n"
    assert "NameError: name 'SETTINGS' is not defined" in ended.stderr
    assert (
        "leveret: 'SETTINGS' may be set under" in ended.stderr
        and "--start-method fork" in ended.stderr
    )


def test_a_main_that_fails_says_so_once(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import leveret
        def work():
            pass
        if __name__ != "__main__":
            raise LookupError("no burrow")
        for _ in range(3):
            child = leveret.get_context("warm").Process(target=work)
            child.start()
            child.join()
            print(child.exitcode)
        child = leveret.get_context("warm").Process(target=print, args=("needs no main",))
        child.start()
        child.join()
        """,
    )
    assert ended.stdout == "1\n1\n1\nneeds no main\n"
    assert ended.stderr.count("raise LookupError") == 1
    assert ended.stderr.count("leveret: the main module cannot be imported") == 1


def test_a_main_that_starts_threads(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import leveret, threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        def work():
            print("worked", threading.active_count())
        if __name__ == "__main__":
            for _ in range(2):
                child = leveret.get_context("warm").Process(target=work)
                child.start()
                child.join()
                print("exit code", child.exitcode, flush=True)
        """,
    )
    assert ended.stdout == "worked 2\nexit code 0\n" * 2
    assert ended.stderr.count("leveret: importing the program's modules starts threads") == 1
    assert ended.stderr.count("\n") == 1


def test_a_main_that_ends_the_interpreter(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import leveret, os
        if __name__ != "__main__":
            os._exit(3)
        child = leveret.get_context("warm").Process(target=print, args=("never",))
        child.start()
        child.join()
        print(child.exitcode)
        """,
    )
    assert ended.stdout == "3\n" and ended.returncode == 0


FORK_HANDLER = "import os\nos.register_at_fork(after_in_child=lambda: os._exit(9))\n"


def test_a_main_whose_fork_handlers_end_processes(tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text(FORK_HANDLER)
    ended = run(tmp_path, GOOD.replace("import leveret, sys", "import leveret, sys, trap"), "a")
    assert (ended.stdout, ended.returncode) == ("__mp_main__ ['a']\n", 0)
    assert ended.stderr.count("leveret: a fork handler of the program's modules") == 1
    assert ended.stderr.count("\n") == 1


def test_fork_handlers_that_end_every_process_everywhere(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(FORK_HANDLER)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = run(tmp_path, GOOD, env=environment)
    assert "RuntimeError: cannot start a process: every process that is forked" in ended.stderr
    assert "--start-method spawn" in ended.stderr
    assert ended.returncode == 1


@pytest.mark.parametrize("side", ["before", "after_in_parent"])
def test_fork_handlers_that_end_the_zygote(tmp_path: Path, side: str) -> None:
    trap = f"import os\nif __name__ != '__main__': os.register_at_fork({side}=lambda: os._exit(9))"
    ended = run(tmp_path, trap + textwrap.dedent(GOOD), "a")
    assert (ended.stdout, ended.returncode) == ("__mp_main__ ['a']\n", 0), ended.stderr


# Preloads


PRELOADS = """
    import leveret, sys
    if __name__ == "__main__":
        context = leveret.get_context("warm")
        context.set_forkserver_preload({modules!r}, on_error={on_error!r})
        for _ in range(2):
            child = context.Process(target=print, args=("born",))
            child.start()
            child.join()
"""


def test_preloaded_modules_are_there_before_the_child(tmp_path: Path) -> None:
    (tmp_path / "burrow.py").write_text(
        "import os\nprint('imported by', os.getpid(), flush=True)\n"
    )
    text = PRELOADS.replace('print, args=("born",)', 'exec, args=("import burrow",)')
    ended = run(tmp_path, text.format(modules=["burrow"], on_error="warn"))
    assert ended.stderr == "" and ended.stdout.count("imported by") == 1


@pytest.mark.parametrize(
    ("on_error", "said", "born", "status"),
    [("ignore", 0, 2, 0), ("warn", 1, 2, 0), ("fail", 1, 0, 1)],
)
def test_a_preload_that_fails(
    tmp_path: Path, on_error: str, said: int, born: int, status: int
) -> None:
    ended = run(tmp_path, PRELOADS.format(modules=["no_such_burrow"], on_error=on_error))
    assert ended.stdout == "born\n" * born
    assert (
        ended.stderr.count("leveret: cannot preload 'no_such_burrow': ModuleNotFoundError") == said
    )
    assert ended.returncode == status
    if on_error == "fail":
        assert "RuntimeError: cannot start a process" in ended.stderr


def test_a_zygote_that_no_more_starts_come_from_ends_with_its_children(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import os, threading, leveret
        from leveret import zygote
        def be_asked(question, answer):
            question.wait()
            child = leveret.get_context("warm").Process(target=answer.set)
            child.start()
            child.join()
            raise SystemExit(os.getppid() % 100 + 100)
        def is_over(pid):
            try:
                return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] in "ZX"
            except OSError:
                return True
        if __name__ == "__main__":
            context = leveret.get_context("warm")
            question, answer = leveret.Event(), leveret.Event()
            child = context.Process(target=be_asked, args=(question, answer))
            child.start()
            first = zygote.ensure_running().pid
            context.set_forkserver_preload(["decimal"])
            context.Process(target=print, args=("born anew",)).start()
            assert zygote.ensure_running().pid != first
            threading.Event().wait(0.2)
            assert not is_over(first)
            question.set()
            child.join()
            assert answer.is_set() and child.exitcode == first % 100 + 100, child.exitcode
            for _ in range(10_000):
                if is_over(first):
                    break
                threading.Event().wait(0.001)
            context.Process(target=print, args=("and again",)).start()
            print(os.path.exists(f"/proc/{first}"))
        """,
    )
    assert ended.stderr == ""
    assert sorted(ended.stdout.splitlines()) == ["False", "and again", "born anew"]


# Want


def test_want_of_descriptors_in_the_parent_is_an_error() -> None:
    child = ctx.Process(target=take)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    child.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="ulimit -n"):
            _ = child.sentinel
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    child.join()
    assert child.exitcode == 0
    child.close()


def test_who_rehearses_does_not_hear_ctrl_c(tmp_path: Path) -> None:
    """The rehearsal begins when the first stock is full."""
    text = """
        import os, signal, time
        import leveret

        def nothing():
            pass

        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            child = leveret.get_context("warm").Process(target=nothing)
            child.start()
            child.join()
            for _ in range(200):
                os.killpg(0, signal.SIGINT)
                time.sleep(0.0002)
        """
    for _ in range(5):
        done = run_program(tmp_path, text, start_new_session=True)
        assert (done.returncode, done.stderr) == (0, "")


# Many at once


def test_a_burst_grows_the_stock_and_quiet_shrinks_it() -> None:
    desk = zygote.ensure_running().desk
    children = [ctx.Process(target=take) for _ in range(40)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
        child.close()
    deadline = time.monotonic() + 20
    while desk.spares > 4:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_threads_may_start_processes_together() -> None:
    codes: list[int | None] = []

    def start_some() -> None:
        for _ in range(5):
            child = ctx.Process(target=take)
            child.start()
            child.join()
            codes.append(child.exitcode)
            child.close()

    threads = [threading.Thread(target=start_some) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 30
