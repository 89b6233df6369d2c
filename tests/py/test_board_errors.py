"""What goes wrong with a task: what cannot be sent or decoded, what its code raises."""

import functools
import gc
import os
import pickle
import resource
import signal
import sys
import weakref
from typing import Any

import pytest
from boards import (
    MIB,
    Calling,
    Tracked,
    alone,
    boom,
    call_hook,
    calling,
    concatenate,
    fail,
    finished,
    interrupt_it,
    one,
    results_of,
    same,
    square,
    told,
    unsendable,
    work,
)
from forked import PATIENCE_S, Child, Thread, in_child
from leveret._core import (
    FAILED,
    ITEM,
    UNDECODED,
    VALUE,
    Batch,
    Board,
    Function,
)

# What cannot be sent


class Unpicklable:
    def __reduce__(self) -> Any:
        raise LookupError("not me")


class Undecodable:
    def __init__(self, code: str = "1 // 0") -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return eval, (self.code,)


def make_unpicklable(_: Any) -> Any:
    return Unpicklable()


def make_undecodable(_: Any) -> Any:
    return Undecodable()


def test_a_function_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        Function(lambda: 0)
    with pytest.raises(LookupError, match="not me"):
        Function(functools.partial(same, Unpicklable()))


def test_arguments_that_cannot_be_sent() -> None:
    board, batch = Board(1), Batch(6)
    with pytest.raises(LookupError, match="not me"):
        board.put(Function(square), ITEM, Unpicklable(), "job")
    assert board.outstanding() == 0 == board.waiting()
    failures = board.put_many(
        Function(square), ITEM, [1, Unpicklable(), 2, b"", Unpicklable()], batch, place=1
    )
    assert [place for place, _ in failures] == [2, 5]
    assert {type(error) for _, error in failures} == {LookupError}
    assert board.outstanding() == 3 == board.waiting()
    assert alone(board) == []
    assert batch.results == [None, 1, None, 4, None, None]
    assert [(place, what) for place, what in batch.failures] == [
        (4, ("TypeError", "can't multiply sequence by non-int of type 'bytes'"))
    ]
    assert batch.left == 3


def test_an_interrupt_while_arguments_are_sent_comes_out() -> None:
    class Interrupting:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    board, batch = Board(1), Batch(3)
    with pytest.raises(KeyboardInterrupt):
        board.put_many(Function(square), ITEM, [1, Interrupting(), 2], batch)
    assert board.outstanding() == 1


def test_a_board_that_is_closed_while_arguments_are_sent() -> None:
    """Each of them is put or told of."""
    board, batch = Board(1), Batch(4)
    Calling.hooks = (board.close, int)
    try:
        failures = board.put_many(Function(square), ITEM, [3, Calling(), 2, 1], batch)
    finally:
        Calling.hooks = (int, int)
    assert [place for place, _ in failures] == [1, 2, 3]
    assert {str(error) for _, error in failures} == {"cannot put a task: the board is closed"}
    assert alone(board) == [] and batch.results[0] == 9 and batch.left == 3


def put_without_memory() -> Any:
    limit_files()
    board, batch = Board(1), Batch(3)
    with pytest.raises(MemoryError, match="cannot put a message into shared memory"):
        board.put(Function(same), ITEM, bytes(600 * MIB), "job")
    failures = board.put_many(Function(same), ITEM, [1, bytes(600 * MIB), 3], batch)
    assert [(place, type(error)) for place, error in failures] == [(1, MemoryError)]
    alone(board)
    return batch.results, batch.left


def limit_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))


def test_an_argument_that_there_is_no_memory_for() -> None:
    assert in_child(put_without_memory) == ([1, None, 3], 1)


def work_without_memory(board: Board) -> str:
    limit_files()
    return work(board)


def test_a_result_that_there_is_no_memory_for() -> None:
    board, batch = Board(1), Batch(3)
    board.put_many(Function(bytes), ITEM, [3, 600 * MIB, 4], batch)
    with Child(work_without_memory, board) as child:
        assert finished(board, batch) == [bytes(3), None, bytes(4)]
        board.close()
        assert child.result() == "closed"
    [(place, (how, name, _, kind))] = batch.failures
    assert (place, how, name, kind) == (1, "unsendable", "MemoryError", "bytes")


