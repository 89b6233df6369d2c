"""What a pool does about its workers: their deaths, their time, their beginning and their end.

The bodies are the same for all start methods; where processes die, births count, so both of ours
are tried.
"""

import contextlib
import faulthandler
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import Any
from unittest import mock

import leveret
import pytest
from forked import PATIENCE_S, Thread, state_of, until
from leveret import TaskTimeout, WorkerDied, claims, crew, stops, worker
from leveret.pool import Pool
from tasks import (
    begin_and_wait,
    catch_timeout,
    die,
    die_once,
    get_initialized,
    get_name,
    hold,
    initialize,
    insist,
    refuse,
    square,
    start_child_and_die,
    touch_and_stay,
    wait_to_be_interrupted,
    worker_pid,
)

pytestmark = [
    # The standard library's, of a fork beside threads: a pool forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


@pytest.fixture(params=["fork", "warm"])
def ctx(request: pytest.FixtureRequest) -> Any:
    return leveret.get_context(request.param)


@contextlib.contextmanager
def pool_of(ctx: Any, *args: Any, **options: Any) -> Iterator[Pool]:
    with ctx.Pool(*args, **options) as pool:
        yield pool
    pool.join()


# Deaths.


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("killed", -signal.SIGKILL, "was killed by SIGKILL while it ran die('killed')"),
        ("os._exit", 7, "ended with status 7 while it ran die('os._exit')"),
        ("sys.exit", 3, "ended with status 3 while it ran die('sys.exit')"),
        ("abort", -signal.SIGABRT, "was killed by SIGABRT while it ran die('abort')"),
    ],
)
def test_a_death_costs_its_task(ctx: Any, how: str, code: int, words: str) -> None:
    with pool_of(ctx, 2) as pool:
        pids = {process.pid for process in pool._pool}
        with pytest.raises(WorkerDied) as caught:
            pool.apply(die, (how,))
        error = caught.value
        assert isinstance(error, BrokenProcessPool)
        assert error.exitcode == code and error.pid in pids and error.task == f"die({how!r})"
        assert str(error).startswith(f"worker {error.pid} {words}")
        assert error.signal == (-code if code < 0 else None)
        assert len(set(pool.map(worker_pid, range(50)))) <= 2
        until(lambda: len(pool._pool) == 2)
        assert error.pid not in {process.pid for process in pool._pool}


def test_all_other_tasks_are_done(ctx: Any) -> None:
    with pool_of(ctx, 2) as pool:
        results = [pool.apply_async(die, (how,)) for how in ["a", "killed", "b", "os._exit"] * 10]
        outcomes = []
        for result in results:
            try:
                outcomes.append(result.get(PATIENCE_S))
            except WorkerDied as error:
                outcomes.append(error.exitcode)
        assert outcomes == ["a", -signal.SIGKILL, "b", 7] * 10


def test_a_death_in_a_map(ctx: Any) -> None:
    with pool_of(ctx, 2) as pool:
        for chunksize in (None, 1, 4):
            with pytest.raises(WorkerDied, match=r"die"):
                pool.map(die, ["a", "b", "killed", *"cdefgh"], chunksize)
        assert pool.starmap(max, [(1, 2), (4, 3)]) == [2, 4]


def test_a_death_in_a_stream_is_in_its_place(ctx: Any) -> None:
    with pool_of(ctx, 2) as pool:
        results = pool.imap(die, ["a", "b", "killed", "c"])
        assert [next(results), next(results)] == ["a", "b"]
        with pytest.raises(WorkerDied):
            next(results)
        assert list(results) == ["c"]
        results = pool.imap_unordered(die, iter(["killed", "a"]))
        got = []
        for _ in range(2):
            try:
                got.append(next(results))
            except WorkerDied:
                got.append("died")
        assert sorted(got) == ["a", "died"]


def test_a_crash_tells_where(ctx: Any) -> None:
    with pool_of(ctx, 1) as pool:
        for _ in range(2):
            with pytest.raises(WorkerDied, match="SIGSEGV") as caught:
                pool.apply(die, ("crash",))
            assert caught.value.traceback.startswith("Fatal Python error: Segmentation fault")
            assert "in string_at" in str(caught.value) and "in die" in str(caught.value)
        with pytest.raises(WorkerDied, match="SIGKILL") as caught:
            pool.apply(die, ("killed",))
        assert caught.value.traceback == ""


