"""What stops a task: the end of its time, a signal, an order, at last a kill.

Who is killed for a task takes no other one with him that had begun.
"""

import contextlib
import os
import pathlib
import signal
import time
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any
from unittest import mock

import leveret
import pytest
from boards import call_hook, calling, fail, results_of, same, told, unsendable, work
from crews import pool_of
from forked import PATIENCE_S, Child, state_of, until
from leveret import TaskTimeout, stops, worker
from leveret._core import ITEM, STAR, VALUE, Board, Function, Row
from tasks import (
    begin_and_wait,
    catch_timeout,
    die,
    insist,
    square,
    touch_and_stay,
    wait_to_be_interrupted,
    worker_pid,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


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


# Signals and orders.


def test_an_interrupted_task_costs_no_worker(ctx: Any, tmp_path: pathlib.Path) -> None:
    with pool_of(ctx, 2) as pool:
        pids = {process.pid for process in pool._pool}
        result = pool.apply_async(wait_to_be_interrupted, (str(tmp_path / "begun"),))
        until((tmp_path / "begun").exists)
        until(lambda: all(state_of(pid) == "S" for pid in pids))  # see executor.md, Ctrl-C
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
    # It runs 4, and has claimed 5 as well.
    seen = Row((os.getpid(), 4, 2, 4, 0.0, 0, 0, False))
    of_crew: Any = types.SimpleNamespace(
        board=types.SimpleNamespace(look=lambda row: seen),
        claims=types.SimpleNamespace(take_back=taken_back.append),
        member=lambda row: member,
        members=lambda: [member],
        timed=list,
        ring_at=lambda when: None,
        want_thread=mock.Mock(side_effect=[KeyboardInterrupt, None]),
    )
    stopping = stops.Stops(of_crew)
    with pytest.raises(KeyboardInterrupt):
        stopping.stop_struck(5)
    stopping.look(time.monotonic() + 2 * stops.GRACE_S)
    assert (taken_back, killed) == ([0], [])


# Kills.


class Gate:
    """A task that has begun, and goes on when it is told to."""

    def __init__(self, path: pathlib.Path) -> None:
        self.begun, self.go = path.with_suffix(".begun"), path.with_suffix(".go")
        self.argument = str(self.begun), str(self.go)


def gates(board: Board, path: pathlib.Path, count: int) -> list[tuple[int, Gate]]:
    """So many tasks, with their numbers, that stop at their gates."""
    function = Function(begin_and_wait)
    found = [Gate(path / str(place)) for place in range(count)]
    return [
        (board.put(function, STAR, gate.argument, "job", place), gate)
        for place, gate in enumerate(found)
    ]


def test_who_has_ended_a_task_is_not_killed_for_it(tmp_path: pathlib.Path) -> None:
    """And goes on with the next one, which it has begun between the look and the kill."""
    board = Board(1)
    (late, first), (number, second) = gates(board, tmp_path, 2)
    with Child(work, board, 0) as child:
        until(first.begun.exists)
        seen: Any = board.look(0)
        assert seen.running == late
        first.go.touch()
        until(second.begun.exists)
        assert board.doom(0, late) is False
        seen = board.look(0)
        assert (seen.running, seen.doomed) == (number, False)
        second.go.touch()
        assert [event[1:3] for event in results_of(board, 2)] == [(0, VALUE), (1, VALUE)]
        board.close()
        assert child.result() == "closed"


def test_a_doomed_worker_leaves_the_next_task_to_others(tmp_path: pathlib.Path) -> None:
    board = Board(2)
    (late, first), (_, second) = gates(board, tmp_path, 2)
    with Child(work, board, 0) as child:
        until(first.begun.exists)
        assert board.doom(0, late) is True
        first.go.touch()  # it is quicker than who kills it
        assert child.result() == "closed"
        assert board.doom(0, late) is True  # who does not know whether he has done it
    assert not second.begun.exists() and board.waiting() == 1
    with Child(work, board, 1) as other:
        second.go.touch()
        assert [event[1:3] for event in results_of(board, 2)] == [(0, VALUE), (1, VALUE)]
        board.settle(0)
        last = board.bury(0)
        assert (last.claimed, last.running, last.doomed) == (0, None, True)
        board.close()
        assert other.result() == "closed"


def test_a_doomed_worker_leaves_the_rest_of_its_claim(tmp_path: pathlib.Path) -> None:
    """This process is owner and worker, and its task dooms it as soon as there is such a rest."""
    board, ran, count = Board(2), list[int](), 1000
    board.put_many(Function(call_hook), ITEM, range(count), "job")
    board.enlist(0)

    def doom() -> None:
        seen: Any = board.look(0)
        ran.append(seen.running)
        if seen.claimed > 1:
            assert board.doom(0, seen.running)

    with calling(doom):
        for _ in range(2):  # it stays doomed
            assert board.work(fail, unsendable) == "closed"
    assert len(told(board)) == len(ran) == ran[-1] + 1 < count
    seen: Any = board.look(0)
    assert seen.first == ran[-1] + 1 and seen.claimed > 0
    assert seen.claimed + board.waiting() == count - len(ran)  # it claimed nothing more
    board.put(Function(same), ITEM, bytes(100_000), "large")  # with a block
    assert board.work(fail, unsendable) == "closed"


def persist(begun: str, go: str) -> str:
    """Ends when it may, whatever interrupts it."""
    while True:
        with contextlib.suppress(BaseException):
            return begin_and_wait(begun, go)


class Watched:
    """A board that does something else just before it dooms a worker, and just after that."""

    def __init__(
        self, board: Board, before: Callable[[], object] = int, behind: Callable[[], object] = int
    ) -> None:
        self._board, self._before, self._behind = board, before, behind
        self.dooms = list[bool]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._board, name)

    def is_idle(self) -> bool:
        seen = self._board.look(0)
        return seen is None or seen.running is None

    def doom(self, row: int, number: int) -> bool:
        self._before()
        self.dooms.append(self._board.doom(row, number))
        self._behind()
        return self.dooms[-1]


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Of one worker, whose death otherwise ends it."""
    monkeypatch.setattr(stops, "GRACE_S", 0.05)
    with leveret.get_context("fork").Pool(1, strict=True) as pool:
        yield pool
    pool.join()


def start_late(pool: Any, gate: Gate) -> None:
    """A task that ignores the end of its time."""
    late = pool.apply_async(persist, gate.argument, timeout=0.05)
    until(gate.begun.exists)
    with pytest.raises(TaskTimeout):
        late.get()


def test_a_worker_that_goes_on_before_it_is_killed_is_left_alone(
    pool: Any, tmp_path: pathlib.Path
) -> None:
    first, second = Gate(tmp_path / "1"), Gate(tmp_path / "2")

    def end_it() -> None:
        first.go.touch()
        until(second.begun.exists)

    board = pool._crew.board = Watched(pool._crew.board, end_it, second.go.touch)
    pid = pool._pool[0].pid
    start_late(pool, first)
    assert pool.apply(begin_and_wait, second.argument) == str(second.go)
    assert board.dooms == [False] and pool._pool[0].pid == pid


def test_who_is_interrupted_between_doom_and_kill_does_both_again(
    pool: Any, tmp_path: pathlib.Path
) -> None:
    gate = Gate(tmp_path / "1")

    def interrupt_once() -> None:
        if len(board.dooms) == 1:
            gate.go.touch()
            until(board.is_idle)
            raise KeyboardInterrupt

    board = pool._crew.board = Watched(pool._crew.board, behind=interrupt_once)
    start_late(pool, gate)
    quick = pool.apply_async(square, (3,))
    with pytest.raises(KeyboardInterrupt):
        quick.get()
    assert quick.get() == 9 == pool.apply(square, (3,))
    assert board.dooms == [True, True]


def interrupt_a_forked_child() -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(1)
        except KeyboardInterrupt:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_of_a_task_is_interrupted_as_any_process() -> None:
    with pool_of(leveret.get_context("fork"), 1) as pool:
        assert pool.apply(interrupt_a_forked_child) == 0
