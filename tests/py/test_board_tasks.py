"""What a task is on a board: from a Function and an argument to what the worker made of them.

    owner     Function(f), kind, argument  --put, put_many-->  a task: f's id, what was encoded
    worker    f, decoded or remembered     ----------------->  VALUE, or FAILED and what it raised

Here are the kinds of calls, what travels with a task and its result, what becomes of functions
that are sent more than once, and what put() and put_many() refuse, or are interrupted in.
"""

import functools
import gc
import importlib.util
import os
import pickle
import random
import signal
import sys
import threading
from typing import Any

import leveret
import pytest
from boards import (
    MIB,
    Calling,
    Tracked,
    add,
    alone,
    boom,
    concatenate,
    finished,
    one,
    results_of,
    same,
    square,
    work,
    workers,
)
from forked import Child, in_child, say, until
from leveret._core import (
    APPLY,
    CHUNK,
    FAILED,
    ITEM,
    STAR,
    STARCHUNK,
    VALUE,
    Batch,
    Board,
    Function,
)

methods = pytest.mark.parametrize("method", ["fork", "warm", "spawn"])


# What is done with a task


def test_kinds() -> None:
    assert one(square, ITEM, 5) == (VALUE, 25)
    assert one(add, STAR, (1, 2)) == (VALUE, 3)
    assert one(add, STAR, [1, 2]) == (VALUE, 3)
    assert one(add, APPLY, ((1, 2), {"z": 3})) == (VALUE, 6)
    assert one(square, CHUNK, [1, 2, 3]) == (VALUE, [1, 4, 9])
    assert one(square, CHUNK, ()) == (VALUE, [])
    assert one(add, STARCHUNK, [(1, 2), (3, 4)]) == (VALUE, [3, 7])
    assert one(boom, ITEM, 5) == (FAILED, ("ValueError", "boom 5"))
    assert one(boom, CHUNK, [1, 2]) == (FAILED, ("ValueError", "boom 1"))
    for kind, argument in [(STAR, 5), (APPLY, 5), (APPLY, (1, 2)), (CHUNK, 5), (STARCHUNK, [5])]:
        what, (name, _) = one(add, kind, argument)
        assert (what, name) == (FAILED, "TypeError")


@methods
def test_workers_of_each_start_method(method: str) -> None:
    board, batch = Board(3), Batch(100)
    with workers(board, 2, method):
        assert board.put_many(Function(square), ITEM, range(100), batch) == []
        assert finished(board, batch) == [x * x for x in range(100)]
    assert batch.failures == [] and board.outstanding() == 0 == board.waiting()


def test_large_arguments_and_results() -> None:
    board = Board(2)
    samples = [
        random.randbytes(3 * MIB),
        bytearray(5 * MIB),
        "\u1234" * MIB,
        list(range(100_000)),
        {n: str(n) for n in range(20_000)},
        bytes(8192),
        *(bytes(n) for n in range(8100, 8200, 7)),
        *(bytes(n) for n in range(900, 1100, 7)),
    ]
    with workers(board, 2):
        batch = Batch(len(samples))
        assert board.put_many(Function(same), ITEM, samples, batch) == []
        assert finished(board, batch) == samples
        assert batch.failures == []


