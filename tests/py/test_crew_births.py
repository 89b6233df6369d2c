"""How the workers of a pool begin, and that others begin in their place when they have had enough.

The bodies are the same for all start methods; births count, so both of ours are tried.
"""

import os
import pathlib
import signal
import time
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import leveret
import pytest
from crews import pool_of, run_file
from forked import PATIENCE_S, Thread, until
from leveret import WorkerDied, claims, crew
from leveret._core import Board
from tasks import (
    begin_and_wait,
    die,
    get_initialized,
    get_name,
    hold,
    initialize,
    refuse,
    square,
    worker_pid,
)

pytestmark = [
    # The standard library's, of a fork beside threads: a pool forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


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


def test_workers_know_what_they_are(ctx: Any) -> None:
    with pool_of(ctx, 1) as pool:
        assert "PoolWorker" in pool.apply(get_name)


# Births that fail.


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


def test_who_dies_before_he_enlists_is_missed_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is due meanwhile."""
    monkeypatch.setattr(claims, "HELD_S", 60.0)
    with pool_of(leveret.get_context("fork"), 1) as pool:
        pid, make, stillborn = pool.apply(worker_pid), pool._crew._make, [os._exit]

        def make_stillborn(**kwargs: Any) -> Any:
            if stillborn:
                kwargs = {"target": stillborn.pop(), "args": (0,)}
            return make(**kwargs)

        pool._crew._make = make_stillborn
        os.kill(pid, signal.SIGKILL)
        assert pool.apply_async(square, (4,)).get(PATIENCE_S) == 16
        assert not stillborn


def exit_early(board: Board, row: int, orders: object) -> None:
    board.enlist(row)
    os._exit(1)


def test_three_that_end_early_are_enough() -> None:
    """Whether or not they have enlisted."""
    made: list[Any] = []
    with pool_of(leveret.get_context("fork"), 1) as pool:
        pid, make = pool.apply(worker_pid), pool._crew._make

        def make_early(**kwargs: Any) -> Any:
            made.append(None)
            return make(target=exit_early, args=kwargs["args"])

        pool._crew._make = make_early
        until(lambda: pool._crew.board.look(0).finished == 1)  # or it is not counted
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(leveret.WorkerDied, match="the last 3 workers ended before"):
            pool.apply_async(square, (4,)).get(PATIENCE_S)
        assert len(made) == 3


def test_strict_breaks_also_where_who_died_had_not_enlisted() -> None:
    with pool_of(leveret.get_context("fork"), 1, None, (), 1, strict=True) as pool:
        make, stillborn = pool._crew._make, [os._exit]

        def make_stillborn(**kwargs: Any) -> Any:
            if stillborn:
                kwargs = {"target": stillborn.pop(), "args": (1,)}
            return make(**kwargs)

        pool._crew._make = make_stillborn
        pool.apply(worker_pid)  # and leaves, of itself
        with pytest.raises(leveret.WorkerDied, match="strict=True that breaks"):
            pool.apply_async(square, (4,)).get(PATIENCE_S)


def test_early_ends_count_only_in_a_row() -> None:
    early: list[None] = []
    with pool_of(leveret.get_context("fork"), 1) as pool:
        make = pool._crew._make

        def make_early(**kwargs: Any) -> Any:
            if early:
                early.pop()
                return make(target=exit_early, args=kwargs["args"])
            return make(**kwargs)

        pool._crew._make = make_early
        for _ in range(3):
            pid = pool.apply(worker_pid)
            until(lambda: pool._crew.board.look(0).finished > 0)
            early[:] = [None, None]
            os.kill(pid, signal.SIGKILL)
            assert pool.apply_async(square, (4,)).get(PATIENCE_S) == 16
            assert not early
