"""What a worker's death costs: its task, or one try of it, or, where the pool is strict, the pool.

The bodies are the same for all start methods; where processes die, births count, so both of ours
are tried.
"""

import contextlib
import faulthandler
import os
import pathlib
import pickle
import signal
import threading
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from crews import pool_of
from executors import Gate, forking
from forked import PATIENCE_S, state_of, until
from leveret import WorkerDied
from tasks import (
    die,
    die_once,
    square,
    start_child_and_die,
    touch_and_stay,
    worker_pid,
)

pytestmark = [
    # The standard library's, of a fork beside threads: a pool forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


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


def test_a_long_task_keeps_nothing_for_itself(tmp_path: pathlib.Path) -> None:
    """What was claimed behind it is taken back by the clock, though nobody waits."""
    gate, end = Gate(tmp_path), tmp_path / "end"
    with forking(1) as executor:
        held, _ = gate.claim_behind_a_long_one(executor, end)
        until(lambda: executor._staff.board.look(0).claimed == 1)
        end.touch()
        assert held.result() == gate.path
