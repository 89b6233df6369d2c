"""Ctrl-C at each line of what the pump does about workers, in a program that catches it.

An interrupt is an exception that is raised by a trace function at the nth of these lines, for each
n until there is no such line any more. After it every task has to have its answer, as before.

Not at a `with`: its line is traced before the exit, too, where no signal is heeded, and what was
raised there would leave a lock held.
"""

import contextlib
import linecache
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import leveret
import pytest
from forked import PATIENCE_S, until
from leveret import TaskTimeout, WorkerDied, claims, crew, pump, stops
from leveret.jobs import APPLY, ApplyResult
from leveret.limits import Rules
from leveret.pool import Pool
from tasks import begin_and_wait, die, die_once, insist, square, touch_and_stay

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

IN_PUMP = ("_round", "_tell_jobs", "_tell_all", "_tell", "fail_task")
FILES = {crew.__file__, claims.__file__, stops.__file__}
MOST_LINES = 1000
ITEMS = 100


class Interrupt:
    """In a `with`: KeyboardInterrupt at the nth line of the crew's; where that was."""

    def __init__(self, nth: int) -> None:
        self._left = nth
        self.where = ""

    def __enter__(self) -> "Interrupt":
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        is_pumps = code.co_filename == pump.__file__ and code.co_name in IN_PUMP
        return self._at_line if is_pumps or code.co_filename in FILES else None

    def _at_line(self, frame: FrameType, event: str, arg: object) -> Any:
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not self.where and not line.lstrip().startswith("with "):
            self._left -= 1
            if self._left == 0:
                self.where = f"{frame.f_code.co_name}(), line {frame.f_lineno}"
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._at_line


def interrupted(nth: int, wait: Callable[[], object]) -> str:
    """Where WAIT was interrupted."""
    with Interrupt(nth) as interrupt, contextlib.suppress(KeyboardInterrupt, Exception):
        wait()
    return interrupt.where


@contextlib.contextmanager
def pool_of_one(**options: Any) -> Iterator[Pool]:
    with leveret.get_context("fork").Pool(1, **options) as pool:
        yield pool
    pool.join()


def goes_on(pool: Pool, where: str) -> int:
    """One more task is done, and nothing is left of the others; how many were put before it."""
    job = ApplyResult(pool._crew, square, Rules(None, 0))
    job.arguments = (3,), {}
    number = pool._crew.submit(pool._crew.function(square), APPLY, job.arguments, job)
    assert job.get(PATIENCE_S) == 9, where
    assert pool._crew.board.outstanding() == 0 and not pool._crew.jobs, where
    return int(number)


def a_death(nth: int, path: pathlib.Path) -> str:
    with pool_of_one() as pool:
        result = pool._apply(die, ("killed",), {}, None, 0)
        where = interrupted(nth, lambda: result.get(PATIENCE_S))
        with pytest.raises(WorkerDied):
            result.get(PATIENCE_S)
        goes_on(pool, where)
    return where


def a_retry(nth: int, path: pathlib.Path) -> str:
    with pool_of_one() as pool:
        result = pool._apply(die_once, (str(path),), {}, None, 1)
        where = interrupted(nth, lambda: result.get(PATIENCE_S))
        assert result.get(PATIENCE_S) == "alive", where
        assert goes_on(pool, where) == 2, where  # it was not put once more
    return where


def a_death_before_others(nth: int, path: pathlib.Path) -> str:
    with pool_of_one() as pool:
        result = pool.map_async(die, ["quick"] * ITEMS + ["killed"] + ["quick"] * ITEMS, 1)
        where = interrupted(nth, lambda: result.get(PATIENCE_S))
        with pytest.raises(WorkerDied):
            result.get(PATIENCE_S)
        assert result.left == 0 and len(result.failures) == 1, where
        assert result.results.count("quick") == 2 * ITEMS, where
        goes_on(pool, where)
    return where


def a_strict_death(nth: int, path: pathlib.Path) -> str:
    with pool_of_one(strict=True) as pool:
        results = [pool._apply(die, (how,), {}, None, 0) for how in ("killed", "a")]
        where = interrupted(nth, lambda: results[1].get(PATIENCE_S))
        for result in results:
            with pytest.raises(WorkerDied, match="strict"):
                result.get(PATIENCE_S)
    return where


def a_limit(nth: int, path: pathlib.Path) -> str:
    with pool_of_one() as pool:
        result = pool._apply(touch_and_stay, (str(path),), {}, 0.02, 0)
        where = interrupted(nth, lambda: result.get(PATIENCE_S))
        with pytest.raises(TaskTimeout):
            result.get(PATIENCE_S)
        goes_on(pool, where)
    return where


