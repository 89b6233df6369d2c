"""Ctrl-C at each place of the program's own calls: submit(), apply_async(), map_async(), cancel().

A program that catches it goes on: its pool works, and ends in time; every result that it has is
told, and nothing stays on the board of those that it never got.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import leveret
import pytest
from forked import PATIENCE_S, Thread, until
from interrupting import Interrupt
from leveret import claims, crew, executor, futures, jobs, pool, pump, stops
from tasks import begin_and_wait, square

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

FILES = {module.__file__ for module in (claims, crew, executor, futures, jobs, pool, pump, stops)}
MOST_PLACES = 2000


def interrupted(nth: int, call: Callable[[], object]) -> tuple[str, Any]:
    """Where CALL was interrupted, and what it returned."""
    returned = None
    interrupt = Interrupt(nth, FILES)
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


@pytest.mark.timeout(600)  # a pool for each of some hundred places
@pytest.mark.parametrize(
    "story",
    [
        a_submit,
        a_first_submit,
        a_submit_on_demand,
        a_cancel,
        a_cancel_of_what_runs,
        a_callback,
        an_apply_async,
        an_apply_async_with_a_callback,
        a_map_async,
    ],
)
def test_an_interrupt_at_each_place(
    story: Callable[[int, pathlib.Path], str], tmp_path: pathlib.Path
) -> None:
    nth = 1
    while nth < MOST_PLACES and story(nth, tmp_path / str(nth)):
        nth += 1
    assert 10 < nth < MOST_PLACES