def test_the_owners_faulthandler_is_left_alone(ctx: Any) -> None:
    before = faulthandler.is_enabled()
    with pool_of(ctx, 1) as pool:
        assert pool.apply(faulthandler.is_enabled)
    assert faulthandler.is_enabled() == before


def test_an_interrupt_while_a_dead_worker_is_awaited(
    ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end may take long: who has interrupted that asks again, and is told."""
    with pool_of(ctx, 1) as pool:
        process = pool._pool[0]

        def interrupted() -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(process, "join", interrupted)
        result = pool._apply(die, ("killed",), {}, None, 0)
        with pytest.raises(KeyboardInterrupt):
            result.get(PATIENCE_S)
        with pytest.raises(WorkerDied):
            result.get(PATIENCE_S)
        assert pool.apply(square, (3,)) == 9


def test_a_worker_killed_between_tasks_is_replaced(ctx: Any) -> None:
    with pool_of(ctx, 2) as pool:
        for _ in range(5):
            pids = {process.pid for process in pool._pool}
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            assert pool.map(square, range(10)) == [x * x for x in range(10)]
            until(
                lambda pids=pids: (
                    pool.apply(square, (2,)) == 4
                    and not pids & {process.pid for process in pool._pool}
                )
            )


def test_tasks_go_on_though_nobody_waits(ctx: Any, tmp_path: pathlib.Path) -> None:
    """A worker dies, and there is nobody in get(): the thread starts another one."""
    with pool_of(ctx, 1) as pool:
        pool.apply_async(die, ("killed",))
        pool.apply_async(pathlib.Path.touch, (tmp_path / "done",))
        until((tmp_path / "done").exists)


def test_what_a_dead_worker_had_not_begun_is_run(ctx: Any) -> None:
    """Small tasks are claimed many at a time; a death in between loses the one that runs."""
    with pool_of(ctx, 2) as pool:
        results = pool.imap_unordered(die, ["quick"] * 8000 + ["killed"] + ["quick"] * 8000)
        done = lost = 0
        while True:
            try:
                assert next(results) == "quick"
                done += 1
            except WorkerDied:
                lost += 1
            except StopIteration:
                break
        assert (done, lost) == (16_000, 1)


def test_an_error_of_a_death_can_be_sent() -> None:
    error = WorkerDied("it died", 5, -9, "f(1)", 2, "trace")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is WorkerDied and str(again) == "it died"
    assert (again.pid, again.exitcode, again.task, again.tries) == (5, -9, "f(1)", 2)
    assert again.signal is signal.SIGKILL and again.traceback == "trace"


def test_a_task_is_named_shortly(ctx: Any) -> None:
    class Refusing:
        def __repr__(self) -> str:
            raise RuntimeError

    from leveret import faults

    said = faults.describe(square, [Refusing()], {"a": 1})
    assert said.startswith("square(<Refusing instance") and said.endswith(", a=1)")
    assert len(faults.describe(square, ["x" * 10**6])) < 100
    assert faults.describe_chunk(square, [5, 6]) == "square() of 2 items, the first of them 5"


# Retries.


def test_a_task_is_retried(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 2, retries=1) as pool:
        assert pool.apply(die_once, (str(tmp_path / "1"),)) == "alive"
        paths = [str(tmp_path / f"map {number}") for number in range(4)]
        assert pool.map(die_once, paths) == ["alive"] * 4
        paths = [str(tmp_path / f"imap {number}") for number in range(4)]
        assert list(pool.imap(die_once, iter(paths))) == ["alive"] * 4
        with pytest.raises(WorkerDied, match="the last of 2 tries") as caught:
            pool.apply(die, ("killed",))
        assert caught.value.tries == 2


def test_retries_of_one_call(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 1) as pool:
        assert pool.apply(die_once, (str(tmp_path / "1"),), retries=1) == "alive"
        with pytest.raises(WorkerDied, match="of 3 tries"):
            pool.map(die, ["killed"], retries=2)


def test_an_exception_is_not_retried(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 1, retries=3) as pool, pytest.raises(FileExistsError):
        pool.map(os.mkdir, [str(tmp_path / "1"), str(tmp_path / "1")])


# Strict.


def test_strict_breaks_the_pool(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 2, strict=True) as pool:
        other = pool.apply_async(touch_and_stay, (str(tmp_path / "begun"),))
        until((tmp_path / "begun").exists)
        with pytest.raises(BrokenProcessPool, match="strict"):
            pool.apply(die, ("killed",))
        with pytest.raises(BrokenProcessPool, match="strict"):
            other.get(PATIENCE_S)
        with pytest.raises(BrokenProcessPool, match="strict"):
            pool.map(square, [1])
        until(lambda: all(process.exitcode is not None for process in pool._pool))


def test_a_pool_that_breaks_calls_back_one_that_is_ended_does_not(
    ctx: Any, tmp_path: pathlib.Path
) -> None:
    told: list[BaseException] = []
    with pool_of(ctx, 2, strict=True) as pool:
        begun = tmp_path / "begun"
        pool.apply_async(touch_and_stay, (str(begun),), error_callback=told.append)
        until(begun.exists)
        with pytest.raises(BrokenProcessPool, match="strict"):
            pool.apply(die, ("killed",))
        until(lambda: len(told) == 1)
    with pool_of(ctx, 1) as pool:
        begun = tmp_path / "begun too"
        pool.apply_async(touch_and_stay, (str(begun),), error_callback=told.append)
        until(begun.exists)
    assert [type(error) for error in told] == [WorkerDied]


def test_strict_lets_workers_be_recycled(ctx: Any) -> None:
    with pool_of(ctx, 2, None, (), 3, strict=True) as pool:
        assert pool.map(square, range(30), 1) == [x * x for x in range(30)]


# Time limits.


def test_a_task_that_takes_too_long(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 2, timeout=0.2) as pool:
        pids = {process.pid for process in pool._pool}
        before = time.monotonic()
        with pytest.raises(TaskTimeout, match=r"touch_and_stay\(.*timeout=0.2 s in worker") as one:
            pool.apply(touch_and_stay, (str(tmp_path / "begun"),))
        assert 0.2 <= time.monotonic() - before < 5
        assert isinstance(one.value, TimeoutError)
        assert pool.map(square, range(10), timeout=None) == [x * x for x in range(10)]
        # It was interrupted, not killed.
        assert {process.pid for process in pool._pool} == pids


def test_a_task_that_cannot_be_interrupted_is_killed(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 1) as pool:
        pid = pool._pool[0].pid
        with pytest.raises(TaskTimeout):
            pool.apply(insist, (str(tmp_path / "begun"),), timeout=1)  # it has begun by then
        assert state_of(pid) not in ("", "Z")
        assert pool.apply(square, (3,)) == 9
        assert pool._pool[0].pid != pid


def test_a_stopped_worker_is_killed(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 1, timeout=0.5) as pool:
        pid = pool._pool[0].pid
        result = pool.apply_async(touch_and_stay, (str(tmp_path / "begun"),))
        until((tmp_path / "begun").exists)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TaskTimeout):
            result.get(PATIENCE_S)
        assert pool.apply(square, (3,)) == 9


def test_limits_are_kept_though_nobody_waits(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 1) as pool:
        late = pool.apply_async(touch_and_stay, (str(tmp_path / "begun"),), timeout=0.1)
        pool.apply_async(pathlib.Path.touch, (tmp_path / "done",))
        until((tmp_path / "done").exists)
        with pytest.raises(TaskTimeout):
            late.get(PATIENCE_S)


def test_time_counts_from_when_a_task_begins(ctx: Any) -> None:
    with pool_of(ctx, 1, timeout=1.0) as pool:
        assert pool.map(time.sleep, [0.3] * 6) == [None] * 6


def test_a_task_with_a_limit_is_forgotten_when_it_is_done(ctx: Any) -> None:
    with pool_of(ctx, 1) as pool:
        result = pool.apply_async(square, (3,), timeout=PATIENCE_S)
        reference = weakref.ref(result)
        assert result.get(PATIENCE_S) == 9
        del result
        until(lambda: reference() is None)


def test_limits_of_many_tasks(ctx: Any, tmp_path: pathlib.Path) -> None:
    stay = str(tmp_path / "begun")
    with pool_of(ctx, 2, timeout=0.2) as pool:
        with pytest.raises(TaskTimeout):
            pool.map(touch_and_stay, [stay] * 3)
        got: list[object] = []
        for result in [pool.apply_async(die, (x,)) for x in "abc"]:
            got.append(result.get(PATIENCE_S))
        assert got == ["a", "b", "c"]
        results = pool.imap(touch_and_stay, iter([stay, stay]))
        for _ in range(2):
            with pytest.raises(TaskTimeout):
                next(results)
        assert list(results) == []


def test_a_chunk_has_the_time_of_its_items(ctx: Any) -> None:
    with pool_of(ctx, 1, timeout=0.5) as pool:
        assert pool.map(time.sleep, [0.2] * 4, chunksize=4) == [None] * 4
        with pytest.raises(TaskTimeout, match=r"sleep\(\) of 2 items"):
            pool.map(time.sleep, [PATIENCE_S] * 2, chunksize=2)


def test_the_task_gets_the_exception(ctx: Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "said"
    with pool_of(ctx, 1) as pool:
        pool.apply(square, (2,))  # its module is imported in no task's time
        with pytest.raises(TaskTimeout):
            pool.apply(catch_timeout, (str(path),), timeout=0.1)
        until(lambda: path.exists() and path.read_text() == "TaskTimeout")
        assert pool.apply(square, (3,)) == 9


# Beginnings.


def test_initializer(ctx: Any) -> None:
    with pool_of(ctx, 2, initialize, ("value",), 2) as pool:
        assert [pool.apply(get_initialized) for _ in range(7)] == [["value"]] * 7


def test_an_initializer_that_raises_ends_the_pool(ctx: Any) -> None:
    with pool_of(ctx, 2, refuse) as pool:
        with pytest.raises(BrokenProcessPool, match=r"refuse.*ValueError: not today") as caught:
            pool.map(square, range(10))
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(BrokenProcessPool, match="not today"):
            pool.apply(square, (1,))


@pytest.mark.parametrize("how", ["killed", "os._exit"])
def test_an_initializer_that_kills_ends_the_pool(ctx: Any, how: str) -> None:
    with pool_of(ctx, 2, die, (how,)) as pool, pytest.raises(WorkerDied, match="initializer die"):
        pool.map(square, range(10))


def test_an_initializer_that_exits_ends_the_pool(ctx: Any) -> None:
    with pool_of(ctx, 2, die, ("sys.exit",)) as pool, pytest.raises(BrokenProcessPool, match="die"):
        pool.map(square, range(10))


def test_an_initializer_may_take_long(ctx: Any) -> None:
    """Longer than a task may, which has more time than a busy machine makes of square()."""
    with pool_of(ctx, 1, time.sleep, (1.5,), timeout=1) as pool:
        assert pool.apply(square, (3,)) == 9


def run(program: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A program in a terminal session of its own, and what it said."""
    options = {"capture_output": True, "text": True, "timeout": 50, **options}
    options["start_new_session"] = True
    text = textwrap.dedent(program)
    return subprocess.run([sys.executable, *arguments, "-c", text], check=False, **options)


def run_file(path: pathlib.Path, program: str) -> subprocess.CompletedProcess[str]:
    path.write_text(textwrap.dedent(program))
    command = [sys.executable, str(path)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=50, start_new_session=True
    )


def test_workers_that_cannot_begin_end_the_pool(tmp_path: pathlib.Path) -> None:
    """A main module that fails in the workers: there it goes on for ever."""
    said = run_file(
        tmp_path / "program.py",
        """
        import leveret
        if __name__ != "__main__":
            raise ValueError("not for workers")
        with leveret.get_context("spawn").Pool(2) as pool:
            pool.map(abs, range(10))
        """,
    )
    assert said.returncode == 1
    assert "leveret.WorkerDied: the last" in said.stderr.splitlines()[-1]
    assert "ended before they did anything" in said.stderr


def test_a_worker_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at first: then there is no pool. Later: the others do the work, until there is none."""
    real = os.fork

    def refuse_to_fork() -> int:
        raise BlockingIOError("no more processes")

    def fork_once() -> int:
        monkeypatch.setattr(os, "fork", refuse_to_fork)
        return real()

    ctx = leveret.get_context("fork")
    monkeypatch.setattr(os, "fork", fork_once)
    with pytest.raises(OSError, match=r"no more processes|cannot start"):
        ctx.Pool(2)
    assert not leveret.active_children()
    monkeypatch.setattr(os, "fork", real)
    monkeypatch.setattr(crew, "RESTART_S", 0.1)
    monkeypatch.setattr(claims, "HELD_S", 60.0)
    with pool_of(ctx, 2) as pool:
        monkeypatch.setattr(os, "fork", refuse_to_fork)
        with pytest.raises(WorkerDied):
            pool.apply(die, ("killed",))
        assert len(pool._pool) == 1 and pool.map(square, range(10)) == [x * x for x in range(10)]
        monkeypatch.setattr(os, "fork", real)
        until(lambda: pool.apply(square, (3,)) == 9 and len(pool._pool) == 2)
        monkeypatch.setattr(os, "fork", refuse_to_fork)
        results = [pool.apply_async(die, ("killed",)) for _ in range(3)]
        with pytest.raises((WorkerDied, OSError)):
            results[2].get(PATIENCE_S)
        with pytest.raises(OSError, match=r"no more processes|cannot start"):
            pool.apply(square, (3,))
        monkeypatch.setattr(os, "fork", real)


# Recycling.


def test_workers_are_replaced_after_so_many_tasks(ctx: Any) -> None:
    with pool_of(ctx, 2, None, (), 3) as pool:
        pids = pool.map(worker_pid, range(30), 1)
        assert len(set(pids)) >= 10
        assert all(pids.count(pid) <= 3 for pid in pids)


def test_a_closed_pool_of_short_lives_does_its_work(ctx: Any) -> None:
    pool = ctx.Pool(2, None, (), 1)
    results = [pool.apply_async(square, (x,)) for x in range(12)]
    pool.close()
    pool.join()
    assert [result.get(0) for result in results] == [x * x for x in range(12)]


def test_a_worker_that_has_grown_is_replaced(ctx: Any) -> None:
    with pool_of(ctx, 1, max_memory_per_child=(50 << 20, 500 << 20)) as pool:
        first = pool.apply(worker_pid)
        assert pool.apply(hold, (1,)) == first and pool.apply(worker_pid) == first
        assert pool.apply(hold, (100,)) == first
        assert pool.apply(worker_pid) != first


def test_a_worker_does_not_get_more_than_the_limit(ctx: Any) -> None:
    with pool_of(ctx, 1, max_memory_per_child=50 << 20) as pool:
        first = pool.apply(worker_pid)
        with pytest.raises(MemoryError) as caught:
            pool.apply(hold, (200,))
        assert f"gets {100 << 20} bytes of its own at most" in caught.value.__notes__[0]
        assert pool.apply(worker_pid) == first
        assert pool.apply(hold, (60,)) == first
        assert pool.apply(worker_pid) != first


# Ends.


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


def test_an_interrupted_task_costs_no_worker(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 2) as pool:
        pids = {process.pid for process in pool._pool}
        result = pool.apply_async(wait_to_be_interrupted, (str(tmp_path / "begun"),))
        until((tmp_path / "begun").exists)
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            result.get(PATIENCE_S)
        assert set(pool.map(worker_pid, range(10))) <= pids


def test_a_signal_to_who_is_idle_is_not_for_the_next_task(ctx: Any) -> None:
    """Both wake the worker at once: it heeds the signal before it begins."""
    with pool_of(ctx, 1) as pool:
        pid = pool.apply(worker_pid)
        for number in range(2000):
            os.kill(pid, signal.SIGINT)
            assert pool.apply(square, (number,)) == number * number


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


def test_many_kills(ctx: Any) -> None:
    """Every task is finished once, or reported; the seed of the schedule is the machine's."""
    with pool_of(ctx, 2) as pool:
        stop = threading.Event()

        def kill_now_and_then() -> None:
            while not stop.wait(0.05):
                with contextlib.suppress(OSError, IndexError):
                    os.kill(pool._pool[0].pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        try:
            results = [pool.apply_async(square, (x,)) for x in range(5000)]
            done = died = 0
            for x, result in enumerate(results):
                try:
                    assert result.get(PATIENCE_S) == x * x
                    done += 1
                except WorkerDied:
                    died += 1
        finally:
            stop.set()
            killer.join()
        assert done + died == 5000


def test_children_of_tasks_end_with_their_worker(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 1) as pool:
        path = tmp_path / "pid"
        with pytest.raises(WorkerDied):
            pool.apply(start_child_and_die, (str(path), ctx.get_start_method()))
        pid = int(path.read_text())
        until(lambda: state_of(pid) in ("", "Z"))


def test_workers_know_what_they_are(ctx: Any) -> None:
    with pool_of(ctx, 1) as pool:
        assert "PoolWorker" in pool.apply(get_name)


# Orders.


class Ordered:
    """What a worker asks its board when a signal comes."""

    order = 0, 0, 0
    runs: int | None = None

    def ordered(self) -> tuple[int, int, int]:
        return self.order

    def running(self) -> int | None:
        return self.runs


def test_an_order_that_is_overwritten_before_its_signal_interrupts_nobody_else() -> None:
    board: Any = Ordered()
    interrupt = worker.Interrupts(board)
    board.order, board.runs = (6, worker.CANCEL, 2), 6  # there was one for 5
    with pytest.raises(CancelledError):
        interrupt(signal.SIGINT, None)
    board.runs = 7
    try:
        interrupt(signal.SIGINT, None)  # the other one's
    except KeyboardInterrupt:
        pytest.fail("7 is interrupted by the signal for 5")
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGINT, None)  # from a terminal


def test_a_worker_is_not_killed_for_what_it_was_not_told_to_stop() -> None:
    """Ctrl-C comes before a task is taken back that is behind one that nobody stops."""
    taken_back, killed = list[int](), list[int]()
    member = types.SimpleNamespace(row=0, kill=lambda: killed.append(0))
    seen = os.getpid(), 4, 2, 4, 0.0, 0, 0, False  # it runs 4, and has claimed 5 as well
    of_crew: Any = types.SimpleNamespace(
        board=types.SimpleNamespace(look=lambda row: seen, strike=lambda number: True),
        claims=types.SimpleNamespace(take_back=taken_back.append),
        member=lambda row: member,
        members=lambda: [member],
        timed=list,
        ring_at=lambda when: None,
        want_thread=mock.Mock(side_effect=[KeyboardInterrupt, None]),
    )
    stopping = stops.Stops(of_crew)
    with pytest.raises(KeyboardInterrupt):
        stopping.stop(5)
    stopping.look(time.monotonic() + 2 * stops.GRACE_S)
    assert (taken_back, killed) == ([0], [])


# Births.


def test_a_start_that_failed_is_tried_again_by_the_clock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """Nothing else is due meanwhile, and nothing comes."""
    monkeypatch.setattr(crew, "RESTART_S", 0.1)
    monkeypatch.setattr(claims, "HELD_S", 60.0)
    begun, go = tmp_path / "begun", tmp_path / "go"
    with pool_of(leveret.get_context("fork"), 2) as pool:
        occupied = pool.apply_async(begin_and_wait, (str(begun), str(go)))
        until(begun.exists)
        until(lambda: pool.apply(square, (3,)) == 9 and pool._crew._alarm > time.monotonic() + 9)
        make, failures = pool._crew._make, [OSError("no more processes")]

        def make_later(**kwargs: Any) -> Any:
            if failures:
                raise failures.pop()
            return make(**kwargs)

        pool._crew._make = make_later
        os.kill(pool.apply(worker_pid), signal.SIGKILL)
        waiting = Thread(occupied.get, PATIENCE_S)
        until(lambda: not failures and len(pool._pool) == 2)
        go.touch()
        assert waiting.result() == str(go)