class Buffered:
    """Its buffer travels by itself."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Buffered, (pickle.PickleBuffer(self.memory),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Buffered) and bytes(self.memory) == bytes(other.memory)

    __hash__ = None  # type: ignore[assignment]


def reversed_memory(x: Buffered) -> Buffered:
    return Buffered(bytes(x.memory)[::-1])


def test_buffers_travel_with_tasks_and_results() -> None:
    data = random.randbytes(3 * MIB)
    board = Board(1)
    with workers(board, 1):
        board.put(Function(reversed_memory), ITEM, Buffered(data), "job")
        [(job, place, what, value)] = results_of(board, 1)
        assert (job, place, what) == ("job", 0, VALUE)
        assert value == Buffered(data[::-1])
        del value


def lock_it(lock: Any) -> bool:
    with lock:
        return lock.locked()


def test_shared_objects_in_arguments_functions_and_results() -> None:
    board, lock = Board(1), leveret.Lock()
    with workers(board, 1, "warm"):
        jobs = {
            board.put(Function(lock_it), ITEM, lock, "argument"): True,
            board.put(
                Function(functools.partial(lock_it, lock)), APPLY, ((), {}), "function"
            ): True,
        }
        assert [event[2:] for event in results_of(board, len(jobs))] == [(VALUE, True)] * 2
        board.put(Function(same), ITEM, [lock, b"x" * MIB], "result")
        [(_, _, _, (there, _))] = results_of(board, 1)
        with lock:
            assert there.locked()


def test_large_functions_are_sent_once() -> None:
    board, batch = Board(1), Batch(50)
    large = Function(functools.partial(concatenate, b"x" * 100_000))
    with workers(board, 1):
        board.put_many(large, ITEM, [b"y"] * 50, batch)
        del large  # who waits keeps it
        gc.collect()
        assert finished(board, batch) == [b"x" * 100_000 + b"y"] * 50


class Counter:
    """What it counts is its own."""

    def __init__(self, padding: bytes = b"") -> None:
        self.count, self.padding = 0, padding

    def __call__(self, _: Any) -> int:
        self.count += 1
        return self.count


@pytest.mark.parametrize("padding", [b"", bytes(5000)], ids=["small", "large"])
def test_what_a_function_keeps_in_itself_lasts_for_one_function(padding: bytes) -> None:
    board, batch = Board(1), Batch(40)
    functions = [Function(Counter(padding)) for _ in range(20)]
    for place, function in enumerate(functions + functions):
        board.put(function, ITEM, None, batch, place)
    alone(board)
    assert batch.results[:20] == [1] * 20
    # eight are remembered, those behind them are decoded anew
    assert set(batch.results[20:]) == {1}
    board, batch = Board(1), Batch(10)
    board.put_many(functions[0], ITEM, [None] * 10, batch)
    alone(board)
    assert batch.results == list(range(1, 11))


class Holding:
    """A function that holds much."""

    def __init__(self) -> None:
        self.held = Tracked(bytes(5000))

    def __call__(self, _: Any) -> int:
        return Tracked.alive


def test_a_large_function_goes_when_there_is_nothing_to_do() -> None:
    def tell() -> None:
        for alive in (1, 0):
            until(lambda: Tracked.alive == alive)  # noqa: B023 - it is called at once
        say("!")

    def work_and_tell(board: Board) -> None:
        threading.Thread(target=tell).start()
        work(board)

    board, function = Board(1), Function(Holding())
    gc.collect()
    board.put(function, ITEM, 0, "job")
    with Child(work_and_tell, board) as child:
        assert results_of(board, 1) == [("job", 0, VALUE, 1)]
        assert child.heard() == "!"
        board.put(function, ITEM, 0, "again")
        assert results_of(board, 1) == [("again", 0, VALUE, 1)]
        board.close()
        child.result()


def send_by_cloudpickle() -> Any:
    base = 5
    function = one(same, ITEM, lambda: base)[1]
    return one(lambda x: x + base, CHUNK, [1, 2]), function()


def test_a_function_that_cloudpickle_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(os.path.join(sys.prefix, "cloudpickle"))
    if importlib.util.find_spec("cloudpickle") is None:
        pytest.skip("it is not installed")
    assert in_child(send_by_cloudpickle) == ((VALUE, [6, 7]), 5)


# What is refused, and what interrupts a put


def test_arguments_are_checked() -> None:
    board, function = Board(1), Function(square)
    with pytest.raises(TypeError, match="a task is for a Function, not a function"):
        board.put(square, ITEM, 1, "job")  # type: ignore[arg-type]
    for kind in (-1, 5):
        with pytest.raises(ValueError, match="no kind of task"):
            board.put(function, kind, 1, "job")
    with pytest.raises(TypeError, match="takes function, kind"):
        board.put(function, ITEM, 1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'pace'"):
        board.put(function, ITEM, 1, "job", pace=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="not iterable"):
        board.put_many(function, ITEM, 5, "job")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="called already"):
        function.__init__(square)  # type: ignore[misc]
    with pytest.raises(RuntimeError, match="__init__"):
        board.put(Function.__new__(Function), ITEM, 1, "job")
    with pytest.raises(RuntimeError, match="__init__"):
        Board.__new__(Board).take()
    assert board.outstanding() == 0


def test_arguments_that_change_while_they_are_put() -> None:
    """Those that are not put are told of, also those that were about to be."""
    for change, failed in [("clear", [1, 2, 3]), ("pop", [1, 2, 3]), ("copy", [])]:
        board, batch = Board(1), Batch(4)
        arguments: list[Any] = [Calling(), 1, 2, 3]
        Calling.hooks = (getattr(arguments, change), lambda: None)
        try:
            failures = board.put_many(Function(same), ITEM, arguments, batch)
        finally:
            Calling.hooks = (int, int)
        assert [place for place, _ in failures] == failed
        assert {type(error) for _, error in failures} <= {RuntimeError}
        assert board.outstanding() == 4 - len(failed) == board.waiting()


def test_put_many_hears_signals() -> None:
    """Every now and then; its arguments are no Python code. (A list of them takes some 0.1 s.)"""
    count, board = 1_000_000, Board(1)
    arguments, function = list(range(count)), Function(square)

    def interrupt(signo: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.005)
            board.put_many(function, ITEM, arguments, "job")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert board.outstanding() < count