BARE = "there is no memory"


class Needy(Tracked):
    """Cannot be sent for want of memory, nor anything else as long as it is there."""

    def __reduce__(self) -> Any:
        raise MemoryError("needy")


class Said:
    """What is told of it."""

    def __init__(self, *text: str) -> None:
        self.text = text

    def __reduce__(self) -> Any:
        if Tracked.alive:
            raise MemoryError
        return tuple, (self.text,)


class Unsaid:
    def __reduce__(self) -> Any:
        raise MemoryError


def need(_: Any) -> Any:
    return Needy()


def say(error: BaseException, *_: Any) -> Any:
    return Said("said", str(error))


def cannot_say(*_: Any) -> Any:
    if Tracked.alive:
        raise MemoryError
    return Unsaid()


@pytest.mark.parametrize(
    ("fail", "unsendable", "expected"),
    [
        (fail, say, ("said", "needy")),
        (say, cannot_say, ("said", "needy")),
        (cannot_say, cannot_say, BARE),
        (cannot_say, lambda *_: Unsaid(), BARE),
    ],
)
def test_a_result_goes_before_there_is_no_memory_to_say_why(
    fail: Any, unsendable: Any, expected: Any
) -> None:
    board = Board(1)
    board.put(Function(need), ITEM, 0, "needy")
    board.put(Function(square), ITEM, 3, "next")
    board.close()
    board.enlist(0)
    assert board.work(fail, unsendable, bare=BARE) == "closed"
    assert told(board) == [("needy", 0, FAILED, expected), ("next", 0, VALUE, 9)]


def test_what_a_task_raised_that_there_is_no_memory_to_tell() -> None:
    board = Board(1)
    board.put(Function(boom), ITEM, 0, "job")
    board.close()
    board.enlist(0)
    with pytest.raises(ValueError, match="bare has more than 1024 bytes"):
        board.work(fail, unsendable, bare=bytes(1024))
    assert board.work(cannot_say, unsendable, bare=BARE) == "closed"
    assert told(board) == [("job", 0, FAILED, BARE)]


def test_without_it_a_memory_error_comes_out_of_work() -> None:
    board = Board(1)
    board.put(Function(boom), ITEM, 0, "job")
    board.enlist(0)
    with pytest.raises(MemoryError):
        board.work(cannot_say, unsendable)


def test_results_that_cannot_be_sent() -> None:
    assert one(make_unpicklable, ITEM, 0) == (
        FAILED,
        ("unsendable", "LookupError", "not me", "Unpicklable"),
    )


def test_arguments_and_results_that_cannot_be_decoded() -> None:
    what, (name, _) = one(same, ITEM, Undecodable())
    assert (what, name) == (FAILED, "ZeroDivisionError")
    what, error = one(make_undecodable, ITEM, 0)
    assert what == UNDECODED and type(error) is ZeroDivisionError
    board, batch = Board(1), Batch(3)
    board.put_many(Function(make_undecodable), ITEM, range(3), batch)
    alone(board)
    assert [place for place, _ in batch.failures] == [0, 1, 2] and batch.left == 0
    assert {type(error) for _, error in batch.failures} == {ZeroDivisionError}


def test_what_cannot_be_decoded_may_be_told_apart() -> None:
    """From what the task raises; there is one place for the function, and one for the argument."""
    board = Board(1)
    for place, (function, argument) in enumerate(
        [(same, Undecodable()), (boom, 1), (Undecodable(), 1), (make_unpicklable, 1)]
    ):
        board.put(Function(function), ITEM, argument, told, place)
    board.close()
    board.enlist(0)
    board.work(fail, unsendable, undecodable=lambda error: ("undecodable", type(error).__name__))
    assert [event[3][0] for event in board.take()] == [
        "undecodable",
        "ValueError",
        "undecodable",
        "unsendable",
    ]


