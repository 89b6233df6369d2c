"""Ctrl-C at each place of the program's own calls: submit(), map(), apply_async(), cancel(), ...

A program that catches it goes on: its pool works, and ends in time; every result that it has is
told, in its other threads, too; and nothing stays on the board of those that it never got.
"""

import concurrent.futures as standard
import contextlib
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import leveret
import pytest
from forked import PATIENCE_S, Thread, until
from interrupting import Interrupt
from leveret import claims, crew, executor, futures, jobs, mapped, pool, pump, stops
from tasks import begin_and_wait, square

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

OURS = (claims, crew, executor, futures, jobs, mapped, pool, pump, stops)
FILES = {str(module.__file__) for module in OURS}
THEIRS = {str(standard._base.__file__), str(threading.__file__)}  # what ours call
MOST_PLACES = 2000


def interrupted(nth: int, call: Callable[[], object], files: set[str] = FILES) -> tuple[str, Any]:
    """Where CALL was interrupted, and what it returned."""
    returned = None
    interrupt = Interrupt(nth, files)
    with contextlib.suppress(KeyboardInterrupt), interrupt.armed():
        returned = call()
    return interrupt.where, returned


class Told:
    """What a callback was called with."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def __call__(self, result: Any) -> None:
        self.results.append(result)


def check_empty(staff: Any, where: str) -> None:
    assert staff.board.outstanding() == 0, where
    assert not staff.jobs, where


# Executors


@contextlib.contextmanager
def hired(method: str = "fork", **options: Any) -> Iterator[Any]:
    """An executor of one worker, which ends in time."""
    context = leveret.get_context(method)
    made = leveret.ProcessPoolExecutor(1, mp_context=context, **options)
    try:
        yield made
        staff = made._staff
        Thread(made.shutdown).result()
        if staff is not None:
            check_empty(staff, "the end")
    finally:
        made.kill_workers()


def goes_on(made: Any, where: str) -> None:
    assert made.submit(square, 3).result(PATIENCE_S) == 9, where
    until(lambda: not made._staff.jobs)
    check_empty(made._staff, where)


def a_submit(nth: int, path: pathlib.Path) -> str:
    with hired() as made:
        assert made.submit(square, 2).result(PATIENCE_S) == 4
        where, future = interrupted(nth, lambda: made.submit(square, 5))
        if future is not None:
            assert future.result(PATIENCE_S) == 25, where
        goes_on(made, where)
    return where


def a_first_submit(nth: int, path: pathlib.Path, method: str = "fork") -> str:
    """Workers are started by it."""
    with hired(method) as made:
        where, future = interrupted(nth, lambda: made.submit(square, 5))
        if future is not None:
            assert future.result(PATIENCE_S) == 25, where
        goes_on(made, where)
    return where


def a_submit_on_demand(nth: int, path: pathlib.Path) -> str:
    return a_first_submit(nth, path, "warm")


def a_cancel(nth: int, path: pathlib.Path) -> str:
    """Of a task that waits."""
    begun, go = path.with_suffix(".begun"), path.with_suffix(".go")
    with hired() as made:
        first = made.submit(begin_and_wait, str(begun), str(go))
        until(begun.exists)
        future = made.submit(square, 5)
        where, _ = interrupted(nth, future.cancel)
        go.touch()
        assert first.result(PATIENCE_S) == str(go), where
        with contextlib.suppress(futures._base.CancelledError):
            assert future.result(PATIENCE_S) == 25, where
        goes_on(made, where)
    return where


def a_cancel_of_what_runs(nth: int, path: pathlib.Path) -> str:
    """A second one does what the first did not: the task ends, for which nothing else would."""
    begun, go = path.with_suffix(".begun"), path.with_suffix(".go")
    with hired(stop_running=True) as made:
        future = made.submit(begin_and_wait, str(begun), str(go))
        until(begun.exists)
        where, _ = interrupted(nth, future.cancel)
        assert future.cancel(), where
        goes_on(made, where)
    return where


def wait_for_all(future: Any) -> bool:
    return future in standard.wait([future], PATIENCE_S).done


def wait_for_the_next(future: Any) -> bool:
    return list(standard.as_completed([future], PATIENCE_S)) == [future]


def is_awaited(future: Any) -> bool:
    return bool(vars(future).get("_waiters"))


def a_cancel_that_is_awaited(
    nth: int, path: pathlib.Path, wait: Callable[[Any], bool] = wait_for_all
) -> str:
    """By another thread, and by a callback: both are told, however much of it was done."""
    begun, go = path.with_suffix(".begun"), path.with_suffix(".go")
    with hired() as made:
        first = made.submit(begin_and_wait, str(begun), str(go))
        until(begun.exists)
        future, told = made.submit(square, 5), Told()
        future.add_done_callback(told)
        waiter = Thread(wait, future)
        until(lambda: is_awaited(future))
        where, _ = interrupted(nth, future.cancel, FILES | THEIRS)
        until(lambda: future.cancel() or not where)
        assert waiter.result(), where
        assert told.results == [future], where
        go.touch()
        assert first.result(PATIENCE_S) == str(go), where
        goes_on(made, where)
    return where


def a_cancel_that_is_awaited_one_by_one(nth: int, path: pathlib.Path) -> str:
    return a_cancel_that_is_awaited(nth, path, wait_for_the_next)


def an_end_that_is_awaited(nth: int, path: pathlib.Path) -> str:
    """A second one does what the first did not."""
    begun, go = path.with_suffix(".begun"), path.with_suffix(".go")
    made = leveret.ProcessPoolExecutor(1, mp_context=leveret.get_context("fork"))
    try:
        future, told = made.submit(begin_and_wait, str(begun), str(go)), Told()
        future.add_done_callback(told)
        waiter = Thread(wait_for_all, future)
        until(lambda: is_awaited(future) and begun.exists())
        where, _ = interrupted(nth, made.kill_workers, FILES | THEIRS)
        made.kill_workers()
        assert waiter.result(), where
        until(lambda: told.results == [future])
    finally:
        made.kill_workers()
        Thread(made.shutdown).result()
    return where


def a_result(nth: int, path: pathlib.Path) -> str:
    """Who waits for one takes those of others, who sleep."""
    with hired() as made:
        staff, sleepers = made._ready_staff(), list[Any]()
        future = made.submit(square, 5)
        pump = staff._pump

        def pump_beside_a_sleeper(job: Any, deadline: float) -> None:
            if not sleepers:
                sleepers.append(Thread(made.submit(square, 6).result, PATIENCE_S))
                until(lambda: staff._waiters)
            pump(job, deadline)

        staff._pump = pump_beside_a_sleeper
        where, result = interrupted(nth, lambda: future.result(PATIENCE_S))
        del staff._pump
        assert where or result == 25
        assert all(sleeper.result() == 36 for sleeper in sleepers), where
        assert Thread(future.result).result() == 25, where
        goes_on(made, where)
    return where


def a_map(nth: int, path: pathlib.Path) -> str:
    with hired() as made:
        where, results = interrupted(nth, lambda: made.map(square, range(5)))
        if results is not None:
            assert list(results) == [0, 1, 4, 9, 16], where
        goes_on(made, where)
    return where


def a_map_that_is_read_on(nth: int, path: pathlib.Path) -> str:
    """With a buffersize a result that is taken makes room for a task."""
    with hired() as made:
        results = made.map(square, range(5), buffersize=2)
        assert next(results) == 0
        where, result = interrupted(nth, lambda: next(results))
        assert where or result == 1
        assert list(results) == ([] if where else [4, 9, 16]), where
        goes_on(made, where)
    return where


def held_up(made: Any, path: pathlib.Path) -> tuple[pathlib.Path, Any]:
    """What lets the second of six tasks of a map() end; the first result was taken."""
    begun, go = path.with_suffix(".begun"), path.with_suffix(".go")
    first, *rest = ((str(path), __file__) for _ in range(5))
    pairs = [first, (str(begun), str(go)), *rest]
    results = made.map(begin_and_wait, *zip(*pairs, strict=True))
    assert next(results) == __file__
    until(begun.exists)
    return go, results


def a_map_that_is_closed(nth: int, path: pathlib.Path, **options: Any) -> str:
    with hired(**options) as made:
        go, results = held_up(made, path)
        where, _ = interrupted(nth, results.close)
        go.touch()
        goes_on(made, where)
    return where


def a_map_that_is_closed_and_stopped(nth: int, path: pathlib.Path) -> str:
    return a_map_that_is_closed(nth, path, stop_running=True)


def a_map_that_is_cancelled(nth: int, path: pathlib.Path) -> str:
    """Who reads it is told of each task what it returned, or that it will not be run."""
    with hired() as made:
        go, results = held_up(made, path)
        where, _ = interrupted(nth, lambda: made.shutdown(wait=False, cancel_futures=True))
        go.touch()
        reader = Thread(lambda: list(results))
        with contextlib.suppress(standard.CancelledError):
            assert set(reader.result()) == {str(go), __file__}, where
    return where


def a_callback(nth: int, path: pathlib.Path) -> str:
    with hired() as made:
        told = Told()
        future = made.submit(square, 5)
        where, _ = interrupted(nth, lambda: future.add_done_callback(told))
        assert future.result(PATIENCE_S) == 25, where
        goes_on(made, where)
    return where


# Pools


@contextlib.contextmanager
def pool_of_one(**options: Any) -> Iterator[Any]:
    with leveret.get_context("fork").Pool(1, **options) as made:
        yield made
        assert made.apply_async(square, (3,)).get(PATIENCE_S) == 9
        made.close()
        Thread(made.join).result()
        check_empty(made._crew, "the end")


def a_result_that_another_one_takes(nth: int, path: pathlib.Path) -> str:
    """Who sleeps, and is interrupted, is not in the way of the next one who is to pump.

    In a pool without a thread, which would be the pump once in a while.
    """
    begun, go, begun_too, go_too = (path.with_suffix(f".{n}") for n in ("a", "b", "c", "d"))
    with pool_of_one() as made:
        first = made._apply(begin_and_wait, (str(begun), str(go)), {}, None, 0)
        until(begun.exists)
        pump = Thread(first.get, PATIENCE_S)
        until(lambda: is_pump_at_work(made._crew))
        last = made._apply(begin_and_wait, (str(begun_too), str(go_too)), {}, None, 0)
        where, _ = interrupted(nth, lambda: last.wait(0.002))
        asleep = len(made._crew._waiters)
        sleeper = Thread(last.get, PATIENCE_S)
        until(lambda: len(made._crew._waiters) > asleep)
        go.touch()
        assert pump.result() == str(go), where
        go_too.touch()
        assert sleeper.result() == str(go_too), where
    return where


def is_pump_at_work(crew: Any) -> bool:
    if free := crew._pumping.acquire(False):
        crew._pumping.release()
    return not free


def an_apply_async(nth: int, path: pathlib.Path) -> str:
    with pool_of_one() as made:
        where, result = interrupted(nth, lambda: made.apply_async(square, (5,)))
        if result is not None:
            assert result.get(PATIENCE_S) == 25, where
    return where


def an_apply_async_with_a_callback(nth: int, path: pathlib.Path) -> str:
    told = Told()
    with pool_of_one() as made:
        where, result = interrupted(nth, lambda: made.apply_async(square, (5,), callback=told))
        if result is not None:
            assert result.get(PATIENCE_S) == 25, where
    assert told.results == [25] or (result is None and not told.results), where
    return where


def a_map_async(nth: int, path: pathlib.Path) -> str:
    with pool_of_one(timeout=60) as made:
        where, result = interrupted(nth, lambda: made.map_async(square, range(100), 1))
        if result is not None:
            assert result.get(PATIENCE_S) == [x * x for x in range(100)], where
    return where


def a_stream(nth: int, path: pathlib.Path) -> str:
    """The result that next() had got is lost with it; none comes twice."""
    with pool_of_one() as made:
        results = made.imap_unordered(square, range(5))
        where, first = interrupted(nth, lambda: next(results))
        got = [*([] if where else [first]), *results]
        assert len(got) == len(set(got)) >= 4, where
        assert set(got) <= {x * x for x in range(5)}, where
    return where


@pytest.mark.timeout(600)  # a pool for each of some hundred places
@pytest.mark.parametrize(
    "story",
    [
        a_submit,
        a_first_submit,
        a_submit_on_demand,
        a_cancel,
        a_cancel_of_what_runs,
        a_cancel_that_is_awaited,
        a_cancel_that_is_awaited_one_by_one,
        an_end_that_is_awaited,
        a_result,
        a_result_that_another_one_takes,
        a_map,
        a_map_that_is_read_on,
        a_map_that_is_closed,
        a_map_that_is_closed_and_stopped,
        a_map_that_is_cancelled,
        a_callback,
        an_apply_async,
        an_apply_async_with_a_callback,
        a_map_async,
        a_stream,
    ],
)
def test_an_interrupt_at_each_place(
    story: Callable[[int, pathlib.Path], str], tmp_path: pathlib.Path
) -> None:
    nth = 1
    while nth < MOST_PLACES and story(nth, tmp_path / str(nth)):
        nth += 1
    assert 10 < nth < MOST_PLACES
