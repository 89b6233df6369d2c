"""Who is killed for a task takes no other one with him that had begun."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import leveret
import pytest
from boards import call_hook, calling, fail, results_of, same, told, unsendable, work
from forked import Child, until
from leveret import TaskTimeout, stops
from leveret._core import ITEM, STAR, VALUE, Board, Function
from tasks import begin_and_wait, square

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


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
        assert seen[3] == late
        first.go.touch()
        until(second.begun.exists)
        assert board.doom(0, late) is False
        seen = board.look(0)
        assert (seen[3], seen[7]) == (number, False)
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
        assert (last[2], last[3], last[7]) == (0, None, True)
        board.close()
        assert other.result() == "closed"


def test_a_doomed_worker_leaves_the_rest_of_its_claim(tmp_path: pathlib.Path) -> None:
    """This process is owner and worker, and its task dooms it as soon as there is such a rest."""
    board, ran, count = Board(2), list[int](), 1000
    board.put_many(Function(call_hook), ITEM, range(count), "job")
    board.enlist(0)

    def doom() -> None:
        seen: Any = board.look(0)
        ran.append(seen[3])
        if seen[2] > 1:
            assert board.doom(0, seen[3])

    with calling(doom):
        for _ in range(2):  # it stays doomed
            assert board.work(fail, unsendable) == "closed"
    assert len(told(board)) == len(ran) == ran[-1] + 1 < count
    seen: Any = board.look(0)
    assert seen[1] == ran[-1] + 1 and seen[2] > 0
    assert seen[2] + board.waiting() == count - len(ran)  # it claimed nothing more
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
        return seen is None or seen[3] is None

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
