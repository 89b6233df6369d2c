"""Memory: what a board keeps and lets go, and where there is too little of it."""

import functools
import gc
import sys
import weakref
from typing import Any

import pytest
from boards import (
    MIB,
    Calling,
    Mine,
    Tracked,
    alone,
    boom,
    fail,
    make_calling,
    same,
    square,
    told,
    unsendable,
)
from leveret import _core
from leveret._core import (
    APPLY,
    CHUNK,
    ITEM,
    STAR,
    UNDECODED,
    Batch,
    Board,
    Function,
)

# Where there is too little


def test_memory_that_is_short_while_results_are_taken() -> None:
    """Whatever allocation fails, each result is told once."""
    testcapi = pytest.importorskip("_testcapi")
    function, late = Function(same), 0
    for late in range(60):
        board, batch = Board(1), Batch(70)
        board.put(function, ITEM, 1.5, "a", 5)
        board.put_many(function, ITEM, [str(n) for n in range(70)], batch)
        board.put(Function(boom), ITEM, 7, "b")
        board.close()
        board.enlist(0)
        board.work(fail, unsendable)
        events: Any = None
        testcapi.set_nomemory(late, late + 1)
        try:
            events = board.take()
        except MemoryError:
            pass
        finally:
            testcapi.remove_mem_hooks()
        events = (events or []) + told(board)
        undecoded = [e for e in events if e is not batch and e[2] == UNDECODED]
        assert [e[:2] for e in events if e is not batch] == [("a", 5), ("b", 0)]
        assert events.count(batch) >= 1 and batch.left == 0
        assert len(undecoded) + len(batch.failures) <= 1
        assert board.outstanding() == 0


def test_memory_that_is_short_while_tasks_are_put() -> None:
    testcapi = pytest.importorskip("_testcapi")
    function, arguments = Function(same), [*range(70), bytes(2000)]
    for late in range(60):
        board, batch, failures, raised = Board(1), Batch(71), [], False
        testcapi.set_nomemory(late, late + 1)
        try:
            failures = board.put_many(function, ITEM, arguments, batch)
        except MemoryError:
            raised = True
        finally:
            testcapi.remove_mem_hooks()
        assert board.outstanding() == board.waiting()
        assert board.outstanding() + len(failures) == 71 or raised
        alone(board)
        assert batch.left == len(failures) or raised


scene: list[Any] = []


def take_back(x: Any) -> Any:
    """What is claimed behind this task, the first time that something is."""
    board, late, numbers = scene
    if not numbers and board.look(0).claimed > 1:
        testcapi = pytest.importorskip("_testcapi")
        count = board.look(0).claimed - 1
        numbers["late"] = None
        testcapi.set_nomemory(late, late + 1)
        try:
            board.revoke(0)
            board.revoked(numbers)
        except MemoryError:
            numbers["short"] = None
        finally:
            testcapi.remove_mem_hooks()
        numbers["count"] = count if board.look(0).claimed == 1 else 0
    return x


def test_memory_that_is_short_while_tasks_are_taken_back() -> None:
    """Whatever allocation fails, they are in the worker's hands, or known."""
    pytest.importorskip("_testcapi")
    shorts = 0
    for late in range(20):
        board, batch, numbers = Board(1), Batch(500), dict[Any, Any]()
        scene[:] = board, late, numbers
        board.put_many(Function(take_back), ITEM, range(500), batch)
        alone(board)
        board.revoked(numbers)
        assert numbers.pop("late", 0) is None, "nobody claimed two tasks at once"
        shorts += "short" in numbers
        numbers.pop("short", None)
        assert len(numbers) - 1 == numbers.pop("count") == batch.left
        assert all(board.find(number) for number in numbers)
        scene.clear()
    assert 0 < shorts < 20


# What is kept, and what is let go


def count_alive(_: Any) -> int:
    return Tracked.alive


def test_nothing_of_a_task_is_kept_when_it_is_done() -> None:
    board, batch = Board(1), Batch(6)
    counts: list[int] = []
    for place, (function, kind, argument) in enumerate(
        [
            (same, ITEM, Tracked()),
            (boom, ITEM, Tracked(bytes(2 * MIB))),
            (same, CHUNK, [Tracked(), Tracked()]),
            (same, STAR, (Tracked(),)),
            (same, APPLY, ((Tracked(),), {})),
            (square, ITEM, 5),
        ]
    ):
        board.put(Function(function), kind, argument, batch, place)
        del argument
    gc.collect()
    assert Tracked.alive == 0
    board.close()
    board.enlist(0)
    board.work(fail, unsendable, between=lambda: counts.append(Tracked.alive))
    assert counts == [0] * 6
    assert board.take() == [batch]


def test_items_of_a_chunk_go_one_by_one() -> None:
    board, batch = Board(1), Batch(1)
    board.put(Function(count_alive), CHUNK, [Tracked() for _ in range(4)], batch)
    alone(board)
    assert batch.results == [[4, 3, 2, 1]]


def test_a_board_in_a_circle_is_collected() -> None:
    def circle() -> Any:
        board, batch = Board(1), Mine(3, "mine")
        batch.board = board  # type: ignore[attr-defined]
        board.put_many(Function(functools.partial(same, bytes(5000))), ITEM, [bytes(MIB)], batch)
        return weakref.ref(batch)

    before = _core.session_stats()["objects"]
    ref = circle()
    assert _core.session_stats()["objects"] == before + 3
    gc.collect()
    assert ref() is None
    assert _core.session_stats()["objects"] == before


def test_results_and_events_that_nobody_took_go_with_the_board() -> None:
    board, batch = Board(1), Batch(2)
    interrupts = iter([True])

    def interrupt() -> None:
        if next(interrupts, False):
            raise KeyboardInterrupt

    before = _core.session_stats()["objects"]
    board.put_many(Function(same), ITEM, [bytes(MIB), 1], batch)
    board.put(Function(make_calling), ITEM, 0, board)
    board.put(Function(same), ITEM, bytes(MIB), "job")
    board.close()
    board.enlist(0)
    board.work(fail, unsendable)
    Calling.hooks = (int, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            board.take()
    finally:
        Calling.hooks = (int, int)
    del board
    gc.collect()
    assert _core.session_stats()["objects"] == before - 1


def test_references() -> None:
    board, batch, argument = Board(1), Batch(100), object()
    function = Function(square)
    before = sys.getrefcount(argument), sys.getrefcount(function), sys.getrefcount(batch)
    board.put_many(function, ITEM, range(100), batch)
    failures = board.put_many(function, ITEM, [argument], "job")
    alone(board)
    del failures
    gc.collect()
    after = sys.getrefcount(argument), sys.getrefcount(function), sys.getrefcount(batch)
    assert after == before