def test_jobs_that_nobody_has_any_more() -> None:
    board, jobs = Board(1), [object(), object()]
    assert board.dropped() == []
    for job in jobs:
        board.drop(job)
    assert board.wait(PATIENCE_S) is False  # it was interrupted, as is the next one that watches
    assert board.watch(PATIENCE_S) is False
    with Child(drop_there, board) as child:
        assert child.result() == 2
    assert board.dropped() == jobs
    assert board.dropped() == []


def drop_there(board: Board) -> int:
    """In a forked child, which has what was dropped before: nothing is noted, nobody woken."""
    board.drop("of the child")
    return len(board.dropped())


def test_a_weak_reference_drops_a_job() -> None:
    """No byte code runs in between, which an exception of a signal handler could end."""
    board, held = Board(1), Tracked()
    watch = Thread(board.watch, PATIENCE_S)
    reference = weakref.ref(held, board.drop)
    del held
    assert watch.result() is False
    assert board.dropped() == [reference]


def test_a_function_that_cannot_be_decoded() -> None:
    what, value = one(Undecodable(), ITEM, 0)
    assert (what, value[0]) == (FAILED, "ZeroDivisionError")


def test_a_large_function_that_is_gone() -> None:
    """Its tasks were given up."""
    board = Board(1)
    number = board.put(Function(functools.partial(concatenate, bytes(5000))), ITEM, b"", "job")
    assert board.strike(number)
    gc.collect()
    assert alone(board) == []


# What a task raises


def exit_it(x: Any) -> None:
    sys.exit(x)


def test_whatever_a_task_raises_is_its_own() -> None:
    assert one(exit_it, ITEM, 3) == (FAILED, ("SystemExit", "3"))
    assert one(interrupt_it, ITEM, 3) == (FAILED, ("KeyboardInterrupt", "3"))


def test_what_fail_raises_comes_out_of_work() -> None:
    board = Board(1)
    number = board.put(Function(boom), ITEM, 0, "job")
    board.put(Function(boom), ITEM, 1, "job")
    board.enlist(0)

    def broken(_: Any) -> Any:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        board.work(broken, unsendable)
    with pytest.raises(RuntimeError, match="it has to end"):
        board.work(fail, unsendable)
    assert board.running() is None
    assert board.look(0)[1:4] == (number, 1, number)  # type: ignore[index]


def test_a_task_that_is_told_of_does_not_run_any_more() -> None:
    """A signal handler that asks while fail() runs is to leave it alone."""
    board, running = Board(1), []

    def asking(*_: Any) -> Any:
        running.append(board.running())

    for function in (boom, make_unpicklable):
        board.put(Function(function), ITEM, 0, "job")
    board.close()
    board.enlist(0)
    assert board.work(asking, asking) == "closed"
    assert running == [None, None]
    assert told(board) == [("job", 0, FAILED, None)] * 2


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killing:
    def __reduce__(self) -> Any:
        return kill_me, ()


def make_killing(_: Any) -> Any:
    return KillingWhenPickled()


class KillingWhenPickled:
    def __reduce__(self) -> Any:
        kill_me()


@pytest.mark.parametrize("way", ["argument", "function", "result"])
def test_a_death_while_something_is_decoded_or_encoded_is_the_tasks(way: str) -> None:
    board = Board(1)
    function = {"argument": same, "function": Killing(), "result": make_killing}[way]
    board.put(Function(square), ITEM, 3, "first")
    number = board.put(Function(function), ITEM, Killing() if way == "argument" else 0, "job")
    with Child(work, board) as child:
        assert results_of(board, 1) == [("first", 0, VALUE, 9)]
        assert board.watch(PATIENCE_S)
        os.waitpid(child.pid, 0)
        child._over = True
    board.settle(0)
    assert told(board) == []
    assert board.bury(0)[1:4] == (number, 1, number)


def test_work_within_a_task_is_refused() -> None:
    board = Board(1)
    board.put(Function(call_hook), ITEM, 0, "job")
    with calling(lambda: board.work(fail, unsendable)):
        [(_, _, what, (name, text))] = alone(board)
    assert (what, name) == (FAILED, "RuntimeError") and "works on this board already" in text
