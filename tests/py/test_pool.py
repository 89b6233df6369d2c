"""Pool: what the standard library promises of it, for each way to start its workers.

Its calls, their results and callbacks; how it ends; whose it is in other processes; and what
subclasses do with it. What it refuses: test_pool_refusals.py; streams: test_pool_streams.py; what
it offers besides: test_pool_options.py.
"""

import abc
import functools
import itertools
import multiprocessing.pool as std
import os
import pathlib
import signal
import threading
import time
import types
import warnings
from collections.abc import Iterator
from typing import Any

import leveret
import pytest
import tasks
from crews import pool_of
from forked import PATIENCE_S, Thread, in_child, in_thread, until
from leveret.pool import Pool
from tasks import (
    add,
    begin_and_wait,
    fail,
    fail_at_three,
    is_daemon,
    pool_of_its_own,
    square,
    use_own_pool,
    wait_for_file,
    worker_pid,
)

METHODS = ("fork", "warm", "spawn", "forkserver")

pytestmark = [
    # The standard library's, of a fork beside threads: a pool forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


@pytest.fixture(params=METHODS)
def any_pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with leveret.get_context(request.param).Pool(2) as pool:
        yield pool
    pool.join()


# As it is there.


def test_all_methods(any_pool: Pool) -> None:
    pool = any_pool
    assert pool.apply(add, (1,), {"y": 2}) == 3
    assert pool.map(square, range(30)) == [x * x for x in range(30)]
    assert pool.map(square, range(30), chunksize=7) == [x * x for x in range(30)]
    assert pool.starmap(add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.starmap(add, [(1, 2), (3, 4), (5, 6)], chunksize=2) == [3, 7, 11]
    assert pool.apply_async(add, (1, 2)).get(PATIENCE_S) == 3
    assert pool.map_async(square, (1, 2)).get(PATIENCE_S) == [1, 4]
    assert pool.starmap_async(add, [(1, 2)]).get(PATIENCE_S) == [3]
    assert list(pool.imap(square, range(300))) == [x * x for x in range(300)]
    assert list(pool.imap(square, range(30), chunksize=7)) == [x * x for x in range(30)]
    assert sorted(pool.imap_unordered(square, range(300))) == [x * x for x in range(300)]
    assert sorted(pool.imap_unordered(square, iter(range(30)), 7)) == [x * x for x in range(30)]


def test_nothing_to_do(pool: Pool) -> None:
    assert pool.map(square, []) == []
    assert pool.map(square, [], 5) == []
    assert pool.map_async(square, iter(())).get(PATIENCE_S) == []
    assert list(pool.imap(square, ())) == []
    assert list(pool.imap_unordered(square, iter(()))) == []


def test_it_is_a_standard_pool(pool: Pool) -> None:
    assert isinstance(pool, std.Pool)
    assert isinstance(pool.apply_async(worker_pid), std.AsyncResult)
    assert isinstance(pool.map_async(square, [1]), std.MapResult)
    assert isinstance(pool.imap(square, [1]), std.IMapIterator)
    assert isinstance(pool.imap_unordered(square, [1]), std.IMapUnorderedIterator)
    assert repr(pool) == "<leveret.pool.Pool state=RUN pool_size=2>"
    assert len(pool._pool) == pool._processes == 2
    assert all(process.daemon and "PoolWorker" in process.name for process in pool._pool)


def test_a_result_is_not_there_at_once(pool: Pool, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "go"
    result = pool.apply_async(wait_for_file, (str(path),))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(leveret.TimeoutError):
        result.get(0.01)
    result.wait(0.01)
    path.touch()
    assert result.get(PATIENCE_S) == str(path)
    assert result.ready() and result.successful()
    assert result.get() == str(path)


def test_ready_comes_true_without_waiting(pool: Pool) -> None:
    result = pool.apply_async(square, (3,))
    until(result.ready)
    assert result.get(0) == 9
    failed = pool.apply_async(fail, (3,))
    until(failed.ready)
    assert not failed.successful()


def test_an_exception_has_its_traceback(any_pool: Pool) -> None:
    with pytest.raises(ValueError, match="no 1") as caught:
        any_pool.apply(fail, (1,))
    cause = caught.value.__cause__
    assert type(cause) is std.RemoteTraceback
    assert 'raise ValueError(f"no {x}")' in str(cause)


def test_a_map_fails_when_all_is_done(pool: Pool, tmp_path: pathlib.Path) -> None:
    def items() -> Iterator[str]:
        yield str(tmp_path / "absent" / "file")
        yield from (str(tmp_path / str(number)) for number in range(20))

    with pytest.raises(FileNotFoundError):
        pool.map(pathlib.Path.touch, map(pathlib.Path, items()))
    assert len(list(tmp_path.iterdir())) == 20


def test_a_failure_in_a_stream_is_in_its_place(pool: Pool) -> None:
    results = pool.imap(fail_at_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert list(results) == [4, 5]


def test_callbacks_come_in_a_thread_of_the_pool(pool: Pool) -> None:
    told: list[Any] = []

    def tell(value: object) -> None:
        told.append((value, threading.current_thread().name))

    pool.apply_async(square, (3,), callback=tell).wait(PATIENCE_S)
    pool.map_async(square, [1, 2], callback=tell).wait(PATIENCE_S)
    pool.map_async(square, [], callback=tell).wait(PATIENCE_S)  # nobody is told, as there
    pool.apply_async(fail, (3,), callback=tell, error_callback=tell).wait(PATIENCE_S)
    assert [value for value, _ in told[:2]] == [9, [1, 4]]
    assert str(told[2][0]) == "no 3" and len(told) == 3
    assert all(name.startswith("leveret-pool") for _, name in told)


def test_a_callback_that_raises_is_reported_once(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def refuse(value: int) -> None:
        raise KeyError(value)

    result = pool.apply_async(square, (3,), callback=refuse)
    assert result.get(PATIENCE_S) == 9
    assert pool.apply_async(square, (4,), callback=reported.append).get(PATIENCE_S) == 16
    assert reported[0].exc_type is KeyError and reported[1:] == [16]


def test_a_callback_may_use_the_pool(pool: Pool) -> None:
    told: list[Any] = []

    def go_on(value: int) -> None:
        told.append(pool.apply(square, (value,)))
        told.append(pool.map(square, range(3)))
        told.append(result.get())

    result = pool.apply_async(square, (3,), callback=go_on)
    more = [pool.apply_async(square, (x,), callback=told.append) for x in range(10)]
    assert [one.get(PATIENCE_S) for one in more] == [x * x for x in range(10)]
    assert result.get(PATIENCE_S) == 9
    until(lambda: len(told) == 13)
    assert told.index(81) < told.index([0, 1, 4]) < told.index(9, told.index([0, 1, 4]))


def test_callbacks_go_beside_a_caller_that_waits(pool: Pool) -> None:
    told: list[int] = []
    main = threading.current_thread()
    for x in range(200):
        pool.apply_async(
            square, (x,), callback=lambda v: told.append(threading.current_thread() is not main)
        )
        pool.map(square, range(5))
    until(lambda: len(told) == 200)
    assert all(told)


def test_many_threads_use_one_pool(pool: Pool) -> None:
    wrong: list[object] = []

    def use(seed: int) -> None:
        for x in range(50):
            if pool.apply(square, (x + seed,)) != (x + seed) ** 2:
                wrong.append(x)
            if pool.map(square, range(seed)) != [y * y for y in range(seed)]:
                wrong.append(x)
            if pool.apply_async(add, (x, seed), callback=id).get(PATIENCE_S) != x + seed:
                wrong.append(x)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert not wrong


def test_the_pump_is_left_while_a_thread_lies_down(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who leaves wakes nobody, for nobody waits yet: who is about to sleep looks once more."""
    crew: Any = pool._crew
    pumps, leaves, left = threading.Event(), threading.Event(), threading.Event()

    class Waiters(list[Any]):
        def append(self, waiter: Any) -> None:
            leaves.set()
            assert left.wait(PATIENCE_S)
            super().append(waiter)

    def be_the_pump() -> None:
        assert crew._try_pump([False])
        pumps.set()
        assert leaves.wait(PATIENCE_S)
        crew._pumping.release()
        crew._pass_on()
        left.set()

    other = Thread(be_the_pump)
    assert pumps.wait(PATIENCE_S)
    monkeypatch.setattr(crew, "_waiters", Waiters())
    assert in_thread(pool.apply, square, (3,)) == 9
    other.result()


def test_a_pool_may_be_used_after_its_results_were_dropped(pool: Pool) -> None:
    for x in range(100):
        pool.apply_async(square, (x,))
    assert pool.apply(square, (3,)) == 9
    until(lambda: pool.apply(square, (3,)) == 9 and not pool._cache)


# Ends.


def test_a_closed_pool_takes_nothing(pool: Pool) -> None:
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    early = pool.map_async(square, range(100))
    pool.close()
    for call in (
        lambda: pool.apply(square, (1,)),
        lambda: pool.apply_async(square, (1,)),
        lambda: pool.map(square, [1]),
        lambda: pool.imap(square, [1]),
        lambda: pool.imap_unordered(square, [1]),
        lambda: pool.starmap(add, [(1, 2)]),
        pool.__enter__,
    ):
        with pytest.raises(ValueError, match="Pool not running"):
            call()
    pool.join()
    assert early.get(0) == [x * x for x in range(100)]
    assert pool._pool == []


def test_join_waits_for_what_nobody_waits_for(tmp_path: pathlib.Path) -> None:
    pool = leveret.get_context("fork").Pool(2)
    results = [pool.apply_async(square, (x,)) for x in range(50)]
    told: list[int] = []
    pool.apply_async(square, (7,), callback=told.append)
    unread = pool.imap(square, (x for x in range(500)), buffersize=4)
    plain = pool.imap_unordered(square, range(500), buffersize=4)
    pool.close()
    pool.join()
    assert [result.get(0) for result in results] == [x * x for x in range(50)]
    assert told == [49]
    assert list(unread) == [x * x for x in range(500)]
    assert sorted(plain) == [x * x for x in range(500)]


def test_a_closed_pool_ends_though_nobody_joins_it(tmp_path: pathlib.Path) -> None:
    pool = leveret.get_context("fork").Pool(2)
    result = pool.apply_async(wait_for_file, (str(tmp_path / "go"),))
    pool.close()
    (tmp_path / "go").touch()
    until(lambda: not pool._pool)
    assert result.get(PATIENCE_S)
    pool.join()


def test_terminate_tells_who_waits(tmp_path: pathlib.Path) -> None:
    pool = leveret.get_context("fork").Pool(2)
    begun = tmp_path / "begun"
    never = str(tmp_path / "never")
    results = [pool.apply_async(begin_and_wait, (str(begun), never)) for _ in range(3)]
    results.append(pool.map_async(wait_for_file, [never] * 3))
    stream = pool.imap(wait_for_file, itertools.repeat(never))
    waiting = threading.Thread(target=results[0].wait)
    waiting.start()
    until(begun.exists)
    before = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - before < 5
    waiting.join(PATIENCE_S)
    for result in results:
        with pytest.raises(RuntimeError, match="terminated"):
            result.get(PATIENCE_S)
    with pytest.raises(RuntimeError, match="terminated"):
        next(stream)
    assert list(stream) == []
    pool.terminate()


def test_terminate_ends_stopped_workers(pool: Pool) -> None:
    pids = [process.pid for process in pool._pool]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    before = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - before < 5
    assert not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids)


def test_an_exception_leaves_nothing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyError), leveret.get_context("fork").Pool(2) as pool:
        pool.map_async(wait_for_file, [str(tmp_path / "never")] * 10)
        raise KeyError
    assert all(process.exitcode is not None for process in pool._pool)


def test_a_dropped_pool_ends() -> None:
    pool = leveret.get_context("fork").Pool(2)
    assert pool.map(square, [1]) == [1]
    pids = [process.pid for process in pool._pool]
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool
    assert not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids)


def test_a_dropped_pool_does_what_was_begun(tmp_path: pathlib.Path) -> None:
    pool = leveret.get_context("fork").Pool(2)
    pids = [process.pid for process in pool._pool]
    result = pool.apply_async(wait_for_file, (str(tmp_path / "go"),))
    with pytest.warns(ResourceWarning):
        del pool
    (tmp_path / "go").touch()
    assert result.get(PATIENCE_S)
    until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids))


def test_a_stream_keeps_its_pool() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        results = leveret.get_context("fork").Pool(2).imap(square, (x for x in range(500)))
        assert list(results) == [x * x for x in range(500)]
        del results


def test_a_pool_cannot_be_sent(pool: Pool) -> None:
    with pytest.raises(NotImplementedError, match="cannot be passed"):
        pool.apply(id, (pool,))


# In other processes.


def use_in_child(pool: Pool, result: Any) -> list[str]:
    said = []
    for call in (
        lambda: pool.apply(square, (1,)),
        lambda: pool.map(square, [1]),
        lambda: pool.imap(square, [1]),
        result.get,
        pool.close,
        pool.terminate,
        pool.join,
    ):
        try:
            call()
        except RuntimeError as error:
            said.append(str(error))
    return said


def test_a_forked_child_is_told_whose_the_pool_is(pool: Pool, tmp_path: pathlib.Path) -> None:
    result = pool.apply_async(wait_for_file, (str(tmp_path / "go"),))
    said = in_child(use_in_child, pool, result)
    assert len(said) == 7
    assert all(f"this pool belongs to process {os.getpid()}" in text for text in said)
    (tmp_path / "go").touch()
    assert result.get(PATIENCE_S)


def test_a_task_cannot_use_its_own_pool() -> None:
    with leveret.get_context("fork").Pool(2) as first:
        pass
    first.join()
    tasks.own[:] = [first]
    told = pytest.raises(RuntimeError, match="a task cannot use the pool that runs it")
    with leveret.get_context("fork").Pool(1) as pool, told:
        pool.apply(use_own_pool, (3,))
    pool.join()
    tasks.own.clear()


def test_a_task_may_have_a_pool_of_its_own(any_pool: Pool) -> None:
    assert any_pool.map(pool_of_its_own, [2, 3]) == [[0, 1], [0, 1, 4]]


def test_workers_are_daemons(pool: Pool) -> None:
    assert pool.apply(is_daemon)


# What subclasses do.


class WithQueues(Pool):
    """As joblib's PicklingPool: queues of its own."""

    def _setup_queues(self) -> None:
        self.set_up = True
        super()._setup_queues()


def test_a_subclass_with_its_own_queues_has_a_standard_pool() -> None:
    with WithQueues(2, context=leveret.get_context("fork")) as pool:
        assert pool.set_up and pool._crew is None
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        assert pool.apply(square, (3,)) == 9
        assert list(pool.imap(square, range(3))) == [0, 1, 4]
        assert pool._cache == {}
        assert repr(pool).startswith("<test_pool.WithQueues state=RUN")
    pool.join()


class NotDaemons(Pool):
    """As programs do that want children of workers."""

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802 - the standard name
        process = ctx.Process(*args, **kwds)
        process.made_by = "us"
        return process


def test_a_subclass_may_make_the_processes() -> None:
    with NotDaemons(2, context=leveret.get_context("fork")) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        assert [process.made_by for process in pool._pool] == ["us", "us"]
    pool.join()


def test_what_programs_read_of_a_result(pool: Pool) -> None:
    result = pool.map_async(square, range(7), 1)
    assert 0 <= result._number_left <= 7
    result.wait()
    assert result._number_left == 0


def test_arguments_that_are_not_used(pool: Pool) -> None:
    initargs: Any = None
    with leveret.get_context("fork").Pool(1, None, initargs) as other:
        assert other.apply(square, (3,)) == 9
    other.join()
    keywords: Any
    for keywords in (None, [("a", 1)]):
        with pytest.raises(TypeError, match="kwds must be a mapping"):
            pool.apply(square, (3,), keywords)


def test_a_thread_pool_is_a_pool() -> None:
    method: Any = Pool.map
    with std.ThreadPool(1) as threads:
        assert method(threads, square, [3]) == [9]
        assert isinstance(threads, Pool)
    threads.join()
    assert std.ThreadPool.__bases__ == (std.Pool,)


@pytest.mark.parametrize("base", [Pool, leveret.ProcessPoolExecutor])
def test_subclasses_may_be_abstract(base: Any) -> None:
    with types.new_class("Derived", (base, abc.ABC))(1) as pool:
        assert list(pool.map(square, [3])) == [9]
    getattr(pool, "join", dict)()


def concatenate(x: list[int], y: list[int]) -> list[int]:
    return x + y


def test_a_callable_is_sent_as_it_is_at_each_call() -> None:
    function = functools.partial(concatenate, [1])
    with pool_of(leveret.get_context("fork"), 1) as pool:
        assert pool.apply(function, ([2],)) == [1, 2]
        function.args[0].append(5)
        assert pool.apply(function, ([2],)) == [1, 5, 2]