def a_limit_before_ctrl_c(nth: int, path: pathlib.Path) -> str:
    """The order to stop a task had its signal: the next one is a terminal's, and ends what runs.

    Unless the machine is so slow that the worker was killed for its first task: another one, forked
    by the pool's thread, may not hear a signal (docs/compatibility.md).
    """
    begun, go = path.with_suffix(".begun"), path.with_suffix(".go")
    with pool_of_one() as pool:
        (worker,) = pool._pool
        late = pool._apply(touch_and_stay, (str(path),), {}, 0.02, 0)
        where = interrupted(nth, lambda: late.get(PATIENCE_S))
        with pytest.raises(TaskTimeout):
            late.get(PATIENCE_S)
        result = pool._apply(begin_and_wait, (str(begun), str(go)), {}, None, 0)
        until(begun.exists)
        if worker in pool._pool:
            os.kill(worker.pid, signal.SIGINT)
            result.wait(PATIENCE_S)
            assert result.ready(), f"Ctrl-C is swallowed: {where}"
            with pytest.raises(KeyboardInterrupt):
                result.get()
        else:
            go.touch()
            result.get(PATIENCE_S)
        goes_on(pool, where)
    return where


def a_kill(nth: int, path: pathlib.Path) -> str:
    """Of a worker whose task cannot be interrupted: the crew is not broken by that."""
    with pool_of_one(strict=True) as pool:
        late = pool._apply(insist, (str(path),), {}, 0.02, 0)
        until(path.exists)
        with pytest.raises(TaskTimeout):
            late.get(PATIENCE_S)
        result = pool._apply(square, (3,), {}, None, 0)
        where = interrupted(nth, lambda: result.get(PATIENCE_S))
        assert result.get(PATIENCE_S) == 9, where
        goes_on(pool, where)
    return where


class Counting:
    """A board that counts what it takes back: how often depends on how slow the machine is."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._board, name)

    def revoked(self, numbers: dict[int, None]) -> None:
        before = len(numbers)
        self._board.revoked(numbers)
        self.count += len(numbers) - before


def a_slow_task(nth: int, path: pathlib.Path) -> str:
    """What is claimed behind it is taken back."""
    names = ("held", "gate", "begun", "go")
    held, gate, begun, go = (path.with_suffix(f".{name}") for name in names)
    with pool_of_one() as pool:
        board = pool._crew.board = Counting(pool._crew.board)
        first = pool._apply(begin_and_wait, (str(held), str(gate)), {}, None, 0)
        until(held.exists)
        quick = pool.map_async(square, range(ITEMS), 1)
        slow = pool._apply(begin_and_wait, (str(begun), str(go)), {}, None, 0)
        behind = pool.map_async(square, range(ITEMS), 1)
        gate.touch()
        until(lambda: quick.ready() and begun.exists())
        before = board.count
        where = interrupted(nth, lambda: behind.get(0.1))
        taken_back = board.count - before
        go.touch()
        assert behind.get(PATIENCE_S) == quick.get(PATIENCE_S) == [x * x for x in range(ITEMS)]
        assert slow.get(PATIENCE_S) == str(go) and first.get(PATIENCE_S) == str(gate), where
        # all that was taken back was put again, and once
        assert goes_on(pool, where) == 2 * ITEMS + 2 + board.count, where
    return where or ("" if taken_back else "nothing was taken back: it was claimed alone")


@pytest.mark.timeout(600)  # a pool for each of some hundred lines
@pytest.mark.parametrize(
    "story",
    [
        a_death,
        a_retry,
        a_death_before_others,
        a_strict_death,
        a_limit,
        a_limit_before_ctrl_c,
        a_kill,
        a_slow_task,
    ],
)
def test_an_interrupt_at_each_line(
    story: Callable[[int, pathlib.Path], str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "HELD_S", 0.005)
    monkeypatch.setattr(stops, "GRACE_S", 0.02)
    nth = 1
    while nth < MOST_LINES and story(nth, tmp_path / str(nth)):
        nth += 1
    assert 20 < nth < MOST_LINES


def test_a_worker_whose_start_was_interrupted_is_no_stranger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C comes when its process is there, and its start has not returned."""
    start, started = leveret.context.ForkProcess.start, list[Any]()

    def start_and_interrupt(process: Any) -> None:
        start(process)
        monkeypatch.undo()
        started.append(process)
        raise KeyboardInterrupt

    with pool_of_one() as pool:
        result = pool._apply(die, ("killed",), {}, None, 0)
        monkeypatch.setattr(leveret.context.ForkProcess, "start", start_and_interrupt)
        with pytest.raises((KeyboardInterrupt, WorkerDied)):
            result.get(PATIENCE_S)
        assert pool.apply(square, (3,)) == 9
        assert pool._pool == started


def test_what_a_stranger_ran_is_mourned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes between the fork of a worker and its return: nobody knows that process."""
    with pool_of_one() as pool:
        pool._crew._members.clear()
        result = pool._apply(die, ("killed",), {}, None, 0)
        with pytest.raises(WorkerDied, match="ended with status 255 while it ran die"):
            result.get(PATIENCE_S)
        goes_on(pool, "nowhere")
