"""How a pool rests, and how it ends with its program: at Ctrl-C, at an exit, when that is killed.

Programs are in a terminal session of their own. What executors do as well is in
test_pool_ends.py.
"""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from crews import pool_of, run_file
from forked import PATIENCE_S, state_of, until
from tasks import refuse, square

pytestmark = [
    # The standard library's, of a fork beside threads: a pool forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def test_an_idle_pool_uses_no_processor(ctx: Any) -> None:
    with pool_of(ctx, 2) as pool:
        pool.apply_async(square, (3,), callback=id).get(PATIENCE_S)

        def used() -> float:
            ticks = 0
            for pid in [os.getpid(), *(process.pid for process in pool._pool)]:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
            return ticks / os.sysconf("SC_CLK_TCK")

        before = used()
        threading.Event().wait(2)
        assert used() - before < 0.1


@pytest.mark.parametrize("method", ["fork", "warm"])
@pytest.mark.parametrize(
    "body",
    [
        "pool.map(time.sleep, [30, 30])",
        "pool.apply_async(time.sleep, (30,), callback=print).get()",
        "list(pool.imap(time.sleep, (30 for _ in range(9))))",
        "pool.map(spin, [1])",
        "time.sleep(30)",
        "pool.apply(square, (2,)); time.sleep(30)",
    ],
)
def test_ctrl_c_is_one_traceback(tmp_path: pathlib.Path, method: str, body: str) -> None:
    said = run_file(
        tmp_path / "program.py",
        f"""
        import leveret, os, signal, threading, time
        def square(x):
            return x * x
        def spin(x):
            while True:
                pass
        def interrupt():
            global since
            since = time.monotonic()
            os.killpg(0, signal.SIGINT)
        if __name__ == "__main__":
            pool = leveret.get_context({method!r}).Pool(3)
            pool.map(square, range(10))
            threading.Timer(0.3, interrupt).start()
            try:
                with pool:
                    {body}
            finally:
                print(time.monotonic() - since < 2)
        """,
    )
    assert said.returncode == -signal.SIGINT
    assert said.stdout == "True\n"
    assert said.stderr.count("Traceback") == 1
    assert said.stderr.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("make", "call", "end"),
    [
        ("Pool(1)", "workers.apply(os.getpid)", "terminate"),
        ("ProcessPoolExecutor(1)", "workers.submit(os.getpid).result()", "shutdown"),
    ],
)
def test_a_forked_child_that_drops_it_early_is_nobody(
    tmp_path: pathlib.Path, make: str, call: str, end: str
) -> None:
    """A handler of forks that was registered before ours drops a pool whose owner is the parent."""
    said = run_file(
        tmp_path / "program.py",
        f"""
        import leveret, os, warnings
        def drop():
            global workers
            workers = None
        os.register_at_fork(after_in_child=drop)
        if __name__ == "__main__":
            warnings.simplefilter("ignore")  # of forks beside threads
            leveret.set_start_method("fork")
            workers = leveret.{make}
            first = {call}
            if (child := os.fork()) == 0:
                os._exit(0)
            os.waitpid(child, 0)
            print({call} == first)
            workers.{end}()
        """,
    )
    assert (said.stdout, said.stderr) == ("True\n", "")


@pytest.mark.parametrize("method", ["fork", "warm"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("results = pool.map_async(time.sleep, [30] * 9)", 0),
        ("pool.apply_async(time.sleep, (30,), callback=print)", 0),
        ("stream = pool.imap(time.sleep, iter(int, 1))", 0),
        ("pool.map_async(time.sleep, [30] * 9); pool.close()", 0),
        ("pool.map_async(time.sleep, [30] * 9); sys.exit(3)", 3),
        ("pool.apply_async(time.sleep, (0,), callback=time.sleep).get()", 1),
        ("keep = pool; del pool; keep.map(abs, [1])", 0),
    ],
)
def test_exit_with_tasks_under_way(
    tmp_path: pathlib.Path, method: str, body: str, code: int
) -> None:
    said = run_file(
        tmp_path / "program.py",
        f"""
        import leveret, sys, time
        if __name__ == "__main__":
            pool = leveret.get_context({method!r}).Pool(2)
            {body}
        """,
    )
    assert said.returncode in (0, code)
    if code != 1:
        assert (said.stdout, said.stderr) == ("", "")


def test_workers_end_with_their_owner(ctx: Any, tmp_path: pathlib.Path) -> None:
    method = ctx.get_start_method()
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import leveret, os, time
            if __name__ == "__main__":
                pool = leveret.get_context({method!r}).Pool(2)
                result = pool.map_async(time.sleep, [30] * 4)
                print(*(process.pid for process in pool._pool), flush=True)
                time.sleep(30)
            """
        )
    )
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        assert owner.stdout is not None
        pids = owner.stdout.readline().split()
        assert len(pids) == 2
        owner.kill()
        before = time.monotonic()
        until(lambda: all(state_of(pid) in ("", "Z") for pid in pids))
        assert time.monotonic() - before < 5


def test_a_broken_pool_can_be_joined(ctx: Any) -> None:
    for end in ("close", "terminate"):
        pool = ctx.Pool(2, refuse)
        with pytest.raises(BrokenProcessPool):
            pool.map(square, [1])
        getattr(pool, end)()
        pool.join()
        assert all(process.exitcode is not None for process in pool._pool)
