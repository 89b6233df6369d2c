"""Code that runs in the middle of a put or a take, and calls the board, or raises."""

import itertools
from typing import Any

import pytest
from boards import (
    MIB,
    Calling,
    Interrupting,
    alone,
    fail,
    make_calling,
    same,
    square,
    told,
    unsendable,
    workers,
)
from forked import PATIENCE_S, Thread
from leveret._core import (
    ITEM,
    UNDECODED,
    VALUE,
    Batch,
    Board,
    Function,
)


def test_code_of_an_argument_that_calls_the_board() -> None:
    board, function = Board(1), Function(same)
    inner: list[Any] = []

    def pickled() -> None:
        inner.append(board.put(function, ITEM, len(inner), "inner", len(inner)))

    def unpickled() -> None:
        inner.append(board.take())

    Calling.hooks = (pickled, unpickled)
    batch = Batch(5)
    try:
        assert board.put_many(function, ITEM, [0, 1, Calling(), 3, 4], batch) == []
        board.close()
        board.enlist(0)
        assert board.work(fail, unsendable) == "closed"
        events = told(board)
    finally:
        Calling.hooks = (int, int)
    assert batch.results == [0, 1, "called", 3, 4]
    assert events.count(batch) + inner[-1].count(batch) == 1
    told_of = [event for event in events + inner[-1] if event is not batch]
    assert told_of == [("inner", 0, VALUE, 0)]


def test_a_result_whose_code_takes() -> None:
    board, batch = Board(1), Batch(300)
    nested: list[Any] = []
    Calling.hooks = (int, lambda: nested.append(board.take()))
    try:
        for place in range(300):
            board.put(Function(make_calling), ITEM, place, batch, place)
        assert alone(board).count(batch) + sum(e.count(batch) for e in nested) == 1
    finally:
        Calling.hooks = (int, int)
    assert batch.results == ["called" if n % 7 == 0 else n for n in range(300)]


def test_a_result_whose_code_strikes_it_out() -> None:
    board = Board(1)
    number = board.put(Function(make_calling), ITEM, 0, "job")
    Calling.hooks = (int, lambda: board.strike(number))
    try:
        assert alone(board) == []
    finally:
        Calling.hooks = (int, int)


def test_a_signal_handler_that_raises_while_results_are_decoded() -> None:
    """Nothing is lost, and nothing told twice. Who raised is seen by decoding again."""
    board, batch = Board(1), Batch(3)
    jobs = ["a", "b"]
    interrupts = itertools.chain([True, False, False, True], itertools.repeat(False))

    def interrupt() -> None:
        if next(interrupts):
            raise KeyboardInterrupt

    Calling.hooks = (int, interrupt)
    try:
        function = Function(make_calling)
        board.put(function, ITEM, 1, "a")
        board.put_many(function, ITEM, [0, 1, 7], batch)
        board.put(function, ITEM, 2, "b")
        board.close()
        board.enlist(0)
        board.work(fail, unsendable)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                board.take()
            assert board.wait(0)
        events = told(board)
    finally:
        Calling.hooks = (int, int)
    assert [e for e in events if e is not batch] == [("a", 0, VALUE, 1), ("b", 0, VALUE, 2)]
    assert events.count(batch) == 1 and batch.results == ["called", 1, "called"]
    assert jobs == ["a", "b"] and not board.wait(0)


def test_a_result_that_interrupts_whenever_it_is_decoded() -> None:
    board = Board(1)
    board.put(Function(make_interrupting), ITEM, 0, "job")
    board.put(Function(square), ITEM, 3, "next")
    board.close()
    board.enlist(0)
    board.work(fail, unsendable)
    [(_, _, what, error), event] = board.take()
    assert what == UNDECODED and type(error) is KeyboardInterrupt
    assert event == ("next", 0, VALUE, 9)


def make_interrupting(_: Any) -> Any:
    return Interrupting()


def test_threads_that_put_and_take_at_once() -> None:
    board, function = Board(2), Function(same)
    batches = [Batch(2000) for _ in range(3)]
    arguments = [bytes(MIB + 1) if n % 1000 == 7 else n for n in range(2000)]

    def put(batch: Batch) -> None:
        for begin in range(0, 2000, 200):
            board.put_many(function, ITEM, arguments[begin : begin + 100], batch, begin)
            for place in range(begin + 100, begin + 200):
                board.put(function, ITEM, arguments[place], batch, place)

    def take() -> None:
        while any(batch.left for batch in batches):
            assert board.wait(PATIENCE_S) or not any(batch.left for batch in batches)
            board.take()
        board.interrupt()

    with workers(board, 2):
        threads = [Thread(put, batch) for batch in batches] + [Thread(take) for _ in range(2)]
        for thread in threads:
            thread.result()
    for batch in batches:
        assert batch.results == arguments and batch.failures == []
    assert board.outstanding() == 0


raises: list[bool] = []  # what the next decodings do


def decode_or_not() -> str:
    if raises.pop(0):
        raise KeyboardInterrupt
    return "decoded"


class Undecided:
    def __reduce__(self) -> Any:
        return decode_or_not, ()


def undecided(_: int) -> Undecided:
    return Undecided()


def test_a_second_interrupt_in_the_same_decoding_is_what_has_come() -> None:
    board = Board(1)
    board.put(Function(undecided), ITEM, 0, "job")
    board.close()
    board.enlist(0)
    board.work(fail, unsendable)
    raises[:] = [True, False, True, False]
    with pytest.raises(KeyboardInterrupt):
        board.take()
    try:
        [(job, _, what, error)] = board.take()
    except KeyboardInterrupt:
        pytest.fail("it was decoded for the third time")
    assert (job, what, type(error)) == ("job", UNDECODED, KeyboardInterrupt)
