"""Whose a result is: jobs and their places, batches, numbers that are told once.

    put(.., job, place)  ->  number  ->  find(number) == (job, place)     until it is told or struck
    take()               ->  (job, place, what, value), or a Batch when all of its results are in

A number is one task's for ever; a task that is put again has another one, and never two.
"""

import random
import sys
import weakref
from typing import Any

import pytest
from boards import (
    MIB,
    Mine,
    alone,
    fail,
    square,
    told,
    unsendable,
)
from leveret._core import (
    ITEM,
    VALUE,
    Batch,
    Board,
    Function,
)


def test_a_batch_is_told_of_once() -> None:
    board, batch = Board(1), Batch(100)
    board.put_many(Function(square), ITEM, range(100), batch)
    assert alone(board) == [batch]
    assert batch.left == 0


def test_a_batch_that_wants_to_be_told_of_each() -> None:
    board, batch = Board(1), Mine(3, "mine")
    batch.notify = True
    numbers = [board.put(Function(square), ITEM, n, batch, n) for n in range(3)]
    board.enlist(0)
    for number in numbers:
        assert board.work(fail, unsendable, most=1) == "enough"
        assert board.find(number) == (batch, number)
        assert board.take() == [batch]
        assert board.find(number) is None
    assert batch.results == [0, 1, 4] and batch.name == "mine"
    batch, more = Mine(3, "next"), Mine(3, "more")
    batch.notify = True
    for place in range(3):
        board.put(Function(square), ITEM, place, batch, place)
        board.put(Function(square), ITEM, place, more, place)
    assert board.work(fail, unsendable, most=6) == "enough"
    assert board.take() == [batch, more]  # each once, whatever has come


def test_places_that_a_batch_does_not_have() -> None:
    board, batch = Board(1), Batch(3)
    for place in (-1, 3, sys.maxsize // 4):
        with pytest.raises(IndexError, match="a batch of 3 has no 1 places from"):
            board.put(Function(square), ITEM, 1, batch, place)
    for place in (sys.maxsize, -sys.maxsize, 1 << 80):
        with pytest.raises(OverflowError):
            board.put(Function(square), ITEM, 1, "job", place)
    for count, place in [(4, 0), (2, 2), (1, -1)]:
        with pytest.raises(IndexError):
            board.put_many(Function(square), ITEM, range(count), batch, place)
    assert board.outstanding() == 0
    with pytest.raises(RuntimeError, match="__init__"):
        board.put(Function(square), ITEM, 1, Batch.__new__(Batch))
    with pytest.raises(ValueError):
        Batch(-1)
    with pytest.raises(ValueError, match="made once"):
        batch.__init__(3)  # type: ignore[misc]


def test_a_batch_whose_list_was_cut() -> None:
    board, batch = Board(1), Batch(3)
    board.put_many(Function(square), ITEM, range(3), batch)
    batch.results.clear()
    assert alone(board) == [batch]
    assert batch.results == [] and batch.left == 0


def test_numbers_and_whose_they_are() -> None:
    """Against a model: a dict."""
    chooser = random.Random(5)
    function, board, model = Function(square), Board(1), {}
    batches = [Batch(2000) for _ in range(2)]
    jobs: list[Any] = ["a", "b", *batches]
    for _ in range(3000):
        job = chooser.choice(jobs)
        place = chooser.randrange(1000)
        if chooser.random() < 0.05:
            count = chooser.choice([0, 1, 63, 64, 65, 130, 1000])
            first = board.put(function, ITEM, 0, "first", 0) + 1
            model[first - 1] = ("first", 0)
            assert board.put_many(function, ITEM, [0] * count, job, place) == []
            model |= {first + n: (job, place + n) for n in range(count)}
        elif chooser.random() < 0.3:
            model[board.put(function, ITEM, 0, job, place)] = (job, place)
        elif model:
            number = chooser.choice(list(model)) if chooser.random() < 0.5 else min(model)
            assert board.strike(number)
            del model[number]
            assert not board.strike(number) and board.find(number) is None
        if model and chooser.random() < 0.1:
            while model and len(model) > 200:
                number = chooser.choice(list(model)) if chooser.random() < 0.2 else min(model)
                assert board.strike(number)
                del model[number]
        assert board.outstanding() == len(model)
        if model:
            number = chooser.choice(list(model))
            assert board.find(number) == model[number]
            assert board.find(max(model) + 1) is None
    for number, whose in model.items():
        assert board.find(number) == whose
        assert board.strike(number)
    assert board.outstanding() == 0


def test_a_job_is_kept_as_long_as_a_number_is_its_own() -> None:
    board, function = Board(1), Function(square)

    class Job:
        pass

    jobs = [Job() for _ in range(100)]
    alive = [weakref.ref(job) for job in jobs]
    numbers = [board.put(function, ITEM, 0, job) for job in jobs]
    del jobs
    assert all(ref() for ref in alive)
    for place in random.Random(6).sample(range(100), 100):
        assert alive[place]()
        board.strike(numbers[place])
        assert not alive[place]()


def test_a_job_that_puts_when_it_is_let_go() -> None:
    board, function, put = Board(1), Function(square), []

    class Job:
        def __del__(self) -> None:
            put.append(board.put(function, ITEM, 0, "next"))
            told(board)

    numbers = [board.put(function, ITEM, 0, Job()) for _ in range(100)]
    for number in numbers:
        assert board.strike(number)
    assert [board.find(number) for number in put] == [("next", 0)] * 100
    assert alone(board) == [("next", 0, VALUE, 0)] * 100


def test_a_task_that_is_put_again_has_one_number() -> None:
    board, function, batch, moves = Board(2), Function(square), Batch(3), list[int]()
    board.put_many(function, ITEM, [1, 2, 3], batch)
    board.enlist(0)
    assert board.put_again(1, function, ITEM, 2, moves.append)
    assert board.find(1) is None and board.find(moves[0]) == (batch, 1)
    assert not board.put_again(1, function, ITEM, 2, moves.append)  # nobody waits for that one
    assert board.put_again(moves[0], function, ITEM, bytes(MIB), None)  # with a block
    assert len(moves) == 1 and board.outstanding() == 3
    assert board.waiting() == 5 and board.strike(moves[0] + 1)
    with pytest.raises(TypeError):
        board.put_again(0, square, ITEM, 1, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind"):
        board.put_again(0, function, 99, 1, None)
    with pytest.raises(TypeError):
        board.put_again(0, function, ITEM, 1, 5)  # type: ignore[arg-type]
    assert board.outstanding() == 2


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_nobody_waits_for_any_more_is_not_put_again(interrupted: bool) -> None:
    """Encoding runs code: it may strike the number out, or be interrupted."""
    board, function = Board(1), Function(square)
    number = board.put(function, ITEM, 1, "job")

    class Argument:
        def __reduce__(self) -> Any:
            if interrupted:
                raise KeyboardInterrupt
            board.strike(number)
            return int, ()

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            board.put_again(number, function, ITEM, Argument(), None)
        assert board.find(number) == ("job", 0)
    else:
        assert not board.put_again(number, function, ITEM, Argument(), None)
        assert board.outstanding() == 0
    assert board.waiting() == 1


def test_a_failure_that_is_told_twice_is_counted_once() -> None:
    batch, errors = Batch(3), [ValueError(), ValueError()]
    for error in (errors[0], errors[0], errors[1]):
        batch.fail(1 if error is errors[0] else 2, error)
    assert batch.left == 1 and batch.failures == [(1, errors[0]), (2, errors[1])]
    assert batch.fail(0, errors[1])
